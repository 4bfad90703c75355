"""Whether buying goes on: after a task that failed, and after submits that bought nothing."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Final, TypeGuard

from apixo_async import errors
from apixo_async._backoff import growing_pause
from apixo_async.errors import TaskFailedError

#: Errors that the next purchase would meet as well, whatever its input.
_ENDING: Final = (
    errors.AuthenticationError,
    errors.BudgetExceededError,
    errors.ClientClosedError,
    errors.JournalError,
    errors.PollerDiedError,
)

#: Submits in a row without a task, after which the service is taken to refuse all of them.
_IN_A_ROW: Final = 20

#: Seconds before a task is bought again that failed for a limit: at first, and at most.
_PAUSE: Final = 5.0
_LONGEST_PAUSE: Final = 60.0


class FailureStreak:
    """Submits in a row without a task, which tell how the next one will fare."""

    __slots__ = ("_in_a_row",)

    def __init__(self) -> None:
        self._in_a_row = 0

    def bought(self) -> None:
        """Note that a submit made a task."""
        self._in_a_row = 0

    def ended(self, error: errors.ApixoError) -> bool:
        """Note how a submit ended without a task; return True if no other one is worth sending.

        What is wrong with an input, or with its images, says nothing about the next one. Everything
        else does when it comes again and again: a model that the key may not use, a service that is
        down. So do uncertain submits, each of which may have been paid for.
        """
        if not isinstance(error, errors.BadRequestError | errors.ConfigurationError):
            self._in_a_row += 1
        return ends_buying(error) or self._in_a_row >= _IN_A_ROW


def ends_buying(error: errors.ApixoError) -> bool:
    """Return True if no later purchase can succeed after this error alone."""
    return error.category == "balance" or isinstance(error, _ENDING)


def is_worth_another(
    error: errors.ApixoError, purchases: int, attempts: int
) -> TypeGuard[TaskFailedError]:
    """Return True if another task is bought after this error of the last one.

    Args:
        error: How the last task ended.
        purchases: Tasks bought for this input so far.
        attempts: Tasks that may be bought for one input.
    """
    return isinstance(error, TaskFailedError) and error.retryable and purchases < attempts


def is_retried(error: TaskFailedError, retry: Collection[errors.Category]) -> bool:
    """Return True if another task is bought where the last one failed so in an earlier run.

    After a failure for the balance one always is: the service says that it had nothing to charge
    the task to, so nothing was paid, and the failure ended that run before its inputs were bought.

    Args:
        error: How that task ended.
        retry: What the caller wants to be tried again.
    """
    return error.category == "balance" or error.category in retry


def pause_before(error: TaskFailedError, purchases: int, rng: random.Random) -> float:
    """Return the seconds to wait before the next purchase: 0 unless the task failed for a limit.

    Args:
        error: How the last task failed.
        purchases: Tasks bought for this input so far, at least 1.
        rng: The source of the jitter.
    """
    if error.category != "throttled":
        return 0.0
    return growing_pause(purchases, rng, first=_PAUSE, longest=_LONGEST_PAUSE, jitter=(0.5, 1.0))

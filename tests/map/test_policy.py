from __future__ import annotations

import random
from typing import Any

import pytest

from apixo_async import (
    APIConnectionError,
    ApixoError,
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    ConfigurationError,
    InsufficientBalanceError,
    PermissionDeniedError,
    PollerDiedError,
    TaskAbandonedError,
    TaskFailedError,
    TaskRef,
)
from apixo_async._catalog import family_of
from apixo_async._map.policy import (
    FailureStreak,
    ends_buying,
    is_retried,
    is_worth_another,
    pause_before,
)

REF = TaskRef("flux-kontext", "task_1")
DENIED = PermissionDeniedError("no", status=403)


def failed(code: str) -> TaskFailedError:
    family = family_of(code)
    return TaskFailedError(
        "failed",
        ref=REF,
        fail_code=code,
        fail_msg=None,
        family=family.name,
        retryable=family.retryable,
    )


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (AuthenticationError("no", status=401), True),
        (InsufficientBalanceError("no", status=402), True),
        (ClientClosedError("closed"), True),
        (PollerDiedError("died"), True),
        (failed("INSUFFICIENT_BALANCE"), True),
        (failed("TIMEOUT"), False),
        (DENIED, False),
        (BadRequestError("no", status=400), False),
        (TaskAbandonedError("old", ref=REF), False),
    ],
)
def test_what_the_next_purchase_would_meet_too(error: ApixoError, ends: bool) -> None:
    """An account's error ends the buying; one input's, model's or task's does not."""
    assert ends_buying(error) is ends
    assert FailureStreak().ended(error) is ends


def test_refusals_in_a_row() -> None:
    """Twenty refusals in a row end the buying, whatever they say about the account."""
    streak, unsent = FailureStreak(), APIConnectionError("unreachable")
    said = [streak.ended(DENIED if n % 2 else unsent) for n in range(20)]
    assert said == [False] * 19 + [True]


def test_a_purchase_in_between() -> None:
    """A purchase says that submits work: refusals are counted anew."""
    streak = FailureStreak()
    for _ in range(5):
        assert not any(streak.ended(DENIED) for _ in range(19))
        streak.bought()


def test_bad_inputs_in_a_row() -> None:
    """What is wrong with inputs says nothing of the next one, however many there are."""
    streak = FailureStreak()
    assert not any(streak.ended(BadRequestError("no", status=400)) for _ in range(100))
    assert not any(streak.ended(ConfigurationError("an image has changed")) for _ in range(100))


@pytest.mark.parametrize(
    ("code", "purchases", "attempts", "again"),
    [
        ("TIMEOUT", 1, 1, False),
        ("TIMEOUT", 1, 2, True),
        ("TIMEOUT", 2, 2, False),
        ("RateLimited", 1, 2, True),
        ("UPSTREAM_ERROR", 2, 3, True),
        ("CONTENT_VIOLATION", 1, 5, False),
        ("never heard of", 1, 5, False),
    ],
)
def test_which_failures_are_tried_again(
    code: str, purchases: int, attempts: int, again: bool
) -> None:
    """A retryable failure is worth another purchase, up to the attempts."""
    assert is_worth_another(failed(code), purchases, attempts) is again


def test_other_ends_are_not_tried_again() -> None:
    """A task that was given up may still succeed: it is not bought again."""
    assert not is_worth_another(TaskAbandonedError("old", ref=REF), 1, 5)


@pytest.mark.parametrize(
    ("code", "retry", "again"),
    [
        ("TIMEOUT", (), False),
        ("TIMEOUT", ("timeout",), True),
        ("NSFW", ("timeout",), False),
        ("never heard of", ("unknown",), True),
        ("INSUFFICIENT_CREDITS", (), True),
    ],
)
def test_what_an_earlier_run_left_failed(code: str, retry: tuple[Any, ...], again: bool) -> None:
    """What the caller names is bought anew, and what failed for the balance by itself."""
    assert is_retried(failed(code), retry) is again


@pytest.mark.parametrize(("purchases", "longest"), [(1, 5), (2, 10), (4, 40), (5, 60), (90, 60)])
def test_pause_after_a_limit(purchases: int, longest: float) -> None:
    """After a limit the pause doubles up to a minute, drawn from its upper half."""
    rng = random.Random(1)
    pauses = [pause_before(failed("RateLimited"), purchases, rng) for _ in range(500)]
    assert longest / 2 <= min(pauses) < 0.52 * longest
    assert 0.98 * longest < max(pauses) <= longest


def test_no_pause_after_other_failures() -> None:
    """Nothing is won by waiting after a failure that was no limit's."""
    assert pause_before(failed("TIMEOUT"), 3, random.Random(1)) == 0.0

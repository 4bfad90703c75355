"""How purchases, tasks and whole maps ended, as the errors that callers are given."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from apixo_async._map.progress import Progress
from apixo_async._sync import fresh
from apixo_async.errors import ApixoError

T = TypeVar("T")


def error_of(ended: asyncio.Future[T]) -> ApixoError | None:
    """Return how a purchase or a task failed, without the frames that it went through."""
    if ended.cancelled():
        return ApixoError(
            "cut off: the event loop ended, or the map was left in a hurry; what was bought "
            "meanwhile goes to `on_orphan`"
        )
    error = ended.exception()
    if error is None or isinstance(error, ApixoError):
        return None if error is None else error.with_traceback(None)
    broken = ApixoError(f"a defect: {type(error).__name__}: {error}")
    broken.__cause__ = error
    return broken


def not_bought(reason: ApixoError | None) -> ApixoError:
    """Return the error of an input that was read and had no turn, with what stopped the map."""
    error = ApixoError("nothing was bought: the map was stopped before its turn came")
    error.bought = False
    error.__cause__ = reason
    return error


def ended_by(reason: ApixoError, progress: Progress) -> ApixoError:
    """Return what a map raises in the end, with what it did not buy."""
    error = fresh(reason)
    error.add_note(
        f"This ended the map: of the {progress.read} inputs that were read, nothing was bought for "
        f"{progress.unbought}; what follows them was not read."
    )
    return error

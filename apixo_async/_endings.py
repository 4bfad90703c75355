"""How tasks ended: the word for it, how long they took, and the errors that no answer says."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from apixo_async._core.errors import ApixoError
from apixo_async._core.task_errors import (
    PresumedNotBoughtError,
    TaskAbandonedError,
    TaskError,
    TaskFailedError,
    TaskNotFoundError,
)
from apixo_async._core.values import Result, TaskRef
from apixo_async._track import Track

if TYPE_CHECKING:
    from apixo_async.webhooks._desk import Ticket

_WORDS: Final[dict[type[ApixoError], str]] = {
    TaskFailedError: "failed",
    TaskNotFoundError: "not found",
    TaskAbandonedError: "abandoned",
    PresumedNotBoughtError: "presumed not bought",
}


def word_of(outcome: Result | TaskError) -> str:
    """Return how a task ended, in a word for the log."""
    return "success" if isinstance(outcome, Result) else _WORDS[type(outcome)]


def placeholder(model: str, ticket: Ticket) -> TaskRef:
    """Return the reference that stands for a task of which nobody knows the id yet."""
    return TaskRef(model, f"unnamed-{ticket.id[:12]}")


def lasted(track: Track, said: float | None, now: float) -> float | None:
    """Return how long a task took: what the service said, within what was seen."""
    if track.created == -math.inf:
        return said
    low, high = max(0.0, track.ran_until - track.created), max(0.0, now - track.created)
    return min(max((low + high) / 2 if said is None else said, low), high)


def abandoned(track: Track, now: float) -> TaskAbandonedError:
    """Return the error of a task that is older than its age limit."""
    return TaskAbandonedError(
        f"{track.ref} was not over after {now - track.tracked_at:.0f} s, its age limit; nobody "
        "looks at it any more and its slot is free: `attach` looks again",
        ref=track.ref,
    )


def not_found(track: Track, cause: ApixoError) -> TaskNotFoundError:
    """Return the error of a task that the service does not know, with its last answer."""
    lost = TaskNotFoundError(
        f"{track.ref}: the service did not find it in {track.misses} looks; check the task id, "
        "that it is a task of this model, and the key",
        ref=track.ref,
    )
    lost.__cause__ = cause
    return lost


def presumed_not_bought(track: Track, now: float, *, callbacks_come: bool) -> TaskError:
    """Return the error of an uncertain submit of which no callback has told.

    Args:
        track: What stands for its task.
        now: The time.
        callbacks_come: Whether any callback came since the submit; if not, none may have got here.
    """
    doubt = "nobody listened for all of that time" if track.reopened else _doubt(track)
    if not doubt and not callbacks_come:
        doubt = "no callback of any task came either"
    presumed = f"but {doubt}: look at your account" if doubt else "it is presumed not bought"
    error = PresumedNotBoughtError(
        f"{track.ref.model}: no callback named the task of this uncertain submit in "
        f"{now - track.tracked_at:.0f} s, its longest time and the last redelivery; {presumed}",
        ref=track.ref,
    )
    error.bought = None if doubt else False
    return error


def _doubt(track: Track) -> str:
    # Only the service knows the URL that was called.
    return "one came that named none that can be found" if track.told else ""

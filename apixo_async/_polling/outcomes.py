"""How tasks ended: the word for it, how long they took, and the errors that no answer says."""

from __future__ import annotations

import math
import time
from typing import Final

from apixo_async._catalog import timing
from apixo_async._http.verdicts import Running
from apixo_async._polling.tracked_task import TrackedTask
from apixo_async._types import Result, TaskRef
from apixo_async.errors import (
    ApixoError,
    PresumedNotBoughtError,
    TaskAbandonedError,
    TaskError,
    TaskFailedError,
    TaskNotFoundError,
)

#: Dates of answers are whole seconds: a new task may seem to be made after its answer.
_ROUNDING: Final = 1.0

_WORDS: Final[dict[type[ApixoError], str]] = {
    TaskFailedError: "failed",
    TaskNotFoundError: "not found",
    TaskAbandonedError: "abandoned",
    PresumedNotBoughtError: "presumed not bought",
}


def word_of(outcome: Result | TaskError) -> str:
    """Return how a task ended, in a word for the log."""
    return "success" if isinstance(outcome, Result) else _WORDS[type(outcome)]


def placeholder(model: str, mark: str) -> TaskRef:
    """Return the reference that stands for the task of a submit whose id is not known yet."""
    return TaskRef(model, f"unnamed-{mark[:12]}")


def age_of(verdict: Running, kind: str) -> float | None:
    """Return how old a task is by its `createTime`, or None where that is no age of a task.

    It is one by the service's own clock, where the answer has a date.
    """
    if verdict.created is None:
        return None
    age = (verdict.at or time.time()) - verdict.created
    return max(0.0, age) if -_ROUNDING <= age <= timing(kind).age_limit else None


def lasted(track: TrackedTask, said: float | None, now: float) -> float | None:
    """Return how long a task took: what the service said, within what was seen.

    It is between 0 and the age limit, or None where it is not known: one absurd duration among
    those that are learned moves the polls of all tasks.
    """
    limit = timing(track.kind).age_limit
    if track.created == -math.inf:
        return said if said is not None and 0 <= said <= limit else None
    low, high = max(0.0, track.ran_until - track.created), max(0.0, now - track.created)
    # A callback comes when its task ends; a poll finds that it ended some time since the last one.
    seen = high if track.callback_received else (low + high) / 2
    return min(max(seen if said is None else said, low), high, limit)


def abandoned(track: TrackedTask, now: float, *, seen: bool) -> TaskAbandonedError:
    """Return the error of a task that is past its age limit.

    Args:
        track: The task.
        now: The time.
        seen: Whether a poll found it so.
    """
    doubt = "" if seen else ", as far as is known: no poll since then got a usable answer"
    return TaskAbandonedError(
        f"{track.ref} was not over after {now - track.tracked_at:.0f} s, past its age limit"
        f"{doubt}; it is not polled any more and its slot is free: `attach` polls again",
        ref=track.ref,
    )


def not_found(track: TrackedTask, cause: ApixoError) -> TaskNotFoundError:
    """Return the error of a task that the service does not know, with its last answer."""
    lost = TaskNotFoundError(
        f"{track.ref}: the service did not find it in {track.misses} polls; check the task id, "
        "that it is a task of this model, and the key",
        ref=track.ref,
    )
    lost.__cause__ = cause
    return lost


def anothers(track: TrackedTask) -> TaskError:
    """Return the error of a task that a callback names and its submit cannot have made."""
    return TaskError(
        f"{track.ref}: a callback names it for a submit that cannot have made it; it is another's",
        ref=track.ref,
    )


def presumed_not_bought(track: TrackedTask, now: float, *, callbacks_come: bool) -> TaskError:
    """Return the error of an uncertain submit of which no callback has told.

    Args:
        track: What stands for its task.
        now: The time.
        callbacks_come: Whether callbacks of other tasks came all the time since the submit, and
            none went missing; else this one's may have been lost.
    """
    doubt = _doubt(track, callbacks_come=callbacks_come)
    presumed = f"but {doubt}: look at your account" if doubt else "it is presumed not bought"
    error = PresumedNotBoughtError(
        f"{track.ref.model}: no callback named the task of this uncertain submit in "
        f"{now - track.tracked_at:.0f} s; {presumed}",
        ref=track.ref,
    )
    error.bought = None if doubt else False
    return error


def _doubt(track: TrackedTask, *, callbacks_come: bool) -> str:
    """Return what speaks against the presumption, or nothing."""
    if track.callback_received:  # Only the service knows the URL that was called.
        return "one came that named none that can be found"
    if track.subscription is None or track.reopened:
        return "this process did not receive callbacks for all of that time"
    if track.subscription.is_shared:
        return "callbacks of another process came here, so that this one may have gone there"
    return "" if callbacks_come else "callbacks of other tasks stayed away too, or went missing"

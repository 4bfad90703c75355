"""How tasks ended: their duration, the word in the log, and errors that no answer contains."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Final, TypeVar

from apixo_async._catalog import FAILED, SUCCESS, timing
from apixo_async._http import verdicts
from apixo_async._http.verdicts import Running
from apixo_async._polling.tracked_task import TrackedTask
from apixo_async._types import UNBILLED, Billing, Result, Snapshot, TaskRef
from apixo_async.errors import (
    ApixoError,
    PresumedNotBoughtError,
    TaskAbandonedError,
    TaskError,
    TaskFailedError,
    TaskNotFoundError,
)

Outcome = TypeVar("Outcome", bound=Result | TaskError)

#: Dates of answers are whole seconds: a new task may seem to be created after its answer.
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


def snapshot_of(outcome: Result | TaskError) -> Snapshot | None:
    """Return what a poll found that another process has sent, as far as that is known."""
    if not isinstance(outcome, Result | TaskFailedError):
        return None
    state = SUCCESS if isinstance(outcome, Result) else FAILED
    return verdicts.snapshot_of(outcome.ref, state, {}, outcome)


def billed(outcome: Outcome, billing: Billing) -> Outcome:
    """Return how a task ended, with its cost and its tag if it is a result."""
    if not isinstance(outcome, Result) or billing == UNBILLED:
        return outcome
    cost = outcome.cost if billing.cost is None else billing.cost
    return replace(outcome, cost=cost, tag=billing.tag)


def billed_over(over: verdicts.Over, billing: Billing) -> verdicts.Over:
    """Return what a poll found, with the cost and the tag in its result."""
    outcome = billed(over.outcome, billing)
    if not isinstance(outcome, Result):
        return over
    return over._replace(outcome=outcome, snapshot=replace(over.snapshot, result=outcome))


def placeholder(model: str, intent_id: str) -> TaskRef:
    """Return the reference that stands for the task of a submit until its id is known."""
    return TaskRef(model, f"unnamed-{intent_id[:12]}")


def age_of(verdict: Running, kind: str) -> float | None:
    """Return how old a task is by its `createTime`, or None where that cannot be its age.

    The date of the answer is preferred to this machine's clock: both stamps are the service's.
    """
    if verdict.created is None:
        return None
    age = (verdict.at or time.time()) - verdict.created
    return max(0.0, age) if -_ROUNDING <= age <= timing(kind).age_limit else None


def lasted(track: TrackedTask, said: float | None, now: float) -> float | None:
    """Return how long a task took: what the service says, within what polls have shown.

    It is between 0 and the age limit, or None if it is unknown: one absurd duration in the sample
    would move the polls of all tasks of its kind.
    """
    limit = timing(track.kind).age_limit
    # Attached without a known age: nothing was seen that could bound the service's figure.
    if track.created == -math.inf:
        return said if said is not None and 0 <= said <= limit else None
    low, high = max(0.0, track.ran_until - track.created), max(0.0, now - track.created)
    # A callback arrives when its task ends; a poll shows only that it ended since the last poll.
    seen = high if track.callback_received else (low + high) / 2
    return min(max(seen if said is None else said, low), high, limit)


def abandoned(track: TrackedTask, now: float, *, seen: bool) -> TaskAbandonedError:
    """Return the error of a task that is past its age limit.

    Args:
        track: The task.
        now: The time.
        seen: Whether a poll after the age limit found the task still running.
    """
    unseen = "" if seen else ", as far as is known: no poll since then got a usable answer"
    return TaskAbandonedError(
        f"{track.ref} was not over after {now - track.tracked_at:.0f} s, past its age limit"
        f"{unseen}; it is not polled any more and its slot is free: `attach` polls again",
        ref=track.ref,
    )


def not_found(track: TrackedTask, cause: ApixoError) -> TaskNotFoundError:
    """Return the error of a task that the service does not know; its cause is the last answer."""
    lost = TaskNotFoundError(
        f"{track.ref}: the service did not find it in {track.misses} polls; check the task id, "
        "that it is a task of this model, and the key",
        ref=track.ref,
    )
    lost.__cause__ = cause
    return lost


def anothers(track: TrackedTask) -> TaskError:
    """Return the error of a task that a callback named, but that its submit cannot have made."""
    return TaskError(
        f"{track.ref}: a callback named it for a submit that cannot have made it; it is the task "
        "of another submit",
        ref=track.ref,
    )


def presumed_not_bought(track: TrackedTask, now: float, *, callbacks_arrive: bool) -> TaskError:
    """Return the error of an uncertain submit whose task no callback has named.

    Args:
        track: What stands for its task.
        now: The time.
        callbacks_arrive: Whether callbacks of other tasks arrived all the time since the submit,
            and none was missed; otherwise this one's may have been lost.
    """
    objection = _objection(track, callbacks_arrive=callbacks_arrive)
    presumed = (
        f"but {objection}: look at your account" if objection else "it is presumed not bought"
    )
    error = PresumedNotBoughtError(
        f"{track.ref.model}: no callback named the task of this uncertain submit in "
        f"{now - track.tracked_at:.0f} s; {presumed}",
        ref=track.ref,
    )
    error.bought = None if objection else False
    return error


def said_not_bought(track: TrackedTask) -> TaskError:
    """Return the error of an uncertain submit of which somebody has said that it bought nothing."""
    error = PresumedNotBoughtError(
        f"{track.ref.model}: by the word that was given for its key in the store, this uncertain "
        "submit bought nothing: submit it again",
        ref=track.ref,
    )
    error.bought = False
    return error


def _objection(track: TrackedTask, *, callbacks_arrive: bool) -> str:
    """Return what contradicts that no task was made, or ""."""
    if track.callback_received:  # Only the service knows the URL that was called.
        return "one arrived that named no task that can be found"
    if track.subscription is None or track.reopened:
        return "this process did not receive callbacks for all of that time"
    if not track.subscription.is_alone:
        return "another process receives callbacks too, so that this one may have gone there"
    return "" if callbacks_arrive else "callbacks of other tasks stayed away too, or went missing"

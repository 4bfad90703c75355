"""What the client knows of one task, and how its waiters are woken."""

from __future__ import annotations

import asyncio
import math
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from apixo_async._limits.limiter import Slot
from apixo_async._polling.schedule import PollTimes
from apixo_async._sync import Signal, fresh
from apixo_async._types import UNBILLED, Result, Snapshot, TaskRef
from apixo_async.errors import ApixoError, TaskError

if TYPE_CHECKING:
    from apixo_async.webhooks._inbox import CallbackSubscription


class TaskRecord(Protocol):
    """Where it is noted what a submit has made, and how that ended."""

    def bought(self, task_id: str) -> None:
        """Note the task that was made: by the answer, or later by a callback."""
        ...

    def over(self, outcome: Result | TaskError) -> None:
        """Note how the task ended."""
        ...


class SharedImages(Protocol):
    """The shared files that a task names."""

    def end(self, *, again: bool) -> None:
        """Forget them: the service has had what it needs.

        Args:
            again: Whether the same input may be submitted again.
        """
        ...


class SubmitTimes(NamedTuple):
    """When an uncertain POST was under way.

    Attributes:
        sent_at: The earliest time it can have been sent, on the loop's clock: it made no older
            task.
        ended_at: The latest time at which the service can have received it, likewise.
        noted_at: The time of sending that an earlier process noted, in seconds since the epoch by
            a clock that may have been set since; None for a POST of this process.
    """

    sent_at: float
    ended_at: float
    noted_at: float | None = None


class TaskIdentity(Enum):
    """Which task at the service a tracked task stands for.

    KNOWN: its submit's answer, the caller, or a poll says so. CLAIMED: a callback named it, and no
    poll has found it yet; a callback is never believed. UNRESOLVED: its submit was uncertain, and
    only a callback can name it.
    """

    KNOWN = "known"
    CLAIMED = "claimed"
    UNRESOLVED = "unresolved"


class PollState(Enum):
    """Where the next poll of a task stands.

    IDLE: it is scheduled, or waits because its model has its share of polls in flight. IN_FLIGHT:
    it was sent. PARKED: it waits for the end of an outage.
    """

    IDLE = "idle"
    IN_FLIGHT = "in flight"
    PARKED = "parked"


class TrackedTask:
    """One task as the client sees it, on its loop. Only the registry and its parts change it.

    Attributes:
        ref: The task's model and id.
        identity: Whether that id is known to be its id.
        kind: What its duration depends on.
        poll_times: When to poll it by the fixed schedule.
        slot: Given back when the task is over or past its age limit.
        billing: Its tag and its cost.
        created: When it was created, on the loop's clock; minus infinity while that is unknown.
        expires: When its age limit is reached; after that, when it is abandoned in any case.
        overdue: When the age limit was reached; infinity before.
        tracked_at: When this client began to track it, on the loop's clock.
        due: When the next poll is due (minus infinity: now), or None while none is scheduled.
        polling: Whether a poll of it is scheduled, in flight, or held back by an outage.
        polled_ref: What the last poll asked for; a claim may be rejected while it is in flight.
        polled_at: When the last poll went out.
        ran_until: When the last poll went out that found it running.
        waited: Whether there was such a poll.
        polls: Status requests so far.
        faults: Consecutive polls without a usable answer.
        seen: Whether it is known to exist: bought here, or found by a poll.
        misses: Consecutive polls that answered 404.
        missing_since: When the first of those was answered.
        snapshot: What the last poll with a usable answer found, or None.
        outcome: How the task ended, or None while it goes on.
        halted: Why polls have stopped although the task goes on, or None.
        is_detached: Whether they have stopped for good, as the caller wished.
        ended_at: When it was known to be over, on the loop's clock, or None.
        over: Fires when `outcome` or `halted` is set.
        changed: Fires at every poll with a usable answer, and when `over` does.
        refreshers: The callers of `refresh` that wait for its next poll.
        subscription: Where its callbacks arrive, or None where none is awaited.
        late: When to poll it first although its callback has not come, by what was known when it
            was created.
        callback_received: Whether a callback of it arrived.
        is_announced: Whether one has arrived since a poll found it running.
        again: Whether to poll once more after the poll in flight, which the service may have
            answered before the event that asks for this one.
        next_claims: Other tasks that callbacks named while one was polled.
        placeholder: What stands for its reference until a callback names the task.
        submit_times: When its submit was under way, where that was uncertain.
        reopened: Whether its submit was sent by a process that has ended.
        is_followed: Whether another process polls it, so that it is polled here only if that one's
            word is overdue.
        record: Where its id, if a callback names it, and its end are noted; or None.
        images: The shared files that it names, or None.
    """

    __slots__ = (
        "again",
        "billing",
        "callback_received",
        "changed",
        "created",
        "due",
        "ended_at",
        "expires",
        "faults",
        "halted",
        "identity",
        "images",
        "is_announced",
        "is_detached",
        "is_followed",
        "kind",
        "late",
        "misses",
        "missing_since",
        "next_claims",
        "outcome",
        "over",
        "overdue",
        "placeholder",
        "poll_times",
        "polled_at",
        "polled_ref",
        "polling",
        "polls",
        "ran_until",
        "record",
        "ref",
        "refreshers",
        "reopened",
        "seen",
        "slot",
        "snapshot",
        "submit_times",
        "subscription",
        "tracked_at",
        "waited",
    )

    def __init__(
        self,
        ref: TaskRef,
        kind: str,
        poll_times: PollTimes,
        slot: Slot,
        *,
        created: float,
        expires: float,
    ) -> None:
        self.ref = self.placeholder = self.polled_ref = ref
        self.kind = kind
        self.poll_times = poll_times
        self.slot = slot
        self.billing = UNBILLED
        self.created = self.tracked_at = created
        self.submit_times = SubmitTimes(created, created)
        self.expires = expires
        self.overdue = math.inf
        self.late = -math.inf
        self.due: float | None = None
        self.identity = TaskIdentity.KNOWN
        self.polling = PollState.IDLE
        self.waited = self.callback_received = self.again = self.reopened = False
        self.is_followed = self.is_detached = self.is_announced = False
        self.seen = True
        self.subscription: CallbackSubscription | None = None
        self.next_claims: list[str] = []
        self.record: TaskRecord | None = None
        self.images: SharedImages | None = None
        self.polls = self.faults = self.misses = 0
        self.missing_since = self.polled_at = 0.0
        self.ran_until = -math.inf
        self.snapshot: Snapshot | None = None
        self.outcome: Result | TaskError | None = None
        self.ended_at: float | None = None
        self.halted: ApixoError | None = None
        self.over = Signal()
        self.changed = Signal()
        self.refreshers: list[asyncio.Future[Snapshot]] = []

    def verdict(self) -> Result | ApixoError | None:
        """Return what ends a wait: the outcome, or why polls stopped; None while neither is."""
        # The outcome first: a task may be settled after its polls were halted.
        return self.outcome if self.outcome is not None else self.halted

    @property
    def is_pollable(self) -> bool:
        """Whether a poll may be sent: the task goes on, has an id, and no poll is in flight."""
        return (
            self.outcome is None
            and not self.is_detached
            and self.polling is not PollState.IN_FLIGHT
            and self.identity is not TaskIdentity.UNRESOLVED
        )

    def error(self, error: ApixoError) -> ApixoError:
        """Copy an error for one waiter, who adds a traceback to it, and name this task in it."""
        own = fresh(error)
        own.model, own.task_id, own.tag = self.ref.model, self.ref.task_id, self.billing.tag
        if self.identity is TaskIdentity.KNOWN:
            own.bought = True
        return own

    def wake(self) -> None:
        """Wake the waiters after a change."""
        if self.verdict() is not None:
            self.over.fire()
        self.changed.fire()

    def answer_refreshers(self, said: Snapshot | ApixoError) -> None:
        """Give the callers of `refresh` what a poll found, each its own copy of an error."""
        waiting, self.refreshers = self.refreshers, []
        for future in waiting:
            if future.done():
                continue
            if isinstance(said, Snapshot):
                future.set_result(said)
            else:
                future.set_exception(self.error(said))

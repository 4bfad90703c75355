"""What the engine knows of one task, and how its waiters are woken."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from apixo_async._limits.limiter import Slot
from apixo_async._polling.schedule import PollTimes
from apixo_async._sync import Signal, fresh
from apixo_async._types import Result, Snapshot, TaskRef
from apixo_async.errors import ApixoError, TaskError

if TYPE_CHECKING:
    from apixo_async.webhooks._inbox import CallbackSubscription


class SubmitTimes(NamedTuple):
    """When an uncertain POST was under way.

    Attributes:
        sent_at: When it was sent at the earliest, on the loop's clock: no older task is its task.
        ended_at: When the service had it at the latest, likewise.
        noted_at: What an earlier process noted as the time of sending, in seconds since the epoch
            by its clock, which may have been set since; None for a POST of this process.
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
    """What becomes of the polls of a task.

    IDLE: the next one is planned, or its model has its share in flight. IN_FLIGHT: one is.
    PARKED: the next one waits for the end of an outage.
    """

    IDLE = "idle"
    IN_FLIGHT = "in flight"
    PARKED = "parked"


class TrackedTask:
    """One task as the client sees it, on its loop. Only the registry and its parts change it.

    Attributes:
        ref: The task's model and id.
        identity: Whether that id is known to be its id.
        kind: What drives its time.
        plan: When to poll it.
        slot: Given back when the task is over or past its age limit.
        created: When it was created, on the loop's clock; minus infinity while nobody knows.
        expires: When its age limit is reached; later, when it is given up whatever polls say.
        overdue: When the age limit was reached; infinity before.
        tracked_at: When this client took it up, on the loop's clock.
        due: When the next poll is due (minus infinity: asked for), or None while none is planned.
        polling: Whether a poll of it is planned, in flight, or held back by an outage.
        polled_ref: What the last poll asked for; a claim may be taken back while it is in flight.
        polled_at: When the last poll went out.
        ran_until: When the last poll went out that found it running.
        waited: Whether there was one.
        polls: Status requests so far.
        faults: Polls in a row that told nothing.
        seen: Whether it is known to exist: bought here, or found by a poll.
        misses: Polls in a row that answered 404.
        missing_since: When the first of those came.
        snapshot: What the last telling poll said, or None.
        outcome: How the task ended, or None while it goes on.
        halted: Why nobody polls although the task goes on, or None.
        over: Fires when `outcome` or `halted` is set.
        changed: Fires at every telling poll, and when `over` does.
        refreshers: Those who asked for a poll and wait for what it says.
        subscription: Where its callbacks come in, or None where none are waited for.
        late: When a callback that has not come counts as lost, as far as was known at its creation.
        callback_received: Whether one came.
        again: Whether news came during a poll, which may have been answered before it.
        claim: Another task that a callback named while one was polled, or None.
        placeholder: What stands for its reference until a callback names the task.
        times: When its submit was under way, where that was uncertain.
        reopened: Whether its submit was sent by a process that has ended.
        when_found: Called with its id when one did, or None.
    """

    __slots__ = (
        "again",
        "callback_received",
        "changed",
        "claim",
        "created",
        "due",
        "expires",
        "faults",
        "halted",
        "identity",
        "kind",
        "late",
        "misses",
        "missing_since",
        "outcome",
        "over",
        "overdue",
        "placeholder",
        "plan",
        "polled_at",
        "polled_ref",
        "polling",
        "polls",
        "ran_until",
        "ref",
        "refreshers",
        "reopened",
        "seen",
        "slot",
        "snapshot",
        "subscription",
        "times",
        "tracked_at",
        "waited",
        "when_found",
    )

    def __init__(
        self,
        ref: TaskRef,
        kind: str,
        plan: PollTimes,
        slot: Slot,
        *,
        created: float,
        expires: float,
    ) -> None:
        self.ref = self.placeholder = self.polled_ref = ref
        self.kind = kind
        self.plan = plan
        self.slot = slot
        self.created = self.tracked_at = created
        self.times = SubmitTimes(created, created)
        self.expires = expires
        self.overdue = math.inf
        self.late = -math.inf
        self.due: float | None = None
        self.identity = TaskIdentity.KNOWN
        self.polling = PollState.IDLE
        self.waited = self.callback_received = self.again = self.reopened = False
        self.seen = True
        self.subscription: CallbackSubscription | None = None
        self.claim: str | None = None
        self.when_found: Callable[[str], None] | None = None
        self.polls = self.faults = self.misses = 0
        self.missing_since = self.polled_at = 0.0
        self.ran_until = -math.inf
        self.snapshot: Snapshot | None = None
        self.outcome: Result | TaskError | None = None
        self.halted: ApixoError | None = None
        self.over = Signal()
        self.changed = Signal()
        self.refreshers: list[asyncio.Future[Snapshot]] = []

    def verdict(self) -> Result | ApixoError | None:
        """Return what a waiter is to be told now, or None while it has to wait."""
        return self.outcome if self.outcome is not None else self.halted

    @property
    def is_pollable(self) -> bool:
        """Whether a poll of it may go out: it goes on, has an id, and no poll is in flight."""
        return (
            self.outcome is None
            and self.polling is not PollState.IN_FLIGHT
            and self.identity is not TaskIdentity.UNRESOLVED
        )

    def error(self, error: ApixoError) -> ApixoError:
        """Return an error for one waiter: a copy that names this task, which was bought."""
        own = fresh(error)
        own.model, own.task_id = self.ref.model, self.ref.task_id
        if self.identity is TaskIdentity.KNOWN:
            own.bought = True
        return own

    def wake(self) -> None:
        """Tell everybody that there is something to know."""
        if self.verdict() is not None:
            self.over.fire()
        self.changed.fire()

    def answer_refreshers(self, said: Snapshot | ApixoError) -> None:
        """Tell those who asked for a poll what it said, each with an error of their own."""
        waiting, self.refreshers = self.refreshers, []
        for future in waiting:
            if future.done():
                continue
            if isinstance(said, Snapshot):
                future.set_result(said)
            else:
                future.set_exception(self.error(said))

"""What callbacks change: when a task is polled, and which task an uncertain submit made.

A callback is never believed. It names a task, and a poll confirms that claim or rejects it.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from apixo_async._catalog import REDELIVERY, timing
from apixo_async._http.verdicts import Over, Running
from apixo_async._polling.callback_health import CallbackHealth, may_be_of
from apixo_async._polling.outcomes import presumed_not_bought
from apixo_async._polling.queue import TaskIndex
from apixo_async._polling.tracked_task import TaskIdentity, TrackedTask
from apixo_async._reporting import Reporter
from apixo_async._types import TaskRef
from apixo_async.errors import TaskError
from apixo_async.events import CallbacksLost, CallbacksRestored, UncertainSubmitResolved

if TYPE_CHECKING:
    from apixo_async.webhooks._inbox import CallbackSubscription

#: Settled tasks whose ids are remembered, so that no callback names one of them for another
#: submit.
_MOST_SETTLED: Final = 10_000

#: Claims of one task that wait while another one is polled.
_MOST_CLAIMS: Final = 5


class UnresolvedSubmits:
    """The uncertain submits whose task no callback has named, and the claims of callbacks.

    Args:
        index: The tasks that have an id.
        report: Where events go.

    Attributes:
        tracks: One entry for each submit, which stands for the task that it may have made.
    """

    def __init__(self, index: TaskIndex, report: Reporter) -> None:
        self.tracks: set[TrackedTask] = set()
        self._settled: OrderedDict[str, None] = OrderedDict()
        self._index = index
        self._report = report
        self._health = CallbackHealth()

    def is_awaited_for(self, track: TrackedTask) -> bool:
        """Return True if the callback of a task is to be expected here.

        It is not before callbacks have reached this process, nor where callbacks of other
        processes arrive: then this one's arrive there.
        """
        subscription = track.subscription
        return subscription is not None and self._health.is_proved and not subscription.is_shared

    @property
    def delay(self) -> float:
        """Seconds after the end of a task until its callback may have come."""
        return self._health.delay

    @property
    def lost(self) -> float:
        """The share of callbacks that do not come; 1 while none are to be expected."""
        return self._health.lost if self._health.is_proved else 1.0

    def received(self, track: TrackedTask, named: str | None, now: float) -> None:
        """Note a callback of a task, and the task id that it names, if it names one."""
        track.callback_received = track.is_announced = True
        is_back = self._health.received(now, time.time())
        self.note_claim(track, named)
        if is_back:
            self._report(CallbacksRestored())

    def note_claim(self, track: TrackedTask, named: str | None) -> None:
        """Have polls find out whether an uncertain submit made the task that was named."""
        if named is None or track.identity is TaskIdentity.KNOWN:
            return
        if track.identity is TaskIdentity.CLAIMED:
            if named not in {track.ref.task_id, *track.next_claims}:
                # Tried if the claim that is being polled is rejected.
                track.next_claims = [*track.next_claims, named][-_MOST_CLAIMS:]
            return
        ref = TaskRef(track.ref.model, named)
        if ref in self._index.tracks or ref.task_id in self._settled:
            return  # It is the task of another submit: the claim is wrong.
        self.remove(track)
        track.identity, track.ref = TaskIdentity.CLAIMED, ref
        track.expires = track.tracked_at + timing(track.kind).age_limit + REDELIVERY
        self._index.add(track)

    def ended(self, track: TrackedTask, ended_for: float = math.inf) -> bool:
        """Note that a task is over; return True if its missing callback begins a silence.

        Args:
            track: The task.
            ended_for: Seconds since its end, or infinity where that is not known.
        """
        assert track.subscription is not None
        track.subscription.close()
        if track.identity is TaskIdentity.KNOWN:
            self._settled[track.ref.task_id] = None
            if len(self._settled) > _MOST_SETTLED:
                self._settled.popitem(last=False)
        if track.identity is TaskIdentity.UNRESOLVED:
            return False
        if track.is_announced:
            self._health.announced(ended_for)
            return False
        if not self._health.missed(ended_for):
            return False
        self._report(CallbacksLost(self._health.missed_in_a_row))
        return True

    # --- uncertain submits ---------------------------------------------------------------

    def add(self, track: TrackedTask, subscription: CallbackSubscription | None) -> None:
        """Add an uncertain submit, whose task only a callback can name.

        Its slot is given back after the model's longest run time (invariant 2). A callback may
        arrive until the last redelivery after the age limit; without a subscription none can, and
        only a claim that was made before counts.
        """
        track.created, track.subscription = -math.inf, subscription
        track.placeholder = track.ref
        track.seen = False
        self._await_claim(track)

    def _await_claim(self, track: TrackedTask) -> None:
        track.expires = track.tracked_at + timing(track.kind).longest
        track.identity = TaskIdentity.UNRESOLVED
        self.tracks.add(track)
        self._index.queue.expect(track)

    def reject_claim(self, track: TrackedTask, now: float) -> TaskError | None:
        """Reject a claim: the service does not know the task, or it is not of this submit.

        Returns:
            The error for waiters, where no other callback can come.
        """
        self._index.remove(track)
        # Whatever polls found was about another task: all of it is forgotten.
        track.ref, track.misses, track.due = track.placeholder, 0, None
        track.overdue = math.inf
        track.created, track.waited, track.snapshot, track.seen = -math.inf, False, None, False
        self._await_claim(track)
        claims, track.next_claims = track.next_claims, []
        for claim in claims:
            self.note_claim(track, claim)
        if track.subscription is None and track.identity is TaskIdentity.UNRESOLVED:
            return self._presume_not_bought(track, now)
        return None

    def confirm(self, track: TrackedTask, verdict: Over | Running, now: float) -> bool:
        """Note that a poll found the task that a callback had named.

        Returns:
            False if that task was created before the submit, so that another submit made it.
        """
        at = time.time() if verdict.at is None else verdict.at
        age = now - track.submit_times.sent_at
        if not may_be_of(verdict.created, at, age, noted_at=track.submit_times.noted_at):
            return False
        track.identity = TaskIdentity.KNOWN
        ref, after = track.ref, now - track.submit_times.sent_at
        if track.record is not None:
            track.record.bought(ref.task_id)
        self._report(UncertainSubmitResolved(ref.model, ref.task_id, after, track.billing.tag))
        return True

    def expire(self, track: TrackedTask, now: float) -> TaskError | None:
        """Release the slot of an unresolved submit after the model's longest run time.

        Returns:
            After the last redelivery of its callback, the error that presumes that no task was
            created; None before.
        """
        last = track.tracked_at + timing(track.kind).age_limit + REDELIVERY
        track.slot.release()
        track.expires = max(last, now)
        self._index.queue.expect(track)
        return None if now < last else self._presume_not_bought(track, now)

    def _presume_not_bought(self, track: TrackedTask, now: float) -> TaskError:
        is_steady = self._health.is_steady(track.submit_times.sent_at, now, time.time())
        return presumed_not_bought(track, now, callbacks_arrive=is_steady)

    def remove(self, track: TrackedTask) -> None:
        """Wait no more for the callback of an uncertain submit."""
        self.tracks.discard(track)
        self._index.queue.forget(track)

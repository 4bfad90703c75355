"""What callbacks say of tasks: that there is news, and which task an uncertain submit made.

A callback is never believed. It names a task, and a poll proves that name or takes it back.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from apixo_async._catalog import timing
from apixo_async._http.verdicts import Over, Running
from apixo_async._polling.callback_health import CallbackHealth, may_be_of
from apixo_async._polling.outcomes import presumed_not_bought
from apixo_async._polling.queue import TaskIndex
from apixo_async._polling.tracked_task import TaskIdentity, TrackedTask
from apixo_async._reporting import Reporter
from apixo_async._types import TaskRef
from apixo_async.errors import TaskError
from apixo_async.events import CallbacksLost, CallbacksRestored, UncertainSubmitResolved
from apixo_async.webhooks._tokens import REDELIVERY

if TYPE_CHECKING:
    from apixo_async.webhooks._inbox import CallbackSubscription

#: Settled tasks that are remembered: no callback names one of them for another submit.
_MOST_SETTLED: Final = 10_000


class UnresolvedSubmits:
    """Act on what callbacks claim.

    Args:
        register: The tasks that have a name.
        report: Where events go.

    Attributes:
        tracks: What stands for the tasks that uncertain submits may have made.
    """

    def __init__(self, register: TaskIndex, report: Reporter) -> None:
        self.tracks: set[TrackedTask] = set()
        self._settled: OrderedDict[str, None] = OrderedDict()
        self._register = register
        self._report = report
        self._health = CallbackHealth()

    def is_awaited_for(self, track: TrackedTask) -> bool:
        """Return True if a callback is to be expected for a task.

        Not before callbacks have come to this process, nor where those of other processes come:
        then this one's go there.
        """
        subscription = track.subscription
        return subscription is not None and self._health.is_proved and not subscription.is_shared

    def came(self, track: TrackedTask, named: str | None, now: float) -> None:
        """Note that a callback told of a task; of which one, it may have to say itself."""
        track.callback_received = True
        is_back = self._health.came(now, time.time())
        self.claim(track, named)
        if is_back:
            self._report(CallbacksRestored())

    def claim(self, track: TrackedTask, named: str | None) -> None:
        """Have polls find out whether an uncertain submit made this task."""
        if named is None or track.identity is TaskIdentity.KNOWN:
            return
        if track.identity is TaskIdentity.UNRESOLVED:
            self._name(track, TaskRef(track.ref.model, named))
        elif named != track.ref.task_id:
            track.claim = named  # It counts if the one that is being polled is disproved.

    def ended(self, track: TrackedTask, ended_for: float = math.inf) -> bool:
        """Note that a task is over; return True if its missing callback begins a silence.

        Args:
            track: The task.
            ended_for: Seconds since its end, as far as is known.
        """
        assert track.subscription is not None
        track.subscription.close()
        if track.identity is TaskIdentity.KNOWN:
            self._remember(track.ref.task_id)
        if track.callback_received or track.identity is TaskIdentity.UNRESOLVED:
            return False
        if not self._health.missed(ended_for):
            return False
        self._report(CallbacksLost(self._health.missed_in_a_row))
        return True

    def _remember(self, task_id: str) -> None:
        self._settled[task_id] = None
        if len(self._settled) > _MOST_SETTLED:
            self._settled.popitem(last=False)

    # --- uncertain submits ---------------------------------------------------------------

    def wait_for(self, track: TrackedTask, subscription: CallbackSubscription | None) -> None:
        """Take up an uncertain submit, whose task only a callback can name.

        Its slot is given back after the task's longest time, when the task is over if there was
        one; a callback may come until the last redelivery after the age limit. Without a
        subscription none comes: what is claimed already is all there is.
        """
        track.created, track.subscription = -math.inf, subscription
        track.placeholder = track.ref
        track.seen = False
        self._wait(track)

    def _wait(self, track: TrackedTask) -> None:
        track.expires = track.tracked_at + timing(track.kind).longest
        track.identity = TaskIdentity.UNRESOLVED
        self.tracks.add(track)
        self._register.queue.expect(track)

    def _name(self, track: TrackedTask, ref: TaskRef) -> None:
        if ref in self._register.tracks or ref.task_id in self._settled:
            return  # That is another submit's: the claim is wrong.
        self.forget(track)
        track.identity, track.ref = TaskIdentity.CLAIMED, ref
        track.expires = track.tracked_at + timing(track.kind).age_limit + REDELIVERY
        self._register.enter(track)

    def unname(self, track: TrackedTask, now: float) -> TaskError | None:
        """Take back a name under which the service knows no task, or not one of this submit.

        Returns:
            The error for waiters, where no other name can come.
        """
        self._register.leave(track)
        track.ref, track.misses, track.due = track.placeholder, 0, None
        track.overdue = math.inf
        track.created, track.waited, track.snapshot, track.seen = -math.inf, False, None, False
        self._wait(track)
        claim, track.claim = track.claim, None
        self.claim(track, claim)
        is_unresolved = track.identity is TaskIdentity.UNRESOLVED
        return self._given_up(track, now) if track.subscription is None and is_unresolved else None

    def prove(self, track: TrackedTask, verdict: Over | Running, now: float) -> bool:
        """Note that a poll found the task that a callback had named.

        Returns:
            False if that task was created before the submit: it is another one's.
        """
        at = time.time() if verdict.at is None else verdict.at
        age = now - track.times.sent_at
        if not may_be_of(verdict.created, at, age, noted_at=track.times.noted_at):
            return False
        track.identity = TaskIdentity.KNOWN
        ref, after = track.ref, now - track.tracked_at
        if track.when_found is not None:
            track.when_found(ref.task_id)
        self._report(UncertainSubmitResolved(ref.model, ref.task_id, after))
        return True

    def despair(self, track: TrackedTask, now: float) -> TaskError | None:
        """Give up, at its time, the slot of a task without a name, and later the hope for one.

        Returns:
            What waiters are told in the end.
        """
        last = track.tracked_at + timing(track.kind).age_limit + REDELIVERY
        track.slot.release()
        track.expires = max(last, now)
        self._register.queue.expect(track)
        return None if now < last else self._given_up(track, now)

    def _given_up(self, track: TrackedTask, now: float) -> TaskError:
        is_steady = self._health.is_steady(track.times.sent_at, now, time.time())
        return presumed_not_bought(track, now, callbacks_come=is_steady)

    def forget(self, track: TrackedTask) -> None:
        """Wait no more for the callback of an uncertain submit."""
        self.tracks.discard(track)
        self._register.queue.forget(track)

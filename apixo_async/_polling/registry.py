"""Every task in flight, and what each poll changes in it. Synchronous: time comes as `now`."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from apixo_async import events
from apixo_async._catalog import timing
from apixo_async._http import verdicts
from apixo_async._http.concurrency import ConcurrencyLimit
from apixo_async._limits.limiter import Limiter, Slot
from apixo_async._polling.outages import ModelShares, Outages
from apixo_async._polling.outcomes import (
    abandoned,
    age_of,
    anothers,
    billed,
    billed_over,
    lasted,
    not_found,
    snapshot_of,
    word_of,
)
from apixo_async._polling.policy import Polling
from apixo_async._polling.queue import PollQueue, TaskIndex
from apixo_async._polling.schedule import Capacity, Schedule, after_fault, after_miss, late_again
from apixo_async._polling.tracked_task import (
    PollState,
    SubmitTimes,
    TaskIdentity,
    TaskRecord,
    TrackedTask,
)
from apixo_async._polling.unresolved import UnresolvedSubmits
from apixo_async._reporting import Reporter, guarded
from apixo_async._types import UNBILLED, Billing, Result, TaskRef
from apixo_async.errors import ApixoError, TaskError, TaskFailedError, reason_of

if TYPE_CHECKING:
    from apixo_async.webhooks._inbox import CallbackSubscription

#: Seconds beyond its age limit that a task gets, for a poll that is in flight at that time.
EXPIRY_GRACE: Final = 30.0

#: Seconds for which a measured capacity is good: prices follow it over seconds.
_MEASURED_FOR: Final = 0.05


class TaskRegistry:
    """The tasks that are not over. Only the registry and its parts change a task.

    Args:
        polling: When to poll.
        limiter: Knows how many requests submits leave to polls.
        report: Where events go.
        rng: The source of the jitter.
        places: The limit of requests in flight, and their latency.
    """

    def __init__(
        self,
        polling: Polling,
        limiter: Limiter,
        report: Reporter,
        rng: random.Random,
        places: ConcurrencyLimit,
    ) -> None:
        self.schedule: Schedule = polling.schedule(rng)
        self.queue = PollQueue(self._first_poll)
        self.index = TaskIndex(self.schedule, self.queue)
        self.tracks = self.index.tracks
        self.unresolved = UnresolvedSubmits(self.index, report)
        self.outages = Outages(self.queue, rng, report, limiter.pace)
        self.shares = ModelShares(self.queue, places)
        self.succeeded = self.failed = 0
        self._polling = polling
        self._places = places
        self._limiter = limiter
        self._report = report
        self._rng = rng
        self._measured: Capacity | None = None
        self._measured_at = -math.inf

    def open(
        self,
        ref: TaskRef,
        kind: str,
        slot: Slot,
        *,
        now: float,
        age: float | None = 0.0,
        subscription: CallbackSubscription | None = None,
        seen: bool = True,
        record: TaskRecord | None = None,
        is_followed: bool = False,
        billing: Billing = UNBILLED,
    ) -> TrackedTask:
        """Track a task, and schedule its first poll: now where its age is unknown.

        Args:
            ref: The task.
            kind: What its duration depends on.
            slot: Given back when the task is over.
            now: The time.
            age: Seconds since it was created, or None where that is not known.
            subscription: Where its callbacks arrive.
            seen: Whether its id surely came from the service, so that it is not mistyped.
            record: Where its end is noted.
            is_followed: Whether another process polls it.
            billing: Its tag and its cost.
        """
        existing = self.tracks.get(ref)
        if existing is not None and existing.identity is TaskIdentity.CLAIMED:
            # So far only a callback has named it as the task of an uncertain submit.
            if seen:  # It is another submit's.
                self._disprove(existing, anothers(existing), now)
            else:  # It may be that submit's: only polls can tell.
                self.index.step_aside(existing)
            existing = None
        if existing is not None:
            # One task holds one slot, however many callers track it (invariant 2).
            slot.release()
            existing.seen |= seen
            existing.record = existing.record or record
            existing.billing = existing.billing.filled(billing)
            if existing.subscription is None:
                existing.subscription = subscription
            elif subscription is not None:
                subscription.close()
            return existing
        track = self._new(ref, kind, slot, now, age or 0.0)
        track.subscription, track.seen, track.record = subscription, seen, record
        track.is_followed, track.billing = is_followed, billing
        if subscription is not None:
            track.late = self._silent_poll(track, now)
        self.shares.opened(track)
        self.index.add(track)
        if age is None:
            # It is polled at its interval until an answer states the age.
            track.created = -math.inf
            self.queue.ask(track)
        elif age or is_followed:
            self.queue.schedule(track, self._first_poll(track))
        elif self.schedule.learns:
            # Durations that are learned meanwhile move the first polls of a kind together.
            self.queue.schedule_first(track)
        else:
            self.queue.schedule(track, self._first_poll(track))
        return track

    def await_callback(
        self,
        ref: TaskRef,
        kind: str,
        slot: Slot,
        subscription: CallbackSubscription | None,
        times: SubmitTimes,
    ) -> TrackedTask:
        """Track an uncertain submit, whose task only a callback can name."""
        track = self._new(ref, kind, slot, times.ended_at)
        track.submit_times = times
        self.unresolved.add(track, subscription)
        return track

    def _new(
        self, ref: TaskRef, kind: str, slot: Slot, now: float, age: float = 0.0
    ) -> TrackedTask:
        slot.name(ref)
        times = self._polling.times_for(kind)
        expires = now + max(0.0, timing(kind).age_limit - age) + EXPIRY_GRACE
        track = TrackedTask(ref, kind, times, slot, created=now - age, expires=expires)
        track.tracked_at = now
        return track

    def ended(
        self, ref: TaskRef, kind: str, outcome: Result | TaskError, billing: Billing = UNBILLED
    ) -> TrackedTask:
        """Return a task of which it is known how it ended; there is nothing to poll."""
        times = self._polling.times_for(kind)
        track = TrackedTask(ref, kind, times, Slot(None), created=-math.inf, expires=0.0)
        track.billing, track.outcome = billing, billed(outcome, billing)
        if isinstance(outcome, Result) and outcome.cost_time is not None:
            track.created, track.ended_at = 0.0, outcome.cost_time
        track.snapshot = snapshot_of(track.outcome)
        return track

    def ended_elsewhere(self, track: TrackedTask, outcome: Result | TaskError, now: float) -> None:
        """Settle a task as another process saw it end."""
        if track.outcome is None:
            track.record = None  # It has noted that.
            outcome = billed(outcome, track.billing)
            track.snapshot = snapshot_of(outcome) or track.snapshot
            self._settle(track, outcome, now)

    def adopt(self, track: TrackedTask, record: TaskRecord | None, now: float) -> None:
        """Poll a task that another process has polled so far; it takes a slot above the limit."""
        if not track.is_followed:
            track.record = track.record or record
            return
        track.record = record
        track.is_followed = False
        track.slot = self._limiter.slot_above()
        track.slot.name(track.ref)
        if track.polling is PollState.IDLE:
            self.queue.schedule(track, max(now, self._first_poll(track)))

    def follow(self, track: TrackedTask, now: float) -> None:
        """Leave the polls of a task to another process, which has it now."""
        track.is_followed, track.record = True, None
        track.slot.release()
        if track.subscription is not None:
            track.subscription.leave()  # Callbacks are for the other process.
            track.subscription = None
        if track.due is not None and track.due > -math.inf:
            self.queue.schedule(track, max(now, self._first_poll(track)))

    def hasten(self, speed: float) -> None:
        """Poll by the documented times divided by a speed, which a simulator has announced."""
        if speed == self._polling.speed:
            return
        self._polling = replace(self._polling, speed=speed)
        self.schedule = self._polling.schedule(self._rng)
        self.index.schedule = self.schedule
        for track in self.tracks.values():
            self.schedule.opened(track.kind, track)
            track.poll_times = self._polling.times_for(track.kind)
            if not track.polls and track.due is not None and track.due > -math.inf:
                self.queue.schedule(track, self._first_poll(track))

    def expected(self, kind: str) -> float:
        """Return the seconds that a task of a kind takes: the median of recent ones, if known.

        Otherwise it is the middle of what the documents call typical.
        """
        learned = self.schedule.median(kind)
        if learned is not None:
            return learned
        documented = timing(kind)
        middle = (documented.typical_low + documented.typical_high) / 2
        return middle / self._polling.speed

    @property
    def held(self) -> int:
        """How many tasks are not over, those included that uncertain submits may have made."""
        return len(self.tracks) + len(self.unresolved.tracks)

    def _first_poll(self, track: TrackedTask) -> float:
        if track.is_followed:
            return self.schedule.late(track.kind, track.created)
        return self.schedule.first(track.kind, track.created)

    def next_due(self, now: float) -> TrackedTask | None:
        """Take the task to poll now, and mark its poll as in flight; None if none is due."""
        while True:
            asked = self.queue.is_turn_of_asked(now)
            track = self.queue.pop_due(now)
            if track is None:
                return None
            # It may have been settled, or polled, since its poll was asked for.
            if not track.is_pollable:
                continue
            if self.shares.hold_back(track):
                continue
            # A poll that a caller asked for goes out even during an outage.
            if asked or not (self._left_to_callback(track, now) or self.outages.park(track, now)):
                break
        self.shares.sent(track)
        self.outages.sent(track, now)
        track.polling = PollState.IN_FLIGHT
        track.polled_ref = track.ref
        track.polled_at = now
        track.polls += 1
        return track

    def _left_to_callback(self, track: TrackedTask, now: float) -> bool:
        """Postpone a poll until the callback of its task is overdue; return True if that is so."""
        if (
            track.late <= now
            or track.callback_received
            or not self.unresolved.is_awaited_for(track)
        ):
            return False
        self.queue.schedule(track, track.late)
        return True

    def apply(self, track: TrackedTask, verdict: verdicts.PollVerdict, now: float) -> None:
        """Act on what a poll found (invariant 5)."""
        track.polling = PollState.IDLE
        self.shares.returned(track, now)
        self.outages.note(track, verdict, now)
        if track.is_detached:
            return
        if track.outcome is None and track.polled_ref == track.ref:
            self._act(track, verdict, now)
        elif track.outcome is None and track.identity is TaskIdentity.CLAIMED:
            self.queue.ask(track)  # The claim was rejected meanwhile, and there is another one.
        usable = not isinstance(verdict, verdicts.Faulty | verdicts.Throttled)
        if usable and track.polled_at >= track.overdue and track.outcome is None:
            self._settle(track, abandoned(track, now, seen=True), now)
        if track.again and track.verdict() is None:
            self.queue.ask(track)
        track.again = False
        self.outages.checked(track, now)

    def _act(self, track: TrackedTask, verdict: verdicts.PollVerdict, now: float) -> None:
        is_claimed = track.identity is TaskIdentity.CLAIMED
        if is_claimed and isinstance(verdict, verdicts.Over | verdicts.Running):
            if not self.unresolved.confirm(track, verdict, now):
                self._disprove(track, anothers(track), now)
                return
            if not track.slot.is_held:  # It was given back while no task was known to exist.
                track.slot = self._limiter.slot_above()
                track.slot.name(track.ref)
        match verdict:
            case verdicts.Over():
                over = billed_over(verdict, track.billing)
                track.snapshot = over.snapshot
                track.answer_refreshers(over.snapshot)
                seconds, took = lasted(track, over.lasted, now), now - track.polled_at
                self._settle(track, over.outcome, now, seconds, took)
            case verdicts.Running():
                self._still_running(track, verdict, now)
            case verdicts.Faulty():
                self._poll_failed(track, verdict.error, now, self._after_fault(track, now))
            case verdicts.Throttled():
                # A 429 is not a fault of the task: the limiter does the waiting (invariant 4).
                self._poll_failed(track, verdict.error, now, self._next_poll(track, now))
            case verdicts.Missing():
                self._missed(track, verdict, now)
            case verdicts.Denied():
                # Polls stop, since repeating them cannot help; `refresh` starts them again.
                track.halted = verdict.error
                self._poll_failed(track, verdict.error, now, None)
                track.wake()

    def abandon_expired(self, now: float) -> None:
        """Give back the slots of tasks that reach their age limit, and poll them once more.

        A task is abandoned when that poll, or a later one, finds it not over, or when no poll got
        a usable answer for another age limit.
        """
        while (track := self.queue.pop_expired(now)) is not None:
            if track.identity is TaskIdentity.UNRESOLVED:
                not_bought = self.unresolved.expire(track, now)
                if not_bought is not None:
                    self._settle(track, not_bought, now)
                continue
            in_flight = track.polling is PollState.IN_FLIGHT
            # A poll in flight may still find the task over; after that, the task has as long again
            # as its age limit for a poll with a usable answer.
            track.expires = now + (EXPIRY_GRACE if in_flight else timing(track.kind).age_limit)
            self.queue.expect(track)
            if in_flight:
                continue
            if track.overdue < math.inf:
                self._settle(track, abandoned(track, now, seen=False), now)
            else:
                track.overdue = now
                track.slot.release()
                self.queue.ask(track)

    def halt_all(self, reason: ApixoError, now: float) -> None:
        """Give every waiter the reason why polls have ended.

        The tasks go on at the service: in a limiter that other clients share, each keeps its slot
        until its age limit.
        """
        everything = (*self.tracks.values(), *self.unresolved.tracks)
        for track in everything:
            track.halted = reason
            track.answer_refreshers(reason)
            track.wake()
        # In a second pass: whatever fails here, every waiter has the reason (invariant 6).
        for track in everything:
            self.halt(track, reason, now)

    def halt(self, track: TrackedTask, reason: ApixoError, now: float) -> None:
        """Note why a task is no longer polled, and keep its slot while it may go on."""
        track.halted = reason
        track.slot.hold(max(0.0, track.expires - now))

    def detach(self, track: TrackedTask, reason: ApixoError, now: float) -> None:
        """Poll a task no more; it keeps its slot until its age limit, or until it is seen over."""
        self.halt(track, reason, now)
        track.is_detached, track.expires = True, math.inf
        track.answer_refreshers(reason)
        self.index.remove(track)
        if track.subscription is not None:
            track.subscription.close()
        track.wake()
        ref = track.ref
        self._report(events.TaskDetached(ref.model, ref.task_id, track.billing.tag))
        self.outages.checked(track, now)

    # --- what callers and callbacks ask for ----------------------------------------------

    def called(self, track: TrackedTask, named: str | None, now: float) -> None:
        """Note a callback, and poll the task; a poll that is in flight already does not count."""
        self.unresolved.received(track, named, now)
        self._ask(track)

    def claimed(self, track: TrackedTask, named: str) -> None:
        """Note which task a callback to an earlier process named, and poll it."""
        track.callback_received = True
        self.unresolved.note_claim(track, named)
        self._ask(track)

    def resume(self, track: TrackedTask) -> None:
        """Poll a task whose polls were halted."""
        track.halted = None
        self.queue.ask(track)

    def _ask(self, track: TrackedTask) -> None:
        if track.identity is TaskIdentity.UNRESOLVED or track.verdict() is not None:
            return  # There is nothing to poll, or its polls are halted.
        if track.polling is PollState.IN_FLIGHT:
            track.again = True  # That poll may have been answered before the task ended.
        else:
            self.queue.ask(track)

    # --- what a poll can mean ------------------------------------------------------------

    def _after_fault(self, track: TrackedTask, now: float) -> float:
        if self.outages.is_on(track):
            # Not a fault of this task: it is polled as soon as the service has recovered.
            return self._next_poll(track, now)
        track.faults += 1
        return after_fault(track.poll_times, faults=track.faults, now=now, rng=self._rng)

    def _still_running(self, track: TrackedTask, verdict: verdicts.Running, now: float) -> None:
        track.faults = 0
        track.halted = None
        # An attached task is dated by the first answer that has its `createTime`.
        if track.created == -math.inf and (age := age_of(verdict, track.kind)) is not None:
            track.created = now - age
        track.ran_until = track.polled_at
        if not track.again:  # The callback before this poll was not that of the end.
            track.is_announced = False
        age = track.polled_at - self._known_since(track)
        self.schedule.running(track.kind, track, age, first=not track.waited)
        track.waited = True
        track.snapshot = verdict.snapshot
        if track.is_followed:
            late = self.schedule.late(track.kind, self._known_since(track))
            due = max(late, late_again(track.poll_times, age=age, now=now))
        elif self.unresolved.is_awaited_for(track):
            due = self._silent_poll(track, now)
        else:
            due = self._next_poll(track, now)
        self.queue.schedule(track, due)
        track.answer_refreshers(verdict.snapshot)
        track.wake()
        if self._report.is_heard(events.TaskPolled):
            ref, state, took = track.ref, verdict.snapshot.state, now - track.polled_at
            self._report(events.TaskPolled(ref.model, ref.task_id, state, track.billing.tag, took))

    def _next_poll(self, track: TrackedTask, now: float) -> float:
        return self.schedule.again(track.kind, self._known_since(track), now, self._capacity(now))

    def _silent_poll(self, track: TrackedTask, now: float) -> float:
        created = self._known_since(track)
        age = max(0.0, track.ran_until - created)
        due = self.schedule.silent(track.kind, created, age, now, self._capacity(now))
        return due + self.unresolved.delay

    def _capacity(self, now: float) -> Capacity:
        if self._measured is None or not 0 <= now - self._measured_at < _MEASURED_FOR:
            self._measured, self._measured_at = self._measure(now), now
        return self._measured

    def _measure(self, now: float) -> Capacity:
        limiter = self._limiter
        return Capacity(
            requests=limiter.requests_per_second,
            submits=limiter.submits_per_second(now),
            reserve=limiter.reserve(now),
            slots_wanted=limiter.slots_waiting > 0,
            latency=self._places.latency,
            lost=self.unresolved.lost,
        )

    def _known_since(self, track: TrackedTask) -> float:
        """Return when a task was created, or since when it is tracked if its age is unknown."""
        return track.created if track.created > -math.inf else track.tracked_at

    def _poll_failed(
        self, track: TrackedTask, error: ApixoError, now: float, due: float | None
    ) -> None:
        if due is not None:
            self.queue.schedule(track, due)
        ref, again_in = track.ref, None if due is None else due - now
        reason, tag, took = reason_of(error), track.billing.tag, now - track.polled_at
        self._report(events.PollFailed(ref.model, ref.task_id, reason, again_in, tag, took))
        track.answer_refreshers(error)

    def _missed(self, track: TrackedTask, verdict: verdicts.Missing, now: float) -> None:
        if self.outages.missed(track, now):
            if track.identity is TaskIdentity.KNOWN:
                track.answer_refreshers(verdict.error)
                outcome = not_found(track, verdict.error)
                self._settle(track, outcome, now, took=now - track.polled_at)
            else:
                self._disprove(track, verdict.error, now)
        else:
            seen, misses = track.seen, track.misses
            due = after_miss(track.poll_times, misses=misses, seen=seen, now=now, rng=self._rng)
            self._poll_failed(track, verdict.error, now, due)

    def _disprove(self, track: TrackedTask, error: ApixoError, now: float) -> None:
        """Reject the claim of a callback on the task of an uncertain submit."""
        track.answer_refreshers(error)
        not_bought = self.unresolved.reject_claim(track, now)
        if not_bought is not None:
            self._settle(track, not_bought, now)
        elif track.identity is TaskIdentity.CLAIMED:
            self.queue.ask(track)

    def _settle(
        self,
        track: TrackedTask,
        outcome: Result | TaskError,
        now: float,
        seconds: float | None = None,
        took: float | None = None,
    ) -> None:
        """Record how a task ended: the only way in which one does."""
        track.outcome, track.halted, track.due, track.ended_at = outcome, None, None, now
        # Waiters first: whatever fails below, they have the outcome.
        if isinstance(outcome, TaskError):
            track.answer_refreshers(outcome)
        track.wake()
        if track.record is not None:
            guarded("the record of a task", track.record.over, outcome)
        is_over = isinstance(outcome, Result) or outcome.task_over or outcome.bought is False
        if track.images is not None and is_over:  # Else the service may still fetch them.
            again = isinstance(outcome, TaskFailedError) and outcome.retryable
            track.images.end(again=again)
        if track.identity is TaskIdentity.UNRESOLVED:
            self.unresolved.remove(track)
        else:
            self.index.remove(track, seconds)
        track.slot.release()
        # A callback may still be on its way right after the end: that is no missed one.
        ended_for = math.inf if seconds is None else now - track.created - seconds
        if track.subscription is not None and self.unresolved.ended(track, ended_for):
            # Callbacks have stopped: tasks that wait for theirs are polled as without webhooks.
            for other in self.tracks.values():
                is_handled = other.callback_received or other.polling is not PollState.IDLE
                if other.subscription is not None and not is_handled:
                    self.queue.schedule(other, max(now, self._first_poll(other)))
        good = isinstance(outcome, Result)
        self.succeeded += good
        self.failed += not good
        ref, age, billing = track.ref, now - self._known_since(track), track.billing
        self._report(
            events.TaskSettled(
                ref.model,
                ref.task_id,
                word_of(outcome),
                track.polls,
                age,
                billing.tag,
                cost=billing.cost,
                kind=track.kind,
                category=outcome.category if isinstance(outcome, TaskError) else None,
                duration=seconds,
                delay=None if seconds is None else max(0.0, age - seconds),
                took=took,
            )
        )
        self.outages.checked(track, now)

"""What one account may do now: slots, permits, the gates that 429s close, and whose turn it is."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Final, Literal

from apixo_async._limits.adaptive import AdaptiveLimit
from apixo_async._limits.breaker import CircuitBreaker
from apixo_async._limits.priority import FairPicker, Priority, RateMeter
from apixo_async._limits.slots import SlotTable
from apixo_async._limits.window import SlidingWindow
from apixo_async._types import Limits

LimitScope = Literal["submits", "everything"]

#: Seconds between two steps of the requests' ceiling: a rate shows itself only in time.
_STEP_TIME: Final = 1.0

#: Submits at once while no task is known to exist; each task that exists allows one more.
_FIRST_SUBMITS: Final = 16


class Budget:
    """The rules of a limiter together. Nobody waits here: each method is told the time.

    Slots are handed out up to the ceiling, and a submit goes only while fewer tasks than that
    exist or are under way: so a ceiling which falls also holds back those who got their slot
    before, and nobody knocks where a task must end first.

    Args:
        limits: The limits of the account.
        rng: The source of the jitter of pauses.
    """

    def __init__(self, limits: Limits, rng: random.Random) -> None:
        self._limits = limits
        self.slots = SlotTable(limits.concurrent_tasks)
        self.permits = SlidingWindow(limits.requests_per_minute)
        self.tasks_ceiling = AdaptiveLimit(limits.concurrent_tasks)
        self.effective_requests_limit = AdaptiveLimit(
            limits.requests_per_minute, interval=_STEP_TIME
        )
        self.submits = RateMeter()
        self.submits_under_way = 0
        self._turns = FairPicker()
        self._submit_gate = CircuitBreaker(rng)
        self._breaker = CircuitBreaker(rng)
        self._is_short = False
        self._full_at = -math.inf

    @property
    def limits(self) -> Limits:
        """The configured limits."""
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = limits
        self.tasks_ceiling.resize(limits.concurrent_tasks)
        self.effective_requests_limit.resize(limits.requests_per_minute)
        self._apply()

    def _apply(self) -> None:
        self.slots.limit = self.tasks_ceiling.value
        if self.permits.limit != self.effective_requests_limit.value:
            self.permits.resize(self.effective_requests_limit.value)

    # --- who may go ----------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether a submit may go, as far as tasks are concerned.

        Fewer than the ceiling exist or are under way; and no more are under way at once than are
        known to exist, or a few: so an account with few slots meets few submits in vain.
        """
        slots, under_way = self.slots, self.submits_under_way
        if under_way >= _FIRST_SUBMITS and under_way >= slots.confirmed:
            return False
        return slots.existing + under_way < slots.limit

    def _make_room(self, now: float) -> bool:
        if self.has_room:
            return True
        self._full_at = now
        self._press_tasks(now)
        return self.has_room

    def _press_tasks(self, now: float) -> None:
        known = self.slots.confirmed
        if known >= self.slots.limit and self.tasks_ceiling.pressed(now, known):
            self._apply()

    def try_slot(self, now: float) -> bool:
        """Take a slot for somebody who waits for one, if there is one."""
        if self.slots.try_take():
            return True
        self._press_tasks(now)
        return self.slots.try_take()

    def next_class(self, now: float, waiting: Mapping[Priority, bool]) -> Priority | None:
        """Return which of the classes that wait is to get a permit now, or None."""
        self._is_short = False
        if self._breaker.ready_at(now) > now:
            return None
        submit, asked, scheduled = waiting.values()
        submit = submit and self._make_room(now) and self._submit_gate.ready_at(now) <= now
        if not (submit or asked or scheduled):
            return None
        if self.permits.ready_at(now) > now:
            self._is_short = True
            return None
        return self._turns.choose(submit=submit, asked=asked, scheduled=scheduled)

    @property
    def is_polls_turn(self) -> bool:
        """Whether a poll would be next, if one waited."""
        return self._turns.is_polls_turn

    def wake_at(self, now: float, *, slots: int, submits: int, polls: int) -> float:
        """Return when those who wait are to be served next, if nothing happens before.

        Args:
            now: The time.
            slots: How many wait for slots.
            submits: How many wait for permits to submit.
            polls: How many wait for permits to poll.
        """
        has_room = self.has_room
        waits_for_slot = slots or (submits and not has_room)
        due = self.slots.next_expiry() if waits_for_slot else math.inf
        submits = submits if has_room else 0
        if submits or polls:
            breakers = self._breaker.ready_at(now)
            if not polls:
                breakers = max(breakers, self._submit_gate.ready_at(now))
            ready = self.permits.worth_waking_at(now, submits + polls if breakers == now else 1)
            due = min(due, max(ready, breakers))
        return due

    def take(self, urgency: Priority, now: float) -> None:
        """Count a request that goes now."""
        self.permits.take(now)
        self._turns.served(urgency)
        self._breaker.passed(now)
        if urgency is Priority.SUBMIT:
            self._submit_gate.passed(now)
            self.submits.count(now)
            self.submits_under_way += 1

    def closed_since(self, urgency: Priority) -> float | None:
        """Return since when 429s, and not tasks that must end first, keep such requests back."""
        since = [breaker.since for breaker in self._gates_of(urgency) if breaker.since is not None]
        if not since:
            return None
        if urgency is not Priority.SUBMIT:
            return since[0]
        return max(min(since), self._full_at) if self.has_room else None

    # --- how requests ended --------------------------------------------------------------

    def answered(self, urgency: Priority, now: float, *, sent_at: float) -> bool:
        """Note an answer that was no 429; say whether more may go now because of it."""
        # With everything in flight, only the first stamp tells when there is room again.
        more = not self.permits.is_stamped
        self.permits.answered(now)
        is_submit = urgency is Priority.SUBMIT
        opened = self._breaker.answered(sent_at=sent_at)
        if is_submit and self._submit_gate.answered(sent_at=sent_at):
            opened = True
        if opened:
            self.permits.drain(now)
        if self._is_short and self.effective_requests_limit.pressed(now, self.permits.granted(now)):
            self._apply()
            more = True
        if is_submit:
            more = more or not self.has_room
            self.submits_under_way -= 1
        return more or opened

    def unanswered(self, urgency: Priority, now: float, *, sent_at: float) -> None:
        """Note the end of a request without an answer."""
        self.permits.unanswered(now)
        self._lost(urgency, sent_at)

    def unused(self, urgency: Priority, *, sent_at: float) -> None:
        """Take back a permit with which nothing was sent."""
        self.permits.unused()
        self._lost(urgency, sent_at)

    def throttled(
        self,
        urgency: Priority,
        now: float,
        *,
        sent_at: float,
        known: int,
        retry_after: float | None,
    ) -> tuple[LimitScope, float]:
        """Note a 429; return what it closes, and the seconds of the pause that it makes.

        Args:
            urgency: The class of the request.
            now: The time.
            sent_at: When the request got its permit.
            known: How many tasks were known to exist then.
            retry_after: What the service asks for.
        """
        self.permits.refused(now)
        is_submit = urgency is Priority.SUBMIT
        self.submits_under_way -= is_submit
        breaker = self._submit_gate if is_submit else self._breaker
        pause = breaker.refused(now, sent_at=sent_at, retry_after=retry_after)
        if is_submit:
            self._breaker.lost(sent_at=sent_at)
        if breaker.since is not None:
            ceiling = self.tasks_ceiling if is_submit else self.effective_requests_limit
            ceiling.refused(
                now,
                use=max(known, self.slots.confirmed) if is_submit else self.permits.granted(now),
                episode=breaker.since,
                probed=breaker.refused_probes > 0,
                pause=pause,
            )
            self._apply()
        return ("submits" if is_submit else "everything"), pause

    def _lost(self, urgency: Priority, sent_at: float) -> None:
        self.submits_under_way -= urgency is Priority.SUBMIT
        for breaker in self._gates_of(urgency):
            breaker.lost(sent_at=sent_at)

    def _gates_of(self, urgency: Priority) -> tuple[CircuitBreaker, ...]:
        return (
            (self._breaker, self._submit_gate) if urgency is Priority.SUBMIT else (self._breaker,)
        )

    def rebind(self, now: float) -> None:
        """Go on with another event loop: what the former one left in flight may still arrive."""
        self.permits.rebind(now)
        self.submits_under_way = 0

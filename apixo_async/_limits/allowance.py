"""What one account may do now: slots, permits, pauses after 429s, and whose turn it is."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from apixo_async._limits.adaptive import AdaptiveLimit
from apixo_async._limits.breaker import CircuitBreaker, LimitScope, PauseGrant, PauseReport
from apixo_async._limits.priority import FairPicker, Priority, RateMeter
from apixo_async._limits.slots import SlotTable
from apixo_async._limits.window import PermitOutcome, SlidingWindow
from apixo_async._types import Limits

#: Seconds between two steps of the effective limit of requests: a rate shows only over time, where
#: a task that exists proves its slot at once.
_STEP_TIME: Final = 1.0

#: Submits in flight while no task is known to exist; with more tasks, as many as exist. So an
#: account that has few slots gets few 429s.
_FIRST_SUBMITS: Final = 16


@dataclass(slots=True, eq=False)
class Permit:
    """The right to send one request. It counts until the limiter gets a report of its end.

    Attributes:
        priority: The class of the request.
        taken_at: When it was granted.
        known_tasks: How many tasks were known to exist then: a 429 to a submit shows that the
            service grants no more.
        has_place: Whether it is one of the requests that may be in flight.
        is_reported: Whether its end was reported.
    """

    priority: Priority
    taken_at: float
    known_tasks: int
    has_place: bool = False
    is_reported: bool = False


class Throttle(NamedTuple):
    """What a 429 holds back.

    Attributes:
        scope: Submits only, or every request.
        pause: Seconds until one probe may go; 0 where an earlier 429 holds it back already.
    """

    scope: LimitScope
    pause: float


class Allowance:
    """The rules of a limiter together (invariants 2 to 4), which wait for nothing.

    A submit is admitted only while known tasks plus submits in flight stay below the limit. When
    the limit drops, submits that already hold a slot wait as well, so that no request is sent
    that is bound to get a 429.

    Args:
        limits: The limits of the account.
        rng: The source of the jitter of pauses.
        permits: What gives the permits: the window of the account, or the part of a process.
    """

    def __init__(self, limits: Limits, rng: random.Random, permits: SlidingWindow) -> None:
        self._limits = limits
        self.slots = SlotTable(limits.concurrent_tasks)
        self.permits = permits
        self._part_of_tasks = math.inf
        self.effective_tasks_limit = AdaptiveLimit(limits.concurrent_tasks)
        self.effective_requests_limit = AdaptiveLimit(
            limits.requests_per_minute, interval=_STEP_TIME
        )
        self.submits = RateMeter()
        self.submits_in_flight = 0
        self._picker = FairPicker()
        self._submit_breaker = CircuitBreaker(rng)
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
        self.effective_tasks_limit.resize(limits.concurrent_tasks)
        self.effective_requests_limit.resize(limits.requests_per_minute)
        self._apply()

    def share_tasks(self, part: int) -> None:
        """Take no more slots than a part of the limit: other processes have the rest."""
        self._part_of_tasks = part
        self._apply()

    def _apply(self) -> None:
        self.slots.limit = int(min(self.effective_tasks_limit.value, self._part_of_tasks))
        if self.permits.limit != self.effective_requests_limit.value:
            self.permits.resize(self.effective_requests_limit.value)

    # --- which request goes next ---------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether the tasks leave room for a submit, as `Allowance` and `_FIRST_SUBMITS` say."""
        slots, in_flight = self.slots, self.submits_in_flight
        if in_flight >= _FIRST_SUBMITS and in_flight >= slots.confirmed:
            return False
        return slots.existing + in_flight < slots.limit

    def try_slot(self, now: float) -> bool:
        """Take a slot for a submit that waits for one, if there is one."""
        if self.slots.try_take():
            return True
        self._raise_tasks(now)
        return self.slots.try_take()

    def make_room(self, now: float, *, submits_wait: bool) -> None:
        """Raise the effective limit of tasks by a step if submits wait for nothing but that."""
        if submits_wait and self._breaker.ready_at(now) <= now and not self.has_room:
            self._full_at = now
            self._raise_tasks(now)

    def _raise_tasks(self, now: float) -> None:
        known = self.slots.confirmed
        limit = self.effective_tasks_limit
        if known >= limit.value and limit.step_up(now, known):
            self._apply()

    def next_class(self, now: float, waiting: Mapping[Priority, bool]) -> Priority | None:
        """Return which of the classes that wait is to get a permit now, or None."""
        submit, asked, scheduled = self._ready(now, waiting)
        if not (submit or asked or scheduled) or self.permits.ready_at(now) > now:
            return None
        return self._picker.choose(submit=submit, asked=asked, scheduled=scheduled)

    def _ready(self, now: float, waiting: Mapping[Priority, bool]) -> tuple[bool, bool, bool]:
        """Return which classes wait for a permit and for nothing else."""
        if self._breaker.ready_at(now) > now:
            return False, False, False
        submit, asked, scheduled = waiting.values()
        submit = submit and self.has_room and self._submit_breaker.ready_at(now) <= now
        return submit, asked, scheduled

    def served(self, now: float, waiting: Mapping[Priority, bool]) -> None:
        """Note which classes still wait after permits were handed out.

        Where they wait for nothing but permits, the next answer raises the effective limit.
        """
        self._is_short = any(self._ready(now, waiting)) and self.permits.ready_at(now) > now

    def none_waits(self) -> None:
        """Note that no request waits: the next answer raises no limit."""
        self._is_short = False

    @property
    def is_polls_turn(self) -> bool:
        """Whether a poll would be next, if one waited."""
        return self._picker.is_polls_turn

    def wake_at(self, now: float, *, slots: int, submits: int, polls: int) -> float:
        """Return when to serve waiters next if nothing happens before.

        Args:
            now: The time.
            slots: How many submits wait for a slot.
            submits: How many submits wait for a permit.
            polls: How many polls wait for a permit.
        """
        has_room = self.has_room
        waits_for_slot = slots or (submits and not has_room)
        due = self.slots.next_expiry() if waits_for_slot else math.inf
        submits = submits if has_room else 0
        if submits or polls:
            breakers = self._breaker.ready_at(now)
            if not polls:
                breakers = max(breakers, self._submit_breaker.ready_at(now))
            ready = self.permits.worth_waking_at(now, submits + polls if breakers == now else 1)
            due = min(due, max(ready, breakers))
        return due

    def take(self, priority: Priority, now: float) -> Permit:
        """Return a permit for a request that goes now. Only after `next_class` has named it."""
        self.permits.take(now)
        self._picker.served(priority)
        self._breaker.passed(now)
        if priority is Priority.SUBMIT:
            self._submit_breaker.passed(now)
            self.submits.count(now)
            self.submits_in_flight += 1
        return Permit(priority, now, self.slots.confirmed)

    def throttled_since(self, priority: Priority) -> float | None:
        """Return since when 429s hold such requests back; None if nothing does, or only tasks."""
        since = [
            breaker.since for breaker in self._breakers_of(priority) if breaker.since is not None
        ]
        if not since:
            return None
        if priority is not Priority.SUBMIT:
            return since[0]
        # Time in which submits waited for tasks to end is no time under 429s.
        return max(min(since), self._full_at) if self.has_room else None

    # --- how requests ended --------------------------------------------------------------

    def report(
        self,
        permit: Permit,
        outcome: PermitOutcome,
        now: float,
        *,
        retry_after: float | None = None,
    ) -> tuple[bool, Throttle | None]:
        """Note how a request ended.

        Args:
            permit: The permit of the request.
            outcome: How it ended.
            now: The time.
            retry_after: What the service asks for with a 429, in seconds.

        Returns:
            Whether more requests may go now because of it; and what a 429 holds back.
        """
        # With everything in flight, only the first stamp tells when there is room again.
        is_first_stamp = not self.permits.is_stamped
        self.permits.report(outcome, now)
        is_submit = permit.priority is Priority.SUBMIT
        had_room = self.has_room
        self.submits_in_flight -= is_submit
        match outcome:
            case PermitOutcome.ANSWERED:
                more = self._answered(permit, now) or is_first_stamp
                return more or (is_submit and not had_room), None
            case PermitOutcome.THROTTLED:
                return True, self._throttled(permit, now, retry_after)
            case _:
                for breaker in self._breakers_of(permit.priority):
                    breaker.lost(sent_at=permit.taken_at)
                return True, None

    def _answered(self, permit: Permit, now: float) -> bool:
        # A list and not a generator: the answer to a submit closes both breakers.
        closed = [
            breaker.answered(sent_at=permit.taken_at)
            for breaker in self._breakers_of(permit.priority)
        ]
        if any(closed):
            # A burst of all that has waited would meet the next 429.
            self.permits.drain(now)
        rises = self._is_short and self.effective_requests_limit.step_up(
            now, self.permits.granted(now)
        )
        if rises:
            self._apply()
        return rises or any(closed)

    def _throttled(self, permit: Permit, now: float, retry_after: float | None) -> Throttle:
        is_submit, sent_at = permit.priority is Priority.SUBMIT, permit.taken_at
        breaker = self._submit_breaker if is_submit else self._breaker
        pause = breaker.refused(now, sent_at=sent_at, retry_after=retry_after)
        if is_submit:
            # It may have been the probe of both; of requests in general a 429 to it says nothing.
            self._breaker.lost(sent_at=sent_at)
        if breaker.since is not None:
            known = max(permit.known_tasks, self.slots.confirmed)
            limit = self.effective_tasks_limit if is_submit else self.effective_requests_limit
            limit.refused(
                now,
                use=known if is_submit else self.permits.granted(now),
                episode=breaker.since,
                probed=breaker.refused_probes > 0,
                pause=pause,
            )
            self._apply()
        return Throttle("submits" if is_submit else "everything", pause)

    def _breakers_of(self, priority: Priority) -> tuple[CircuitBreaker, ...]:
        if priority is Priority.SUBMIT:
            return self._breaker, self._submit_breaker
        return (self._breaker,)

    # --- where processes share the account -----------------------------------------------

    def pauses(self, now: float, *, submits: int, polls: int) -> dict[LimitScope, PauseReport]:
        """Return what the other processes have to know of the pauses after 429s.

        A pause is to be ended by a process that has a request which only that pause holds back.

        Args:
            now: The time.
            submits: How many submits wait for a permit.
            polls: How many polls do.
        """
        submit = submits > 0 and self.has_room
        return {
            "submits": self._submit_breaker.report(
                now, is_wanted=submit and self._breaker.ready_at(now) <= now
            ),
            "everything": self._breaker.report(
                now,
                is_wanted=polls > 0 or (submit and self._submit_breaker.ready_at(now) <= now),
            ),
        }

    def pause_with(self, pauses: Mapping[LimitScope, PauseGrant], now: float) -> None:
        """Hold back what the 429s of other processes do, and go on as they do."""
        submits = self._submit_breaker.follow(pauses.get("submits"), now)
        if self._breaker.follow(pauses.get("everything"), now) or submits:
            self.permits.drain(now)  # As after an own probe.

    def rebind(self, now: float) -> None:
        """Go on with another event loop: what the former one left in flight may still arrive."""
        self.permits.rebind(now)
        self.submits_in_flight = 0

"""The queues for slots and permits; one timer serves them all."""

from __future__ import annotations

import asyncio
import math
import random
import threading
from collections.abc import Callable, Coroutine
from typing import Final

from apixo_async._limits.allowance import Allowance, Permit, Throttle
from apixo_async._limits.priority import Priority
from apixo_async._limits.window import PermitOutcome, SlidingWindow
from apixo_async._sync import Waiters
from apixo_async._types import Limits, TaskRef
from apixo_async.errors import ConfigurationError, StoreError
from apixo_async.events import EffectiveLimitLowered, EffectiveLimitRaised

__all__ = ["Limiter", "Permit", "PermitOutcome", "Slot"]

#: The classes that wait where one request alone would.
_ALONE: Final = {
    alone: {priority: priority is alone for priority in Priority} for alone in Priority
}


class Slot:
    """The right to have one task at the service (invariant 2), which is given back once.

    After that its methods do nothing.

    Args:
        limiter: The limiter that counts it; None for a slot that was given back.
        confirmed: Whether its task is known to exist.
    """

    __slots__ = ("_confirmed", "_limiter", "_task")

    def __init__(self, limiter: Limiter | None, *, confirmed: bool = False) -> None:
        self._limiter = limiter
        self._confirmed = confirmed
        self._task: TaskRef | None = None

    @property
    def is_held(self) -> bool:
        """Whether it was neither given back nor handed on."""
        return self._limiter is not None

    def handed_on(self) -> Slot:
        """Return this slot for another owner; its task counts as one that exists."""
        self.confirm()
        slot = Slot(self._limiter, confirmed=self._confirmed)
        self._limiter = None
        return slot

    def confirm(self) -> None:
        """Note that the task exists: as it was granted, the limit is at least as high."""
        if self._limiter is not None and not self._confirmed:
            self._confirmed = True
            self._limiter.table.confirm()

    def name(self, task: TaskRef) -> None:
        """Note the task; what other clients of the limiter hold for the same task is given back."""
        if self._limiter is not None and self._task is None:
            self._task = task
            if self._limiter.table.name(task):
                self._limiter.serve()

    def release(self) -> None:
        """Give the slot back: the task is over, or was never made."""
        if self._limiter is not None:
            limiter, self._limiter = self._limiter, None
            limiter.table.release(confirmed=self._confirmed, task=self._task)
            limiter.serve()

    def hold(self, seconds: float) -> None:
        """Give the slot back `seconds` from now, since its task may exist until then."""
        if self._limiter is not None:
            limiter, self._limiter = self._limiter, None
            until = asyncio.get_running_loop().time() + seconds
            limiter.table.hold(until, confirmed=self._confirmed, task=self._task)
            limiter.serve()


class Limiter:
    """The slots and permits of one account, for every client that it is given to.

    Requests in any 60 seconds and tasks at once stay within the limits exactly. Waiters are served
    in order, submits before polls, though polls that wait keep a quarter of the permits. Where the
    service grants less than the limits, as repeated 429s show, less is used until it grants more.

    Args:
        limits: The limits of the account.
        seed: Seeds the jitter of the pauses after a 429, for replays.

    Attributes:
        listeners: Called with each `EffectiveLimitLowered` and `EffectiveLimitRaised`; they must
            not raise.
        table: The slots, for its `Slot`s.
        fence: Called before the first byte of each request; what it raises prevents that. None
            where a permit is good for as long as it is held.
        failure: Why neither slots nor permits can be had, or None while they can.
        uncertain_entries: Uncertain submits in the store, or None where that is not known.
    """

    fence: Callable[[], None] | None = None
    failure: StoreError | None = None
    uncertain_entries: int | None = None

    def __init__(self, limits: Limits | None = None, *, seed: int | None = None) -> None:
        limits = _checked(Limits() if limits is None else limits)
        self._allowance = Allowance(limits, random.Random(seed), self._window(limits))
        self._permits = self._allowance.permits
        self.table = self._allowance.slots
        self._slot_queue: Waiters[Slot] = Waiters()
        self._queues: dict[Priority, Waiters[Permit]] = {
            priority: Waiters() for priority in Priority
        }
        self._loop: asyncio.AbstractEventLoop | None = None
        self._binding = threading.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self.listeners: list[Callable[[EffectiveLimitLowered | EffectiveLimitRaised], None]] = []
        self._reported = (self.effective_slots_limit, self.effective_requests_limit)

    def _window(self, limits: Limits) -> SlidingWindow:
        return SlidingWindow(limits.requests_per_minute)

    @property
    def limits(self) -> Limits:
        """The configured limits; others may be set at any time.

        Higher limits serve waiters at once. Lower ones take nothing back: requests that were sent
        and tasks that exist count, and none is added until there is room.
        """
        return self._allowance.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._allowance.limits = _checked(limits)
        self._limits_changed()

    def _limits_changed(self) -> None:
        self._reported = (self.effective_slots_limit, self.effective_requests_limit)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._woken)

    def slot(self) -> Coroutine[object, object, Slot]:
        """Wait for a slot.

        Raises:
            ConfigurationError: The limiter belongs to another event loop, which still runs.
        """
        self._bound_loop()
        return self._slot_queue.join(self.serve, Slot.release)

    def slot_above(self) -> Slot:
        """Take a slot even above the limit, for a task that exists already.

        Raises:
            ConfigurationError: As `slot` does.
        """
        if self._loop is not None:
            self._bound_loop()
        self.table.take_above()
        return Slot(self, confirmed=True)

    def is_over(self, task: TaskRef) -> None:
        """End the hold for a task, if there is one: it is over."""
        if self.table.end_hold(task):
            self.serve()

    def permit(self, priority: Priority) -> Coroutine[object, object, Permit]:
        """Wait for a permit.

        Raises:
            ConfigurationError: As `slot` does.
        """
        self._bound_loop()
        return self._queues[priority].join(self.serve, self._unused)

    def try_permit(self, priority: Priority) -> Permit | None:
        """Take a permit if there is one and no request waits; return None otherwise.

        Raises:
            ConfigurationError: As `slot` does.
        """
        now = self._bound_loop().time()
        alone, allowance = _ALONE[priority], self._allowance
        if any(self._queues.values()) or allowance.next_class(now, alone) is None:
            return None
        return allowance.take(priority, now)

    def gives_up_at(self, began: float) -> float:  # noqa: ARG002  # here nothing fails
        """Return when a wait for a slot or a permit ends because of `failure`; ask again then.

        Args:
            began: When the wait began.
        """
        return math.inf

    def slots_are_taken(self) -> None:
        """Note that others have the slots which were counted as free; for a slot that is held."""

    def pace(self) -> None:
        """Let permits come evenly from here on, without a burst."""
        self._permits.drain(self._bound_loop().time())

    def throttled_since(self, priority: Priority) -> float | None:
        """Return since when 429s hold back requests of a class, or None while they do not."""
        return self._allowance.throttled_since(priority)

    # --- statistics ----------------------------------------------------------------------

    @property
    def slots_used(self) -> int:
        """Tasks that count against the limit now."""
        if self._loop is not None:
            self.table.expire(self._loop.time())
        return self.table.used

    @property
    def effective_slots_limit(self) -> int:
        """Tasks at once that the service is known to allow: the limit, or less after 429s."""
        return self._allowance.effective_tasks_limit.value

    @property
    def slots_waiting(self) -> int:
        """Submits that wait for a slot."""
        return len(self._slot_queue)

    @property
    def permits_waiting(self) -> int:
        """Requests that wait for a permit."""
        return sum(map(len, self._queues.values()))

    def requests_used(self, now: float) -> int:
        """Return the requests that count against the limit at `now`, on the loop's clock."""
        return self._permits.used(now)

    @property
    def effective_requests_limit(self) -> int:
        """Requests a minute that the service is known to allow: the limit, or less after 429s."""
        return self._allowance.effective_requests_limit.value

    @property
    def requests_per_second(self) -> float:
        """The rate that the effective limit allows."""
        return self._permits.rate

    def reserve(self, now: float) -> float:
        """Return for how many seconds of the allowed rate permits are in reserve."""
        return self._permits.reserve(now) / self._permits.rate

    def submits_per_second(self, now: float) -> float:
        """Return the recent rate of submits."""
        return self._allowance.submits.per_second(now)

    # --- waiting -------------------------------------------------------------------------

    def _bound_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            with self._binding:  # Loops of several threads may get here at the same time.
                if self._loop is not None and not self._loop.is_closed():
                    raise ConfigurationError(
                        "this limiter belongs to another event loop, which still runs: make one "
                        "limiter, with a part of the limits, for each loop"
                    )
                # Requests that a former loop left in flight may still arrive; its waiters are gone.
                self._allowance.rebind(loop.time())
                self._slot_queue = Waiters()
                self._queues = {priority: Waiters() for priority in Priority}
                self._loop, self._timer = loop, None
                self._rebound()
        return loop

    def _rebound(self) -> None:
        """Go on with another event loop: what a subclass had on the former one is gone."""

    def serve(self) -> None:
        """Hand out what there is room for; a `Slot` that is given back calls it."""
        loop = self._bound_loop()
        now = loop.time()
        self.table.expire(now)
        # Most calls come when requests end, and find that none waits.
        if self._slot_queue or any(self._queues.values()):
            self._hand_out(loop, now)
        else:
            self._allowance.none_waits()
        self._report_changes()

    def _hand_out(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        allowance, queues = self._allowance, self._queues
        while self._slot_queue and allowance.try_slot(now):
            self._slot_queue.hand(Slot(self))
        waiting = {priority: bool(queue) for priority, queue in queues.items()}
        polled = False
        while True:
            allowance.make_room(now, submits_wait=waiting[Priority.SUBMIT])
            priority = allowance.next_class(now, waiting)
            if priority is None:
                break
            if priority is not Priority.SUBMIT:
                polled = True
            elif polled and allowance.is_polls_turn:
                # The poller asks for one permit after the other. Without a step of the loop in
                # which it asks for the next one, submits would take the quarter of the polls.
                loop.call_soon(self._woken)
                break
            queue = queues[priority]
            queue.hand(allowance.take(priority, now))
            waiting[priority] = bool(queue)
        allowance.served(now, waiting)
        self._arm(loop, now)

    def _arm(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        submits, asked, scheduled = self._queues.values()
        polls = len(asked) + len(scheduled)
        wake = self._allowance.wake_at(
            now, slots=len(self._slot_queue), submits=len(submits), polls=polls
        )
        if self._timer is not None:
            if now < self._timer.when() <= wake:
                return  # It fires early enough, and is set anew then.
            self._timer.cancel()
            self._timer = None
        if wake < math.inf:
            self._timer = loop.call_at(wake, self._woken)

    def _woken(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            self.serve()
        except Exception as exc:
            # A defect here must not leave a waiter waiting for ever.
            self._slot_queue.fail(exc)
            for queue in self._queues.values():
                queue.fail(exc)
            raise

    def _report_changes(self) -> None:
        tasks, requests = self._reported
        self._reported = (self.effective_slots_limit, self.effective_requests_limit)
        if self._reported == (tasks, requests):
            return
        limits = self.limits
        for scope, before, limit, now in (
            ("slots", tasks, limits.concurrent_tasks, self._reported[0]),
            ("requests", requests, limits.requests_per_minute, self._reported[1]),
        ):
            if now != before:
                record = EffectiveLimitLowered if now < before else EffectiveLimitRaised
                for listener in tuple(self.listeners):
                    listener(record(scope, now, limit))

    def report(
        self, permit: Permit, outcome: PermitOutcome, *, retry_after: float | None = None
    ) -> Throttle | None:
        """Note how the request of a permit ended. Of several reports the first one counts.

        Args:
            permit: One that `permit` returned.
            outcome: How its request ended.
            retry_after: What the service asks for with a 429, in seconds.

        Returns:
            What a 429 holds back, and for how long; None for every other outcome.
        """
        if permit.is_reported:
            return None
        permit.is_reported = True
        now = self._bound_loop().time()
        more, throttle = self._allowance.report(permit, outcome, now, retry_after=retry_after)
        # A request in the log of the window counts as one in flight does, so its answer alone
        # makes no room: where a timer is set, that serves the next waiter.
        if more or self._timer is None:
            if permit.priority is Priority.SUBMIT and outcome is not PermitOutcome.UNUSED:
                # Its caller confirms its slot or gives it back within this step of the loop. Before
                # that, another submit would be admitted into the room of the task just created.
                self._bound_loop().call_soon(self._woken)
            else:
                self.serve()
        return throttle

    def _unused(self, permit: Permit) -> None:
        self.report(permit, PermitOutcome.UNUSED)


def _checked(limits: object) -> Limits:
    if not isinstance(limits, Limits):
        raise ConfigurationError(f"limits={limits!r}; a Limits(…)")
    return limits

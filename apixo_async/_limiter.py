"""Who waits for a slot or a permit, and in which order; one timer wakes them all."""

from __future__ import annotations

import asyncio
import math
import random
from typing import Literal

from apixo_async._core.errors import ConfigurationError
from apixo_async._core.permits import PermitLog
from apixo_async._core.slots import SlotTable
from apixo_async._core.throttle import Throttle
from apixo_async._core.turns import RateMeter, Turns, Urgency
from apixo_async._core.values import Limits
from apixo_async._waiters import Waiters

Scope = Literal["submits", "everything"]


class Permit:
    """The right to send one request; whoever holds it says how the request ended, once."""

    __slots__ = ("_ended", "_limiter", "has_place", "taken_at", "urgency")

    def __init__(self, limiter: Limiter, urgency: Urgency, now: float) -> None:
        self._limiter = limiter
        self._ended = False
        self.has_place = False
        self.urgency = urgency
        self.taken_at = now

    def answered(self) -> None:
        """Say that an answer came which was no 429."""
        if self._end():
            self._limiter.permit_answered(self)

    def unanswered(self) -> None:
        """Say that no answer came; the request may still arrive."""
        if self._end():
            self._limiter.permit_unanswered(self)

    def unused(self) -> None:
        """Say that nothing was sent."""
        if self._end():
            self._limiter.permit_unused(self)

    def throttled(self, retry_after: float | None) -> tuple[Scope, float]:
        """Say that the answer was 429; return what that closes, and for how many seconds."""
        self._end()
        return self._limiter.permit_throttled(self, retry_after)

    def _end(self) -> bool:
        ended, self._ended = self._ended, True
        return not ended


class Slot:
    """The right to have one task at the service; given back once, whoever gives it back."""

    __slots__ = ("_limiter",)

    def __init__(self, limiter: Limiter) -> None:
        self._limiter: Limiter | None = limiter

    def release(self) -> None:
        """Give the slot back: the task is over, or was never made."""
        if self._limiter is not None:
            limiter, self._limiter = self._limiter, None
            limiter.slot_released()

    def hold(self, seconds: float) -> None:
        """Give the slot back by itself after a time: nobody knows whether the task exists."""
        if self._limiter is not None:
            limiter, self._limiter = self._limiter, None
            limiter.slot_held(seconds)


class Limiter:
    """The slots and permits of one account, for every client that it is given to.

    Requests in any 60 seconds and tasks at once stay within the limits exactly; waiters are
    served in order, submits before looks, looks with a quarter of the permits to themselves.

    Args:
        limits: The limits of the account.
        seed: Seeds the jitter of the pauses after a 429, for replays.
    """

    def __init__(self, limits: Limits | None = None, *, seed: int | None = None) -> None:
        self.limits = limits if limits is not None else Limits()
        self._rng = random.Random(seed)
        self._slots = SlotTable(self.limits.concurrent_tasks)
        self._permits = PermitLog(self.limits.requests_per_minute)
        self._gates = {"submits": Throttle(self._rng), "everything": Throttle(self._rng)}
        self._turns = Turns()
        self._submits = RateMeter()
        self._slot_queue: Waiters[Slot] = Waiters()
        self._queues: dict[Urgency, Waiters[Permit]] = {urgency: Waiters() for urgency in Urgency}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def slot(self) -> Slot:
        """Wait for a slot."""
        return await self._slot_queue.join(self._pump, Slot.release)

    def slot_above(self) -> Slot:
        """Take a slot even above the limit, for a task that exists already."""
        self._slots.take_above()
        return Slot(self)

    async def permit(self, urgency: Urgency) -> Permit:
        """Wait for a permit."""
        return await self._queues[urgency].join(self._pump, Permit.unused)

    def pace(self) -> None:
        """Let permits come evenly from here on, without a burst."""
        self._permits.drain(self._bound_loop().time())

    def closed_since(self, urgency: Urgency) -> float | None:
        """Return since when 429s keep such requests back, or None while nothing does."""
        since = [gate.since for gate in self._gates_of(urgency)]
        return min((one for one in since if one is not None), default=None)

    @property
    def slots_used(self) -> int:
        """Tasks that count against the limit now."""
        if self._loop is not None:
            self._slots.expire(self._loop.time())
        return self._slots.used

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

    def submits_per_second(self, now: float) -> float:
        """Return the recent rate of submits."""
        return self._submits.per_second(now)

    # --- waiting -------------------------------------------------------------------------

    def _bound_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None and not self._loop.is_closed():
                raise ConfigurationError(
                    "this limiter belongs to another event loop, which still runs: make one "
                    "limiter, with a part of the limits, for each loop"
                )
            # Whatever a former loop left in flight may still arrive.
            self._permits.rebind(loop.time())
            self._loop, self._timer = loop, None
        return loop

    def _pump(self) -> None:
        now = self._bound_loop().time()
        self._slots.expire(now)
        while self._slot_queue and self._slots.try_take():
            self._slot_queue.hand(Slot(self))
        while (urgency := self._next_class(now)) is not None:
            self._grant(urgency, now)
        self._arm(now)

    def _next_class(self, now: float) -> Urgency | None:
        if not any(self._queues.values()) or self._permits.ready_at(now) > now:
            return None
        served = {u: bool(q) and self._gate_at(u, now) <= now for u, q in self._queues.items()}
        return self._turns.choose(served)

    def _gate_at(self, urgency: Urgency, now: float) -> float:
        return max(gate.ready_at(now) for gate in self._gates_of(urgency))

    def _gates_of(self, urgency: Urgency) -> list[Throttle]:
        everything = self._gates["everything"]
        return [everything, self._gates["submits"]] if urgency is Urgency.SUBMIT else [everything]

    def _grant(self, urgency: Urgency, now: float) -> None:
        self._permits.take(now)
        self._turns.served(urgency)
        for gate in self._gates_of(urgency):
            gate.passed(now)
        if urgency is Urgency.SUBMIT:
            self._submits.count(now)
        self._queues[urgency].hand(Permit(self, urgency, now))

    def _arm(self, now: float) -> None:
        wakes = [self._slots.next_expiry()] if self._slot_queue else []
        waiting = [urgency for urgency, queue in self._queues.items() if queue]
        if waiting:
            ready = self._permits.ready_at(now)
            wakes += [max(ready, self._gate_at(urgency, now)) for urgency in waiting]
        wake = min(wakes, default=math.inf)
        if self._timer is not None:
            if now < self._timer.when() <= wake:
                return  # It wakes early enough, and arms itself anew.
            self._timer.cancel()
            self._timer = None
        if wake < math.inf:
            self._timer = self._bound_loop().call_at(wake, self._woken)

    def _woken(self) -> None:
        self._timer = None
        try:
            self._pump()
        except Exception as exc:
            # A defect here must not leave anybody waiting for ever.
            self._slot_queue.fail(exc)
            for queue in self._queues.values():
                queue.fail(exc)
            raise

    # --- how requests and tasks ended ----------------------------------------------------

    def permit_answered(self, permit: Permit) -> None:
        """Stamp a permit whose answer has come; `Permit.answered` calls this."""
        now = self._bound_loop().time()
        self._permits.answered(now)
        opened = [gate.answered(sent_at=permit.taken_at) for gate in self._gates_of(permit.urgency)]
        if any(opened):
            self._permits.drain(now)
        self._pump()

    def permit_unanswered(self, permit: Permit) -> None:
        """Stamp a permit whose request ended without an answer."""
        self._permits.unanswered(self._bound_loop().time())
        self._probe_lost(permit)

    def permit_unused(self, permit: Permit) -> None:
        """Take back a permit with which nothing was sent."""
        self._permits.unused()
        self._probe_lost(permit)

    def _probe_lost(self, permit: Permit) -> None:
        for gate in self._gates_of(permit.urgency):
            gate.lost(sent_at=permit.taken_at)
        self._pump()

    def permit_throttled(self, permit: Permit, retry_after: float | None) -> tuple[Scope, float]:
        """Close what a 429 closes; return that, and the seconds until a probe goes out."""
        now = self._bound_loop().time()
        self._permits.answered(now)
        scope: Scope = "submits" if permit.urgency is Urgency.SUBMIT else "everything"
        gate = self._gates[scope]
        pause = gate.refused(now, sent_at=permit.taken_at, retry_after=retry_after)
        if scope == "submits":
            self._gates["everything"].lost(sent_at=permit.taken_at)
        self._pump()
        return scope, pause

    def slot_released(self) -> None:
        """Take back a slot."""
        self._slots.release()
        self._pump()

    def slot_held(self, seconds: float) -> None:
        """Take back a slot after so many seconds."""
        self._slots.hold(self._bound_loop().time() + seconds)
        self._pump()

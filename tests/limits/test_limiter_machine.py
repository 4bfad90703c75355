from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TypeVar

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from apixo_async import Limiter, Limits
from apixo_async._limits.limiter import Permit, PermitOutcome, Slot
from apixo_async._limits.priority import Priority
from apixo_async._limits.window import MARGIN
from apixo_async.testing import VirtualTimeLoop

from ..support.machines import DELAYS, PICKS, SHARES, WINDOW, Arrivals, picked, run_machine

T = TypeVar("T")


class LimiterMachine(RuleBasedStateMachine):
    """A limiter on a virtual loop, with callers who wait, end, lose, hold and are cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        self.loop = self.runner.get_loop()
        self.slot_line: deque[asyncio.Task[Slot]] = deque()
        self.lines: dict[Priority, deque[asyncio.Task[Permit]]] = {u: deque() for u in Priority}
        self.slots, self.holds, self.flying = list[Slot](), list[float](), list[Permit]()
        self.confirmed = set[Slot]()

    @initialize(tasks=st.integers(1, 3), requests=st.sampled_from((1, 3, 10, 40)))
    def begin(self, tasks: int, requests: int) -> None:
        self.limiter = Limiter(Limits(tasks, requests), seed=1)
        self.arrivals = Arrivals(requests)
        self.granted_under = dict[Permit, int]()

    def act(self, *actions: Callable[[], object], seconds: float = 0.0) -> None:
        """Do things in one step of the loop, let time pass, and see what was handed to whom."""

        async def acted() -> None:
            for action in actions:
                action()
            await asyncio.sleep(seconds)
            for _ in range(5):
                await asyncio.sleep(0)

        self.runner.run(acted())
        self.slots += handed(self.slot_line)
        for line in self.lines.values():
            served = handed(line)
            self.flying += served
            self.granted_under |= dict.fromkeys(served, self.limiter.limits.requests_per_minute)
        self.holds = [until for until in self.holds if until > self.loop.time()]

    def ended(
        self, permit: Permit, outcome: PermitOutcome, retry_after: float | None = None
    ) -> Callable[[], object]:
        """Return what reports the end of a request."""
        return lambda: self.limiter.report(permit, outcome, retry_after=retry_after)

    # --- slots ---------------------------------------------------------------------------

    @rule()
    def want_slot(self) -> None:
        self.act(lambda: self.slot_line.append(self.loop.create_task(self.limiter.slot())))

    @rule()
    def take_slot_above(self) -> None:
        taken: list[Slot] = []
        self.act(lambda: taken.append(self.limiter.slot_above()))
        self.slots += taken
        self.confirmed |= set(taken)

    @precondition(lambda self: self.slots)
    @rule(pick=PICKS)
    def confirm(self, pick: int) -> None:
        slot = self.slots[pick % len(self.slots)]
        self.confirmed.add(slot)
        self.act(slot.confirm, slot.confirm)

    @precondition(lambda self: self.slots)
    @rule(pick=PICKS)
    def release(self, pick: int) -> None:
        slot = picked(self.slots, pick)
        self.act(slot.release, slot.release)

    @precondition(lambda self: self.slots)
    @rule(pick=PICKS, seconds=DELAYS)
    def hold(self, pick: int, seconds: float) -> None:
        slot = picked(self.slots, pick)
        self.holds.append(self.loop.time() + seconds)
        self.act(lambda: slot.hold(seconds), slot.release)

    @precondition(lambda self: self.slot_line)
    @rule(pick=PICKS)
    def leave_slot_line(self, pick: int) -> None:
        self.act(picked(self.slot_line, pick).cancel)

    @precondition(lambda self: self.slot_line and self.slots)
    @rule(pick=PICKS)
    def leave_as_a_slot_is_handed_over(self, pick: int) -> None:
        self.act(picked(self.slots, pick).release, self.slot_line.popleft().cancel)

    # --- permits -------------------------------------------------------------------------

    @rule(priority=st.sampled_from(Priority), count=st.integers(1, 5))
    def want_permits(self, priority: Priority, count: int) -> None:
        def want() -> None:
            for _ in range(count):
                task = self.loop.create_task(self.limiter.permit(priority))
                self.lines[priority].append(task)

        self.act(want)

    @precondition(lambda self: self.flying)
    @rule(pick=PICKS, share=SHARES)
    def answer(self, pick: int, share: float) -> None:
        permit = self.arrived(pick, share)
        self.act(
            self.ended(permit, PermitOutcome.ANSWERED), self.ended(permit, PermitOutcome.UNUSED)
        )

    @precondition(lambda self: self.flying)
    @rule(pick=PICKS, share=SHARES)
    def lose(self, pick: int, share: float) -> None:
        self.act(self.ended(self.arrived(pick, share, MARGIN), PermitOutcome.UNANSWERED))

    @precondition(lambda self: self.flying)
    @rule(pick=PICKS, share=SHARES, retry_after=st.sampled_from((None, 0.0, 2.0, 500.0)))
    def throttle(self, pick: int, share: float, retry_after: float | None) -> None:
        permit = self.arrived(pick, share)
        self.act(self.ended(permit, PermitOutcome.THROTTLED, retry_after))

    @precondition(lambda self: self.flying)
    @rule(pick=PICKS)
    def not_used(self, pick: int) -> None:
        self.act(self.ended(picked(self.flying, pick), PermitOutcome.UNUSED))

    @precondition(lambda self: any(self.lines.values()))
    @rule(pick=PICKS)
    def leave_permit_line(self, pick: int) -> None:
        line = max(self.lines.values(), key=len)
        self.act(picked(line, pick).cancel)

    @precondition(lambda self: any(self.lines.values()) and self.flying)
    @rule(pick=PICKS)
    def leave_as_a_permit_is_handed_over(self, pick: int) -> None:
        first = next(line for line in self.lines.values() if line)
        self.act(
            self.ended(picked(self.flying, pick), PermitOutcome.UNUSED), first.popleft().cancel
        )

    @precondition(lambda self: not self.flying and (self.polls_wait or self.a_submit_has_room))
    @rule()
    def wait_without_anything_in_flight(self) -> None:
        self.act(seconds=WINDOW + MARGIN + 1)
        assert self.flying

    @rule(tasks=st.integers(1, 5), requests=st.sampled_from((1, 2, 5, 20, 60)))
    def change_limits(self, tasks: int, requests: int) -> None:
        def change() -> None:
            self.limiter.limits = Limits(tasks, requests)

        self.act(change)

    @rule(seconds=DELAYS)
    def advance(self, seconds: float) -> None:
        self.act(seconds=seconds)

    def arrived(self, pick: int, share: float, margin: float = 0.0) -> Permit:
        """End a request which the service counted some time between its sending and its end."""
        permit = picked(self.flying, pick)
        at = permit.taken_at + share * (self.loop.time() + margin - permit.taken_at)
        self.arrivals.add(at, taken_at=permit.taken_at, limit=self.granted_under.pop(permit))
        return permit

    @property
    def polls_wait(self) -> bool:
        return any(line for priority, line in self.lines.items() if priority is not Priority.SUBMIT)

    @property
    def a_submit_has_room(self) -> bool:
        existing = len(self.confirmed.intersection(self.slots)) + len(self.holds)
        return bool(self.lines[Priority.SUBMIT]) and existing < self.limiter.effective_slots_limit

    # --- what holds always ---------------------------------------------------------------

    @invariant()
    def slots_agree(self) -> None:
        assert 1 <= self.limiter.effective_slots_limit <= self.limiter.limits.concurrent_tasks
        assert self.limiter.slots_used == len(self.slots) + len(self.holds)
        assert self.limiter.slots_waiting == len(self.slot_line)
        assert not self.slot_line or self.limiter.slots_used >= self.limiter.effective_slots_limit

    @invariant()
    def permits_agree(self) -> None:
        assert 1 <= self.limiter.effective_requests_limit <= self.limiter.limits.requests_per_minute
        assert self.limiter._permits.in_flight == len(self.flying)
        assert self.limiter.permits_waiting == sum(map(len, self.lines.values()))

    def teardown(self) -> None:
        self.arrivals.check()
        waiting = [*self.slot_line, *(task for line in self.lines.values() for task in line)]
        self.slot_line.clear()
        self.lines.clear()
        self.act(*(task.cancel for task in waiting))
        self.runner.close()


def handed(line: deque[asyncio.Task[T]]) -> list[T]:
    """Take those out of a line who were served: the first ones, never one behind another."""
    served: list[T] = []
    while line and line[0].done():
        served.append(line.popleft().result())
    assert not any(task.done() for task in line)
    return served


@pytest.mark.heavy
def test_limiter_machine() -> None:
    """In whatever order callers come, end and leave, limits and order hold, and none starves."""
    run_machine(LimiterMachine, 100)

from __future__ import annotations

import math
import random

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from apixo_async._limits.breaker import LONGEST_PAUSE, CircuitBreaker
from apixo_async._limits.slots import SlotTable
from apixo_async._limits.window import MARGIN, PermitOutcome, SlidingWindow

from ..support.machines import DELAYS, PICKS, SHARES, Arrivals, run_machine


class SlotMachine(RuleBasedStateMachine):
    """A slot table against a list of what is taken and a list of what is held."""

    @initialize(limit=st.integers(1, 4))
    def begin(self, limit: int) -> None:
        self.table, self.now = SlotTable(limit), 0.0
        self.taken, self.holds = 0, list[float]()

    @rule()
    def take(self) -> None:
        there_is_room = self.taken + len(self.holds) < self.table.limit
        assert self.table.try_take() is there_is_room
        self.taken += there_is_room

    @rule()
    def take_above(self) -> None:
        self.table.take_above()
        self.taken += 1

    @precondition(lambda self: self.taken)
    @rule()
    def release(self) -> None:
        self.table.release()
        self.taken -= 1

    @precondition(lambda self: self.taken)
    @rule(seconds=DELAYS)
    def hold(self, seconds: float) -> None:
        self.table.hold(self.now + seconds)
        self.taken -= 1
        self.holds.append(self.now + seconds)

    @rule(seconds=DELAYS)
    def advance(self, seconds: float) -> None:
        self.now += seconds
        self.table.expire(self.now)
        self.holds = [until for until in self.holds if until > self.now]

    @invariant()
    def counts(self) -> None:
        assert self.table.used == self.taken + len(self.holds)
        assert self.table.next_expiry() == min(self.holds, default=math.inf)


class PermitMachine(RuleBasedStateMachine):
    """A permit log against a service that counts requests at the worst moment."""

    @initialize(limit=st.sampled_from((1, 2, 5, 20, 50)))
    def begin(self, limit: int) -> None:
        self.log, self.now = SlidingWindow(limit), 1_000.0
        self.arrivals, self.flying = Arrivals(limit), list[float]()

    @rule(most=st.integers(1, 30))
    def take(self, most: int) -> None:
        while most and self.log.ready_at(self.now) <= self.now:
            self.log.take(self.now)
            self.flying.append(self.now)
            most -= 1

    @rule(most=st.integers(1, 10))
    def take_when_promised(self, most: int) -> None:
        for _ in range(most):
            # Promised is first that the window has room, and then that the pace allows it.
            for _ in range(3):
                ready = self.log.ready_at(self.now)
                if ready == math.inf:
                    assert len(self.flying) == self.log.limit
                    return
                self.now = max(self.now, ready)
            assert ready == self.now
            self.take(1)

    @precondition(lambda self: self.flying)
    @rule(pick=PICKS, share=SHARES)
    def answer(self, pick: int, share: float) -> None:
        sent = self.flying.pop(pick % len(self.flying))
        self.log.report(PermitOutcome.ANSWERED, self.now)
        self.arrivals.add(sent + share * (self.now - sent))

    @precondition(lambda self: self.flying)
    @rule(pick=PICKS, share=SHARES)
    def lose(self, pick: int, share: float) -> None:
        sent = self.flying.pop(pick % len(self.flying))
        self.log.report(PermitOutcome.UNANSWERED, self.now)
        self.arrivals.add(sent + share * (self.now + MARGIN - sent))

    @precondition(lambda self: self.flying)
    @rule(pick=PICKS)
    def not_used(self, pick: int) -> None:
        self.flying.pop(pick % len(self.flying))
        self.log.report(PermitOutcome.UNUSED, self.now)

    @rule()
    def drain(self) -> None:
        self.log.drain(self.now)

    @rule(seconds=DELAYS)
    def advance(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def limit_holds(self) -> None:
        self.arrivals.check()
        assert self.log.used(self.now) <= self.log.limit
        assert self.log.in_flight == len(self.flying)


class ThrottleMachine(RuleBasedStateMachine):
    """A throttle: was_open for a bounded time, opened by one probe, never stuck."""

    @initialize(seed=st.integers(0, 9))
    def begin(self, seed: int) -> None:
        self.breaker, self.now = CircuitBreaker(random.Random(seed)), 1_000.0
        self.flying: list[float] = []

    @rule()
    def send(self) -> None:
        if self.breaker.ready_at(self.now) <= self.now:
            self.flying.append(self.now)
            self.breaker.passed(self.now)

    @precondition(lambda self: self.flying)
    @rule(pick=PICKS, retry_after=st.sampled_from((None, 0.0, 1.0, 30.0, 500.0)))
    def refuse(self, pick: int, retry_after: float | None) -> None:
        sent = self.flying.pop(pick % len(self.flying))
        # A request from before the probe that closed the breaker says nothing of now.
        is_old = self.breaker.is_closed and sent < self.breaker.probe_at
        pause = self.breaker.refused(self.now, sent_at=sent, retry_after=retry_after)
        assert 0.0 <= pause <= LONGEST_PAUSE
        assert self.breaker.is_closed == is_old

    @precondition(lambda self: self.flying)
    @rule(pick=PICKS)
    def answer(self, pick: int) -> None:
        was_open = not self.breaker.is_closed
        if self.breaker.answered(sent_at=self.flying.pop(pick % len(self.flying))):
            assert was_open
            assert self.breaker.ready_at(self.now) == self.now

    @precondition(lambda self: self.flying)
    @rule(pick=PICKS)
    def lose(self, pick: int) -> None:
        self.breaker.lost(sent_at=self.flying.pop(pick % len(self.flying)))

    @rule(seconds=DELAYS)
    def advance(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def lets_a_request_through(self) -> None:
        ready = self.breaker.ready_at(self.now)
        if self.breaker.is_closed:
            assert ready == self.now
        elif ready == math.inf:
            assert any(sent >= self.breaker.probe_at for sent in self.flying)  # the probe
        else:
            assert ready <= self.now + LONGEST_PAUSE


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("machine", "examples"), [(SlotMachine, 100), (PermitMachine, 100), (ThrottleMachine, 100)]
)
def test_pure_machine(machine: type[RuleBasedStateMachine], examples: int) -> None:
    """In whatever order things happen, limits hold and nothing stays shut for ever."""
    run_machine(machine, examples)

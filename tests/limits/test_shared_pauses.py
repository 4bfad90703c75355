"""A 429 to one process holds all back; one probes, and its answer lets all go on."""

from __future__ import annotations

import asyncio
import math
import random
from typing import Literal

import pytest

from apixo_async import FluxKontext, Limits
from apixo_async._limits.breaker import CircuitBreaker, LimitScope, PauseGrant, PauseReport
from apixo_async._limits.shared_pauses import PROBED, SharedPause, exchange_pauses
from apixo_async.testing import Fault, Simulator
from apixo_async.testing.memory_store import MemoryStore

from ..support.processes import Process, processes

ALL = ("a", "b")


class Account:
    """Two breakers of processes, and what they know together."""

    def __init__(self) -> None:
        self.pauses: dict[LimitScope, SharedPause] = {}
        self.breakers = {name: CircuitBreaker(random.Random(1)) for name in ALL}
        self.paused = 0

    def exchange(
        self, name: str, now: float, *, wanted: bool = True, living: tuple[str, ...] = ALL
    ) -> PauseGrant | None:
        """Have a process exchange what it knows."""
        report = self.breakers[name].report(now, is_wanted=wanted)
        granted = exchange_pauses(
            self.pauses, {"submits": report}, name, living, now, self.paused + 1
        )
        self.paused = max([self.paused, *(pause.number for pause in self.pauses.values())])
        self.breakers[name].follow(granted.get("submits"), now)
        return granted.get("submits")


def paused() -> Account:
    """Return an account of which the first process has met a 429 at 100, for 5 s."""
    account = Account()
    assert account.exchange("a", 99.0) is None
    account.breakers["a"].refused(100.0, sent_at=99.5, retry_after=5.0)
    account.exchange("a", 100.0)
    account.exchange("b", 100.2)
    return account


def test_all_pause_and_one_probes() -> None:
    """The one that met the 429, when its pause is over; the other waits for what it finds."""
    account = paused()
    one, other = account.breakers["a"], account.breakers["b"]
    assert one.ready_at(100.2) == 105.0
    assert other.ready_at(100.2) == other.ready_at(106.0) == math.inf
    one.passed(105.0)
    account.exchange("a", 105.1)
    assert account.exchange("b", 105.1) is not None
    one.answered(sent_at=105.0)
    account.exchange("a", 105.4)
    assert account.exchange("b", 105.6) is None
    assert other.ready_at(105.6) == 105.6
    assert account.exchange("a", 105.7) is None
    assert account.pauses == {}


def test_a_probe_that_is_refused() -> None:
    """The pause goes on for all; nobody else probes."""
    account = paused()
    account.breakers["a"].passed(105.0)
    account.breakers["a"].refused(105.2, sent_at=105.0, retry_after=20.0)
    account.exchange("a", 105.2)
    grant = account.exchange("b", 105.4)
    assert grant is not None
    assert (grant.is_prober, grant.probe_in) == (False, pytest.approx(19.8))
    assert account.breakers["b"].ready_at(110.0) == math.inf


def test_own_429s_of_the_others() -> None:
    """What was in flight belongs to the same pause, and may lengthen it by what was asked for."""
    account = Account()
    for name, pause in (("a", 5.0), ("b", 9.0)):
        account.exchange(name, 99.0)
        account.breakers[name].refused(100.0, sent_at=99.5, retry_after=pause)
    account.exchange("a", 100.0)
    grant = account.exchange("b", 100.0)
    assert grant is not None
    assert (grant.number, grant.is_prober, grant.probe_in) == (1, False, pytest.approx(9.0))
    assert account.breakers["b"].ready_at(120.0) == math.inf


@pytest.mark.parametrize("why", ["dead", "idle"])
def test_another_one_probes(why: Literal["dead", "idle"]) -> None:
    """Where the prober is gone, or has nothing to send."""
    account = paused()
    if why == "idle":
        account.exchange("a", 101.0, wanted=False)
    grant = account.exchange("b", 102.0, living=("b",) if why == "dead" else ALL)
    assert grant is not None
    assert grant.is_prober
    other = account.breakers["b"]
    assert other.ready_at(102.0) == pytest.approx(105.0)
    if why == "idle":
        account.exchange("a", 103.0)
        assert account.breakers["a"].ready_at(106.0) == math.inf
    other.passed(105.0)
    other.answered(sent_at=105.0)
    assert account.exchange("b", 106.0) is None
    assert account.exchange("a", 106.1) is None
    assert account.breakers["a"].ready_at(106.1) == 106.1


def test_a_prober_that_does_not_say_how_it_went() -> None:
    """After some seconds another one probes."""
    account = paused()
    assert account.exchange("b", 105.0 + PROBED) is not None
    assert account.breakers["b"].ready_at(105.0 + PROBED) == math.inf
    grant = account.exchange("b", 105.1 + PROBED)
    assert grant is not None
    assert grant.is_prober
    account.exchange("a", 105.2 + PROBED)
    assert account.breakers["a"].ready_at(106.0 + PROBED) == math.inf


async def test_a_prober_has_something_to_send() -> None:
    """One has every slot and no poll due; the other waits for a slot: the pause ends all the same.

    A submit that waits for a slot cannot end a pause of polls, without which no slot gets free.
    """
    limits = Limits(concurrent_tasks=2)
    simulator = Simulator(seed=1, durations=20.0, concurrent_tasks=2)
    store, loop = MemoryStore(), asyncio.get_running_loop()
    full, waiting = (Process(simulator, store, limits=limits, seed=n) for n in range(2))
    castle, began = FluxKontext(mode="pro", prompt="a castle"), loop.time()
    async with processes(full, waiting):
        for key in ("k", "l"):
            await full.client.submit(castle, key=key)
        other = asyncio.create_task(waiting.client.submit(castle, key="m"))
        await asyncio.sleep(1)
        simulator.faults.poll(Fault.status(429))
        await other
        assert loop.time() - began <= 60


def test_nobody_wants_to_probe() -> None:
    """The pause stays until somebody does."""
    account = paused()
    account.exchange("a", 110.0, wanted=False)
    grant = account.exchange("b", 111.0, wanted=False)
    assert grant is not None
    assert not grant.is_prober
    grant = account.exchange("b", 112.0)
    assert grant is not None
    assert grant.is_prober
    assert account.breakers["b"].ready_at(112.0) == 112.0


def test_a_value_that_was_lost() -> None:
    """Nothing is held back by a pause of which nothing is known; a 429 begins another one."""
    account = paused()
    account.pauses.clear()
    assert account.exchange("b", 101.0) is None
    assert account.breakers["b"].ready_at(101.0) == 101.0
    assert account.exchange("a", 101.0) is None
    assert account.breakers["a"].ready_at(101.0) == 105.0
    assert account.exchange("a", 101.5) is not None


def test_a_closed_pause_is_not_opened_again() -> None:
    """By an exchange that was under way when the probe was answered."""
    account = paused()
    one = account.breakers["a"]
    one.passed(105.0)
    report = one.report(105.1, is_wanted=True)
    one.answered(sent_at=105.0)
    granted = exchange_pauses(account.pauses, {"submits": report}, "a", ALL, 105.1, 9)
    one.follow(granted["submits"], 105.2)
    assert one.is_closed
    assert account.exchange("a", 105.4) is None


def test_a_foreign_pause_is_bounded() -> None:
    """No value of a store holds anything back for longer than a 429 may."""
    circuit = CircuitBreaker(random.Random(1))
    circuit.follow(PauseGrant(1, 1e9, is_prober=True), 100.0)
    assert circuit.ready_at(100.0) == 160.0
    assert circuit.report(160.0, is_wanted=True) == PauseReport(1, 0.0, is_wanted=True)


def throttled(made: list[Process]) -> dict[int, int]:
    """Return how many 429s each process has met, if any has."""
    counts = [process.client.statistics().throttled for process in made]
    return dict(enumerate(counts)) if any(counts) else {}


@pytest.mark.parametrize("kind", ["submit", None])
async def test_four_processes(kind: Literal["submit"] | None) -> None:
    """They meet few 429s together: what was in flight, and one probe after each pause."""
    limits = Limits(concurrent_tasks=40, requests_per_minute=600)
    simulator = Simulator(seed=1, durations=5.0)
    store, loop = MemoryStore(), asyncio.get_running_loop()
    made = [Process(simulator, store, limits=limits, seed=n) for n in range(4)]
    ended: list[float] = []
    inputs = [FluxKontext(mode="pro", prompt=f"{number}") for number in range(60)]

    async def bought(process: Process) -> int:
        count = sum([outcome.ok async for outcome in process.client.map(inputs)])
        ended.append(loop.time() - start)
        return count

    async with processes(*made):
        start = loop.time()
        simulator.faults.during(start + 8, start + 38, Fault.status(429), kind)
        buying = [asyncio.create_task(bought(process)) for process in made]
        while not throttled(made):  # noqa: ASYNC110  # no event of all of them together
            await asyncio.sleep(0.05)
        await asyncio.sleep(1.0)
        in_flight = throttled(made)
        assert await asyncio.gather(*buying) == [60] * 4
        probes = {name: count - in_flight[name] for name, count in throttled(made).items()}
        assert sorted(map(bool, probes.values())) == [False, False, False, True]
        assert sum(probes.values()) <= 6
        # All go on once a probe has passed; the one that sent it uses fewer requests for a while.
        assert ended[2] <= 120

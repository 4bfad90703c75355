"""Accounts that grant less than the client was told: found in a few 429s, and used in full."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from apixo_async import AsyncClient, FluxKontext, Limiter, Limits, Polling
from apixo_async.testing import Fault, Simulator

ClientOf = Callable[..., AsyncClient]
CASTLE = FluxKontext(mode="pro", prompt="a castle")


@dataclass
class Seen:
    """What happened while there was always more to buy.

    Attributes:
        running: Tasks at the service, second by second.
        granted: Counted requests, minute by minute.
        refused: Answers 429, minute by minute.
    """

    limiter: Limiter
    running: list[int] = field(default_factory=list[int])
    granted: Counter[int] = field(default_factory=Counter[int])
    refused: Counter[int] = field(default_factory=Counter[int])

    def mean_running(self, first: int, last: int) -> float:
        """Return the mean number of tasks from one second to another."""
        return sum(self.running[first:last]) / (last - first)


async def saturate(client_of: ClientOf, simulator: Simulator, *, inputs: int, seconds: int) -> Seen:
    """Buy without end, by a client that was told the documents' limits."""
    loop, rng, limiter = asyncio.get_running_loop(), random.Random(3), Limiter(seed=1)
    client = client_of(
        simulator,
        lambda *_: rng.uniform(0.1, 0.5),
        limiter=limiter,
        polling=Polling.documented(),
    )
    seen, start = Seen(limiter), loop.time()
    buyers = [asyncio.create_task(client.generate(CASTLE)) for _ in range(inputs)]
    for _ in range(seconds):
        await asyncio.sleep(1)
        seen.running.append(sum(account.tasks(loop.time()) for account in simulator.accounts))
    assert not any(buyer.done() and buyer.exception() for buyer in buyers)
    for record in simulator.log:
        minute = int((record.at - start) / 60)
        seen.granted[minute] += record.counted
        seen.refused[minute] += record.status == 429
    for buyer in buyers:
        buyer.cancel()
    await asyncio.gather(*buyers, return_exceptions=True)
    return seen


async def test_ten_slots_under_a_client_set_to_a_thousand(client_of: ClientOf) -> None:
    """The ten slots are found within seconds and kept full for ten minutes, with few 429s."""
    simulator = Simulator(seed=1, concurrent_tasks=10, durations=30.0)
    seen = await saturate(client_of, simulator, inputs=1_200, seconds=600)
    assert seen.mean_running(10, 600) >= 0.95 * 10
    assert 10 <= seen.limiter.effective_slots_limit <= 11
    assert seen.limiter.effective_requests_limit == 10_000
    assert seen.refused[0] <= 30
    assert seen.refused.total() - seen.refused[0] <= 10


async def test_ten_slots_and_long_pauses(client_of: ClientOf) -> None:
    """Where each 429 closes submits for a minute, they soon are too few to matter."""
    simulator = Simulator(seed=1, concurrent_tasks=10, durations=30.0, retry_after=60)
    seen = await saturate(client_of, simulator, inputs=1_200, seconds=600)
    assert seen.mean_running(200, 600) >= 0.93 * 10
    assert sum(seen.refused[minute] for minute in range(3, 10)) <= 3


async def test_sixty_requests_a_minute(client_of: ClientOf) -> None:
    """Requests are paced near sixty a minute, after a minute or two with few 429s."""
    simulator = Simulator(seed=1, requests_per_minute=60, durations=30.0)
    seen = await saturate(client_of, simulator, inputs=1_200, seconds=600)
    assert sum(seen.granted.values()) >= 0.9 * 600
    assert min(seen.granted[minute] for minute in range(10)) >= 0.8 * 60
    assert 55 <= seen.limiter.effective_requests_limit <= 75
    assert seen.refused[0] <= 80
    assert sum(seen.refused[minute] for minute in range(2, 10)) <= 20


@pytest.mark.heavy
@pytest.mark.long
@pytest.mark.parametrize("begins", [0.0, 40.0])
async def test_a_short_throttle_is_forgotten(client_of: ClientOf, begins: float) -> None:
    """After half a minute of 429s to submits, the whole limit is in use within a minute."""
    simulator, start = Simulator(seed=1, durations=40.0), asyncio.get_running_loop().time()
    begin = start + begins
    simulator.faults.during(begin, begin + 30, Fault.status(429), "submit")
    seen = await saturate(client_of, simulator, inputs=3_500, seconds=int(begins) + 92)
    assert seen.limiter.limits == Limits()
    assert max(seen.running[-30:]) >= 990
    assert seen.limiter.effective_slots_limit == 1_000


async def test_a_stray_429_costs_nothing(client_of: ClientOf) -> None:
    """One 429 among a thousand submits lowers nothing."""
    simulator = Simulator(seed=1, durations=30.0)
    simulator.faults.submit(Fault.status(429))
    seen = await saturate(client_of, simulator, inputs=1_000, seconds=20)
    assert (seen.limiter.effective_slots_limit, seen.limiter.effective_requests_limit) == (
        1_000,
        10_000,
    )
    assert seen.running[-1] == 1_000

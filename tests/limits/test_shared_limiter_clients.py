"""Whole clients over shared limits: a service that counts refuses nothing."""

from __future__ import annotations

import asyncio

import pytest

from apixo_async import AsyncClient, FluxKontext, Limits
from apixo_async._limits.shared_limiter import SharedLimiter
from apixo_async.testing import Fault, Simulator
from apixo_async.testing.memory_store import MemoryStore

from ..support.processes import Process, processes

LIMITS = Limits(concurrent_tasks=1_000, requests_per_minute=600)


async def test_three_clients_with_one_key_meet_no_429() -> None:
    """They send all that the account may, and no more; one is closed on the way."""
    simulator = Simulator(seed=1, requests_per_minute=600, durations=20.0)
    store = MemoryStore()
    limiters = [SharedLimiter(await store.open("account"), LIMITS, seed=n) for n in range(3)]
    inputs = [FluxKontext(mode="pro", prompt=f"castle {number}") for number in range(400)]

    async def bought(limiter: SharedLimiter, count: int) -> int:
        client = AsyncClient("test-key", transport=simulator.transport(), limiter=limiter)
        async with client:
            outcomes = [outcome async for outcome in client.map(inputs[:count])]
        await limiter.aclose()
        return sum(outcome.ok for outcome in outcomes)

    start = asyncio.get_running_loop().time()
    counts = (400, 400, 100)
    assert await asyncio.gather(*map(bought, limiters, counts)) == [*counts]
    took = asyncio.get_running_loop().time() - start
    seen = simulator.statistics()
    assert seen.refused == 0
    assert seen.most_requests <= 600
    requests = sum(seen.requests.values())
    # Nothing is wasted: what is beyond the first burst comes at the allowed rate.
    assert took <= (requests - 60) / 10 * 1.05 + 25


@pytest.mark.parametrize(("slots", "count", "each"), [(40, 4, 60), (3, 10, 2), (1, 2, 3)])
async def test_clients_that_begin_together(slots: int, count: int, each: int) -> None:
    """Each gets its part: what one holds for submits without a permit keeps no other from it.

    Nor does it where there are more processes than slots.
    """
    simulator = Simulator(seed=1, durations=10.0, concurrent_tasks=slots)
    store, limits = MemoryStore(), Limits(concurrent_tasks=slots)
    made = [Process(simulator, store, limits=limits, seed=number) for number in range(count)]
    inputs = [FluxKontext(mode="pro", prompt=f"castle {number}") for number in range(each)]

    async def bought(process: Process) -> int:
        return sum([outcome.ok async for outcome in process.client.map(inputs)])

    async with processes(*made), asyncio.timeout(400):
        assert await asyncio.gather(*map(bought, made)) == [each] * count
    assert simulator.statistics().refused == 0
    assert simulator.most_concurrent == slots


async def test_what_one_has_learned_from_429s_is_its_own_limit() -> None:
    """It uses fewer slots for a while, and is not kept from all of them by the tasks of others."""
    simulator, store = Simulator(seed=1, durations=5.0), MemoryStore()
    limits = Limits(concurrent_tasks=4)
    busy, other = (Process(simulator, store, limits=limits, seed=n) for n in range(2))
    castle = FluxKontext(mode="pro", prompt="a castle")

    async def buy(process: Process, done: list[float]) -> None:
        while True:
            await process.client.generate(castle)
            done.append(asyncio.get_running_loop().time())

    counts: list[list[float]] = [[], []]
    async with processes(busy, other):
        buying = [asyncio.create_task(buy(busy, counts[0])) for _ in range(6)]
        await asyncio.sleep(30)
        simulator.faults.submit(*[Fault.status(429)] * 4)
        buying.append(asyncio.create_task(buy(other, counts[1])))
        await asyncio.sleep(600)
        for task in buying:
            task.cancel()
        await asyncio.wait(buying)
    assert len(counts[1]) >= 10

"""A client or a map that ends under a journal on a slow disk: nothing is sent then, or lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from apixo_async import ApixoError, AsyncClient, Limits, Outcomes, Polling
from apixo_async.testing import Simulator

from ..support.inside import Journal
from ..support.maps import castles
from ..support.slow_disks import slow_disk

ClientOf = Callable[..., AsyncClient]
LATENCY = 0.2
OPTIONS = {"limits": Limits(concurrent_tasks=50), "polling": Polling.fixed(5, 5)}


async def taken(outcomes: Outcomes) -> None:
    """Take all outcomes, whatever ends them."""
    try:
        async for _ in outcomes:
            pass
    except ApixoError:
        pass


async def ids_in(journal: Path) -> set[str | None]:
    """Return the tasks that a journal knows."""
    opened = await Journal.open(journal)
    ids = {one.task_id async for one in opened.entries()}
    await opened.aclose()
    return ids


@pytest.mark.parametrize("disk", [0.001, 0.05, 0.3])
@pytest.mark.parametrize("seed", range(8))
async def test_a_client_that_is_closed(
    client_of: ClientOf, tmp_path: Path, disk: float, seed: int
) -> None:
    """Every task that was paid for is in the journal, and nothing is bought after the close."""
    simulator, journal = Simulator(seed=seed, durations=3.0), tmp_path / "run.db"
    with slow_disk(disk):
        client = client_of(simulator, latency=LATENCY, **OPTIONS)
        taking = asyncio.create_task(taken(client.map(castles(200), journal=journal)))
        await asyncio.sleep(random.Random(seed).uniform(0.5, 5.0))
        await client.aclose()
        made = simulator.count("submit")
        await asyncio.sleep(5.0)
        assert simulator.count("submit") == made
        await asyncio.wait_for(taking, 1.0)
    assert await ids_in(journal) >= set(simulator.tasks)


@pytest.mark.parametrize("disk", [0.001, 0.05, 0.3])
@pytest.mark.parametrize("seed", range(4))
async def test_a_map_that_is_stopped(
    client_of: ClientOf, tmp_path: Path, disk: float, seed: int
) -> None:
    """After a stop only those POSTs arrive that were on their way: for half the latency."""
    simulator, journal = Simulator(seed=seed, durations=3.0), tmp_path / "run.db"
    with slow_disk(disk):
        client = client_of(simulator, latency=LATENCY, **OPTIONS)
        outcomes = client.map(castles(200), journal=journal)
        taking = asyncio.create_task(taken(outcomes))
        await asyncio.sleep(random.Random(seed).uniform(0.5, 5.0))
        outcomes.stop()
        await asyncio.sleep(LATENCY / 2)
        arrived = simulator.count("submit")
        await asyncio.sleep(10.0)
        assert simulator.count("submit") == arrived
        await asyncio.wait_for(taking, 10.0)
    assert await ids_in(journal) >= set(simulator.tasks)


async def test_a_disk_that_hangs(client_of: ClientOf, tmp_path: Path) -> None:
    """A close does not wait for a disk: what is not sent by then never is."""
    simulator, loop = Simulator(seed=1), asyncio.get_running_loop()
    with slow_disk(None):
        client = client_of(simulator, latency=LATENCY, **OPTIONS)
        asyncio.create_task(taken(client.map(castles(9), journal=tmp_path / "run.db")))  # noqa: RUF006
        await asyncio.sleep(1.0)
        start = loop.time()
        await client.aclose()
        assert loop.time() == start
    await asyncio.sleep(60.0)
    assert simulator.count("submit") == 0


class Connecting(httpx2.AsyncBaseTransport):
    """Take a second to open each connection."""

    phase_aware = True

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(1.0)
        return await self._inner.handle_async_request(request)


@pytest.mark.parametrize("journal", [True, False])
@pytest.mark.parametrize("end", ["stop", "close"])
async def test_an_end_while_it_connects(tmp_path: Path, end: str, journal: bool) -> None:
    """A POST whose connection is still being opened when its map ends is never sent."""
    simulator = Simulator(seed=1)
    client = AsyncClient("test-key", transport=Connecting(simulator.transport()), **OPTIONS)
    outcomes = client.map(castles(9), journal=tmp_path / "run.db" if journal else None)
    taking = asyncio.create_task(taken(outcomes))
    await asyncio.sleep(0.5)
    if end == "stop":
        outcomes.stop()
    await client.aclose()
    await asyncio.wait_for(taking, 1.0)
    assert simulator.count() == client.statistics().slots_used == 0

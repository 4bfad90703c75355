"""Two maps, one over the outcomes of the other: the picture of a task is the input of the next."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from decimal import Decimal

import pytest

from apixo_async import AsyncClient, GptImage2, Limits, Outcome, Polling, TaskFailedError
from apixo_async.testing import Fault, Simulator

from ..support.maps import Swift

ClientOf = Callable[..., AsyncClient]


async def edits(
    client: AsyncClient, count: int, read: Callable[[], object] = lambda: None
) -> AsyncIterator[tuple[str, GptImage2] | Outcome]:
    """Yield the second input of each row, or why there is none."""
    rows = ((f"row-{n}", GptImage2(prompt=f"castle {n}")) for n in range(count))
    async with client.map(rows) as pictures:
        async for picture in pictures:
            read()
            if picture.result is None:
                yield picture
            else:
                urls = [*picture.result.urls]
                yield picture.key, GptImage2(prompt="at night", image_urls=urls)


async def test_what_fails_in_the_first_stage(simulator: Simulator, client_of: ClientOf) -> None:
    """It is an outcome of the second, with its error and its key, and buys nothing there."""
    client = client_of(simulator)
    simulator.faults.submit(None, Fault.task_fails("NSFW"), Fault.status(400))
    async with client.map(edits(client, 4)) as outcomes:
        found = {outcome.key: outcome async for outcome in outcomes}
    assert Counter(outcome.state for outcome in found.values()) == {
        "success": 2,
        "failed": 1,
        "unbought": 1,
    }
    failed = next(outcome for outcome in found.values() if outcome.state == "failed")
    assert isinstance(failed.error, TaskFailedError)
    assert (failed.error.fail_code, failed.purchases, failed.input) == ("NSFW", 0, None)
    assert failed.ref == failed.error.ref
    assert (failed.to_dict()["cost"], failed.to_dict()["category"]) == (0.0, "content")
    assert simulator.created == 3 + 2
    assert (outcomes.progress.unbought, outcomes.progress.spent) == (2, 2 * Decimal("0.02"))


async def test_a_second_stage_that_is_left(simulator: Simulator, client_of: ClientOf) -> None:
    """Who leaves its block ends the first one as well, and all that was bought ends."""
    client = client_of(simulator, limits=Limits(concurrent_tasks=4))
    async with client.map(edits(client, 1_000)) as outcomes:
        async for _ in outcomes:
            break
    assert client.unfinished == ()
    assert simulator.created < 100


@pytest.mark.parametrize(("tasks", "requests"), [(50, 10_000), (1_000, 200)])
async def test_both_limits_are_kept(client_of: ClientOf, tasks: int, requests: int) -> None:
    """The service counts both stages as one, and refuses nothing; what is scarce is used."""
    simulator = Simulator(seed=1, concurrent_tasks=tasks, requests_per_minute=requests)
    client = client_of(simulator, limits=Limits(tasks, requests))
    async with client.map(edits(client, 200)) as outcomes:
        assert [outcome.ok async for outcome in outcomes] == [True] * 200
    seen = simulator.statistics()
    assert (simulator.created, seen.refused) == (400, 0)
    assert max(seen.most_tasks / tasks, seen.most_requests / requests) >= 0.95


@pytest.mark.heavy
async def test_a_thousand_rows_in_two_stages() -> None:
    """Slots are shared by both, nothing heaps up between them, and memory is flat."""
    service = Swift(lambda _: 10.0, latency=0.3, ids=500)
    ahead, most, blocks = 0, 0, list[int]()

    def read() -> None:
        nonlocal ahead, most
        ahead += 1
        most = max(most, ahead)

    async with AsyncClient(
        "test-key",
        limits=Limits(concurrent_tasks=100, requests_per_minute=2_000),
        polling=Polling.fixed(10.5, 3),
        transport=service,
        seed=1,
    ) as client:
        for _ in range(4):
            async with client.map(edits(client, 250, read)) as outcomes:
                async for outcome in outcomes:
                    assert outcome.ok
                    ahead -= 1
            await asyncio.sleep(600)  # until nothing is in progress
            gc.collect()
            blocks.append(sys.getallocatedblocks())
    assert service.made == 2_000
    assert 90 <= service.most_at_once <= 100
    assert most <= 250
    assert max(blocks) < blocks[0] + 500  # A single block for each row would be 750.

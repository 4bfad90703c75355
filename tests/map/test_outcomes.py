from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from apixo_async import AsyncClient, ClientClosedError, ConfigurationError, Limits, Task
from apixo_async._map.outcomes import Outcomes
from apixo_async._map.progress import Progress
from apixo_async.testing import Fault, Simulator, VirtualTimeLoop

from ..support.maps import castle, castles, mapped

ClientOf = Callable[..., AsyncClient]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"attempts": 0}, "attempts: 0 given"),
        ({"attempts": True}, "attempts: True given"),
        ({"attempts": 2.0}, r"attempts: 2\.0 given"),
        ({"attempts": None}, "attempts: None given"),
        ({"ordered": 1}, "ordered: 1 given"),
        ({"provider": "best"}, "provider: 'best' given"),
        ({"inputs": castle(0)}, "`submit` buys one"),
        ({"inputs": None}, "a NoneType given"),
    ],
)
async def test_bad_options(
    simulator: Simulator, client_of: ClientOf, options: dict[str, Any], said: str
) -> None:
    """A wrong option is refused by the call, before anything is read."""
    with pytest.raises(ConfigurationError, match=said):
        mapped(client_of(simulator), **{"inputs": [], **options})


async def test_provider(simulator: Simulator, client_of: ClientOf) -> None:
    """The route goes with every submit."""
    async for one in mapped(client_of(simulator), castles(2), provider="official"):
        assert one.ok
    assert [task.provider for task in simulator.tasks.values()] == ["official"] * 2


async def test_nothing_happens_before_the_first_use(
    simulator: Simulator, client_of: ClientOf
) -> None:
    """Making a map reads nothing and buys nothing; dropping it says nothing."""
    rows = iter(castles(3))
    outcomes = mapped(client_of(simulator), rows)
    await asyncio.sleep(10)
    assert (outcomes.progress, len(list(rows))) == (Progress(), 3)


async def test_buying_begins_with_the_context(simulator: Simulator, client_of: ClientOf) -> None:
    """Entering the context begins to buy, without a taker."""
    async with mapped(client_of(simulator), castles(3)) as outcomes:
        await asyncio.sleep(1)
        assert outcomes.progress.bought == simulator.created == 3


async def test_closed_client(simulator: Simulator, client_of: ClientOf) -> None:
    """With a closed client nothing is read, by either way of use."""
    client, rows = client_of(simulator), iter(castles(3))
    await client.aclose()
    with pytest.raises(ClientClosedError):
        await anext(mapped(client, rows))
    with pytest.raises(ClientClosedError):
        async with mapped(client, rows):
            pass
    assert len(list(rows)) == 3


async def test_stopped_before_its_use(simulator: Simulator, client_of: ClientOf) -> None:
    """A map that was stopped before it began is over."""
    outcomes = mapped(client_of(simulator), castles(3))
    outcomes.stop()
    async with outcomes:
        assert [one async for one in outcomes] == []
    assert simulator.created == 0


async def test_stopped_on_the_way(simulator: Simulator, client_of: ClientOf) -> None:
    """After a stop the bought have their outcomes, and what was only read says so."""
    client = client_of(simulator, limits=Limits(concurrent_tasks=3))
    outcomes = mapped(client, castles(50), attempts=5)
    simulator.faults.submit(None, Fault.task_fails("TIMEOUT"))
    first = await anext(outcomes)
    outcomes.stop()
    outcomes.stop()
    rest = [one async for one in outcomes]
    bought = [one for one in (first, *rest) if one.purchases]
    unbought = [one.error for one in rest if not one.purchases]
    assert len(bought) == simulator.created == 4
    assert {error.bought for error in unbought if error} == {False}
    assert outcomes.progress.unbought == len(unbought) == 2
    assert "was stopped before this was sent" in str(unbought[0])


async def test_repr(simulator: Simulator, client_of: ClientOf) -> None:
    """The repr counts, and holds no input."""
    outcomes = mapped(client_of(simulator), castles(3))
    assert repr(outcomes) == "<Outcomes 0 read, 0 in progress, 0 succeeded>"
    assert [one async for one in outcomes]
    assert repr(outcomes) == "<Outcomes 3 read, 0 in progress, 3 succeeded>"


async def test_left_without_a_context(simulator: Simulator, client_of: ClientOf) -> None:
    """A `break` without the context warns, stops the buying, and gives what was bought away."""
    orphans: list[Task] = []
    limits = Limits(concurrent_tasks=3)
    client = client_of(simulator, limits=limits, on_orphan=orphans.append)
    before = asyncio.all_tasks()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        async for one in mapped(client, castles(50)):
            taken = one
            break
        gc.collect()
        await asyncio.sleep(1)
    assert ["dropped before its end" in str(one.message) for one in warned] == [True]
    assert {one.category for one in warned} == {ResourceWarning}
    assert taken.task is not None
    assert {taken.task.id, *(task.id for task in orphans)} == simulator.tasks.keys()
    assert len(orphans) == simulator.created - 1
    await asyncio.gather(*orphans)
    await asyncio.sleep(1)
    assert asyncio.all_tasks() == before


async def test_dropped_after_the_context(simulator: Simulator, client_of: ClientOf) -> None:
    """Outcomes that are not taken after the context are given away without a warning."""
    orphans: list[Task] = []
    client = client_of(simulator, on_orphan=orphans.append)
    async with mapped(client, castles(5)) as outcomes:
        await asyncio.sleep(1)
    del outcomes
    gc.collect()
    await asyncio.sleep(0)
    assert {task.id for task in orphans} == simulator.tasks.keys()
    assert all(task.done() for task in orphans)


def test_dropped_after_its_loop(simulator: Simulator) -> None:
    """What is dropped when its loop is closed is quiet: the client knows what is unfinished."""
    client = AsyncClient("test-key", transport=simulator.transport(), limits=Limits(2))
    outcomes = mapped(client, castles(5))

    async def begin(outcomes: Outcomes) -> None:
        async with client:
            await anext(outcomes)

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(begin(outcomes))
        del outcomes
        gc.collect()
    assert warned == []

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from apixo_async import (
    AsyncClient,
    AuthenticationError,
    ClientClosedError,
    Event,
    Limits,
    SubmitUncertainError,
    Task,
    TaskOrphaned,
)
from apixo_async._bulk.shop import Counter, StoppedError, Turns
from apixo_async._calls import Calls
from apixo_async._core.values import POLLED, Delivery
from apixo_async.testing import Fault, Simulator

from .mapped import castle, shop_of

pytestmark = pytest.mark.anyio
ClientOf = Callable[..., AsyncClient]


async def waiting(turns: Turns) -> None:
    async with turns.open():
        await asyncio.sleep(100)


async def test_stop_ends_the_waits() -> None:
    """A stop ends the waits of its map at once, and those that come later."""
    turns, loop = Turns(Calls()), asyncio.get_running_loop()
    waits = [asyncio.create_task(waiting(turns)) for _ in range(3)]
    await asyncio.sleep(1)
    start = loop.time()
    turns.stop()
    turns.stop()
    ends = await asyncio.gather(*waits, waiting(turns), return_exceptions=True)
    assert [type(end) for end in ends] == [StoppedError] * 4
    assert loop.time() == start


async def test_close_of_the_client_ends_the_waits() -> None:
    """The close of the client ends the waits of its maps, and is not taken for their stop."""
    calls = Calls()
    wait = asyncio.create_task(waiting(Turns(calls)))
    await asyncio.sleep(1)
    await calls.aclose(ClientClosedError("closed"))
    with pytest.raises(ClientClosedError, match="closed") as caught:
        await wait
    assert not isinstance(caught.value, StoppedError)


async def test_stop_and_close_at_once() -> None:
    """A wait that the stop and the close end in one instant ends once."""
    calls = Calls()
    turns = Turns(calls)
    wait = asyncio.create_task(waiting(turns))
    await asyncio.sleep(1)
    turns.stop()
    await calls.aclose(ClientClosedError("closed"))
    with pytest.raises(ClientClosedError):
        await wait
    assert not wait.cancelled()


async def test_deadline_of_a_wait() -> None:
    """A deadline ends a wait of a map with a TimeoutError, as any other wait."""
    turns = Turns(Calls())
    with pytest.raises(TimeoutError):
        async with turns.open(asyncio.get_running_loop().time() + 1):
            await asyncio.sleep(100)


async def test_bought_after_a_pause(simulator: Simulator, client_of: ClientOf) -> None:
    """A purchase waits for its pause, then buys with the options of its map."""
    counter = Counter(shop_of(client_of(simulator)), Delivery(provider="value"))
    start = asyncio.get_running_loop().time()
    task = await counter.buy(castle(1), 7.0)
    assert simulator.tasks[task.id].provider == "value"
    assert simulator.log[0].at - start == pytest.approx(7.025)
    assert (await task).urls


async def test_stop_never_ends_a_post(simulator: Simulator, client_of: ClientOf) -> None:
    """What was sent gets its answer after the stop; what waits for its turn is not bought."""
    client = client_of(simulator, latency=2.0, limits=Limits(concurrent_tasks=1))
    counter = Counter(shop_of(client), POLLED)
    sent, waits, pauses = (
        asyncio.create_task(counter.buy(castle(1), pause)) for pause in (0.0, 0.0, 60.0)
    )
    await asyncio.sleep(1.5)
    counter.stop()
    for unbought in (waits, pauses):
        with pytest.raises(StoppedError) as caught:
            await unbought
        assert caught.value.bought is False
    assert (await sent).id in simulator.tasks
    assert simulator.created == 1


async def test_errors_say_what_was_bought(simulator: Simulator, client_of: ClientOf) -> None:
    """A refused purchase says that nothing was bought, an uncertain one that nobody knows."""
    simulator.faults.submit(Fault.status(401), Fault.lost_answer())
    counter = Counter(shop_of(client_of(simulator)), POLLED)
    with pytest.raises(AuthenticationError) as refused:
        await counter.buy(castle(1), 0.0)
    with pytest.raises(SubmitUncertainError) as uncertain:
        await counter.buy(castle(1), 0.0)
    assert (refused.value.bought, uncertain.value.bought) == (False, None)


async def test_closed_client(simulator: Simulator, client_of: ClientOf) -> None:
    """A closed client opens no counter."""
    client = client_of(simulator)
    await client.aclose()
    with pytest.raises(ClientClosedError):
        Counter(shop_of(client), POLLED)


async def test_crowd(simulator: Simulator, client_of: ClientOf) -> None:
    """A counter is crowded when so many submits, of any caller, wait for their turn."""
    client = client_of(simulator, limits=Limits(concurrent_tasks=1))
    counter = Counter(shop_of(client), POLLED)
    await client.submit(castle(1))
    assert not counter.is_crowded(1)
    waits = [asyncio.create_task(client.submit(castle(1))) for _ in range(3)]
    await asyncio.sleep(0)
    assert counter.is_crowded(3)
    assert not counter.is_crowded(4)
    await asyncio.gather(*waits)


async def test_handed_over(simulator: Simulator, client_of: ClientOf, events: list[Event]) -> None:
    """What nobody will take goes to `on_orphan`; a task is named in the log as well."""
    orphans: list[Task | SubmitUncertainError] = []
    counter = Counter(shop_of(client_of(simulator, on_orphan=orphans.append)), POLLED)
    simulator.faults.submit(None, Fault.lost_answer())
    task = await counter.buy(castle(1), 0.0)
    with pytest.raises(SubmitUncertainError) as uncertain:
        await counter.buy(castle(1), 0.0)
    counter.hand_over(task)
    counter.hand_over(uncertain.value)
    assert orphans == [task, uncertain.value]
    logged = [event.task_id for event in events if isinstance(event, TaskOrphaned)]
    assert logged == [task.id]

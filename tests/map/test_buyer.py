from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from apixo_async import (
    AsyncClient,
    AuthenticationError,
    ClientClosedError,
    Event,
    Limiter,
    Limits,
    SubmitUncertainError,
    Task,
    TaskOrphaned,
)
from apixo_async._map.buyer import Buyer, StoppedError
from apixo_async._types import POLLED, Delivery
from apixo_async.testing import Fault, Simulator

from ..support.maps import castle, map_client_of

ClientOf = Callable[..., AsyncClient]
CASTLE = castle(0)


async def test_bought_after_a_pause(simulator: Simulator, client_of: ClientOf) -> None:
    """A purchase waits for its pause, then buys with the options of its map."""
    buyer = Buyer(map_client_of(client_of(simulator)), Delivery(provider="value"))
    start = asyncio.get_running_loop().time()
    task = await buyer.buy(castle(1), 7.0)
    assert simulator.tasks[task.id].provider == "value"
    assert simulator.log[0].at - start == pytest.approx(7.025)
    assert (await task).urls


async def test_stop_never_ends_a_post(simulator: Simulator, client_of: ClientOf) -> None:
    """What was sent gets its answer after the stop; what was not sent is not bought."""
    client = client_of(simulator, latency=2.0, limits=Limits(concurrent_tasks=1))
    buyer = Buyer(map_client_of(client), POLLED)
    sent, waits, pauses = (
        asyncio.create_task(buyer.buy(castle(1), pause)) for pause in (0.0, 0.0, 60.0)
    )
    await asyncio.sleep(1.5)
    buyer.stop()
    for unbought in (waits, pauses):
        with pytest.raises(StoppedError) as caught:
            await unbought
        assert caught.value.bought is False
    assert (await sent).id in simulator.tasks
    assert simulator.created == 1


async def test_stop_of_one_map_while_many_wait(client_of: ClientOf) -> None:
    """A stop ends all waits of its map, for slots or in a pause, and none of another caller."""
    limiter = Limiter(Limits(concurrent_tasks=1))
    client, held = client_of(Simulator(seed=1), limiter=limiter), await limiter.slot()
    buyer, other = Buyer(map_client_of(client), POLLED), Buyer(map_client_of(client), POLLED)
    waits = [asyncio.create_task(buyer.buy(castle(1), n % 2 * 60.0)) for n in range(1_000)]
    others = [
        asyncio.create_task(one) for one in (other.buy(castle(2), 0.0), client.submit(CASTLE))
    ]
    await asyncio.sleep(1)
    start = asyncio.get_running_loop().time()
    buyer.stop()
    buyer.stop()
    ends = await asyncio.gather(*waits, buyer.buy(castle(3), 0.0), return_exceptions=True)
    assert {type(end) for end in ends} == {StoppedError}
    assert {end.bought for end in ends if isinstance(end, StoppedError)} == {False}
    assert asyncio.get_running_loop().time() == start
    assert limiter.slots_waiting == 2
    held.release()
    assert len({task.id for task in await asyncio.gather(*others)}) == 2


async def test_stop_in_the_instant_of_a_hand_over(client_of: ClientOf) -> None:
    """A slot that was handed to a purchase in the instant of the stop is free again."""
    simulator, limiter = Simulator(seed=1), Limiter(Limits(concurrent_tasks=1))
    client, held = client_of(simulator, limiter=limiter), await limiter.slot()
    buyer = Buyer(map_client_of(client), POLLED)
    waits = [asyncio.create_task(buyer.buy(castle(1), 0.0)) for _ in range(2)]
    behind = asyncio.create_task(client.submit(CASTLE))
    await asyncio.sleep(1)
    held.release()
    buyer.stop()
    ends = await asyncio.gather(*waits, return_exceptions=True)
    assert [type(end) for end in ends] == [StoppedError] * 2
    assert [(await behind).id] == [*simulator.tasks]


async def test_close_of_the_client_while_many_wait(
    simulator: Simulator, client_of: ClientOf
) -> None:
    """The close of the client ends the waits of its maps, and is not taken for their stop."""
    client = client_of(simulator, limits=Limits(concurrent_tasks=1))
    await client.submit(CASTLE)
    buyer = Buyer(map_client_of(client), POLLED)
    waits = [asyncio.create_task(buyer.buy(castle(1), n % 2 * 60.0)) for n in range(1_000)]
    await asyncio.sleep(1)
    await client.aclose()
    assert all(wait.done() for wait in waits)
    ends = await asyncio.gather(*waits, return_exceptions=True)
    assert {type(end) for end in ends} == {ClientClosedError}
    assert simulator.created == 1


async def test_errors_say_what_was_bought(simulator: Simulator, client_of: ClientOf) -> None:
    """A refused purchase says that nothing was bought, an uncertain one that this is not known."""
    simulator.faults.submit(Fault.status(401), Fault.lost_answer())
    buyer = Buyer(map_client_of(client_of(simulator)), POLLED)
    with pytest.raises(AuthenticationError) as refused:
        await buyer.buy(castle(1), 0.0)
    with pytest.raises(SubmitUncertainError) as uncertain:
        await buyer.buy(castle(1), 0.0)
    assert (refused.value.bought, uncertain.value.bought) == (False, None)


async def test_closed_client(simulator: Simulator, client_of: ClientOf) -> None:
    """A closed client refuses to be bought from."""
    client = client_of(simulator)
    await client.aclose()
    with pytest.raises(ClientClosedError):
        Buyer(map_client_of(client), POLLED)


async def test_crowd(simulator: Simulator, client_of: ClientOf) -> None:
    """It is crowded when as many submits as asked about, of any caller, wait for a slot."""
    client = client_of(simulator, limits=Limits(concurrent_tasks=1))
    buyer = Buyer(map_client_of(client), POLLED)
    await client.submit(castle(1))
    assert not buyer.is_crowded(1)
    waits = [asyncio.create_task(client.submit(castle(1))) for _ in range(3)]
    await asyncio.sleep(0)
    assert buyer.is_crowded(3)
    assert not buyer.is_crowded(4)
    await asyncio.gather(*waits)


async def test_handed_over(simulator: Simulator, client_of: ClientOf, events: list[Event]) -> None:
    """What no caller will take goes to `on_orphan`; a task is named in the log as well."""
    orphans: list[Task | SubmitUncertainError] = []
    buyer = Buyer(map_client_of(client_of(simulator, on_orphan=orphans.append)), POLLED)
    simulator.faults.submit(None, Fault.lost_answer())
    task = await buyer.buy(castle(1), 0.0)
    with pytest.raises(SubmitUncertainError) as uncertain:
        await buyer.buy(castle(1), 0.0)
    buyer.hand_over(task)
    buyer.hand_over(uncertain.value)
    assert orphans == [task, uncertain.value]
    logged = [event.task_id for event in events if isinstance(event, TaskOrphaned)]
    assert logged == [task.id]

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from apixo_async import AsyncClient, Limits, Polling, SubmitUncertainError, Task
from apixo_async._map.buyer import Buyer
from apixo_async._map.options import Options
from apixo_async._map.runner import MapRunner
from apixo_async._types import POLLED
from apixo_async.testing import Fault, Simulator

from ..support.maps import castles, map_client_of

ClientOf = Callable[..., AsyncClient]


def run_of(client: AsyncClient, inputs: Any) -> MapRunner:
    map_client = map_client_of(client)
    return MapRunner(inputs, partial(Buyer, map_client, POLLED), map_client.rng, Options.checked())


async def test_a_life(simulator: Simulator, client_of: ClientOf) -> None:
    """A run is over when every input that was read has an outcome, and taken when all were."""
    run = run_of(client_of(simulator), castles(2))
    assert (run.is_over, run.is_taken) == (False, False)
    run.start()
    run.start()
    await run.drained()
    assert (run.is_over, run.is_taken) == (True, False)
    assert {(await run.take()).key, (await run.take()).key} == {"0", "1"}
    assert run.is_taken
    with pytest.raises(StopAsyncIteration):
        await run.take()


async def test_inputs_are_let_go(simulator: Simulator, client_of: ClientOf) -> None:
    """The iterable is forgotten once it is read, long before the last task is over."""
    rows = castles(3)
    run = run_of(client_of(simulator), rows)
    run.start()
    await asyncio.sleep(1)
    assert run._inputs == ()
    assert run.tally.in_progress == 3
    await run.drained()


async def test_settled_while_tasks_run(simulator: Simulator, client_of: ClientOf) -> None:
    """A run is settled when nothing is being bought, although its tasks go on."""
    run = run_of(client_of(simulator, limits=Limits(concurrent_tasks=2)), castles(9))
    run.start()
    await asyncio.sleep(1)
    run.stop()
    await run.settled()
    progress = run.tally.progress()
    assert (progress.bought, progress.in_progress, progress.unbought) == (2, 2, 2)
    await run.settled()
    await run.drained()


@pytest.mark.parametrize("fault", [None, Fault.lost_answer()])
async def test_bought_in_the_instant_of_the_giving(
    simulator: Simulator,
    client_of: ClientOf,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault | None,
) -> None:
    """What a purchase brings in the instant in which all is given away is given away too."""
    buy = Buyer.buy

    async def bought_too_late(*given: Any) -> Task:
        try:
            return await buy(*given)
        finally:
            asyncio.get_running_loop().call_soon(run.give_away)  # before the run hears of it

    monkeypatch.setattr(Buyer, "buy", bought_too_late)
    simulator.faults.submit(fault)
    orphans: list[Task | SubmitUncertainError] = []
    run = run_of(client_of(simulator, on_orphan=orphans.append), castles(1))
    run.start()
    await asyncio.sleep(1)
    assert [type(one) for one in orphans] == [SubmitUncertainError if fault else Task]
    assert (len(run._pipeline._tasks), len(run._buffer), run._pipeline.buying) == (0, 0, set())


async def test_all_is_given_away(simulator: Simulator, client_of: ClientOf) -> None:
    """What lies on the shelf, what runs and what is being sent is given away, each once."""
    simulator.faults.submit(Fault.task_lasts(1.0), Fault.lost_answer())
    orphans: list[Task | SubmitUncertainError] = []
    client = client_of(
        simulator,
        latency=2.0,
        limits=Limits(concurrent_tasks=4),
        polling=Polling.fixed(1.0, 1.0),
        on_orphan=orphans.append,
    )
    run = run_of(client, castles(50))
    run.start()
    await asyncio.sleep(6.5)
    assert (len(run._buffer), len(run._pipeline._tasks)) == (2, 2)
    run.give_away()
    run.give_away()
    await asyncio.sleep(5)
    uncertain = [one for one in orphans if isinstance(one, SubmitUncertainError)]
    known = [one.id for one in orphans if isinstance(one, Task)]
    (lost,) = (one.input for one in uncertain)
    (unknown,) = simulator.tasks.keys() - known
    assert simulator.tasks[unknown].input == lost.payload()
    assert len(known) == len(set(known)) == 4
    assert simulator.created == 5

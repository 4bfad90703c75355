"""The states of a map, and the way of its items: entered, bought, awaited, saved."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apixo_async import (
    ApixoError,
    AsyncClient,
    AuthenticationError,
    FluxKontext,
    Limits,
    Outcome,
    Polling,
    SubmitUncertainError,
    Task,
)
from apixo_async._map.buyer import Buyer
from apixo_async._map.items import Item, Stage
from apixo_async._map.options import Options
from apixo_async._map.runner import MapRunner, MapState
from apixo_async.testing import Fault, Simulator

from ..support.maps import castle, castles, map_client_of

ClientOf = Callable[..., AsyncClient]


def run_of(client: AsyncClient, inputs: Any, **options: Any) -> MapRunner:
    return MapRunner(map_client_of(client), inputs, Options.checked(**options))


def files_in(folder: Path) -> list[Path]:
    return [*folder.iterdir()]


def stages_of(run: MapRunner) -> Counter[Stage]:
    """Return how many items are at each stage, as the items say and as was counted."""
    found = Counter(item.stage for item in run._items.values())
    assert found == Counter({stage: n for stage, n in run._at.items() if stage and n})
    return found


async def taken_of(run: MapRunner) -> tuple[list[Outcome], BaseException]:
    """Take all outcomes; return them and what is raised in the end."""
    taken: list[Outcome] = []
    while True:
        try:
            taken.append(await run.take())
        except (ApixoError, StopAsyncIteration) as error:
            return taken, error


async def all_of(run: MapRunner) -> list[Outcome]:
    taken, error = await taken_of(run)
    assert isinstance(error, StopAsyncIteration)
    return taken


async def begun(run: MapRunner) -> None:
    """Start a run; return in the step in which its first item begins."""
    begin, has_begun = run._begin, asyncio.Event()

    def noted(item: Item) -> None:
        begin(item)
        has_begun.set()

    run._begin = noted  # type: ignore[method-assign]
    run.start()
    await has_begun.wait()


# --- its states ------------------------------------------------------------------------------


async def test_a_life(simulator: Simulator, client_of: ClientOf) -> None:
    """A run is over when every input that was read has an outcome, and taken when all were."""
    run = run_of(client_of(simulator), castles(2))
    assert (run.state, run.is_over, run.is_taken) == (MapState.NEW, False, False)
    run.start()
    run.start()
    assert run.state is MapState.OPEN
    await run.drained()
    assert (run.state, run.is_over, run.is_taken) == (MapState.OPEN, True, False)
    assert {(await run.take()).key, (await run.take()).key} == {"0", "1"}
    assert run.is_taken
    with pytest.raises(StopAsyncIteration):
        await run.take()


async def test_states_only_rise(simulator: Simulator, client_of: ClientOf) -> None:
    """A stop after more than a stop changes nothing."""
    run = run_of(client_of(simulator), castles(9))
    run.start()
    await asyncio.sleep(1)
    run.stop()
    assert run.state is MapState.STOPPED
    run.start()
    assert run.state is MapState.STOPPED
    run.give_away()
    run.stop()
    assert run.state is MapState.GIVEN_AWAY


async def test_inputs_are_forgotten(simulator: Simulator, client_of: ClientOf) -> None:
    """The iterable is forgotten once it is read, long before the last task is over."""
    rows = castles(3)
    run = run_of(client_of(simulator), rows)
    run.start()
    await asyncio.sleep(1)
    assert run._inputs == ()
    assert run.counts.in_progress == 3
    await run.drained()


async def test_closed_while_tasks_run(simulator: Simulator, client_of: ClientOf) -> None:
    """A close waits only for what is being bought; tasks go on."""
    run = run_of(client_of(simulator, limits=Limits(concurrent_tasks=2)), castles(9))
    run.start()
    await asyncio.sleep(1)
    run.stop()
    await run.close()
    progress = run.progress
    assert (progress.bought, progress.in_progress, progress.unbought) == (2, 2, 2)
    await run.close()
    await run.drained()


async def test_cut(simulator: Simulator, client_of: ClientOf) -> None:
    """A close that is cancelled ends purchases that wait; a POST under way is the client's."""
    orphans: list[Any] = []
    client = client_of(
        simulator, latency=2.0, limits=Limits(concurrent_tasks=1), on_orphan=orphans.append
    )
    run = run_of(client, castles(3))
    run.start()
    await asyncio.sleep(1)
    run.stop()
    closing = asyncio.create_task(run.close())
    await asyncio.sleep(0)
    assert run.state is MapState.STOPPED
    closing.cancel()
    left = await all_of(run)
    assert closing.cancelled()
    assert run.state is MapState.CUT
    assert ["cut off" in str(one.error) for one in left].count(True) == 1
    await asyncio.sleep(2)
    assert [type(one) for one in orphans] == [Task]
    assert (simulator.created, run.counts.bought) == (1, 0)


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
            asyncio.get_running_loop().call_soon(run.give_away)

    monkeypatch.setattr(Buyer, "buy", bought_too_late)
    simulator.faults.submit(fault)
    orphans: list[Task | SubmitUncertainError] = []
    run = run_of(client_of(simulator, on_orphan=orphans.append), castles(1))
    run.start()
    await asyncio.sleep(1)
    assert [type(one) for one in orphans] == [SubmitUncertainError if fault else Task]
    assert (len(run._buffer), run._items) == (0, {})


async def test_all_is_given_away(simulator: Simulator, client_of: ClientOf) -> None:
    """What was not taken, what runs and what is being sent is given away, each once."""
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
    assert (len(run._buffer), stages_of(run)[Stage.RUNNING]) == (2, 2)
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
    assert not run._items


async def test_given_away_while_it_is_saved(
    simulator: Simulator, client_of: ClientOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download is ended, and its task given away."""

    async def never(*_: object) -> list[Path]:
        await asyncio.sleep(1_000)
        raise AssertionError

    monkeypatch.setattr(Buyer, "download", never)
    orphans: list[Any] = []
    client = client_of(simulator, on_orphan=orphans.append)
    run = run_of(client, castles(1), download_to=tmp_path)
    run.start()
    await asyncio.sleep(600)
    assert stages_of(run) == {Stage.SAVING: 1}
    run.give_away()
    assert [one.id for one in orphans] == [*simulator.tasks]
    await asyncio.sleep(0)
    assert not run._items


# --- the way of an item ----------------------------------------------------------------------


async def test_a_good_way(simulator: Simulator, client_of: ClientOf, tmp_path: Path) -> None:
    """An item is bought, awaited and saved; it is counted where it is."""
    run = run_of(client_of(simulator), castles(1), download_to=tmp_path)
    await begun(run)
    assert stages_of(run) == {Stage.BUYING: 1}
    await asyncio.sleep(1)
    assert (stages_of(run), run.counts.bought) == ({Stage.RUNNING: 1}, 1)
    (outcome,) = await all_of(run)
    assert (outcome.key, outcome.error, outcome.purchases) == ("0", None, 1)
    assert files_in(tmp_path) == [*outcome.paths]
    assert (run._items, stages_of(run)) == ({}, Counter())


async def test_entering(simulator: Simulator, client_of: ClientOf, tmp_path: Path) -> None:
    """With a journal an item is looked up before it is bought."""
    run = run_of(client_of(simulator), castles(1), journal=tmp_path / "run.db")
    await begun(run)
    assert stages_of(run) == {Stage.ENTERING: 1}
    assert len(await all_of(run)) == simulator.created == 1


async def test_what_ends_the_buying(simulator: Simulator, client_of: ClientOf) -> None:
    """What every later purchase would meet is raised in the end, with what was not bought."""
    simulator.faults.submit(Fault.status(400), Fault.status(401))
    run = run_of(client_of(simulator, limits=Limits(concurrent_tasks=1)), castles(9))
    run.start()
    await run.drained()
    left, error = await taken_of(run)
    assert isinstance(error, AuthenticationError)
    (note,) = error.__notes__
    assert f"of the {len(left)} inputs that were read, nothing was bought for {len(left)}" in note
    errors = [one.error for one in left]
    assert [one is not None and one.bought for one in errors] == [False] * len(left)
    stopped = [one for one in errors if type(one) is ApixoError]
    assert [type(one.__cause__) for one in stopped] == [AuthenticationError] * len(stopped)
    assert not hasattr(stopped[0].__cause__, "__notes__")


async def test_uncertain(simulator: Simulator, client_of: ClientOf) -> None:
    """An uncertain purchase ends its item where no callback can tell more."""
    simulator.faults.submit(Fault.lost_answer())
    run = run_of(client_of(simulator), castles(1))
    run.start()
    (outcome,) = await all_of(run)
    assert isinstance(outcome.error, SubmitUncertainError)
    assert (run.counts.bought, run.progress.uncertain) == (0, 1)


async def test_a_repeat_that_is_not_bought(simulator: Simulator, client_of: ClientOf) -> None:
    """A purchase that came to nothing leaves an input as its last task left it."""
    simulator.faults.submit(Fault.task_fails("TIMEOUT"), Fault.status(400))
    run = run_of(client_of(simulator), castles(1), attempts=3)
    run.start()
    (outcome,) = await all_of(run)
    assert (outcome.purchases, simulator.count("submit")) == (1, 2)
    assert "TIMEOUT" in str(outcome.error)
    assert outcome.task is not None


async def test_errors_keep_no_frames(simulator: Simulator, client_of: ClientOf) -> None:
    """The error of an outcome holds no traceback, of whatever stage it is."""
    simulator.faults.submit(Fault.status(400), Fault.task_fails(), Fault.lost_answer())
    run = run_of(client_of(simulator), castles(3))
    run.start()
    errors = [one.error for one in await all_of(run)]
    assert [error is not None and error.__traceback__ for error in errors] == [None] * 3


@pytest.mark.parametrize("interrupted", [False, True], ids=["defect", "interrupt"])
def test_defect(simulator: Simulator, monkeypatch: pytest.MonkeyPatch, interrupted: bool) -> None:
    """What was not foreseen is its item's outcome; an interrupt ends the program as well."""
    raised = KeyboardInterrupt if interrupted else ZeroDivisionError

    def price(*_: object) -> None:
        raise raised("oh")

    async def main() -> None:
        nonlocal run
        run = run_of(AsyncClient("test-key", transport=simulator.transport()), [castle(0)])
        run.start()
        await run.drained()

    run: Any = None
    monkeypatch.setattr(FluxKontext, "price", property(price))
    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(main())
    else:
        asyncio.run(main())
    outcome = run._buffer.take()
    assert str(outcome.error) == f"a defect: {raised.__name__}: oh"
    assert isinstance(outcome.error.__cause__, raised)
    assert run.progress.uncertain == 1

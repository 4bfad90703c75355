"""The way of one item: entered, bought, watched, saved; and who is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from apixo_async import (
    ApixoError,
    AsyncClient,
    AuthenticationError,
    Limits,
    Result,
    SubmitUncertainError,
    Task,
)
from apixo_async._map.buyer import Buyer
from apixo_async._map.items import Item
from apixo_async._map.options import Options
from apixo_async._map.pipeline import Pipeline
from apixo_async._map.store import MapStore
from apixo_async._types import POLLED
from apixo_async.testing import Fault, Simulator

from ..support.maps import castle, map_client_of

ClientOf = Callable[..., AsyncClient]


class Log:
    """Be told what the work comes to."""

    def __init__(self) -> None:
        self.count = self.moves = 0
        self.ended: list[tuple[str, Result | None, ApixoError | None]] = []
        self.failures: list[ApixoError] = []
        self.news = asyncio.Event()

    def bought(self) -> None:
        self.count += 1

    def finish(self, item: Item, result: Result | None, error: ApixoError | None) -> None:
        self.ended.append((item.key, result, error))
        self.news.set()

    def fail(self, error: ApixoError) -> None:
        self.failures.append(error)

    def not_bought(self) -> ApixoError:
        return ApixoError("no turn")

    def moved(self) -> None:
        self.moves += 1

    async def ends(self, count: int) -> None:
        while len(self.ended) < count:
            self.news.clear()
            await self.news.wait()


def work_of(client: AsyncClient, **options: Any) -> tuple[Pipeline, Log]:
    """Return work for a client's shop, and who is told of it."""
    map_client, log, checked = map_client_of(client), Log(), Options.checked(**options)
    store = MapStore(checked, log.failures.append)
    return Pipeline(Buyer(map_client, POLLED), store, map_client.rng, checked, log), log


def files_in(folder: Path) -> list[Path]:
    return [*folder.iterdir()]


def item(number: int) -> Item:
    return Item(number, None, str(number), castle(number))


async def test_a_good_way(simulator: Simulator, client_of: ClientOf, tmp_path: Path) -> None:
    """An item is bought, watched and saved; each step is counted as long as it lasts."""
    work, log = work_of(client_of(simulator), download_to=tmp_path)
    await work.resume()
    work.take(item(0))
    assert (work.entering, work.purchases, work.downloads) == (0, 1, 0)
    await asyncio.sleep(1)
    assert (work.purchases, len(work.buying), log.count) == (0, 0, 1)
    await log.ends(1)
    [(key, result, error)] = log.ended
    assert (key, error) == ("0", None)
    assert result is not None
    assert len(files_in(tmp_path)) == 1
    assert (work.downloads, work.doubtful) == (0, 0)
    assert log.moves > 0


async def test_entering(simulator: Simulator, client_of: ClientOf, tmp_path: Path) -> None:
    """With a journal an item is looked up before it is bought."""
    work, log = work_of(client_of(simulator), journal=tmp_path / "run.db")
    await work.resume()
    work.take(item(0))
    assert (work.entering, work.purchases) == (1, 0)
    assert len(work.buying) == 1
    await log.ends(1)
    assert (work.entering, simulator.created) == (0, 1)
    await work._store.aclose()


async def test_what_ends_the_buying(simulator: Simulator, client_of: ClientOf) -> None:
    """The manager is told of what every later purchase would meet, and of each item's end."""
    simulator.faults.submit(Fault.status(401), Fault.status(400))
    work, log = work_of(client_of(simulator))
    work.take(item(0))
    await log.ends(1)
    work.take(item(1))
    await log.ends(2)
    assert [type(failure) for failure in log.failures] == [AuthenticationError]
    assert all(error is not None and error.bought is False for _, _, error in log.ended)


async def test_cut(simulator: Simulator, client_of: ClientOf) -> None:
    """A cut ends purchases that wait; a POST under way goes on, and is the client's."""
    orphans: list[Any] = []
    client = client_of(
        simulator, latency=2.0, limits=Limits(concurrent_tasks=1), on_orphan=orphans.append
    )
    work, log = work_of(client)
    for number in range(3):
        work.take(item(number))
    await asyncio.sleep(1)
    work.cut()
    await log.ends(3)
    await asyncio.sleep(2)
    assert [type(one) for one in orphans] == [Task]
    assert (simulator.created, log.count) == (1, 0)


async def test_let_go(simulator: Simulator, client_of: ClientOf) -> None:
    """Watched tasks are handed back, and nobody is told of them any more."""
    work, log = work_of(client_of(simulator))
    work.take(item(0))
    work.take(item(1))
    await asyncio.sleep(1)
    tasks = work.let_go()
    await asyncio.gather(*tasks)
    assert len(tasks) == 2
    assert log.ended == []
    assert work.let_go() == []


async def test_uncertain(simulator: Simulator, client_of: ClientOf) -> None:
    """An uncertain purchase ends its item where no callback can tell more."""
    simulator.faults.submit(Fault.lost_answer())
    work, log = work_of(client_of(simulator))
    work.take(item(0))
    await log.ends(1)
    assert isinstance(log.ended[0][2], SubmitUncertainError)
    assert (work.doubtful, log.count, log.failures) == (0, 0, [])

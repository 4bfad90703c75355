"""A run that is started again, and what happens while its journal is being asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apixo_async import AsyncClient, TaskFailedError
from apixo_async._map.items import Item
from apixo_async._map.store import MapStore
from apixo_async.testing import Fault, Simulator

from ..support.maps import castles, mapped


@pytest.fixture
def slow_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what the journal says of an item come when its task is long over."""
    enter = MapStore.enter

    async def entered(store: MapStore, item: Item) -> Any:
        entry = await enter(store, item)
        await asyncio.sleep(100.0)
        return entry

    monkeypatch.setattr(MapStore, "enter", entered)


async def leave(client: AsyncClient, path: Path) -> None:
    """Leave a map when its task was bought, and is not over."""
    async with mapped(client, castles(1), journal=path):
        await asyncio.sleep(1.0)
        raise RuntimeError("left in a hurry")


@pytest.mark.parametrize("fault", [Fault.none(), Fault.task_fails()], ids=["success", "failed"])
async def test_a_task_ends_while_the_journal_is_asked(
    fault: Fault,
    simulator: Simulator,
    client_of: Callable[..., AsyncClient],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """A task of an earlier run that ends before the journal has answered is not bought again."""
    simulator.faults.submit(fault)
    path = tmp_path / "run.db"
    client = client_of(simulator)
    with pytest.raises(RuntimeError, match="in a hurry"):
        await leave(client, path)
    await client.aclose()
    request.getfixturevalue("slow_answers")
    (outcome,) = [one async for one in mapped(client_of(simulator), castles(1), journal=path)]
    assert outcome.resumed
    assert isinstance(outcome.error, TaskFailedError) == (fault.fails is not None)
    assert (simulator.created, outcome.purchases) == (1, 1)

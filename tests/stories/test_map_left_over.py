"""A task of an earlier run that ends in the very moment in which its input is looked up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from apixo_async import AsyncClient, FluxKontext
from apixo_async._map.items import Item
from apixo_async._map.store import MapStore
from apixo_async.testing import Simulator

from ..support.inside import Entry

INPUT = FluxKontext(mode="pro", prompt="a castle")


async def test_it_is_not_bought_again(
    client_of: Callable[..., AsyncClient],
    simulator: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The journal's word that it goes on is older than its end: its result is the outcome."""
    journal = tmp_path / "run.db"
    async with client_of(simulator) as first, first.map([INPUT], journal=journal) as outcomes:
        taking = asyncio.create_task(anext(outcomes))
        await asyncio.sleep(1)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        with pytest.raises(ZeroDivisionError):
            async with outcomes:
                raise ZeroDivisionError  # It leaves its task to the next run.
    assert simulator.created == 1
    enter = MapStore.enter

    async def enter_late(store: MapStore, item: Item) -> Entry:
        entry = await enter(store, item)
        assert entry.state == "submitted"
        await asyncio.sleep(300)
        return entry

    monkeypatch.setattr(MapStore, "enter", enter_late)
    async with client_of(simulator) as second, second.map([INPUT], journal=journal) as outcomes:
        (outcome,) = [one async for one in outcomes]
    assert outcome.ok, outcome.error
    assert outcome.resumed
    assert (simulator.created, outcome.purchases) == (1, 1)

"""The journal as a map uses it: opened once, written to as tasks end, closed once."""

from __future__ import annotations

import asyncio
import warnings
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest

from apixo_async import (
    ApixoError,
    ClientClosedError,
    JournalError,
    Result,
    TaskAbandonedError,
    TaskFailedError,
    TaskNotFoundError,
    TaskRef,
)
from apixo_async._map.items import Item
from apixo_async._map.options import Options
from apixo_async._map.store import MapStore
from apixo_async.journal._entry import Entry
from apixo_async.journal._journal import Journal

from ..support.maps import castle

REF = TaskRef("flux-kontext", "task_1")
FAILED = TaskFailedError(
    "it failed", ref=REF, fail_code=None, fail_msg=None, family="unknown", retryable=False
)


def store_of(path: Path | None) -> tuple[MapStore, list[ApixoError]]:
    """Return a store, and what it fails with."""
    failures: list[ApixoError] = []
    return MapStore(Options.checked(journal=path), failures.append), failures


async def submitted(store: MapStore) -> tuple[Item, Entry]:
    """Enter an item and note its task."""
    item = Item(0, "a", "a", castle(0))
    item.entry = await store.enter(item)
    record = store.record(item)
    await record.intend(None)
    record.bought("task_1")
    return item, item.entry


async def kept(path: Path) -> list[Entry]:
    """Return what a closed journal holds."""
    journal = await Journal.open(path)
    entries = [entry async for entry in journal.entries()]
    await journal.aclose()
    return entries


async def test_no_journal() -> None:
    """Without a journal nothing is kept but money."""
    store, _ = store_of(None)
    assert not store.has_journal
    assert await store.open() == []
    record = store.record(Item(0, None, "0", castle(0)))
    await record.intend(None)
    assert store.budget.spent == castle(0).price
    store.ended(None, FAILED)
    store.downloaded(None, [])
    await store.aclose()
    store.close_after(partial(asyncio.sleep, 0.0))


@pytest.mark.parametrize(
    ("ended", "state"),
    [
        (Result("task_1", "flux-kontext", ("https://x.example/a.png",)), "success"),
        (FAILED, "failed"),
        (TaskNotFoundError("lost", ref=REF), "submitted"),
        (TaskAbandonedError("old", ref=REF), "submitted"),
        (ClientClosedError("closed"), "submitted"),
    ],
)
async def test_how_tasks_end(tmp_path: Path, ended: Result | ApixoError, state: str) -> None:
    """What is over is kept; what is only polled no more is for the next run."""
    store, _ = store_of(tmp_path / "run.db")
    assert await store.open() == []
    item, entry = await submitted(store)
    store.ended(entry, ended)
    if isinstance(ended, Result):
        store.downloaded(item.entry, [tmp_path / "a.png"])
    await store.aclose()
    [found] = await kept(tmp_path / "run.db")
    assert (found.state, found.key, found.cost) == (state, "a", castle(0).price)
    assert found.files == ((tmp_path / "a.png",) if isinstance(ended, Result) else ())


async def test_the_next_run(tmp_path: Path) -> None:
    """It learns what is not over, and what was spent."""
    first, _ = store_of(tmp_path / "run.db")
    await first.open()
    await submitted(first)
    await first.aclose()
    second, _ = store_of(tmp_path / "run.db")
    [entry] = await second.open()
    assert (entry.state, entry.task_id) == ("submitted", "task_1")
    assert second.budget.spent == castle(0).price
    record = second.record_of(entry)
    await record.claimed("mark", "task_2")  # It is known already.
    await second.aclose()
    assert [one.task_id for one in await kept(tmp_path / "run.db")] == ["task_1"]


async def test_closed_later(tmp_path: Path) -> None:
    """A store closes its journal after the POSTs under way, in the background."""
    store, _ = store_of(tmp_path / "run.db")
    await store.open()
    item = Item(0, "a", "a", castle(0))
    item.entry = await store.enter(item)
    record = store.record(item)
    await record.intend(None)
    store.close_after(partial(asyncio.sleep, 5))
    store.close_after(partial(asyncio.sleep, 5))
    await asyncio.sleep(4)
    record.bought("task_1")
    await asyncio.sleep(2)
    assert [one.task_id for one in await kept(tmp_path / "run.db")] == ["task_1"]


def test_closed_later_when_the_loop_ends(tmp_path: Path) -> None:
    """Where the loop ends before that, nothing is left behind that was never awaited."""

    async def main() -> None:
        store, _ = store_of(tmp_path / "run.db")
        await store.open()
        await store.aclose()
        # As from an object that goes with the last line of the program.
        asyncio.get_running_loop().call_soon(store.close_after, partial(asyncio.sleep, 0.0))

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        asyncio.run(main())
    assert [str(warning.message) for warning in said] == []


async def test_a_broken_journal(tmp_path: Path) -> None:
    """It is reported once while it is used, and raised once at the end."""
    path = tmp_path / "run.db"
    store, failures = store_of(path)
    await store.open()
    item, entry = await submitted(store)
    path.unlink()
    store.ended(entry, FAILED)
    await asyncio.sleep(1)
    assert [type(failure) for failure in failures] == [JournalError]
    store.ended(entry, FAILED)
    store.downloaded(item.entry, [])
    with pytest.raises(JournalError):
        await store.enter(item)
    with pytest.raises(JournalError):
        await store.aclose()
    await store.aclose()
    assert len(failures) == 1
    assert store.budget.spent > Decimal(0)


def test_a_loop_that_ends_at_once(tmp_path: Path) -> None:
    """The file is closed although the loop that began to do so is gone."""
    store, _ = store_of(tmp_path / "run.db")

    async def begin() -> None:
        await store.open()
        store.begin_to_close()

    asyncio.run(begin())
    assert [one.key for one in asyncio.run(kept(tmp_path / "run.db"))] == []

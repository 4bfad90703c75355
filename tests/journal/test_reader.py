from __future__ import annotations

import asyncio
import threading
from decimal import Decimal
from pathlib import Path

import pytest

from apixo_async import GptImage2, JournalError, JournalWarning, TaskRef
from apixo_async.journal import JournalEntry, JournalTotals, item_key, open_journal
from apixo_async.journal import _reader as module
from apixo_async.journal._journal import Journal

from ..support.journals import NOON, castle, change, failure, result


async def filled(path: Path) -> None:
    """Make a journal of five items, one in each state but "intent"."""
    journal = await Journal.open(path, clock=NOON)
    keys = ("new", "bought", "made", "failed", "doubt")
    entries = [await journal.enter(key, castle(number)) for number, key in enumerate(keys)]
    for entry in entries[1:]:
        await journal.intend(entry, None, None if entry.key == "failed" else Decimal("0.02"))
    for number, entry in enumerate(entries[1:4]):
        journal.submitted(entry, f"task_{number}")
    journal.succeeded(entries[2], result("task_1"))
    journal.downloaded(entries[2], [path.parent / "task_1.png"])
    journal.failed(entries[3], failure("task_2"))
    journal.uncertain(entries[4], "the answer never came")
    await journal.aclose()


def names(folder: Path) -> list[str]:
    return [one.name for one in folder.iterdir()]


async def read(path: Path) -> list[JournalEntry]:
    async with open_journal(path) as journal:
        return [entry async for entry in journal.entries()]


async def test_what_a_journal_holds(tmp_path: Path) -> None:
    """Counts, sums and every item with its task, result, error and files."""
    path = tmp_path / "run.db"
    await filled(path)
    async with open_journal(path) as journal:
        assert not journal.in_use
        assert repr(journal) == f"<JournalReader of {str(path)!r}>"
        assert await journal.counts() == {
            "new": 1, "intent": 0, "submitted": 1, "success": 1, "failed": 1, "uncertain": 1,
        }  # fmt: skip
        assert await journal.totals() == JournalTotals(5, 4, Decimal("0.06"), 1)
        entries = {entry.key: entry async for entry in journal.entries()}
    assert [entry.number for entry in entries.values()] == [1, 2, 3, 4, 5]
    assert [entry.state for entry in entries.values()] == [
        "new", "submitted", "success", "failed", "uncertain"
    ]  # fmt: skip
    new, made = entries["new"], entries["made"]
    assert (new.input, new.task, new.purchases, new.cost) == (castle(0), None, 0, 0)
    assert made.input == castle(2)
    assert made.payload == castle(2).payload()
    assert made.task == TaskRef("gpt-image-2", "task_1")
    assert made.result == result("task_1")
    assert made.files == (tmp_path / "task_1.png",)
    assert (made.purchases, made.cost, made.unpriced) == (1, Decimal("0.02"), 0)
    assert made.began_at == made.submitted_at == made.ended_at
    assert (entries["failed"].unpriced, str(entries["failed"].error)) == (1, "it failed")
    assert "the answer never came" in str(entries["doubt"].error)


async def test_a_damaged_row_is_one_entry(tmp_path: Path) -> None:
    """What cannot be read is an entry that says so; all others are read, before it and behind."""
    path = tmp_path / "run.db"
    await filled(path)
    nested = '{"a":' + "[" * 150 + "]" * 150 + "}"
    change(
        path,
        "UPDATE item SET payload = '[' WHERE key = 'bought'",
        f"UPDATE item SET payload = '{nested}' WHERE key = 'failed'",
    )
    entries = await read(path)
    assert [entry.state for entry in entries] == [
        "new", "damaged", "success", "damaged", "uncertain"
    ]  # fmt: skip
    for entry in (entries[1], entries[3]):
        assert (entry.input, entry.payload, entry.task) == (None, {}, None)
        assert isinstance(entry.error, JournalError)
        assert "Mend or remove that row" in str(entry.error)
    assert entries[3].key == "failed"


async def test_while_this_process_writes_it(tmp_path: Path) -> None:
    """A run in the same process is read as far as it is durable, and goes on."""
    path = tmp_path / "run.db"
    journal = await Journal.open(path)
    entry = await journal.enter(None, castle())
    await journal.intend(entry, None, None)
    async with open_journal(path) as reader:
        assert reader.in_use
        (found,) = [one async for one in reader.entries()]
        assert (found.state, found.key) == ("intent", item_key(castle()))
        journal.submitted(entry, "task_1")
        await journal.flush()
        assert (await reader.counts())["intent"] == 1
    assert [one.state for one in await read(path)] == ["submitted"]
    await journal.aclose()
    assert names(tmp_path) == ["run.db"]


def test_keys_of_inputs() -> None:
    """Equal inputs have keys that differ by their number; another route makes another key."""
    first, second = item_key(castle()), item_key(castle(), occurrence=2)
    assert (first[:-1], first[-1], second[-1]) == (second[:-1], "1", "2")
    assert item_key(castle(), provider="value")[:-1] != first[:-1]
    assert item_key(GptImage2(prompt="castle 0")) == first


async def test_outside_of_its_context(tmp_path: Path) -> None:
    """A reader that is not open yet, or not any more, refuses in a sentence."""
    path = tmp_path / "run.db"
    await filled(path)
    journal = open_journal(path)
    with pytest.raises(JournalError, match="the reader is not open"):
        await journal.counts()
    async with journal:
        await journal.counts()
    await journal.aclose()
    with pytest.raises(JournalError, match="the reader is not open"):
        await anext(journal.entries())


async def test_what_cannot_be_opened(tmp_path: Path) -> None:
    """The error is raised on entry, and nothing is left."""
    with pytest.raises(JournalError, match="there is no such file"):
        async with open_journal(tmp_path / "none.db"):
            pass
    assert names(tmp_path) == []


async def test_a_network_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal on a network file system is read with a warning."""
    path = tmp_path / "run.db"
    await filled(path)
    monkeypatch.setattr(module, "warning_of", lambda _: "journal run.db: it is a network share")
    with pytest.warns(JournalWarning, match="network share"):
        assert len(await read(path)) == 5


def test_a_disk_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller is given an error in time, whatever the thread waits for."""
    answered = threading.Event()

    def hang(*_: object) -> None:
        answered.wait(30)

    async def open_it() -> None:
        async with open_journal(tmp_path / "run.db", timeout=0.05):
            pass

    monkeypatch.setattr(module.JournalSnapshot, "open", hang)
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    with pytest.raises(JournalError, match=r"the disk has not answered for 0\.05 s"):
        asyncio.run(open_it())
    answered.set()

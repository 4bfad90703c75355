from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from apixo_async import JournalError
from apixo_async.journal._journal import Journal

from ..support.journals import Failing, castle, full, shown
from ..support.slow_disks import slow_disk


async def test_commits_take_virtual_time(tmp_path: Path) -> None:
    """Each commit takes its seconds, one after the other, and so does the closing."""
    loop = asyncio.get_running_loop()
    with slow_disk(3.0):
        journal = await Journal.open(tmp_path / "run.db")
        began = loop.time()
        entry, _ = await asyncio.gather(journal.enter("a", castle()), journal.enter("b", castle()))
        assert loop.time() == began + 3
        await journal.intend(entry, None, None)
        assert loop.time() == began + 6
        journal.submitted(entry, "task_1")
        await journal.aclose()
        assert loop.time() == began + 12
    assert shown(tmp_path / "run.db") == [("a", "submitted"), ("b", "new")]


async def test_a_commit_that_fails_late(tmp_path: Path) -> None:
    """An error of a slow disk comes as late as its success would."""
    loop = asyncio.get_running_loop()
    with slow_disk(3.0):
        hook = Failing("enter:before-commit", full())
        journal = await Journal.open(tmp_path / "run.db", hook=hook)
        began = loop.time()
        with pytest.raises(JournalError, match="the disk is full"):
            await journal.enter("a", castle())
        assert loop.time() == began + 3


async def test_a_disk_that_hangs(tmp_path: Path) -> None:
    """On a disk that hangs whoever asks is told after 30 s, later ones at once, and a close too."""
    loop, told = asyncio.get_running_loop(), list[JournalError]()
    with slow_disk(None):
        journal = await Journal.open(tmp_path / "run.db", on_broken=told.append)
        began = loop.time()
        with pytest.raises(JournalError, match="the disk has not answered for 30 s"):
            await journal.enter("a", castle())
        assert loop.time() == began + 30
        with pytest.raises(JournalError, match="the disk has not answered for 30 s") as caught:
            await journal.enter("b", castle())
        assert caught.value.bought is False
        with pytest.raises(JournalError, match="the disk has not answered for 30 s"):
            await journal.aclose()
        assert loop.time() == began + 60
    assert len(told) == 1
    assert shown(tmp_path / "run.db") == [("a", "new")]


async def test_a_close_with_more_than_one_transaction(tmp_path: Path) -> None:
    """A transaction that waits behind others of a close is not taken for one that hangs."""
    broken, loop = list[JournalError](), asyncio.get_running_loop()
    with slow_disk(20.0):
        journal = await Journal.open(tmp_path / "run.db", on_broken=broken.append)
        began = loop.time()
        entering = [asyncio.create_task(journal.enter(str(n), castle())) for n in range(450)]
        await asyncio.sleep(0)
        await journal.aclose(timeout=200.0)
        await asyncio.gather(*entering)
        assert loop.time() >= began + 60
    assert broken == []
    assert len(shown(tmp_path / "run.db")) == 450


async def test_a_disk_that_answers_late(tmp_path: Path) -> None:
    """What comes back is used again; an intent whose caller was told otherwise is taken back."""
    journal = await Journal.open(tmp_path / "run.db")
    entry = await journal.enter("a", castle())
    await journal.aclose()
    with slow_disk(40.0):
        journal = await Journal.open(tmp_path / "run.db")
        with pytest.raises(JournalError, match="has not answered") as caught:
            await journal.intend(entry, None, None)
        assert caught.value.bought is False
        await asyncio.sleep(100.0)
        assert journal.broken is None
        await journal.aclose(timeout=60.0)
    assert shown(tmp_path / "run.db") == [("a", "new")]


async def test_a_disk_that_hangs_at_the_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening is given up after 30 s, and the file is let go of."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "run_in_executor", lambda *_: loop.create_future())
        with pytest.raises(JournalError, match="the disk has not answered for 30 s"):
            await Journal.open(tmp_path / "run.db")
    assert loop.time() == began + 30
    await (await Journal.open(tmp_path / "run.db")).aclose()

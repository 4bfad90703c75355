from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from apixo_async import JournalError
from apixo_async._journal.journal import Journal

from .disks import slow_disk
from .journals import Failing, castle, full, shown

pytestmark = pytest.mark.anyio


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
    """On a disk that hangs nothing returns, and closing gives up after its time."""
    loop = asyncio.get_running_loop()
    with slow_disk(None):
        journal = await Journal.open(tmp_path / "run.db")
        began = loop.time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(100):
                await journal.enter("a", castle())
        with pytest.raises(JournalError, match="the disk has not answered for 30 s"):
            await journal.aclose()
        assert loop.time() == began + 130
    assert shown(tmp_path / "run.db") == [("a", "new")]

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from apixo_async import JournalError
from apixo_async.journal._failures import JournalRefusal
from apixo_async.journal._store import Hook, JournalStore
from apixo_async.journal._writer import MOST, Writer

from ..support.journals import Failing, full

Make = Callable[..., Writer]


@pytest.fixture
async def writer_of(tmp_path: Path) -> AsyncIterator[Make]:
    made: list[Writer] = []

    def make(
        hook: Hook | None = None, on_broken: Callable[[JournalError], None] | None = None
    ) -> Writer:
        store, thread = JournalStore(str(tmp_path / "run.db"), hook), ThreadPoolExecutor(1)
        thread.submit(store.open, 1.0, "test").result()
        made.append(Writer(store, thread, on_broken))
        return made[-1]

    yield make
    for one in made:
        await one.close()


class Commits:
    """A hook that counts what each commit holds, and can keep the first one waiting."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, name: str) -> None:
        assert self.go.wait(10)
        if name.endswith("after-commit"):
            self.seen.append(name.partition(":")[0])


def told(log: list[object], value: object) -> Callable[[sqlite3.Connection], object]:
    def act(_: sqlite3.Connection) -> object:
        log.append(value)
        return value

    return act


def refuse(_: sqlite3.Connection) -> None:
    raise JournalRefusal("no. Do something else")


async def test_one_turn_of_the_loop_is_one_commit(writer_of: Make) -> None:
    """What is asked for in one turn of the loop is written by one commit."""
    writer = writer_of(commits := Commits())
    log: list[object] = []
    values = await asyncio.gather(*(writer.ask(f"{n % 2}", told(log, n)) for n in range(100)))
    assert values == log == [*range(100)]
    assert commits.seen == ["open", "0", "1"]


async def test_the_next_batch_collects_meanwhile(writer_of: Make) -> None:
    """While one batch is being written, all that comes waits for the next one."""
    writer = writer_of(commits := Commits())
    log: list[object] = []
    commits.go.clear()
    first = writer.ask("first", told(log, "first"))
    await asyncio.sleep(0)
    later = []
    for number in range(10):
        later.append(writer.ask("later", told(log, number)))
        await asyncio.sleep(0)
    assert not first.done()
    commits.go.set()
    assert await asyncio.gather(first, *later) == log == ["first", *range(10)]
    assert commits.seen == ["open", "first", "later"]


async def test_a_batch_is_bounded(writer_of: Make) -> None:
    """No commit holds more than a bounded number, so that no turn of the loop is long."""
    writer = writer_of(commits := Commits())
    log: list[object] = []
    await asyncio.gather(*(writer.ask("x", told(log, n)) for n in range(2 * MOST + 1)))
    assert log == [*range(2 * MOST + 1)]
    assert Counter(commits.seen) == {"open": 1, "x": 3}


async def test_what_nobody_waits_for_keeps_its_place(writer_of: Make) -> None:
    """What is told and what is asked is done in the order in which it came."""
    writer = writer_of()
    log: list[object] = []
    writer.tell("a", told(log, 1))
    asked = writer.ask("b", told(log, 2))
    writer.tell("c", told(log, 3))
    assert await asked == 2
    await writer.ask("d", told(log, 4))
    assert log == [1, 2, 3, 4]


async def test_who_went_away_changes_nothing(writer_of: Make) -> None:
    """A caller that is cancelled leaves its write going, and the others."""
    writer = writer_of()
    log: list[object] = []
    gone, stays = writer.ask("a", told(log, 1)), writer.ask("b", told(log, 2))
    gone.cancel()
    assert await stays == 2
    assert log == [1, 2]


async def test_a_refusal_is_told_to_who_asked(writer_of: Make) -> None:
    """A refusal concerns its caller only, and names the file."""
    writer = writer_of()
    refused, done = writer.ask("a", refuse), writer.ask("b", told([], 2))
    with pytest.raises(JournalError, match=r"journal .*run\.db: no\. Do something else"):
        await refused
    assert await done == 2
    assert writer.broken is None


async def test_a_refusal_that_nobody_is_told(writer_of: Make) -> None:
    """A refusal that nobody waits for breaks the journal, beside what is durable already."""
    heard: list[JournalError] = []
    writer = writer_of(on_broken=heard.append)
    writer.tell("a", refuse)
    assert await writer.ask("b", told([], 2)) == 2
    assert [str(error) for error in heard] == [str(writer.broken)]
    with pytest.raises(JournalError, match=r"no\. Do something else"):
        writer.tell("c", told([], 3))


async def test_a_write_that_fails_breaks_all(writer_of: Make) -> None:
    """When a write fails, all who wait for it or for a later one get an error of their own."""
    heard: list[JournalError] = []
    writer = writer_of(Failing("b:before-commit", full()), heard.append)
    await writer.ask("a", told([], 1))
    asked = [writer.ask("b", told([], 2)), writer.ask("b", told([], 2))]
    asked[0].cancel()
    await asyncio.sleep(0)
    asked.append(writer.ask("c", told([], 3)))
    writer.tell("d", told([], 4))
    _, *errors = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(error) for error in errors] == [JournalError, JournalError]
    assert len({id(error) for error in [*errors, writer.broken, *heard]}) == 4
    assert {str(error) for error in [*errors, *heard]} == {str(writer.broken)}
    assert "the disk is full" in str(writer.broken)
    with pytest.raises(JournalError, match="the disk is full"):
        writer.ask("e", told([], 5))


async def test_a_write_that_fails_while_closing(writer_of: Make) -> None:
    """What was put in line by closing fails with the first error, which is heard once."""
    heard: list[JournalError] = []
    writer = writer_of(Failing("a:before-commit", full()), heard.append)
    asked = [writer.ask("a", told([], n)) for n in range(MOST + 1)]
    writer.close()
    errors = await asyncio.gather(*asked, return_exceptions=True)
    assert {str(error) for error in errors} == {str(heard[0])}
    assert len(heard) == 1


async def test_closing_writes_what_waits(writer_of: Make) -> None:
    """Closing leaves nothing out, may be asked for twice, and ends all after it."""
    writer = writer_of(commits := Commits())
    log: list[object] = []
    asked = [writer.ask("x", told(log, n)) for n in range(MOST + 1)]
    closing = writer.close()
    assert writer.close() is closing
    with pytest.raises(JournalError, match=r"it was closed\. Open it anew"):
        writer.ask("y", told(log, -1))
    await closing
    assert await asyncio.gather(*asked) == log == [*range(MOST + 1)]
    assert commits.seen == ["open", "x", "x"]


async def test_closing_in_the_middle(writer_of: Make) -> None:
    """Closing while a batch is being written writes it, and what has come since."""
    writer = writer_of(commits := Commits())
    log: list[object] = []
    commits.go.clear()
    first = writer.ask("a", told(log, 1))
    await asyncio.sleep(0)
    second = writer.ask("b", told(log, 2))
    closing = writer.close()
    commits.go.set()
    await closing
    assert (await first, await second) == (1, 2)
    assert commits.seen == ["open", "a", "b"]

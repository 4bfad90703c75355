from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apixo_async import (
    ApixoError,
    BadRequestError,
    JournalError,
    JournalWarning,
    OtherModel,
    SubmitUncertainError,
)
from apixo_async.journal._entry import STATES
from apixo_async.journal._journal import Journal

from ..support.journals import (
    NOON,
    Failing,
    castle,
    copied,
    entry_of,
    failure,
    full,
    known,
    result,
    shown,
)

PRICE = Decimal("0.02")
AT = datetime.fromtimestamp(NOON(), UTC)
Open = Callable[..., Awaitable[Journal]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


@pytest.fixture
async def open_journal(path: Path) -> AsyncIterator[Open]:
    opened: list[Journal] = []

    async def open_one(**options: Any) -> Journal:
        opened.append(await Journal.open(path, **({"clock": NOON} | options)))
        return opened[-1]

    yield open_one
    for journal in opened:
        if not journal.broken:
            await journal.aclose()


async def test_the_life_of_an_item(open_journal: Open) -> None:
    """An item goes from new to its files, and each step can be read back."""
    journal = await open_journal()
    new = await journal.enter("k", castle(), "value")
    assert new[:6] == (1, "k", "gpt-image-2", "value", known().payload, "new")
    await journal.intend(new, "mark", PRICE)
    intent = await entry_of(journal, "k")
    assert (intent.state, intent.purchases, intent.cost) == ("intent", 1, PRICE)
    assert (intent.intent_id, intent.intent_at) == ("mark", AT)
    journal.submitted(new, "task_1")
    submitted = await entry_of(journal, "k")
    assert (submitted.state, submitted.task_id, submitted.submitted_at) == (
        "submitted",
        "task_1",
        AT,
    )
    journal.succeeded(new, result())
    journal.downloaded(new, iter([Path("out/a.png")]))
    done = await entry_of(journal, "k")
    assert (done.state, done.result, done.files) == ("success", result(), (Path("out/a.png"),))
    assert (done.ended_at, done.error, done.input) == (AT, None, castle())


async def test_the_next_run_knows_all(open_journal: Open) -> None:
    """What was noted in one run is found by the next, by the input alone."""
    journal = await open_journal()
    entries = [await journal.enter(None, castle(number)) for number in (0, 0, 1, 2)]
    for entry in entries[:3]:
        await journal.intend(entry, None, PRICE)
        journal.submitted(entry, f"task_{entry.row}")
    journal.succeeded(entries[0], result("task_1"))
    journal.failed(entries[1], failure("task_2"))
    await journal.aclose()
    journal = await open_journal()
    again = [await journal.enter(None, castle(number)) for number in (7, 2, 1, 0, 0)]
    assert [entry.state for entry in again] == ["new", "new", "submitted", "success", "failed"]
    assert again[2].task_id == "task_3"
    assert again[3].result == result("task_1")
    assert vars(again[4].error) == vars(failure("task_2"))
    assert await journal.spent() == (Decimal("0.06"), 0)


async def test_many_enter_at_once(open_journal: Open) -> None:
    """Items that are entered at once are written by one commit, in the order of the calls."""
    hook = Failing("never", full())
    journal = await open_journal(hook=hook)
    entries = await asyncio.gather(*(journal.enter(None, castle(n)) for n in range(100)))
    assert [entry.row for entry in entries] == [*range(1, 101)]
    assert hook.seen.count("enter:after-commit") == 1


async def test_a_key_that_is_refused(open_journal: Open) -> None:
    """A key given twice, of another input or of half a character is refused: nothing was sent."""
    journal = await open_journal()
    await journal.enter("k", castle())
    for key, words in (("k", "twice in this run"), ("\ud800", "half a character")):
        with pytest.raises(JournalError, match=words) as caught:
            await journal.enter(key, castle())
        assert caught.value.bought is False
    await journal.aclose()
    journal = await open_journal()
    with pytest.raises(JournalError, match=r"'k' belongs to another input: .*castle 0.*castle 1"):
        await journal.enter("k", castle(1))
    assert await journal.counts() == dict.fromkeys(STATES, 0) | {"new": 1}


async def test_an_intent_is_durable_on_return(open_journal: Open, path: Path) -> None:
    """What an intent has confirmed is in the file, whatever befalls the process then."""
    journal = await open_journal()
    entry = await journal.enter("k", castle())
    await journal.intend(entry, "mark", None)
    assert shown(copied(path), "key, state, intent_id, unpriced") == [("k", "intent", "mark", 1)]


async def test_an_intent_that_was_cut_off(open_journal: Open) -> None:
    """An intent that a run left behind is uncertain in the next: known, and not to be bought."""
    journal = await open_journal()
    await journal.intend(await journal.enter("k", castle(), "value"), "mark", PRICE)
    await journal.aclose()
    journal = await open_journal(clock=lambda: NOON() + 60)
    (entry,) = await journal.pending()
    assert (entry.state, entry.intent_id, entry.intent_at) == ("uncertain", "mark", AT)
    assert isinstance(entry.error, SubmitUncertainError)
    assert (entry.error.input, entry.error.sent_at) == (castle(), AT)
    assert entry.error.delivery.provider == "value"
    assert "the run ended while this was being bought" in str(entry.error)
    assert await journal.spent() == (PRICE, 0)
    assert (await journal.enter("k", castle(), "value")).state == "uncertain"
    assert await journal.pending() == []


async def test_a_refused_submit(open_journal: Open) -> None:
    """A submit that was refused costs nothing, and the item may fail for good."""
    journal = await open_journal()
    entry = await journal.enter("k", castle())
    await journal.intend(entry, None, PRICE)
    journal.refused(entry)
    assert await journal.spent() == (Decimal(0), 0)
    assert (await entry_of(journal, "k")).state == "new"
    error = BadRequestError("bad prompt", status=400, model="gpt-image-2")
    error.bought = False
    journal.failed(entry, error)
    kept = (await entry_of(journal, "k")).error
    assert type(kept) is BadRequestError
    assert vars(kept) == vars(error)


UNCERTAIN = SubmitUncertainError(
    "no answer", model="gpt-image-2", input=castle(), sent_at=AT, body_head=b"<html>"
)


@pytest.mark.parametrize("reason", ["no answer", ApixoError("no answer"), UNCERTAIN])
async def test_an_uncertain_submit(open_journal: Open, reason: str | ApixoError) -> None:
    """A submit whose outcome nobody knows is kept as such, with the reason."""
    journal = await open_journal()
    entry = await journal.enter("k", castle())
    await journal.intend(entry, None, PRICE)
    journal.uncertain(entry, reason)
    kept = (await entry_of(journal, "k")).error
    assert isinstance(kept, SubmitUncertainError)
    assert (str(kept), kept.sent_at, kept.input) == ("no answer", AT, castle())
    assert kept.body_head == (b"<html>" if reason is UNCERTAIN else None)


async def test_an_uncertain_submit_that_is_found(open_journal: Open) -> None:
    """Its item has the task that a callback named, and is in no doubt any more."""
    journal = await open_journal()
    entry = await journal.enter("k", castle())
    await journal.intend(entry, "mark", PRICE)
    journal.uncertain(entry, "no answer")
    journal.submitted(entry, "task_1")
    found = await entry_of(journal, "k")
    assert (found.state, found.task_id, found.error, found.purchases) == (
        "submitted",
        "task_1",
        None,
        1,
    )


class Gate:
    """A hook that keeps the commit of an intent waiting."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._reached, self._go = threading.Event(), threading.Event()

    def __call__(self, name: str) -> None:
        if name == self._name:
            self._reached.set()
            assert self._go.wait(10)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._reached.wait, 10)

    def open(self) -> None:
        self._go.set()


@pytest.mark.parametrize("moment", ["before-commit", "after-commit"])
async def test_a_cancelled_intent_is_taken_back(open_journal: Open, moment: str) -> None:
    """Who is cancelled while an intent is written sends nothing: the journal takes it back."""
    journal = await open_journal(hook=(gate := Gate(f"intend:{moment}")))
    entry = await journal.enter("k", castle())
    intending = asyncio.ensure_future(journal.intend(entry, "mark", PRICE))
    await gate.reached()
    intending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await intending
    gate.open()
    found = await entry_of(journal, "k")
    assert (found.state, found.purchases, found.intent_id) == ("new", 0, None)


async def test_an_intent_that_is_cancelled_in_line(open_journal: Open) -> None:
    """A cancellation before the write has begun leaves nothing of the intent either."""
    journal = await open_journal()
    entry = await journal.enter("k", castle())
    intending = asyncio.ensure_future(journal.intend(entry, "mark", PRICE))
    await asyncio.sleep(0)
    intending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await intending
    found = await entry_of(journal, "k")
    assert (found.state, found.purchases) == ("new", 0)


async def test_an_intent_that_is_cancelled_as_it_returns(open_journal: Open) -> None:
    """A cancellation in the very turn in which the commit is reported takes the intent back."""
    journal = await open_journal()
    entry = await journal.enter("k", castle())
    # It is reported in the same turn of the loop, just before the intent.
    neighbour = journal._writer.ask("neighbour", lambda _: None)
    intending = asyncio.ensure_future(journal.intend(entry, "mark", PRICE))
    neighbour.add_done_callback(lambda _: intending.cancel())
    with pytest.raises(asyncio.CancelledError):
        await intending
    assert neighbour.done()
    assert (await entry_of(journal, "k")).state == "new"


async def test_a_cancelled_intent_that_was_refused(open_journal: Open) -> None:
    """Where an intent was refused there is nothing to take back from whoever holds the item."""
    journal = await open_journal()
    entry = await journal.enter("k", castle())
    await journal.intend(entry, "first", PRICE)
    second = asyncio.ensure_future(journal.intend(entry, "second", PRICE))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    found = await entry_of(journal, "k")
    assert (found.state, found.intent_id, found.purchases) == ("intent", "first", 1)
    assert journal.broken is None


async def test_a_cancelled_intent_of_a_closed_journal(open_journal: Open, path: Path) -> None:
    """A cancellation stays one where no take-back can be written; the next run is in doubt."""
    journal = await open_journal(hook=(gate := Gate("intend:before-commit")))
    entry = await journal.enter("k", castle())
    intending = asyncio.ensure_future(journal.intend(entry, "mark", PRICE))
    await gate.reached()
    closing = asyncio.ensure_future(journal.aclose())
    await asyncio.sleep(0)
    intending.cancel()
    gate.open()
    with pytest.raises(asyncio.CancelledError):
        await intending
    await closing
    assert shown(path) == [("k", "intent")]


@pytest.mark.parametrize(
    ("name", "before"),
    [("intend", "new"), ("submitted", "intent"), ("succeeded", "submitted"), ("enter", None)],
)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_disk_that_fails(
    open_journal: Open, path: Path, name: str, before: str | None, when: str
) -> None:
    """After a write has failed all calls say so, and what was durable is found again."""
    heard: list[JournalError] = []
    hook = Failing(f"{name}:{when}-commit", full())
    journal = await open_journal(hook=hook, on_broken=heard.append)

    async def go_on() -> None:
        entry = await journal.enter("k", castle())
        await journal.intend(entry, None, PRICE)
        journal.submitted(entry, "task_1")
        await journal.flush()
        journal.succeeded(entry, result())
        await journal.flush()

    with pytest.raises(JournalError, match=r"the disk is full .*free some space") as caught:
        await go_on()
    assert caught.value.bought is (False if name in {"intend", "enter"} else None)
    assert journal.broken is not None
    assert [str(error) for error in heard] == [str(journal.broken)] == [str(caught.value)]
    await raises_everywhere(journal)
    after = {"intend": "intent", "submitted": "submitted", "succeeded": "success", "enter": "new"}
    expected = before if when == "before" else after[name]
    assert shown(path) == ([] if expected is None else [("k", expected)])
    journal = await open_journal()
    await journal.enter("other", castle())


async def raises_everywhere(journal: Journal) -> None:
    """See that every call of a broken journal raises its error."""
    entry: Any = SimpleNamespace(row=1)
    calls: list[Callable[[], object]] = [
        lambda: journal.refused(entry),
        lambda: journal.submitted(entry, "t"),
        lambda: journal.uncertain(entry, "why"),
        lambda: journal.succeeded(entry, result()),
        lambda: journal.failed(entry, failure()),
        lambda: journal.downloaded(entry, []),
    ]
    waits = [
        journal.enter("x", castle()),
        journal.intend(entry, None, None),
        journal.flush(),
        journal.counts(),
        journal.spent(),
        journal.pending(),
        anext(journal.entries()),
        journal.aclose(),
    ]
    for call in calls:
        with pytest.raises(JournalError, match="the disk is full"):
            call()
    for wait in waits:
        with pytest.raises(JournalError, match="the disk is full"):
            await wait


async def fill(journal: Journal, entered: list[int]) -> None:
    """Enter one item after the other, and note what was confirmed."""
    for number in range(1000):
        entry = await journal.enter(None, OtherModel("m", prompt="x" * 500, n=number))
        entered.append(entry.row)


async def test_a_full_disk(open_journal: Open, path: Path) -> None:
    """Where SQLite itself finds no room, all that was committed is found after reopening."""
    journal = await open_journal()
    store = journal._writer._store

    def limit(file: sqlite3.Connection) -> None:
        (pages,) = file.execute("PRAGMA page_count").fetchone()
        file.execute(f"PRAGMA max_page_count = {pages + 20}")

    await journal._writer.ask("limit", limit)
    with pytest.raises(JournalError, match="the disk is full"):
        await fill(journal, entered := [])
    assert store._is_broken
    with pytest.raises(JournalError, match="the disk is full"):
        await journal.aclose()
    assert [row for row, _ in shown(path, "row, state")] == entered
    assert len(entered) > 10
    assert shown(path, "*", "pragma_integrity_check") == [("ok",)]


@pytest.fixture
def small_files() -> Any:
    """Let no file of this process grow beyond 256 KiB."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 << 10, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_files")
async def test_a_log_that_cannot_grow(open_journal: Open, path: Path) -> None:
    """Where the system refuses a write, the error names it, and all that was committed stays."""
    journal = await open_journal()
    with pytest.raises(JournalError, match="the disk reports an error"):
        await fill(journal, entered := [])
    with pytest.raises(JournalError, match="the disk reports an error"):
        await journal.aclose()
    assert [row for row, _ in shown(path, "row, state")] == entered
    assert len(entered) > 10


async def test_a_move_that_cannot_be(open_journal: Open) -> None:
    """A note that contradicts the file breaks the journal rather than being lost in silence."""
    journal = await open_journal()
    entry = await journal.enter("k", castle())
    journal.succeeded(entry, result())
    await journal.flush()
    assert "the item 'k' is 'new', where this cannot happen" in str(journal.broken)
    with pytest.raises(JournalError, match="where this cannot happen"):
        await journal.aclose()


async def test_no_amount_of_money(open_journal: Open) -> None:
    """A price that is no amount of money is refused before anything is written."""
    journal = await open_journal()
    entry = await journal.enter("k", castle())
    with pytest.raises(ValueError, match="price: -1 given"):
        await journal.intend(entry, None, Decimal(-1))
    assert (await entry_of(journal, "k")).state == "new"


async def test_nothing_is_left_beside_the_file(open_journal: Open, path: Path) -> None:
    """After a clean end there is one file; closing again is nothing, and all else an error."""
    journal = await open_journal()
    await journal.enter("k", castle())
    await journal.aclose()
    await journal.aclose()
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    with pytest.raises(JournalError, match=r"it was closed\. Open it anew"):
        await journal.counts()


async def test_a_share_is_warned_of(open_journal: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal on a network share is opened, with a warning at the caller's line."""
    monkeypatch.setattr("apixo_async.journal._journal.warning_of", lambda _: "it is far away")
    with pytest.warns(JournalWarning, match="it is far away") as caught:
        await open_journal()
    assert caught[0].filename == __file__


async def test_a_file_system_without_locks(
    open_journal: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal that cannot be locked is opened, with one warning at the caller's line."""
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: int) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(JournalWarning, match=r"^journal .*run\.db: its file system") as caught:
        journal = await open_journal()
    assert [one.filename for one in caught] == [__file__]
    assert (await journal.enter("k", castle())).state == "new"


async def test_an_opening_that_is_refused(path: Path) -> None:
    """A file that cannot be used is an error of the journal, and is let go of."""
    with pytest.raises(JournalError, match="it is a directory"):
        await Journal.open(path.parent)
    with pytest.raises(JournalError, match="the disk is full"):
        await Journal.open(path, hook=Failing("open:before-commit", full()))
    await (await Journal.open(str(path))).aclose()


async def test_an_opening_that_is_cancelled(path: Path) -> None:
    """Who is cancelled while a journal is opened leaves no lock behind."""
    gate = Gate("open:after-commit")
    opening = asyncio.ensure_future(Journal.open(path, hook=gate))
    await gate.reached()
    opening.cancel()
    gate.open()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await (await Journal.open(path)).aclose()


async def test_an_end_that_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong while the file is let go of is an error of the journal as well."""
    journal = await Journal.open(path)
    close = journal._writer._store.close

    def fail() -> None:
        close()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(journal._writer._store, "close", fail)
    with pytest.raises(JournalError, match="OSError"):
        await journal.aclose()


async def test_an_end_in_the_middle_of_a_wait(open_journal: Open, path: Path) -> None:
    """Who is cancelled while closing leaves the closing going."""
    journal = await open_journal(hook=(gate := Gate("enter:before-commit")))
    entering = asyncio.ensure_future(journal.enter("k", castle()))
    await gate.reached()
    closing = asyncio.ensure_future(journal.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    gate.open()
    assert (await entering).key == "k"
    await journal.aclose()
    assert closing.cancelled()
    assert shown(path) == [("k", "new")]


def test_a_disk_that_does_not_answer(path: Path) -> None:
    """Closing gives up after its time; the clock of this test is a real one."""
    gate = Gate("enter:before-commit")

    async def run() -> None:
        journal = await Journal.open(path, hook=gate)
        entering = asyncio.ensure_future(journal.enter("k", castle()))
        await gate.reached()
        with pytest.raises(JournalError, match=r"has not answered for 0\.01 s"):
            await journal.aclose(timeout=0.01)
        gate.open()
        await entering
        await journal.aclose()

    asyncio.run(run())
    assert shown(path) == [("k", "new")]

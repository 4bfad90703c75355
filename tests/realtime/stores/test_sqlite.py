"""The store in a file of SQLite, and what it says on bad days."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import pytest

from apixo_async import AsyncClient, FluxKontext, Limits, Polling
from apixo_async.errors import StoreError
from apixo_async.journal._network_share import Mount
from apixo_async.stores import State, _batches, _sqlite
from apixo_async.stores._sql import Act, Done
from apixo_async.stores._sql_store import PAGE
from apixo_async.stores._sqlite import SqliteStore
from apixo_async.testing import Simulator
from apixo_async.testing.store_contract import CHECKS, StoreCheck, attempt, purchase


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_what_every_store_must_do(check: StoreCheck, tmp_path: Path) -> None:
    """In a file of its own."""
    await check(SqliteStore(tmp_path / "store.db"))


async def test_a_namespace_has_keys_of_its_own(tmp_path: Path) -> None:
    """The same key in another one is another purchase."""
    path = tmp_path / "store.db"
    one = await SqliteStore(path).open("account")
    two = await SqliteStore(path, namespace="other").open("account")
    await one.intend(purchase("k"), attempt(), "a", slots=2, hold=60)
    assert await two.find("k") is None
    assert (await two.intend(purchase("k"), attempt(), "a", slots=2, hold=60)).done
    assert not (await two.intend(purchase("l"), attempt(), "a", slots=2, hold=60)).done
    assert [entry.purchase.key async for entry in two.entries()] == ["k"]
    await one.aclose()
    await two.aclose()


async def test_namespaces_are_kept_apart(tmp_path: Path) -> None:
    """Equal keys of two applications are two purchases, and stay so when one's processes die."""
    path = tmp_path / "store.db"
    one, two = [await SqliteStore(path, namespace=name).open("account") for name in ("one", "two")]
    doubted, bought = attempt(), attempt()
    await one.intend(purchase("k"), doubted, "dead", slots=9, hold=60)
    await one.uncertain(doubted, hold=60)
    assert await two.called(doubted, "task_of_one")
    await one.intend(purchase("l"), bought, "dead", slots=9, hold=60)
    await one.bought(purchase("l"), bought, "dead", "task_l", hold=60)
    assert await two.take_over("b", ["b"], most=9, settled=0.0) == []
    assert await two.find("k") is None
    taken = await one.take_over("a", ["a"], most=9, settled=0.0)
    assert [entry.purchase.key for entry in taken] == ["k", "l"]
    await one.aclose()
    await two.aclose()


def modes_in(folder: Path) -> dict[str, int]:
    """Return what others than its owner may do with each file."""
    return {path.name: path.stat().st_mode & 0o077 for path in folder.iterdir()}


async def test_no_other_user_reads_it(tmp_path: Path) -> None:
    """Prompts and URLs are in it; what somebody has set is left as it is."""
    store = await SqliteStore(tmp_path / "store.db").open("account")
    await store.aclose()
    modes = modes_in(tmp_path)
    assert {"store.db", "store.db-limits", "store.db-lock"} <= modes.keys()
    assert set(modes.values()) == {0}
    (tmp_path / "store.db").chmod(0o640)
    await (await SqliteStore(tmp_path / "store.db").open("account")).aclose()
    assert modes_in(tmp_path)["store.db"] == 0o040


async def test_what_it_lies_in(tmp_path: Path) -> None:
    """One sentence for each bad place, and what to do."""
    with pytest.raises(StoreError, match=r"missing/store.db: unable to open.*; make its folder"):
        await SqliteStore(tmp_path / "missing" / "store.db").open("account")
    other = tmp_path / "other.db"
    other.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="not a database; it is something else"):
        await SqliteStore(other).open("account")


async def test_another_layout(tmp_path: Path) -> None:
    """It is refused, and left as it is."""
    path = tmp_path / "store.db"
    await (await SqliteStore(path).open("account")).aclose()
    with sqlite3.connect(path) as file:
        file.execute("UPDATE apixo_store SET version = 1")
    file.close()
    with pytest.raises(StoreError, match="has layout 1, and this release knows 3"):
        await SqliteStore(path).open("account")


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may write anywhere")
async def test_a_file_that_may_not_be_written(tmp_path: Path) -> None:
    """By its rights."""
    path = tmp_path / "store.db"
    await (await SqliteStore(path).open("account")).aclose()
    path.chmod(0o400)
    with pytest.raises(StoreError, match=r"readonly.*change its rights"):
        await SqliteStore(path).open("account")


async def test_a_network_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes may both have a file there."""
    share = Mount(PurePosixPath("/mnt"), "nfs4")
    monkeypatch.setattr(_sqlite, "share_of", lambda _: share)
    with pytest.raises(StoreError, match=r"/mnt is a network file system \(nfs4\)"):
        await SqliteStore(tmp_path / "store.db").open("account")


async def test_a_full_disk(tmp_path: Path) -> None:
    """An intent that does not fit is not done, and what was there stays."""
    path = tmp_path / "store.db"
    store = await SqliteStore(path).open("account")
    await store.intend(purchase("k"), attempt(), "a", slots=9, hold=60)
    connection = store._entries._connection
    assert isinstance(connection, _sqlite.SqliteConnection)
    thread = store._entries._thread
    thread.submit(connection._file.execute, "PRAGMA max_page_count = 1").result()
    big = purchase("l", payload="x" * 1_000_000)
    with pytest.raises(StoreError, match="full; the disk is full: make room"):
        await store.intend(big, attempt(), "a", slots=9, hold=60)
    assert await store.find("k") is not None
    assert await store.find("l") is None
    await store.aclose()


async def test_one_bad_act_fails_no_other(tmp_path: Path) -> None:
    """Of those that are done in one transaction."""
    store = await SqliteStore(tmp_path / "store.db").open("account")
    bad = purchase("bad", payload="\ud800")  # No text that a database can keep.
    done = await asyncio.gather(
        *(store.intend(purchase(f"k{n}"), attempt(), "a", slots=9, hold=60) for n in range(3)),
        store.intend(bad, attempt(), "a", slots=9, hold=60),
        return_exceptions=True,
    )
    assert [isinstance(one, StoreError) for one in done] == [False, False, False, True]
    assert len([entry async for entry in store.entries()]) == 3
    await store.aclose()
    with pytest.raises(StoreError, match="was closed"):
        await store.find("k0")
    await store.aclose()


async def test_a_store_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has the file: each call has its bound."""
    path = tmp_path / "store.db"
    store = await SqliteStore(path).open("account")
    monkeypatch.setattr(_batches, "PATIENCE", 0.2)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="has not answered for 0 s"):
        await store.intend(purchase("k"), attempt(), "a", slots=9, hold=60)
    monkeypatch.setattr(_batches, "PATIENCE", 60.0)
    holder.execute("COMMIT")
    holder.close()
    assert await store.find("other") is None
    await store.aclose()


@pytest.mark.parametrize("damage", [None, b"no database" * 1000])
async def test_the_limits_are_lost(tmp_path: Path, damage: bytes | None) -> None:
    """Their file is removed, or damaged, under two that use it: both see that it is lost."""
    path = tmp_path / "store.db"
    limits = tmp_path / "store.db-limits"
    one, two = await SqliteStore(path).open("account"), await SqliteStore(path).open("account")
    assert await one.save(b"{}", (await one.load()).version)
    before = await two.load()
    assert before.body == b"{}"
    limits.unlink()
    if damage is not None:
        limits.write_bytes(damage)
    lost = await two.load()
    assert (lost.body, lost.is_lost) == (None, True)
    assert not await two.save(b"old", before.version)
    assert await two.save(b"new", lost.version)
    assert (await one.load()).body == b"new"
    await one.aclose()
    await two.aclose()
    later = await SqliteStore(path).open("account")
    assert (await later.load()).body == b"new"
    await later.aclose()


async def test_an_account_that_was_not_used_lately(tmp_path: Path) -> None:
    """Then nothing was lost, whatever is missing."""
    path = tmp_path / "store.db"
    store = await SqliteStore(path).open("account")
    value = await store.load()
    assert (value.body, value.is_lost) == (None, False)
    await store.save(b"{}", value.version)
    await store.aclose()
    (tmp_path / "store.db-limits").unlink()
    with sqlite3.connect(path) as file:
        file.execute("UPDATE apixo_account SET seen_at = seen_at - 120")
    file.close()
    store = await SqliteStore(path).open("account")
    assert not (await store.load()).is_lost
    await store.aclose()


PROGRAM = """
import asyncio, sys
from apixo_async.stores._sqlite import SqliteStore
from apixo_async.testing.store_contract import attempt, purchase

async def main():
    store = await SqliteStore(sys.argv[1]).open("account")
    done = 0
    for number in range(int(sys.argv[2])):
        intended = await store.intend(purchase(f"k{number}"), attempt(), "a", slots=25, hold=60)
        done += intended.done
    print(done)
    await store.aclose()

asyncio.run(main())
"""


def test_processes_at_once(tmp_path: Path) -> None:
    """Made by four at the same time; each key has one intent, and no slot is taken twice."""
    path = str(tmp_path / "store.db")
    processes = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, path, "40"], stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    done = [process.communicate(timeout=60)[0] for process in processes]
    assert sum(map(int, done)) == 25
    with sqlite3.connect(path) as file:
        assert file.execute("SELECT count(*) FROM apixo_entry").fetchone() == (25,)
    file.close()


def test_its_repr(tmp_path: Path) -> None:
    """Where it is."""
    assert repr(SqliteStore("a.db")) == "SqliteStore('a.db', namespace='default')"
    assert tmp_path.exists()


def test_one_client_in_several_event_loops(tmp_path: Path) -> None:
    """What one that has ended could not write is written in the next, and slots come back."""
    simulator = Simulator(seed=1, durations=0.2)
    client = AsyncClient(
        "test-key",
        transport=simulator.transport(0.01),
        store=str(tmp_path / "store.db"),
        limits=Limits(concurrent_tasks=2),
        polling=Polling.fixed(0.3, 0.1),
    )
    for number in range(4):
        castle = FluxKontext(mode="pro", prompt=f"castle {number}")
        asyncio.run(asyncio.wait_for(client.generate(castle, key=f"k{number}"), 40))

    async def states() -> list[State]:
        found: list[State] = []
        async with asyncio.timeout(40):
            while found != [State.SUCCESS] * 4:
                await asyncio.sleep(0.1)
                found = [entry.state async for entry in client.entries()]
        await client.aclose()
        return found

    assert asyncio.run(states()) == [State.SUCCESS] * 4
    assert simulator.count("submit") == 4


async def test_a_row_that_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is left out and reported; the others are read, those behind a whole page of such too."""
    path = tmp_path / "store.db"
    store = await SqliteStore(path).open("account")
    keys = ["first", *(f"bad-{number}" for number in range(PAGE)), "last"]
    for key in keys:
        await store.intend(purchase(key), attempt(), "a", slots=PAGE + 2, hold=60)
    with sqlite3.connect(path) as file:
        file.execute("UPDATE apixo_entry SET state = 'odd' WHERE key LIKE 'bad-%'")
    file.close()
    assert [entry.purchase.key async for entry in store.entries()] == ["first", "last"]
    assert len(await store.find_all(["first", "bad-1", "last"])) == 2
    assert "an entry of the store cannot be read ('odd' is not a valid State): row 2" in caplog.text
    await store.aclose()


@pytest.mark.parametrize(
    ("column", "value"),
    [("slot_until", "abc"), ("kind", b"x"), ("purchases", "many"), ("task_id", '"'), ("tag", b"x")],
)
async def test_a_column_of_another_type(tmp_path: Path, column: str, value: object) -> None:
    """Nothing is bought under its key, and the error says which row it is."""
    store, simulator = SqliteStore(tmp_path / "store.db"), Simulator(seed=1)
    castle = FluxKontext(mode="pro", prompt="a castle")
    async with AsyncClient("test-key", transport=simulator.transport(), store=store) as client:
        await client.submit(castle, key="k")
        with sqlite3.connect(tmp_path / "store.db") as file:
            file.execute(f"UPDATE apixo_entry SET {column} = ?", [value])
        file.close()
        for call in (partial(client.find, "k"), partial(client.submit, castle, key="k")):
            with pytest.raises(StoreError, match="what the store has cannot be read") as raised:
                await call()
            assert raised.value.bought is not True
    assert simulator.created == 1


async def test_what_is_over_slows_nothing_down(tmp_path: Path) -> None:
    """Takeovers and counts use the index of what is open."""
    path = tmp_path / "store.db"
    store = await SqliteStore(path).open("account")
    asked: list[str] = []
    really = _batches.Batches.do

    async def do(self: _batches.Batches, act: Act[object]) -> object:
        asked.extend(act.statements)
        return await really(self, act)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_batches.Batches, "do", do)
        await store.take_over("a", ["a"], most=9, settled=10.0)
        await store.owned("a")
        await store.leave("a")
    await store.aclose()
    named = {"account", "owner", "most", "settled", "taken", "living_0", "namespace"}
    with sqlite3.connect(path) as file:
        for statement in asked:
            plan = file.execute(f"EXPLAIN QUERY PLAN {statement}", dict.fromkeys(named)).fetchall()
            assert not [step for *_, step in plan if str(step).startswith("SCAN")], statement
    file.close()
    assert len(asked) == 5


async def test_one_that_does_not_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next act has a connection of its own, and nothing waits for the first one's thread."""
    monkeypatch.setattr(_batches, "PATIENCE", 0.5)

    class Line:
        def __init__(self) -> None:
            self.is_cut = threading.Event()

        def run(self, acts: Sequence[Act[object]]) -> list[list[Done]]:
            if len(lines) == 1:
                assert self.is_cut.wait(60)
                raise OSError("cut")
            return [[Done([], 0)] for _ in acts]

        def cut(self) -> None:
            self.is_cut.set()

        def close(self) -> None:
            self.is_cut.set()

    lines: list[Line] = []

    class Frozen:
        def connect(self) -> Line:
            lines.append(Line())
            return lines[-1]

        def error(self, exc: BaseException) -> StoreError:
            return StoreError(type(exc).__name__)

        def is_lost(self, exc: BaseException) -> bool:
            return isinstance(exc, OSError)

    batches = _batches.Batches(Frozen())
    act = Act(["…"], {}, lambda done: done[0].changed)
    with pytest.raises(StoreError, match="has not answered"):
        await batches.do(act)
    assert await batches.do(act) == 0
    assert len(lines) == 2
    await batches.aclose()

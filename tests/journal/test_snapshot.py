from __future__ import annotations

import errno
import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apixo_async import JournalError
from apixo_async.journal import _snapshot as module
from apixo_async.journal._moves import enter
from apixo_async.journal._snapshot import JournalSnapshot
from apixo_async.journal._store import JournalStore
from apixo_async.journal._writer import Write

from ..support.journals import change, copied, known, moved


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JournalStore]:
    """Have a journal that a run has open, with a hundred items, the first of them an intent."""
    store = JournalStore(str(tmp_path / "run.db"))
    store.open(1.0, "test")
    for number in range(100):
        store.write([Write("enter", lambda file, n=number: enter(file, None, known(n)))])  # type: ignore[misc]  # mypy sees no type of the default
    store.write([Write("intend", lambda file: moved(file, "intend", (20_000, "m", 5.0, 1)))])
    yield store
    store.close()


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have temporary folders lie in one that can be looked at."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def states(path: Path | str) -> list[str]:
    snapshot = JournalSnapshot(str(path))
    snapshot.open()
    try:
        found = snapshot.ask(lambda file: file.execute("SELECT state FROM item ORDER BY row"))
        return [state for (state,) in found]
    finally:
        snapshot.close()


def test_while_a_run_has_it_open(store: JournalStore, tmp_path: Path, temporary: Path) -> None:
    """All that was committed is read, most of it from the log; the files stay as they are."""
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert states(store.path) == ["intent", *["new"] * 99]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert [*temporary.iterdir()] == []


def test_a_copy_is_the_readers_alone(store: JournalStore, temporary: Path) -> None:
    """What a journal holds can be read by its owner only, and so can the copy."""
    snapshot = JournalSnapshot(store.path)
    snapshot.open()
    (folder,) = temporary.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert snapshot.in_use
    snapshot.close()
    snapshot.close()


def test_after_a_kill(store: JournalStore, tmp_path: Path) -> None:
    """What was under way when the process died is uncertain, as the next run will find it."""
    assert states(copied(tmp_path / "run.db")) == ["uncertain", *["new"] * 99]
    store.close()
    assert states(tmp_path / "run.db") == ["uncertain", *["new"] * 99]


def test_a_checkpoint_between_the_copies(
    store: JournalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the log begins anew under the copy, both are copied again."""
    copies: list[str] = []
    copy = module._copy

    def slow(source: Path, target: Path) -> None:
        copy(source, target)
        copies.append(source.name)
        if len(copies) == 1:
            monkeypatch.setattr("apixo_async.journal._store._MOST_UNSETTLED", 1)
            for number in range(100, 103):
                store.write([Write("enter", lambda file: enter(file, None, known(number)))])  # noqa: B023

    monkeypatch.setattr(module, "_copy", slow)
    assert len(states(store.path)) == 103
    assert copies == ["run.db", "run.db-wal"] * 2


def test_writes_between_the_copies(store: JournalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written under the copy, and copied into the file, tears nothing."""
    copy = module._copy

    def slow(source: Path, target: Path) -> None:
        if source.name == "run.db-wal":
            for number in range(100, 150):
                store.write([Write("enter", lambda file: enter(file, None, known(number)))])  # noqa: B023
            connection = store._connection
            assert connection is not None
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        copy(source, target)

    monkeypatch.setattr(module, "_copy", slow)
    assert len(states(store.path)) == 150


def test_it_changes_all_the_time(store: JournalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal that cannot be copied whole is refused in bounded time."""
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    monkeypatch.setattr(module, "_generation", lambda *_: object())
    with pytest.raises(JournalError, match="changed faster than it can be read"):
        states(store.path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no such file. Name the journal of a run"),
        (b"prompt,model\n" * 100, "it is something else than a journal"),
    ],
)
def test_no_journal(content: bytes | None, said: str, tmp_path: Path, temporary: Path) -> None:
    """What is no journal is refused in a sentence, and stays as it is."""
    path = tmp_path / "run.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(JournalError, match=said):
        states(path)
    assert [one.name for one in tmp_path.iterdir()] == ([] if content is None else ["run.db"])
    assert [*temporary.iterdir()] == []


def test_a_directory(tmp_path: Path) -> None:
    """For a directory the sentence names a file in it."""
    with pytest.raises(JournalError, match=r"Name a file in it, such as .*run\.db"):
        states(tmp_path)


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (["CREATE TABLE note (text TEXT)"], "the database of another program"),
        (["PRAGMA application_id = 1634760810", "PRAGMA user_version = 9"], "it has version 9"),
    ],
)
def test_another_database(statements: list[str], said: str, tmp_path: Path) -> None:
    """Databases of other programs and of later versions are told apart, with what to do."""
    change(tmp_path / "run.db", *statements)
    with pytest.raises(JournalError, match=said):
        states(tmp_path / "run.db")


def test_a_run_that_has_just_begun(tmp_path: Path) -> None:
    """Neither an empty file nor a database without tables holds an item yet."""
    (tmp_path / "run.db").touch()
    assert states(tmp_path / "run.db") == []
    change(tmp_path / "run.db", "CREATE TABLE x (y)", "DROP TABLE x")
    assert states(tmp_path / "run.db") == []


def test_version_1(store: JournalStore, tmp_path: Path) -> None:
    """A journal of version 1 is read, and stays one."""
    store.close()
    change(
        tmp_path / "run.db",
        "ALTER TABLE run DROP COLUMN needs_log",
        "ALTER TABLE item DROP COLUMN claim",
        "ALTER TABLE item DROP COLUMN prior_claim",
        "PRAGMA user_version = 1",
    )
    before = (tmp_path / "run.db").read_bytes()
    assert len(states(tmp_path / "run.db")) == 100
    assert (tmp_path / "run.db").read_bytes() == before


@pytest.mark.usefixtures("store")
def test_a_killed_run_without_its_log(tmp_path: Path) -> None:
    """A file whose log is missing is refused, and so is a log without its file."""
    copy = copied(tmp_path / "run.db")
    log = Path(f"{copy}-wal")
    kept = log.read_bytes()
    log.unlink()
    with pytest.raises(JournalError, match=r"its log .*copy\.db-wal is missing"):
        states(copy)
    log.write_bytes(kept)
    copy.write_bytes(b"")
    with pytest.raises(JournalError, match=r"missing or empty, but the log .*copy\.db-wal"):
        states(copy)


@pytest.mark.usefixtures("store")
def test_a_damaged_log(tmp_path: Path) -> None:
    """A log that has lost committed purchases is refused, under the name that it has."""
    copy = copied(tmp_path / "run.db")
    log = Path(f"{copy}-wal")
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 0xFF
    log.write_bytes(content)
    with pytest.raises(JournalError, match=r"its log .*copy\.db-wal is damaged: purchases"):
        states(copy)


def test_a_damaged_file(store: JournalStore, tmp_path: Path) -> None:
    """A file with a damaged page is refused with what to do."""
    store.close()
    content = bytearray((tmp_path / "run.db").read_bytes())
    content[3 * 4096 :] = os.urandom(len(content) - 3 * 4096)
    (tmp_path / "run.db").write_bytes(content)
    with pytest.raises(JournalError, match=r"it is damaged .*sqlite3 FILE \.recover"):
        states(tmp_path / "run.db")


def test_no_room_for_the_copy(store: JournalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the copy cannot be written, the sentence says where, and that nothing is lost."""

    def full(**_: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(JournalError, match=r"No space left.* or set TMPDIR"):
        states(store.path)


def test_a_file_of_another_user(store: JournalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be read is refused with whom it belongs to."""
    really_open = os.open

    def refuse(path: str | Path, *args: Any, **options: Any) -> int:
        if os.fspath(path) == store.path:  # newer Pythons remove folders by os.open as well
            raise PermissionError(errno.EACCES, "Permission denied")
        return really_open(path, *args, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(JournalError, match=r"you may not read .*Read it as the user who ran it"):
        states(store.path)


def test_a_closed_snapshot(store: JournalStore) -> None:
    """What is asked of a closed reader is refused."""
    snapshot = JournalSnapshot(store.path)
    with pytest.raises(JournalError, match="the reader was closed"):
        snapshot.ask(sqlite3.Connection.execute)  # type: ignore[arg-type]  # it is not called

"""A journal without its log, as after a copy of one file: refused, and never taken for empty."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from apixo_async import JournalError
from apixo_async.journal._moves import enter
from apixo_async.journal._schema import VERSION
from apixo_async.journal._store import JournalStore
from apixo_async.journal._writer import Write

from ..support.journals import Failing, change, copied, full, known, shown

Make = Callable[..., JournalStore]

#: What turns a journal into one of version 1.
TO_1 = (
    "ALTER TABLE run DROP COLUMN needs_log",
    "ALTER TABLE item DROP COLUMN claim",
    "ALTER TABLE item DROP COLUMN prior_claim",
    "PRAGMA user_version = 1",
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Make]:
    made: list[JournalStore] = []

    def make(path: Path = tmp_path / "run.db", hook: Failing | None = None) -> JournalStore:
        made.append(JournalStore(str(path), hook))
        return made[-1]

    yield make
    for one in made:
        one.close()


def note(store: JournalStore, key: str) -> None:
    store.write([Write("enter", lambda file: enter(file, key, known()))])


def killed(store: JournalStore, *keys: str) -> Path:
    """Return a file with its log, as a run leaves them that is killed; "a" was noted, or these."""
    store.open(1_800_000_000.0, "test")
    for key in keys or ("a",):
        note(store, key)
    return copied(Path(store.path))


def log_of(path: Path) -> Path:
    return Path(f"{path}-wal")


@pytest.mark.parametrize("left", [None, b"", b"x" * 32])
def test_a_file_without_its_log(store: Make, left: bytes | None) -> None:
    """A killed run's file is refused without its log, every time, and stays as it is."""
    path = killed(store())
    log = log_of(path).read_bytes()
    log_of(path).unlink()
    before = path.read_bytes()
    for _ in range(2):
        if left is not None:
            log_of(path).write_bytes(left)
        with pytest.raises(JournalError, match=r"its log .*copy\.db-wal is missing") as caught:
            store(path).open(2.0, "test")
        assert "The run that began at 2027-01-15 08:00:00 UTC" in str(caught.value)
        assert "Put copy.db-wal back" in str(caught.value)
        assert path.read_bytes() == before
    log_of(path).write_bytes(log)
    store(path).open(2.0, "test")
    store(path).close()


#: What befalls a log whose name and size stay, or nearly so.
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "zeros": lambda log: bytes(len(log)),
    "garbage": lambda log: b"\xa5" * len(log),
    "header": lambda log: flipped(log, 17),
    "first frame": lambda log: flipped(log, 40),
    "middle": lambda log: flipped(log, 32 + 5 * FRAME + 3000),
    "zeros behind a page": lambda log: log[:4096] + bytes(len(log) - 4096),
    "cut": lambda log: log[:33],
    "cut in the first frame": lambda log: log[: 31 + FRAME],
}
FRAME = 24 + 4096


def flipped(log: bytes, at: int) -> bytes:
    return log[:at] + bytes([log[at] ^ 1]) + log[at + 1 :]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_log(store: Make, damage: Callable[[bytes], bytes]) -> None:
    """A killed run's file is refused with a damaged log, every time, and both stay as they are."""
    path = killed(store(), *"abcdef")
    whole, before = log_of(path).read_bytes(), path.read_bytes()
    log_of(path).write_bytes(damaged := damage(whole))
    for _ in range(2):
        with pytest.raises(JournalError, match=r"its log .*copy\.db-wal is damaged") as caught:
            store(path).open(2.0, "test")
        assert (log_of(path).read_bytes(), path.read_bytes()) == (damaged, before)
        assert {one.name for one in path.parent.iterdir()}.isdisjoint({"copy.db-shm"})
    log_of(path).write_bytes(whole)
    note_next(store(path), "g")
    assert [key for key, _ in shown(path)] == [*"abcdefg"]
    path.write_bytes(before)
    log_of(path).write_bytes(damaged)
    change(path, str(caught.value).split('"')[1])
    note_next(store(path), "h")
    assert ("h", "new") in shown(path)


def test_a_log_with_a_torn_end(store: Make) -> None:
    """A log whose last transaction is not whole is what a crash leaves: the others are found."""
    path = killed(store(), *"abcdef")
    file, log = path.read_bytes(), log_of(path).read_bytes()
    before_last = 32 + FRAME * (last_commits(log)[-2] + 1)
    for end in (before_last, before_last + 10, before_last + FRAME + 500):
        path.write_bytes(file)
        log_of(path).write_bytes(log[:end] + bytes(len(log) - end))
        note_next(store(path), "g")
        assert [key for key, _ in shown(path)] == [*"abcdeg"]


def last_commits(log: bytes) -> list[int]:
    """Return which frames of the log's latest generation end a transaction."""
    frames = range((len(log) - 32) // FRAME)
    heads = [log[at : at + 16] for at in (32 + FRAME * number for number in frames)]
    return [n for n in frames if heads[n][8:] == log[16:24] and any(heads[n][4:8])]


def test_a_crash_as_the_log_is_begun_anew(store: Make, tmp_path: Path) -> None:
    """A crash between the log's new header and its first frame loses nothing, and is accepted."""
    older: list[bytes] = []
    path = tmp_path / "run.db"
    note_next(store(), "a")
    one = JournalStore(str(path), lambda _: older.append(log_of(path).read_bytes()))
    one.open(1.0, "test")
    copy = copied(path)
    one.close()
    log = log_of(copy).read_bytes()
    torn = log[:32] + older[-1][32 : 32 + FRAME] + log[32 + FRAME :]
    assert torn != log
    log_of(copy).write_bytes(torn)
    note_next(store(copy), "b")
    assert shown(copy) == [("a", "new"), ("b", "new")]


def test_it_is_whole_with_its_log(store: Make) -> None:
    """With its log a killed run's file is opened, and all that was noted is in it."""
    path = killed(store())
    one = store(path)
    one.open(2.0, "test")
    one.close()
    assert shown(path) == [("a", "new")]
    store(path).open(3.0, "test")


def test_a_file_that_is_accepted(store: Make) -> None:
    """The command that the refusal names accepts the file as it is."""
    path = killed(store())
    log_of(path).unlink()
    with pytest.raises(JournalError) as caught:
        store(path).open(2.0, "test")
    command = str(caught.value).split(f'sqlite3 {path} "')[1].removesuffix('"')
    change(path, command)
    store(path).open(2.0, "test")


def test_a_file_that_another_program_has_read(store: Make, tmp_path: Path) -> None:
    """A killed run's file is whole after SQLite has opened and closed it, and so is its copy."""
    path, copy = killed(store()), tmp_path / "other.db"
    change(path, f"VACUUM INTO '{copy}'")
    assert not log_of(path).exists()
    for one in (path, copy):
        assert shown(one) == [("a", "new")]
        store(one).open(2.0, "test")


def test_a_log_without_its_file(store: Make) -> None:
    """A killed run's log alone is kept and refused: SQLite would remove it as stale."""
    path = killed(store())
    body, log = path.read_bytes(), log_of(path).read_bytes()
    path.unlink()
    for empty in (False, True):
        if empty:
            path.touch()
        with pytest.raises(JournalError, match=r"missing or empty.*Put copy\.db back beside it"):
            store(path).open(2.0, "test")
        assert log_of(path).read_bytes() == log
    path.write_bytes(body)
    store(path).open(2.0, "test")


@pytest.mark.parametrize("is_killed", [True, False])
def test_a_journal_of_version_1(store: Make, tmp_path: Path, is_killed: bool) -> None:
    """A journal of the first version is opened as it is, and then needs its log like any other."""
    path = tmp_path / "run.db"
    one = store(path)
    one.open(1.0, "test")
    note(one, "a")
    one.close()
    change(path, *TO_1)
    if is_killed:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("UPDATE item SET files = 'x'")
        log = log_of(path).read_bytes()
        connection.close()
        log_of(path).write_bytes(log)
    one = store(path)
    one.open(2.0, "test")
    path = copied(path)
    log_of(path).unlink()
    assert is_refused(store(path))
    assert shown(path, "key, files") == [("a", "x" if is_killed else None)]
    assert shown(path, "number, needs_log", "run") == [(1, 0), (2, 1)]
    assert shown(path, "*", "pragma_user_version") == [(VERSION,)]


@pytest.mark.parametrize("how", ["removed", "moved", "replaced"])
def test_a_log_that_goes_away(store: Make, tmp_path: Path, how: str) -> None:
    """A run whose log is taken away writes no more, and all that it had noted is in the file."""
    path, one = tmp_path / "run.db", store()
    one.open(1.0, "test")
    note(one, "a")
    if how == "removed":
        log_of(path).unlink()
    else:
        log_of(path).rename(tmp_path / "away")
    if how == "replaced":
        log_of(path).write_bytes(b"x" * 5000)
    with pytest.raises(JournalError, match=r"its log .*run\.db-wal was removed.*let the run end"):
        note(one, "b")
    one.close()
    assert shown(path) == [("a", "new")]
    note_next(store(), "b")
    assert shown(path) == [("a", "new"), ("b", "new")]


def test_a_file_that_was_moved_and_is_put_back(store: Make, tmp_path: Path) -> None:
    """A file that was moved during a run is refused where it is, and whole beside its log."""
    path, other, one = tmp_path / "run.db", tmp_path / "other.db", store()
    one.open(1.0, "test")
    note(one, "a")
    path.rename(other)
    with pytest.raises(JournalError, match=r"put the file back beside its log .*run\.db-wal"):
        note(one, "b")
    one.close()
    with pytest.raises(JournalError, match="missing or empty"):
        store().open(2.0, "test")
    with pytest.raises(JournalError, match=r"other\.db-wal is missing"):
        store(other).open(2.0, "test")
    other.rename(path)
    note_next(store(), "b")
    assert shown(path) == [("a", "new"), ("b", "new")]


def note_next(store: JournalStore, key: str) -> None:
    """Have the next run note an item."""
    store.open(2.0, "test")
    note(store, key)
    store.close()


def test_the_log_is_settled_from_time_to_time(
    store: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log does not grow with the run, and the file needs it all the same."""
    monkeypatch.setattr("apixo_async.journal._store._MOST_UNSETTLED", 20)
    one = store()
    one.open(1.0, "test")
    for number in range(200):
        note(one, f"{number}")
    assert log_of(tmp_path / "run.db").stat().st_size < 100 * 4096
    path = copied(tmp_path / "run.db")
    log_of(path).unlink()
    with pytest.raises(JournalError, match="is missing"):
        store(path).open(2.0, "test")
    assert len(shown(path)) == 180


def is_refused(store: JournalStore) -> bool:
    """Open and close a file; return True if it is refused for want of its log."""
    try:
        store.open(2.0, "test")
    except JournalError as exc:
        if "is missing" in str(exc):
            return True
        raise
    store.close()
    return False


class Copying(sqlite3.Connection):
    """A connection that copies the files before and after each of its statements."""

    copy: Callable[[str], None] = print

    def execute(self, *args: Any) -> sqlite3.Cursor:
        type(self).copy(args[0])
        try:
            return super().execute(*args)
        finally:
            type(self).copy(args[0])


def test_a_kill_anywhere(store: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between any two statements, a file is opened with its log, and alone if it has all."""
    path = tmp_path / "run.db"
    copies: list[tuple[Path, set[str]]] = []
    confirmed: set[str] = set()

    def copy(_: str) -> None:
        place = tmp_path / f"{len(copies)}"
        place.mkdir()
        for part in (path, log_of(path)):
            if part.exists():
                shutil.copy(part, place)
        copies.append((place / "run.db", set(confirmed)))

    monkeypatch.setattr("apixo_async.journal._store._MOST_UNSETTLED", 2)
    monkeypatch.setattr(Copying, "copy", staticmethod(copy))
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Copying))
        for keys in ("abc", "de"):
            one = store()
            one.open(1.0, "test")
            for key in keys:
                note(one, key)
                confirmed.add(key)
            one.close()
    refused = 0
    for copied_file, keys_then in copies:
        alone = Path(shutil.copy(copied_file, copied_file.with_name("alone.db")))
        if is_refused(store(alone)):
            refused += 1
        else:
            assert {key for key, _ in shown(alone)} >= keys_then
        with pytest.raises(JournalError, match="the disk is full"):
            store(copied_file, Failing("open:before-commit", full())).open(2.0, "test")
        one = store(copied_file)
        one.open(2.0, "test")
        one.close()
        assert {key for key, _ in shown(copied_file)} >= keys_then
    assert 20 < refused < len(copies)

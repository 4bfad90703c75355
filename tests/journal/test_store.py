from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from apixo_async import JournalError
from apixo_async._text import printable
from apixo_async.journal._failures import JournalRefusal
from apixo_async.journal._moves import enter
from apixo_async.journal._schema import VERSION
from apixo_async.journal._store import JournalStore
from apixo_async.journal._writer import Write

from ..support.journals import Failing, change, full, known, moved, shown

Make = Callable[..., JournalStore]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Make]:
    made: list[JournalStore] = []

    def make(name: str | Path = "run.db", hook: Failing | None = None) -> JournalStore:
        made.append(JournalStore(str(tmp_path / name), hook))
        return made[-1]

    yield make
    for one in made:
        one.close()


def filled(store: JournalStore, *keys: str) -> JournalStore:
    store.open(1.0, "test")
    store.write([Write("enter", lambda file, key=key: enter(file, key, known())) for key in keys])  # type: ignore[misc]  # mypy sees no type of the default
    return store


def test_one_file_is_left(store: Make, tmp_path: Path) -> None:
    """A journal that was closed is one file, with all that was written."""
    one = filled(store(), "a", "b")
    assert (tmp_path / "run.db-wal").exists()
    one.close()
    assert [path.name for path in tmp_path.iterdir()] == ["run.db"]
    assert shown(tmp_path / "run.db") == [("a", "new"), ("b", "new")]
    one.close()


def test_how_it_is_written(store: Make) -> None:
    """Commits are synced into a write-ahead log, which no other process shares."""
    one = filled(store())
    pragmas: dict[str, object] = {}

    def look(file: sqlite3.Connection) -> None:
        for name in ("journal_mode", "synchronous", "locking_mode", "fullfsync"):
            (pragmas[name],) = file.execute(f"PRAGMA {name}").fetchone()

    one.write([Write("look", look)])
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "locking_mode": "exclusive",
        "fullfsync": 1,
    }
    assert not Path(f"{one.path}-shm").exists()


def test_an_intent_is_uncertain_after_opening(store: Make, tmp_path: Path) -> None:
    """What was an intent when the file was let go is uncertain as soon as it is opened."""
    one = filled(store(), "a")
    one.write([Write("intend", lambda file: moved(file, "intend", (1, "mark", 5.0, 1)))])
    one.close()
    assert shown(tmp_path / "run.db") == [("a", "intent")]
    filled(store()).close()
    assert shown(tmp_path / "run.db", "key, state, intent_id, intent_at, cost") == [
        ("a", "uncertain", "mark", 5.0, 1)
    ]
    assert len(shown(tmp_path / "run.db", "*", "run")) == 2


def test_a_refusal_touches_nothing_else(store: Make, tmp_path: Path) -> None:
    """One operation that is refused leaves the others of its batch as they are."""
    one = filled(store(), "a")
    refused = Write("move", lambda file: moved(file, "refused", (1,)))
    one.write([refused, Write("enter", lambda file: enter(file, "b", known()))])
    assert isinstance(refused.refused, JournalRefusal)
    one.close()
    assert shown(tmp_path / "run.db") == [("a", "new"), ("b", "new")]


def test_a_batch_is_written_as_one(store: Make, tmp_path: Path) -> None:
    """Of a batch that fails nothing is in the file, and no later batch is written."""
    hook = Failing("late:before-commit", full())
    one = filled(store(hook=hook), "a")
    with pytest.raises(JournalError, match="the disk is full"):
        one.write([Write("late", lambda file: enter(file, "b", known()))])
    with pytest.raises(JournalError, match="an earlier write failed"):
        one.write([Write("enter", lambda file: enter(file, "c", known()))])
    one.close()
    assert shown(tmp_path / "run.db") == [("a", "new")]
    with pytest.raises(JournalError, match="an earlier write failed"):
        one.write([])


def test_the_hook_is_told_of_each_commit(store: Make) -> None:
    """A hook is told before and after each commit what is in it, each name once."""
    hook = Failing("never", full())
    filled(store(hook=hook), "a", "b")
    assert hook.seen == [
        "open:before-commit",
        "open:after-commit",
        "enter:before-commit",
        "enter:after-commit",
    ]


@pytest.mark.parametrize("name", ["open:before-commit", "open:after-commit"])
def test_an_opening_that_fails(store: Make, tmp_path: Path, name: str) -> None:
    """An opening that fails lets go of the file, which can be opened after it."""
    with pytest.raises(JournalError, match="the disk is full"):
        store(hook=Failing(name, full())).open(1.0, "test")
    filled(store(), "a").close()
    runs = 1 if "before" in name else 2
    assert len(shown(tmp_path / "run.db", "*", "run")) == runs


def test_it_stays_broken_where_sqlite_has_rolled_back(store: Make, tmp_path: Path) -> None:
    """A transaction that SQLite has ended by itself is as good as one that is rolled back."""
    one = filled(store(), "a")

    def lose(file: sqlite3.Connection) -> None:
        enter(file, "b", known())
        file.execute("ROLLBACK")

    with pytest.raises(JournalError, match="no transaction is active"):
        one.write([Write("lose", lose)])
    one.close()
    assert shown(tmp_path / "run.db") == [("a", "new")]


@pytest.mark.parametrize("how", ["removed", "moved", "replaced"])
def test_a_file_that_goes_away(store: Make, tmp_path: Path, how: str) -> None:
    """A journal that is taken away while it is in use is not written on into the void."""
    one, path = filled(store(), "a"), tmp_path / "run.db"
    if how == "removed":
        path.unlink()
    else:
        path.rename(tmp_path / "other.db")
    if how == "replaced":
        path.touch()
    with pytest.raises(JournalError, match=r"removed, moved or replaced.*look at your account"):
        one.write([Write("enter", lambda file: enter(file, "b", known()))])


# --- what cannot be opened -------------------------------------------------------------------


def refused(store: JournalStore, said: str) -> None:
    path = Path(store.path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(JournalError, match=said) as caught:
        store.open(1.0, "test")
    assert str(caught.value).startswith(f"journal {printable(str(store.path))}: ")
    assert before is None or path.read_bytes() == before


def test_a_directory(store: Make, tmp_path: Path) -> None:
    """A directory is no file; the error names one that could be."""
    (tmp_path / "out").mkdir()
    refused(store("out"), r"it is a directory\. Name a file in it, such as .*run\.db")


def test_no_directory(store: Make, tmp_path: Path) -> None:
    """A file in a directory that is not there is not made; the error names the directory."""
    refused(store("out/run.db"), f"there is no directory {tmp_path / 'out'}")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    "body", [b"x", b"hello\n", b"{}\n" * 5000, b"SQLite format 3", b"\0" * 600]
)
def test_something_else(store: Make, tmp_path: Path, body: bytes) -> None:
    """A file that is no database is left as it is."""
    (tmp_path / "run.db").write_bytes(body)
    refused(store(), "something else than a journal, and was left as it is .*Name another")


def test_an_empty_file_becomes_a_journal(store: Make, tmp_path: Path) -> None:
    """A file without content, such as a run leaves that was killed at once, is a new journal."""
    (tmp_path / "run.db").touch()
    filled(store(), "a").close()
    assert shown(tmp_path / "run.db") == [("a", "new")]


def test_a_name_that_sqlite_knows(store: Make, tmp_path: Path) -> None:
    """A name which means memory to SQLite is a file like any other."""
    filled(store(":memory:"), "a").close()
    assert [path.name for path in tmp_path.iterdir()] == [":memory:"]


def test_a_name_that_no_file_has(store: Make) -> None:
    """A name that no file can have is an error of the journal too."""
    refused(store("a\0b"), "ValueError: .*embedded null")


def test_another_programs_database(store: Make, tmp_path: Path) -> None:
    """Another program's database is told apart and left as it is."""
    change(tmp_path / "run.db", "CREATE TABLE theirs (x)", "INSERT INTO theirs VALUES (1)")
    refused(store(), "the database of another program, and was left as it is")


def test_a_later_version(store: Make, tmp_path: Path) -> None:
    """A journal of a later version is left as it is; the error says how to get on."""
    filled(store(), "a").close()
    change(tmp_path / "run.db", f"PRAGMA user_version = {VERSION + 1}")
    refused(store(), "pip install -U apixo-async")


@pytest.mark.parametrize("left", [600, 4096, 20_000])
def test_a_truncated_file(store: Make, tmp_path: Path, left: int) -> None:
    """A journal that was cut short is damaged, and not taken for an empty one."""
    filled(store(), *map(str, range(200))).close()
    path = tmp_path / "run.db"
    os.truncate(path, left)
    with pytest.raises(JournalError, match=r"it is damaged.*Keep it, and restore a copy"):
        store().open(1.0, "test")
    assert path.stat().st_size == left


def test_garbage_in_the_middle(store: Make, tmp_path: Path) -> None:
    """Damage anywhere in a file of common size is found when it is opened."""
    filled(store(), *map(str, range(200))).close()
    path = tmp_path / "run.db"
    body = bytearray(path.read_bytes())
    body[5 * 4096 : 6 * 4096] = b"\xa5" * 4096
    path.write_bytes(body)
    refused(store(), "it is damaged")


def test_garbage_in_a_copy_without_a_log(store: Make, tmp_path: Path) -> None:
    """A damaged copy that another tool made, in its own journal mode, is left as it is too."""
    filled(store(), *map(str, range(200))).close()
    path = tmp_path / "run.db"
    change(path, "PRAGMA journal_mode = DELETE")
    body = bytearray(path.read_bytes())
    body[32:36] = b"\0\xa5\0\0"  # Where the list of free pages begins.
    path.write_bytes(body)
    refused(store(), "it is damaged")


def test_garbage_that_is_met_later(
    store: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is too large to be looked through is opened, and damage found where it is met."""
    filled(store(), *map(str, range(200))).close()
    path = tmp_path / "run.db"
    body = bytearray(path.read_bytes())
    for at in range(len(body) // 4096 // 2, len(body) // 4096):
        body[at * 4096 : (at + 1) * 4096] = b"\xa5" * 4096
    path.write_bytes(body)
    monkeypatch.setattr("apixo_async.journal._store.MOST_CHECKED", 0)
    one = store()
    one.open(1.0, "test")
    with pytest.raises(JournalError, match="it is damaged"):
        one.write([Write("read", lambda file: file.execute("SELECT * FROM item").fetchall())])


def test_another_run_in_this_process(store: Make, tmp_path: Path) -> None:
    """A journal that is in use is refused, and stays with the one that uses it."""
    one = filled(store(), "a")
    with pytest.raises(JournalError, match="another run is using it, and did not close it within"):
        store().open(1.0, "test")
    one.write([Write("enter", lambda file: enter(file, "b", known()))])
    one.close()
    assert len(shown(tmp_path / "run.db")) == 2


def test_a_link_to_the_file(store: Make, tmp_path: Path) -> None:
    """A link is the file it leads to: one lock and one log, beside the file itself."""
    (tmp_path / "far").mkdir()
    (tmp_path / "link.db").symlink_to(tmp_path / "far/run.db")
    one = filled(store("link.db"), "a")
    beside = {path.name for path in (tmp_path / "far").iterdir()}
    assert beside == {"run.db", "run.db-wal", "run.db-lock"}
    with pytest.raises(JournalError, match=r"another run is using it.*run\.db-lock is locked"):
        store("far/run.db").open(1.0, "test")
    one.close()
    filled(store("far/run.db"), "b").close()
    assert {path.name for path in tmp_path.iterdir()} == {"far", "link.db"}
    assert len(shown(tmp_path / "far/run.db")) == 2


def test_a_link_to_no_directory(store: Make, tmp_path: Path) -> None:
    """A link into a directory that is not there is an error that says what to check."""
    (tmp_path / "run.db").symlink_to(tmp_path / "far/run.db")
    refused(store(), "Check that its directory exists")


def test_a_directory_that_is_replaced(store: Make, tmp_path: Path) -> None:
    """A run whose directory was replaced writes no more, and leaves the new one's run alone."""
    (tmp_path / "out").mkdir()
    old = filled(store("out/run.db"), "a")
    (tmp_path / "out").rename(tmp_path / "away")
    (tmp_path / "out").mkdir()
    new = filled(store("out/run.db"), "b")
    with pytest.raises(JournalError, match="removed, moved or replaced"):
        old.write([Write("enter", lambda file: enter(file, "c", known()))])
    old.close()
    new.write([Write("enter", lambda file: enter(file, "d", known()))])
    with pytest.raises(JournalError, match="another run is using it"):
        store("out/run.db").open(1.0, "test")
    new.close()
    assert shown(tmp_path / "out/run.db") == [("b", "new"), ("d", "new")]


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
def test_only_the_owner_may_read_it(store: Make, tmp_path: Path) -> None:
    """New files are their owner's alone; a file that is there keeps its rights."""
    one = filled(store(), "a")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    one.close()
    (tmp_path / "run.db").chmod(0o640)
    filled(store(), "b").close()
    assert (tmp_path / "run.db").stat().st_mode & 0o777 == 0o640


@pytest.fixture
def outdoors() -> Iterator[Path]:
    """Be nobody in particular, in a directory of one's own: nothing is read-only to root."""
    if not hasattr(os, "geteuid"):
        pytest.skip("files are protected in another way here")
    place = Path(tempfile.mkdtemp())
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(place, 65534, 65534)
        os.seteuid(65534)
    yield place
    place.chmod(0o755)
    if is_root:
        os.seteuid(0)
    shutil.rmtree(place)


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "killed"])
def test_a_read_only_file(outdoors: Path, closed: bool) -> None:
    """A file that may not be written is refused when it is opened, not at the first purchase."""
    path = outdoors / "run.db"
    left_by_a_run(path, closed=closed)
    path.chmod(0o444)
    one = JournalStore(str(path))
    with pytest.raises(JournalError, match=r"read-only.*allow writing"):
        one.open(1.0, "test")
    path.chmod(0o644)
    filled(JournalStore(str(path)), "b").close()
    assert shown(path) == [("a", "new"), ("b", "new")]


@pytest.mark.parametrize("there", [True, False])
def test_a_read_only_directory(outdoors: Path, there: bool) -> None:
    """A directory that may not be written is refused, with or without the file in it."""
    if there:
        left_by_a_run(outdoors / "run.db", closed=True)
    outdoors.chmod(0o555)
    one = JournalStore(str(outdoors / "run.db"))
    with pytest.raises(JournalError, match=r"cannot be opened|read-only") as caught:
        one.open(1.0, "test")
    assert "that you may write there" in str(caught.value) or "allow writing" in str(caught.value)


def test_a_directory_that_cannot_be_entered(outdoors: Path) -> None:
    """A directory whose files cannot be seen is an error that says what to check."""
    closed = outdoors / "closed"
    closed.mkdir(mode=0)
    with pytest.raises(JournalError, match=r"cannot be opened|there is no directory"):
        JournalStore(str(closed / "run.db")).open(1.0, "test")
    closed.chmod(0o755)


def left_by_a_run(path: Path, *, closed: bool) -> None:
    """Leave a journal with one item; of a killed run, with its log."""
    one = filled(JournalStore(str(path)), "a")
    if not closed:
        bodies = {name: Path(name).read_bytes() for name in (str(path), f"{path}-wal")}
        one.close()
        for name, body in bodies.items():
            Path(name).write_bytes(body)
    one.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE item SET key = CAST(key AS BLOB) WHERE row = 17",
        "UPDATE item SET state = 'odd' WHERE row = 17",
    ],
)
def test_a_row_that_would_not_be_found(store: Make, tmp_path: Path, statement: str) -> None:
    """A key that is no text, or an unknown state, is damage of the file."""
    filled(store(), *map(str, range(200))).close()
    change(tmp_path / "run.db", "PRAGMA ignore_check_constraints = ON", statement)
    refused(store(), "it is damaged")


def test_a_wrong_byte_in_the_index(store: Make, tmp_path: Path) -> None:
    """A key that the index of keys has lost is damage: its item would be taken for a new one."""
    filled(store(), *(f"key {number:04}" for number in range(200))).close()
    path = tmp_path / "run.db"
    body = path.read_bytes()
    key = b"key 0017"
    # In the table the digest follows the key; in the index the row's number does, 18.
    assert body.count(key + b"\x12") == 1
    path.write_bytes(body.replace(key + b"\x12", b"key 0097\x12"))
    refused(store(), r"it is damaged.*(index|order)")

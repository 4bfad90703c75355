from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from apixo_async.journal._lock import FileLock

fcntl = pytest.importorskip("fcntl", reason="SQLite's own lock does on Windows")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db-lock"


def test_one_holder_at_a_time(path: Path) -> None:
    """A second holder is refused with SQLite's own code until the first one is done."""
    first, second = FileLock(path), FileLock(path)
    assert first.acquire() is None
    with pytest.raises(sqlite3.DatabaseError, match=r"run\.db-lock is locked") as caught:
        second.acquire()
    assert caught.value.sqlite_errorcode == sqlite3.SQLITE_BUSY
    first.release()
    first.release()
    assert second.acquire() is None
    second.release()
    assert not path.exists()


def test_it_outlives_those_who_read_it(path: Path) -> None:
    """Whatever opens the file and closes it again in this process, the lock stays."""
    first = FileLock(path)
    first.acquire()
    assert path.read_bytes() == b""
    with pytest.raises(sqlite3.DatabaseError, match="is locked"):
        FileLock(path).acquire()
    first.release()


def test_only_the_owner_may_read_it(path: Path) -> None:
    """The file is its owner's alone."""
    lock = FileLock(path)
    lock.acquire()
    assert path.stat().st_mode & 0o777 == 0o600
    lock.release()


def test_a_file_that_is_removed_as_it_is_locked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock on a file that the last holder has just removed is none: a new file is made."""
    flock: Callable[[int, int], None] = fcntl.flock
    locked: list[int] = []

    def remove_first(descriptor: int, how: int) -> None:
        flock(descriptor, how)
        locked.append(os.fstat(descriptor).st_nlink)
        if len(locked) == 1:
            path.unlink()

    monkeypatch.setattr(fcntl, "flock", remove_first)
    lock = FileLock(path)
    lock.acquire()
    assert len(locked) == 2
    with pytest.raises(sqlite3.DatabaseError, match="is locked"):
        FileLock(path).acquire()
    lock.release()


def test_a_directory_that_is_replaced(tmp_path: Path) -> None:
    """A holder whose directory was replaced leaves the new directory's lock alone."""
    place = tmp_path / "place"
    place.mkdir()
    old, new = FileLock(place / "run.db-lock"), FileLock(place / "run.db-lock")
    old.acquire()
    place.rename(tmp_path / "away")
    place.mkdir()
    new.acquire()
    old.release()
    with pytest.raises(sqlite3.DatabaseError, match="is locked"):
        FileLock(place / "run.db-lock").acquire()
    new.release()


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.ENOLCK])
def test_a_file_system_without_locks(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Where the file system refuses, the caller is given a warning, and nothing is left there."""

    def refuse(*_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    said = FileLock(path).acquire()
    assert said is not None
    assert os.strerror(code) in said
    assert "Do not touch the journal before the run has ended" in said
    assert not path.exists()


def test_a_system_without_locks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python has no `fcntl`, SQLite's own lock does, with a warning, and no file is made."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    lock = FileLock(path)
    said = lock.acquire()
    assert said is not None
    assert "SQLite's lock keeps a second run out" in said
    lock.release()
    assert not path.exists()


def test_an_error_of_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other error is the caller's, and the descriptor is closed."""

    def fail(*_: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OSError, match="broken"):
        FileLock(path).acquire()
    monkeypatch.undo()
    lock = FileLock(path)
    lock.acquire()
    lock.release()


#: Take a lock, start a child in one of two ways, and die without a word.
PARENT = textwrap.dedent(
    """
    import os, signal, subprocess, sys
    from pathlib import Path
    from apixo_async.journal._lock import FileLock

    FileLock(Path(sys.argv[1])).acquire()
    if sys.argv[2] == "fork":
        child = os.fork()
        if not child:
            print("child", flush=True)
            sys.stdin.read()
            os._exit(0)
    else:
        code = "import sys; print('child', flush=True); sys.stdin.read()"
        subprocess.Popen([sys.executable, "-c", code], close_fds=False)
    os.kill(os.getpid(), signal.SIGKILL)
    """
)


@pytest.mark.parametrize("how", ["fork", "exec"])
def test_a_child_that_outlives_its_parent(path: Path, how: str) -> None:
    """A killed holder's file is free at once, whatever children it has left behind."""
    command = [sys.executable, "-c", PARENT, str(path), how]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "child\n"
        assert parent.wait(30) < 0
        assert path.exists()
        lock = FileLock(path)
        assert lock.acquire() is None
        lock.release()

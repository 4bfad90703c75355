"""Entries in a file of SQLite, for any number of processes on one host."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from apixo_async.errors import StoreError
from apixo_async.journal._network_share import share_of
from apixo_async.stores._batches import Connection
from apixo_async.stores._protocol import KEEP
from apixo_async.stores._sql import LIMITS, SQLITE, Act, Done
from apixo_async.stores._sql_store import SqlStore, opened

#: Seconds for which another process may have the file.
_LOCKED: Final = 5.0


class SqliteStore:
    """Keep entries and limits in a file, which processes of one host share.

    The file has prompts and result URLs, but no API key. It needs a local disk: on a network share
    two processes may both have it. Beside it lie `…-limits`, which may be lost, and locks; copy the
    store while no process uses it, or with SQLite's `VACUUM INTO`.

    Args:
        path: The file; made where there is none.
        namespace: Where keys are unique.
        keep: For how long an entry is kept after its end.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, namespace: str = "default", keep: timedelta = KEEP
    ) -> None:
        self.path = Path(path)
        self.namespace = namespace
        self.keep = keep

    def __repr__(self) -> str:
        return f"SqliteStore({str(self.path)!r}, namespace={self.namespace!r})"

    async def open(self, account: str) -> SqlStore:
        """See `Backend.open`."""
        entries = SqliteDatabase(self.path)
        limits = SqliteDatabase(self.path.with_name(f"{self.path.name}-limits"), is_lasting=False)
        return await opened(entries, limits, SQLITE, account, self.namespace)


class SqliteDatabase:
    """See `Database`.

    Args:
        path: The file.
        is_lasting: Whether what is written must outlive a loss of power.
    """

    def __init__(self, path: Path, *, is_lasting: bool = True) -> None:
        self._path = path
        self._is_lasting = is_lasting

    def connect(self) -> Connection:
        """See `Database.connect`."""
        if sqlite3.sqlite_version_info < (3, 24):
            raise StoreError(
                f"this Python has SQLite {sqlite3.sqlite_version}: a store needs 3.24 or newer"
            )
        if share := share_of(str(self._path)):
            raise StoreError(
                f"store {self._path}: {share.point} is a network file system ({share.kind}), on "
                "which two processes may both have the file: take a local disk, or PostgresStore"
            )
        if self._is_lasting:
            return SqliteConnection(self._path)
        try:
            return LimitsConnection(self._path)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            self._path.unlink()  # Damaged, as after a loss of power; it may be lost at any time.
            return LimitsConnection(self._path)

    def is_lost(self, exc: BaseException) -> bool:
        """See `Database.is_lost`."""
        return isinstance(exc, sqlite3.Error) and "locked" not in str(exc)

    def error(self, exc: BaseException) -> StoreError:
        """See `Database.error`."""
        if isinstance(exc, StoreError):
            return exc
        said = str(exc)
        advice = {
            "locked": "another process has held it for too long: see what that one does",
            "readonly": "this user may not write it: change its rights",
            "unable to open": "make its folder, or choose another place",
            "full": "the disk is full: make room",
            "not a database": "it is something else: choose another place",
            "malformed": "it is damaged: keep it, and recover it with `sqlite3 FILE .recover`",
            "no such table": "it was emptied while it was used: close every client first",
        }
        does = next((text for sign, text in advice.items() if sign in said), "see its disk")
        return StoreError(f"store {self._path}: {said}; {does}")


class SqliteConnection:
    """See `Connection`."""

    SYNCHRONOUS = "FULL"

    def __init__(self, path: Path) -> None:
        is_new = not path.exists()
        # Its thread alone uses it, but for `interrupt`.
        self._file = sqlite3.connect(
            path, timeout=_LOCKED, isolation_level=None, check_same_thread=False
        )
        try:
            # With PERSIST the commit is one sync less than with DELETE, and durable as that is not:
            # SQLite does not sync the removal of a journal. WAL has a defect with several writers
            # in versions that are still common (fixed in 3.51.3).
            self._file.execute("PRAGMA journal_mode = PERSIST")
            self._file.execute(f"PRAGMA synchronous = {self.SYNCHRONOUS}")
            if is_new:
                path.chmod(0o600)  # Prompts are nothing for other users.
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
            self._lock = os.open(f"{path}-lock", flags, 0o600)
        except BaseException:
            self._file.close()
            raise

    def run(self, acts: Sequence[Act[Any]]) -> list[list[Done]]:
        """See `Connection.run`."""
        if not any(act.writes for act in acts):
            return [self._done(act) for act in acts]
        with self._alone():
            self._file.execute("BEGIN IMMEDIATE")
            try:
                done = [self._done(act) for act in acts]
                self._file.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._file.execute("ROLLBACK")
                raise
            return done

    def _done(self, act: Act[Any]) -> list[Done]:
        done: list[Done] = []
        for statement in act.statements:
            cursor = self._file.execute(statement, act.values)
            done.append(Done(cursor.fetchall(), cursor.rowcount))
        return done

    @contextmanager
    def _alone(self) -> Generator[None]:
        """Hold the lock beside the file: by SQLite's own waiting, some processes would starve."""
        if sys.platform == "win32":
            yield
            return
        import fcntl

        until = time.monotonic() + _LOCKED
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise sqlite3.OperationalError("database is locked") from None
                time.sleep(0.001)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def cut(self) -> None:
        """See `Connection.cut`."""
        with suppress(sqlite3.Error):
            self._file.interrupt()

    def close(self) -> None:
        """See `Connection.close`."""
        with suppress(sqlite3.Error):
            self._file.close()
        with suppress(OSError):
            os.close(self._lock)


class LimitsConnection(SqliteConnection):
    """A connection to the file of the limits: nothing waits for the disk, and it may be removed."""

    SYNCHRONOUS = "OFF"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self._file.execute(SQLITE.render(LIMITS))
            self._path, self._place = path, path.stat().st_ino
        except BaseException:
            self.close()
            raise

    def run(self, acts: Sequence[Act[Any]]) -> list[list[Done]]:
        """See `Connection.run`."""
        try:
            is_there = self._path.stat().st_ino == self._place
        except FileNotFoundError:
            is_there = False
        if not is_there:
            raise sqlite3.DatabaseError("the file was removed")
        return super().run(acts)

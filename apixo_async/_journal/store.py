"""The file and its one connection, used by one thread only: opened, written batch by batch, closed.

WAL with `synchronous=FULL` makes a commit durable by one sync, and `locking_mode=EXCLUSIVE` keeps
every other process out from the first read to the end.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from apixo_async._journal.failures import PATIENCE, Refusal, as_sqlite, journal_error
from apixo_async._journal.schema import begin_run, check_pages, is_new

#: Up to this size a file is looked through for damage when it is opened: a fraction of a second.
_MOST_CHECKED: Final = 64 << 20

#: Called in the journal's thread with "name:before-commit" and "name:after-commit".
Hook: TypeAlias = Callable[[str], None]


class Operation(Protocol):
    """One of the things that a batch does."""

    @property
    def name(self) -> str:
        """What it is called, for the hook."""
        ...

    def run(self, connection: sqlite3.Connection) -> None:
        """Do it; what is refused is kept, and anything raised ends the batch."""
        ...


class Store:
    """The file of a journal. Every method runs in the journal's thread.

    Args:
        path: The file, as the caller named it.
        hook: For tests: told before and after each commit what is in it.
    """

    def __init__(self, path: str, hook: Hook | None = None) -> None:
        self.path = path
        self._hook = hook
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[Path, tuple[int, int] | None] = Path(path), None
        self._is_broken = False

    def open(self, now: float, version: str) -> None:
        """Open the file or make it, and begin a run.

        Raises:
            JournalError: It cannot be used; it is left as it is.
        """
        try:
            file = _checked(self.path)
            # The thread's own: `close` gives it back whatever happens here.
            self._connection = connection = sqlite3.connect(
                file, timeout=PATIENCE, isolation_level=None
            )
            self._file = file, _inode(file)
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            new = is_new(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA fullfsync = ON")  # macOS: through the disk's own cache.
            if file.stat().st_size <= _MOST_CHECKED:
                check_pages(connection)
            with _transaction(connection):
                begin_run(connection, new=new, now=now, version=version)
                self._tell(("open",), "before-commit")
            self._tell(("open",), "after-commit")
        except Exception as exc:
            self.close()
            raise journal_error(self.path, exc) from exc

    def write(self, batch: Sequence[Operation]) -> None:
        """Do all of a batch in one transaction, durably.

        Raises:
            JournalError: The file cannot be written; nothing of this batch is in it, nor will
                anything be that comes after it.
        """
        connection = self._connection
        if connection is None or self._is_broken:
            raise journal_error(self.path, Refusal("an earlier write failed"))
        names = tuple(dict.fromkeys(operation.name for operation in batch))
        try:
            self._check_file()
            with _transaction(connection):
                for operation in batch:
                    operation.run(connection)
                self._tell(names, "before-commit")
            self._tell(names, "after-commit")
        except Exception as exc:
            self._is_broken = True
            raise journal_error(self.path, exc) from exc

    def _check_file(self) -> None:
        """Refuse to write on into a file that nobody will find again."""
        file, inode = self._file
        if _inode(file) != inode:
            raise Refusal(
                "it was removed, moved or replaced while it was in use. What was bought since then "
                "is known to this run alone: look at your account before you run the same again"
            )

    def _tell(self, names: Sequence[str], when: str) -> None:
        if self._hook is not None:
            for name in names:
                self._hook(f"{name}:{when}")

    def close(self) -> None:
        """Let go of the file; SQLite takes the write-ahead log into it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _inode(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Generator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # After some errors SQLite has rolled back by itself, and refuses to do it again.
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _checked(path: str) -> Path:
    """Return the absolute path of a file, where one can be.

    Raises:
        Refusal: It is a directory, or has none.
        sqlite3.Error: It is read-only, or too short for a database.
    """
    file = Path(path).absolute()
    if file.is_dir():
        raise Refusal(f"it is a directory. Name a file in it, such as {Path(path) / 'run.db'}")
    if not file.parent.is_dir():
        raise Refusal(f"there is no directory {file.parent}. Make it, or name another file")
    if not file.exists():
        return file
    if not os.access(file, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        # SQLite would open it for reading, and then speak of an error of the disk.
        raise as_sqlite(sqlite3.SQLITE_READONLY, "no permission to write")
    if file.stat().st_size == 1:
        # To SQLite such a file is an empty database. It is looked at without being opened: closing
        # it would take away the lock of a journal that this process has open.
        raise as_sqlite(sqlite3.SQLITE_NOTADB, "one byte")
    return file

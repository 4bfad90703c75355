"""The file and its one connection, used by one thread only: opened, written batch by batch, closed.

WAL with `synchronous=FULL` makes a commit durable by one sync. `locking_mode=EXCLUSIVE` keeps every
other process out from the first read to the end, and a lock of our own does where that fails.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from apixo_async.journal._descriptors import began_writing, ended_writing
from apixo_async.journal._failures import (
    ACCEPT,
    PATIENCE,
    JournalRefusal,
    as_sqlite,
    file_is_gone,
    file_is_lost,
    journal_error,
    log_is_damaged,
    log_is_gone,
    log_is_lost,
)
from apixo_async.journal._lock import FileLock
from apixo_async.journal._log import condition_of
from apixo_async.journal._schema import begin_run, check_pages, is_new, needs_log, settle

#: Up to this size a file is looked through for damage when it is opened, which takes up to a
#: second: 100,000 items that are done are 74 MiB, and take 0.8 s.
MOST_CHECKED: Final = 80 << 20

#: Operations between two copies of the log into the file, which cost four syncs. In the log each
#: takes about a page of 4 KiB when many are written at once, and a few when it is alone.
_MOST_UNSETTLED: Final = 3000

#: A log of this size or less holds nothing: SQLite leaves one when it is killed while it opens.
LOG_HEADER: Final = 32

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


class JournalStore:
    """The file of a journal. Every method runs in the journal's thread.

    Args:
        path: The file, as the caller named it.
        hook: For tests: called before and after each commit with what is in it.

    Attributes:
        warning: What to warn of once it is open, or None.
    """

    def __init__(self, path: str, hook: Hook | None = None) -> None:
        self.path = path
        self._hook = hook
        self._connection: sqlite3.Connection | None = None
        self._lock: FileLock | None = None
        self._written: Path | None = None
        self._watched: list[tuple[Path, tuple[int, int] | None, str]] = []
        self._unsettled = 0
        self._has_begun = self._is_broken = False
        self.warning: str | None = None

    def open(self, now: float, version: str) -> None:
        """Open the file or make it, and begin a run.

        Raises:
            JournalError: It cannot be used; it is left as it is.
        """
        try:
            named = _checked(self.path)
            # As SQLite does it: what lies beside the file lies where a link leads to.
            file = named.resolve()
            log = Path(f"{file}-wal")
            # `close` gives back what is taken from here on, whatever happens.
            self._lock = FileLock(Path(f"{file}-lock"))
            warning = self._lock.acquire()
            began_writing(file)
            self._written = file
            self.warning = warning and f"journal {self.path}: {warning}"
            connection, new = self._connect(file, log)
            # Before anything is written: the switch to WAL is in the file's header.
            if not new and file.stat().st_size <= MOST_CHECKED:
                check_pages(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA wal_autocheckpoint = 0")  # `settle` does it.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA fullfsync = ON")  # macOS: through the disk's own cache.
            with _transaction(connection):
                begin_run(connection, new=new, now=now, version=version)
                self._tell(("open",), "before-commit")
            self._has_begun = True
            self._tell(("open",), "after-commit")
            # From here on, and before anything is bought, the file says that it needs its log.
            settle(connection)
            self._watched = [
                (named, _inode(named), file_is_gone(log)),
                (log, _inode(log), log_is_gone(log)),
            ]
        except Exception as exc:
            self.close()
            raise journal_error(self.path, exc) from exc

    def _connect(self, file: Path, log: Path) -> tuple[sqlite3.Connection, bool]:
        """Connect to a file that has the log it needs; the second value is True if it is new."""
        has_log = _size(log) > LOG_HEADER
        if has_log and not _size(file):
            raise JournalRefusal(file_is_lost(file, log))  # SQLite would remove the log.
        if has_log:
            check_log(file, log)
        # A new file is its owner's alone, as is then what SQLite makes beside it. One that is there
        # is not opened: closing it would end SQLite's locks in this process.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        self._connection = connection = sqlite3.connect(
            file, timeout=PATIENCE, isolation_level=None
        )
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        new = is_new(connection)
        opened_at = None if new else needs_log(connection)
        if opened_at is not None:
            if not has_log:
                raise JournalRefusal(log_is_lost(file, log, opened_at))
            # A run was killed while it copied the log: closing would leave the mark alone.
            connection.execute(ACCEPT)
        return connection, new

    def write(self, batch: Sequence[Operation]) -> None:
        """Do all of a batch in one transaction, durably.

        Raises:
            JournalError: The file cannot be written; nothing of this batch is in it, nor will
                anything be that comes after it.
        """
        connection = self._connection
        if connection is None or self._is_broken:
            raise journal_error(self.path, JournalRefusal("an earlier write failed"))
        names = tuple(dict.fromkeys(operation.name for operation in batch))
        try:
            for path, inode, words in self._watched:
                if _inode(path) != inode:
                    raise JournalRefusal(words)  # The next run would not find the file.
            if self._unsettled >= _MOST_UNSETTLED:
                settle(connection)
                self._unsettled = 0
            with _transaction(connection):
                for operation in batch:
                    operation.run(connection)
                self._tell(names, "before-commit")
            self._unsettled += len(batch)
            self._tell(names, "after-commit")
        except Exception as exc:
            self._is_broken = True
            raise journal_error(self.path, exc) from exc

    def _tell(self, names: Sequence[str], when: str) -> None:
        if self._hook is not None:
            for name in names:
                self._hook(f"{name}:{when}")

    def close(self) -> None:
        """Close the file; SQLite copies the log into it, and removes the log."""
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                if self._has_begun:
                    # All is copied while the mark still stands: what SQLite copies then is the end
                    # of the mark, in one page. If it fails, the log stays, or at worst the mark.
                    with contextlib.suppress(sqlite3.Error):
                        settle(connection)
                connection.close()
        finally:
            if self._written is not None:
                ended_writing(self._written)
                self._written = None
            if self._lock is not None:
                self._lock.release()  # Not before SQLite is done with the files.


def check_log(file: Path, log: Path) -> None:
    """Refuse a log of which SQLite would lose what was committed, and then remove it.

    Raises:
        JournalRefusal: Committed transactions cannot be read from it.
    """
    with log.open("rb") as frames:
        condition = condition_of(frames)
    if condition == "empty":
        # The file by itself: "immutable" reads it without its log, and changes neither.
        with contextlib.closing(
            sqlite3.connect(f"{file.as_uri()}?immutable=1", uri=True)
        ) as connection:
            if not is_new(connection) and needs_log(connection) is not None:
                condition = "damaged"
    if condition == "damaged":
        raise JournalRefusal(log_is_damaged(file, log))


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


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
        JournalRefusal: It is a directory, or has none.
        sqlite3.Error: It is read-only, or too short for a database.
    """
    file = Path(path).absolute()
    if file.is_dir():
        raise JournalRefusal(
            f"it is a directory. Name a file in it, such as {Path(path) / 'run.db'}"
        )
    if not file.parent.is_dir():
        raise JournalRefusal(f"there is no directory {file.parent}. Make it, or name another file")
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

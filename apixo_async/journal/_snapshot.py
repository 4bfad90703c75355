"""A journal as it is at one moment: a copy in a temporary folder, of the file and of its log.

A run holds SQLite's exclusive lock for as long as it lasts, and a reader with a lock of its own
would keep the next run out. So the bytes are copied, and SQLite opens the copy alone.

The order makes the copy whole while a run writes. The file changes only as SQLite copies pages of
the log into it, and the log only grows until its header changes. So a log that is copied after the
file, between two reads that find the same header, has every page that changed in the meantime.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from apixo_async.journal._descriptors import is_written, reading
from apixo_async.journal._failures import (
    JournalRefusal,
    file_is_lost,
    journal_error,
    log_is_damaged,
    log_is_lost,
)
from apixo_async.journal._lock import is_locked
from apixo_async.journal._schema import (
    begin_run,
    check_pages,
    is_new,
    needs_log,
    settle_intents,
    upgrade,
)
from apixo_async.journal._store import LOG_HEADER, MOST_CHECKED, check_log

T = TypeVar("T")

#: Seconds for which a journal that changes under the copy is copied anew, and between two copies.
_PATIENCE: Final = 10.0
_PAUSE: Final = 0.02

_CHUNK: Final = 1 << 20


class JournalSnapshot:
    """A copy of a journal, for one thread.

    Args:
        path: The journal, as the caller named it.

    Attributes:
        in_use: Whether a run had the journal open when the copy was made.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.in_use = False
        self._folder: Path | None = None
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Copy the journal, and open the copy.

        Raises:
            JournalError: It cannot be read; it is left as it is.
        """
        try:
            self._open()
        except Exception as exc:
            self.close()
            raise journal_error(self.path, exc) from exc

    def _open(self) -> None:
        named = Path(self.path).absolute()
        if named.is_dir():
            raise JournalRefusal(
                f"it is a directory. Name a file in it, such as {Path(self.path) / 'run.db'}"
            )
        file = named.resolve()
        log = Path(f"{file}-wal")
        if not _size(file) and _size(log) > LOG_HEADER:
            raise JournalRefusal(file_is_lost(file, log))
        if not file.exists():
            raise JournalRefusal("there is no such file. Name the journal of a run that has begun")
        copy, log_copy = self._copied(file, log)
        self.in_use = is_written(file) or is_locked(Path(f"{file}-lock"))
        has_log = _size(log_copy) > LOG_HEADER
        if has_log:
            try:
                check_log(copy, log_copy)
            except JournalRefusal as exc:  # It names the copies.
                raise JournalRefusal(log_is_damaged(file, log)) from exc
        self._connection = connection = sqlite3.connect(copy, isolation_level=None)
        if is_new(connection):  # A run has begun, and entered nothing yet.
            begin_run(connection, new=True, now=0.0, version="")
        opened_at = needs_log(connection)
        if opened_at is not None and not has_log:
            raise JournalRefusal(log_is_lost(file, log, opened_at))
        if copy.stat().st_size <= MOST_CHECKED:
            check_pages(connection)
        upgrade(connection)
        if not self.in_use:
            settle_intents(connection)

    def _copied(self, file: Path, log: Path) -> tuple[Path, Path]:
        """Copy a file and its log, which belong to the same moment then."""
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="apixo-journal-"))
        except OSError as exc:
            raise _no_room(tempfile.gettempdir(), exc) from exc
        copies = self._folder / "journal.db", self._folder / "journal.db-wal"
        until = time.monotonic() + _PATIENCE
        while True:
            before = _generation(file, log)
            _copy(file, copies[0])
            copies[1].unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):  # The last run ended by itself.
                _copy(log, copies[1])
            if _generation(file, log) == before:
                return copies
            if time.monotonic() > until:
                raise JournalRefusal(
                    f"it changed faster than it can be read, for {_PATIENCE:g} s. What it holds is "
                    "safe: read it again when less is written to it"
                )
            time.sleep(_PAUSE)

    def ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Return what a function reads from the copy.

        Raises:
            JournalError: The copy cannot be read, or was closed.
        """
        if self._connection is None:
            raise journal_error(self.path, JournalRefusal("the reader was closed. Open it anew"))
        try:
            return question(self._connection)
        except sqlite3.Error as exc:
            raise journal_error(self.path, exc) from exc

    def close(self) -> None:
        """Close the copy, and remove it."""
        connection, self._connection = self._connection, None
        folder, self._folder = self._folder, None
        if connection is not None:
            connection.close()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _generation(file: Path, log: Path) -> object:
    """Return what stays the same while the log only grows."""
    try:
        with log.open("rb") as opened:
            header = opened.read(LOG_HEADER)
            found = os.fstat(opened.fileno())
    except FileNotFoundError:
        header, found = b"", None
    if found is not None and len(header) == LOG_HEADER:
        return found.st_dev, found.st_ino, header
    found = file.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _copy(source: Path, target: Path) -> None:
    try:
        with reading(source) as descriptor, target.open("wb") as copy:
            os.lseek(descriptor, 0, os.SEEK_SET)
            while chunk := os.read(descriptor, _CHUNK):
                try:
                    copy.write(chunk)
                except OSError as exc:
                    raise _no_room(str(target.parent), exc) from exc
    except PermissionError as exc:
        raise JournalRefusal(
            f"you may not read {source} ({exc.strerror}): like the prompts in it, it is its "
            "owner's alone. Read it as the user who ran it"
        ) from exc


def _no_room(folder: str, exc: OSError) -> JournalRefusal:
    return JournalRefusal(
        f"it is copied to be read, and the copy cannot be written to {folder} ({exc.strerror}). "
        "The journal is untouched: make room there, or set TMPDIR to another folder"
    )


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0

"""What went wrong with the file, in sentences that say what to do next."""

from __future__ import annotations

import errno
import shlex
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from apixo_async.errors import JournalError

#: Seconds that opening waits for another process to close the file.
PATIENCE: Final = 1.0

_SAFE: Final = "What it holds is safe"

#: What to do with a damaged file.
RESCUE: Final = (
    "Keep it, and restore a copy or save what can be saved (sqlite3 FILE .recover): with an empty "
    "one in its place all would be bought again"
)

#: Takes back a file's mark that it needs its log.
ACCEPT: Final = "UPDATE run SET needs_log = 0"

#: What SQLite would say of the errors that the files beside its own raise.
_ERRNOS: Final[Mapping[int | None, int]] = {
    errno.EACCES: sqlite3.SQLITE_CANTOPEN,
    errno.EPERM: sqlite3.SQLITE_CANTOPEN,
    errno.ENOENT: sqlite3.SQLITE_CANTOPEN,
    errno.EROFS: sqlite3.SQLITE_READONLY,
    errno.ENOSPC: sqlite3.SQLITE_FULL,
}

#: What each family of SQLite's result codes means, and what helps.
_MEANINGS: Final[Mapping[int, tuple[str, str]]] = {
    sqlite3.SQLITE_FULL: (
        "the disk is full",
        f"{_SAFE}: free some space, and run the same again",
    ),
    sqlite3.SQLITE_READONLY: (
        "it cannot be written: the file or its directory is read-only",
        f"{_SAFE}: allow writing to both, or name another file",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "it cannot be opened, or the files beside it cannot be made",
        "Check that its directory exists and that you may write there",
    ),
    sqlite3.SQLITE_BUSY: (
        f"another run is using it, and did not close it within {PATIENCE:g} s",
        "Wait for that run, or end it: two runs never share a journal",
    ),
    sqlite3.SQLITE_IOERR: (
        "the disk reports an error",
        f"{_SAFE}: check the disk and its free space, and run the same again",
    ),
    sqlite3.SQLITE_NOTADB: (
        "it is something else than a journal, and was left as it is",
        "Name another file",
    ),
    sqlite3.SQLITE_CORRUPT: (
        "it is damaged",
        RESCUE,
    ),
}


class JournalRefusal(Exception):
    """A write was refused and changed nothing; the others beside it are not touched."""


def file_is_gone(log: Path) -> str:
    """Return what to do where an open journal was taken away from its log."""
    return (
        "it was removed, moved or replaced while it was in use. Let this run end, and put the file "
        f"back beside its log {log}: the two together hold all that was noted. If it is lost, look "
        "at your account before you run the same again"
    )


def log_is_gone(log: Path) -> str:
    """Return what to do where the log was taken away from an open journal."""
    return (
        f"its log {log} was removed, moved or replaced while it was in use. What the log holds is "
        "written into the journal when this run closes it: let the run end, then run the same again"
    )


def file_is_lost(file: Path, log: Path) -> str:
    """Return what to do where there is a log, and no file that it belongs to."""
    return (
        f"{file} is missing or empty, but the log of a run that was killed is there, {log}. Put "
        f"{file.name} back beside it: the two belong together. To begin anew, remove {log.name} "
        "too: then all is bought again"
    )


def log_is_lost(file: Path, log: Path, opened_at: float) -> str:
    """Return what to do where a file lacks the log of a run that began at a time (Unix seconds)."""
    began = datetime.fromtimestamp(opened_at, UTC)
    return (
        f"its log {log} is missing. The run that began at {began:%Y-%m-%d %H:%M:%S} UTC did not "
        f"close the journal, and what it bought may be in that log alone. Put {log.name} back "
        "beside it: until a run has ended by itself, the two belong together. If the log is lost, "
        "look at your account: what was bought since then may be bought again. Then accept the "
        f"file as it is: {_accept(file)}"
    )


def _accept(file: Path) -> str:
    return f'sqlite3 {shlex.quote(str(file))} "{ACCEPT}"'


def log_is_damaged(file: Path, log: Path) -> str:
    """Return what to do where a log has lost transactions of a run that was killed."""
    return (
        f"its log {log} is damaged: purchases of the run that was killed cannot be read from it. "
        f"Keep copies of both files, and restore {log.name} from a backup if there is one. If "
        "there is none, look at your account: what was bought in that run may be bought again. "
        f"Then accept what is left: {_accept(file)}"
    )


def as_sqlite(code: int, words: str) -> sqlite3.DatabaseError:
    """Return an error as SQLite would raise it, for what it says in a wrong way or too late."""
    error = sqlite3.DatabaseError(words)
    error.sqlite_errorcode = code
    return error


def journal_error(path: str, exc: BaseException) -> JournalError:
    """Return the error for what happened to the file, with its cause."""
    if isinstance(exc, JournalError):
        return exc
    error = JournalError(f"journal {path}: {_sentence(exc)}")
    error.__cause__ = exc
    return error


def unanswered(path: str, seconds: float) -> JournalError:
    """Return the error for a disk that has not answered for N seconds."""
    why = f"the disk has not answered for {seconds:g} s. What was confirmed is safe: check the disk"
    return journal_error(path, JournalRefusal(f"{why}, and run the same again"))


def again(error: JournalError) -> JournalError:
    """Return the same error to be raised another time, without the frames of the first."""
    twin = JournalError(str(error))
    twin.__cause__ = error.__cause__
    return twin


def _sentence(exc: BaseException) -> str:
    if isinstance(exc, JournalRefusal):
        return str(exc)
    code: object = getattr(exc, "sqlite_errorcode", None)
    if isinstance(exc, OSError):
        code = _ERRNOS.get(exc.errno)
    # The low byte is the family; the rest tells apart what is the same to the reader.
    meaning = _MEANINGS.get(code & 0xFF) if isinstance(code, int) else None
    if meaning is None:
        return f"{type(exc).__name__}: {exc}. {_SAFE}: run the same again"
    what, next_step = meaning
    return f"{what} ({exc}). {next_step}"

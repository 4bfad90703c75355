from __future__ import annotations

import errno
import sqlite3

import pytest

from apixo_async import JournalError
from apixo_async.journal._failures import JournalRefusal, again, as_sqlite, journal_error


@pytest.mark.parametrize(
    ("code", "what", "next_step"),
    [
        (sqlite3.SQLITE_FULL, "the disk is full", "free some space"),
        (sqlite3.SQLITE_READONLY, "read-only", "allow writing"),
        (sqlite3.SQLITE_READONLY_DIRECTORY, "read-only", "name another file"),
        (sqlite3.SQLITE_CANTOPEN, "cannot be opened", "Check that its directory exists"),
        (sqlite3.SQLITE_BUSY, "another run is using it", "never share"),
        (sqlite3.SQLITE_BUSY_RECOVERY, "within 1 s", "Wait for that run"),
        (sqlite3.SQLITE_IOERR_FSYNC, "the disk reports an error", "run the same again"),
        (sqlite3.SQLITE_NOTADB, "something else than a journal", "Name another file"),
        (sqlite3.SQLITE_CORRUPT, "it is damaged", "restore a copy"),
        (sqlite3.SQLITE_SCHEMA, "DatabaseError: as SQLite says it", "What it holds is safe"),
    ],
)
def test_what_happened_and_what_to_do(code: int, what: str, next_step: str) -> None:
    """Each family of SQLite's errors has a sentence: which file, what, and what to do next."""
    cause = as_sqlite(code, "as SQLite says it")
    error = journal_error("some/run.db", cause)
    assert str(error).startswith("journal some/run.db: ")
    assert what in str(error)
    assert next_step in str(error)
    assert "as SQLite says it" in str(error)
    assert error.__cause__ is cause


def test_what_is_said_already() -> None:
    """A refusal says all itself, and an error of the journal stays as it is."""
    said = journal_error("run.db", JournalRefusal("no such thing. Do this"))
    assert str(said) == "journal run.db: no such thing. Do this"
    assert journal_error("run.db", said) is said
    assert "you may write there" in str(
        journal_error("run.db", PermissionError(errno.EACCES, "denied"))
    )
    assert "MemoryError" in str(journal_error("run.db", MemoryError()))


def test_the_same_error_again() -> None:
    """An error that is raised at many places is another object at each, with the same cause."""
    first = JournalError("x")
    first.__cause__ = cause = OSError()
    second = again(first)
    assert second is not first
    assert (str(second), second.__cause__) == ("x", cause)

"""Journals for tests: on a clock that is set, in memory or in a file, with hooks that fail."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from apixo_async import GptImage2, Result, TaskFailedError, TaskRef
from apixo_async._canonical import Identity, identity
from apixo_async.journal._entry import Entry
from apixo_async.journal._journal import Journal
from apixo_async.journal._moves import move
from apixo_async.journal._schema import begin_run, is_new


def castle(number: int = 0) -> GptImage2:
    """Return the input with this number."""
    return GptImage2(prompt=f"castle {number}")


def known(number: int = 0, provider: str | None = None) -> Identity:
    """Return what identifies that input."""
    return identity(castle(number), provider)


def result(task_id: str = "task_1") -> Result:
    """Return what such a task makes."""
    url = f"https://cdn.apixo.ai/{task_id}.png"
    return Result(task_id, "gpt-image-2", (url,), {"resultUrls": [url]})


def failure(task_id: str = "task_1") -> TaskFailedError:
    """Return how such a task fails."""
    return TaskFailedError(
        "it failed",
        ref=TaskRef("gpt-image-2", task_id),
        fail_code="Timeout",
        fail_msg=None,
        family="timeout",
        retryable=True,
    )


def in_memory() -> sqlite3.Connection:
    """Return a journal's connection to nowhere."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    begin_run(connection, new=is_new(connection), now=1.0, version="test")
    return connection


#: What each move is told, beside the row.
VALUES = {
    "intend": ("price", "mark", "at"),
    "refused": (),
    "submitted": ("task_id", "at"),
    "uncertain": ("error",),
    "succeeded": ("result", "at"),
    "failed": ("error", "at"),
    "downloaded": ("files",),
}


def moved(file: sqlite3.Connection, name: str, values: tuple[Any, ...]) -> None:
    """Write a move, given its values in their order and then the row."""
    *others, row = values
    move(file, name, row, **dict(zip(VALUES[name], others, strict=True)))


def shown(path: Path, columns: str = "key, state", table: str = "item") -> list[tuple[Any, ...]]:
    """Return what a closed file holds."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute(f"SELECT {columns} FROM {table} ORDER BY 1").fetchall()
    finally:
        connection.close()


def copied(path: Path) -> Path:
    """Copy an open file with its log, as a machine that stops would leave them."""
    copy = path.with_name("copy.db")
    for suffix in ("", "-wal"):
        Path(f"{copy}{suffix}").write_bytes(Path(f"{path}{suffix}").read_bytes())
    return copy


def change(path: Path, *statements: str) -> None:
    """Change a closed file behind the journal's back."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


async def entry_of(journal: Journal, key: str) -> Entry:
    """Return an item as it is now."""
    (found,) = [entry async for entry in journal.entries() if entry.key == key]
    return found


class Failing:
    """A hook that raises when a name comes, the so-many-th time."""

    def __init__(self, name: str, error: Exception, skip: int = 0) -> None:
        self._name, self._error, self._skip = name, error, skip
        self.seen: list[str] = []

    def __call__(self, name: str) -> None:
        self.seen.append(name)
        if name == self._name:
            if not self._skip:
                raise self._error
            self._skip -= 1


def full() -> sqlite3.Error:
    """Return what SQLite raises on a full disk."""
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


#: A clock that stands still.
NOON: Callable[[], float] = lambda: 1_800_000_000.0  # noqa: E731  # it is a value, not a function

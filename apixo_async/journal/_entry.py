"""One item of a journal, as its readers are given it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

from apixo_async._types import Result, TaskRef
from apixo_async.errors import ApixoError, JournalError, SubmitUncertainError
from apixo_async.inputs import Input, check_model_name
from apixo_async.journal._error_forms import About, error_of
from apixo_async.journal._forms import fields_of, files_of, from_micro, input_of, result_of

EntryState: TypeAlias = Literal["new", "intent", "submitted", "success", "failed", "uncertain"]

#: Every state, in the order in which an item goes through them.
STATES: Final[tuple[EntryState, ...]] = (
    "new",
    "intent",
    "submitted",
    "success",
    "failed",
    "uncertain",
)

#: What an item has in each state.
_NEEDED: Final[Mapping[EntryState, tuple[str, ...]]] = {
    "new": (),
    "intent": (),
    "submitted": ("task_id",),
    "success": ("task_id", "result"),
    "failed": ("error",),
    "uncertain": ("error",),
}
_TEXTS: Final = ("key", "model", "payload")
_OPTIONAL_TEXTS: Final = (
    "provider",
    "intent_id",
    "claim",
    "task_id",
    "result",
    "error",
    "files",
)
_COUNTS: Final = ("purchases", "cost", "unpriced")


class Row(NamedTuple):
    """The columns of an item, as SQLite gives them."""

    row: int
    key: str
    model: str
    provider: str | None
    payload: str
    state: EntryState = "new"
    purchases: int = 0
    cost: int = 0
    unpriced: int = 0
    intent_id: str | None = None
    intent_at: float | None = None
    claim: str | None = None
    submitted_at: float | None = None
    ended_at: float | None = None
    task_id: str | None = None
    result: str | None = None
    error: str | None = None
    files: str | None = None


class Entry(NamedTuple):
    """One item, as it was when it was read.

    Attributes:
        row: Its place in the order of first entry, from 1.
        key: The caller's, or the one made from its input.
        model: The model's name.
        provider: The route, or None.
        payload: The `input` object of the wire, as canonical JSON.
        state: How far it is.
        purchases: Submits that were begun and not refused, uncertain ones included.
        cost: USD of those whose price is known.
        unpriced: How many of them have no known price.
        intent_id: What the last submit was marked with, in callback mode.
        intent_at: When the last submit was begun (aware UTC).
        claim: The task that a callback named for it, which no poll has proved yet, or None.
        submitted_at: When the last task was made (aware UTC).
        ended_at: When that task was known to be over (aware UTC).
        task_id: The last task; where a later submit is uncertain, not the one of that submit.
        result: What it made, or None.
        error: How it ended otherwise, or why it is uncertain, or None; a fresh one.
        files: Where the result was saved.
    """

    row: int
    key: str
    model: str
    provider: str | None
    payload: str
    state: EntryState
    purchases: int
    cost: Decimal
    unpriced: int
    intent_id: str | None
    intent_at: datetime | None
    claim: str | None
    submitted_at: datetime | None
    ended_at: datetime | None
    task_id: str | None
    result: Result | None
    error: ApixoError | None
    files: tuple[Path, ...]

    @property
    def input(self) -> Input:
        """The input, built anew from its payload."""
        return input_of(self.model, self.payload)


def entry_of(row: Row, path: str) -> Entry:
    """Build an entry from its columns.

    Raises:
        JournalError: They hold what this package has not written there. Its `bought` is False
            where nothing in the row speaks of a purchase, and otherwise None.
    """
    try:
        return _entry(row)
    except (ValueError, TypeError, OverflowError, OSError, RecursionError) as exc:
        error = JournalError(
            f"journal {path}: row {row.row} ({row.key!r:.100}) is damaged ({exc}). Mend or remove "
            "that row, or name another file; a removed item may be bought again"
        )
        if row.state == "new" and not _is_bought(row):
            error.bought = False
        raise error from exc


def _is_bought(row: Row) -> bool:
    return row.purchases != 0 or row.task_id is not None


def _check(row: Row) -> None:
    """Raise a ValueError where columns hold what their state cannot have."""
    columns = row._asdict()
    texts = {name for name in _OPTIONAL_TEXTS if columns[name] is not None}
    for name in (*_TEXTS, *texts):
        if not isinstance(columns[name], str):
            raise ValueError(f"{name} is {columns[name]!r:.60}")
    for name in _COUNTS:
        if not isinstance(columns[name], int) or columns[name] < 0:
            raise ValueError(f"{name} is {columns[name]!r:.60}")
    if row.state not in _NEEDED:
        raise ValueError(f"state is {row.state!r:.60}")
    missing = [name for name in _NEEDED[row.state] if name not in texts]
    if missing:
        raise ValueError(f"{row.state}, and without {missing[0]}")
    if row.state == "new" and _is_bought(row):
        raise ValueError("new, and with signs of a purchase")
    check_model_name(row.model)
    fields_of(row.payload)
    for task_id in (row.task_id, row.claim):
        if task_id is not None:
            TaskRef(row.model, task_id)


def _entry(row: Row) -> Entry:
    _check(row)
    about = About(row.model, row.provider, row.payload, _moment(row.intent_at))
    error = None if row.error is None else error_of(row.error, about)
    if row.state == "uncertain" and not isinstance(error, SubmitUncertainError):
        raise ValueError("uncertain, and with another error")
    return Entry(
        row=row.row,
        key=row.key,
        model=row.model,
        provider=row.provider,
        payload=row.payload,
        state=row.state,
        purchases=row.purchases,
        cost=from_micro(row.cost),
        unpriced=row.unpriced,
        intent_id=row.intent_id,
        intent_at=about.intent_at,
        claim=row.claim,
        submitted_at=_moment(row.submitted_at),
        ended_at=_moment(row.ended_at),
        task_id=row.task_id,
        result=_result(row),
        error=error,
        files=() if row.files is None else files_of(row.files),
    )


def _result(row: Row) -> Result | None:
    if row.result is None or row.task_id is None:
        return None
    return result_of(row.result, row.model, row.task_id)


def _moment(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)

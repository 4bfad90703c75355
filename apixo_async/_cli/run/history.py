"""What the journal of a run knows: which rows are bought, what was spent, and each item."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from apixo_async import ApixoError, ConfigurationError, JournalError, TaskFailedError
from apixo_async._cli.report.records import Failure, ItemRecord, ItemState
from apixo_async._cli.rows.rows import ParsedRow
from apixo_async._cli.run.options import RunOptions
from apixo_async.journal import EntryState, JournalEntry, item_key, open_journal

#: Where an item stands by its state in the journal; a success by whether it has files.
_STATES: Final[Mapping[EntryState, ItemState]] = {
    "new": "unbought",
    "intent": "uncertain",
    "submitted": "unfinished",
    "success": "success",
    "failed": "failed",
    "uncertain": "uncertain",
}
_NONE: Final = Decimal(0)
_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})


class RecordView(NamedTuple):
    """What is known of the items of a journal beside it."""

    folder: Path
    #: When this run began; what was bought before is an earlier run's.
    began_at: datetime | None = None
    lines: Mapping[str, int] = MappingProxyType({})
    #: Why items of this run have no result or no files, by their keys.
    failures: Mapping[str, Failure] = MappingProxyType({})
    #: What earlier runs spent for items, and what their rows say beside the input, by their keys.
    costs: Mapping[str, Decimal] = MappingProxyType({})
    kept: Mapping[str, Mapping[str, object]] = MappingProxyType({})
    #: Whether a run is using the journal.
    in_use: bool = False

    def record(self, entry: JournalEntry) -> ItemRecord:
        """Return the record of an item."""
        task_input = entry.input
        assert task_input is not None  # It is readable.
        result, is_priced = entry.result, entry.purchases and not entry.unpriced
        failure = None if entry.files else self.failures.get(entry.key)
        if entry.error is not None:
            failure = failure_of(entry.error)
        return ItemRecord(
            number=entry.number,
            key=entry.key,
            model=task_input.model,
            prompt=prompt_of(entry.payload),
            state=self._state(entry),
            is_key_given=entry.key != item_key(task_input, provider=entry.provider),
            line=self.lines.get(entry.key),
            input=entry.payload,
            task_id=None if entry.task is None else entry.task.task_id,
            cost=entry.cost if is_priced else None,
            cost_before=self.costs.get(entry.key, _NONE) if is_priced else _NONE,
            created_at=(result and result.created_at) or entry.submitted_at,
            ended_at=(result and result.completed_at) or entry.ended_at,
            duration=_duration(entry),
            urls=() if result is None else result.urls,
            files=tuple(_beside(path, self.folder) for path in entry.files),
            failure=failure,
            resumed=entry.began_at is not None
            and self.began_at is not None
            and entry.began_at < self.began_at,
            kept=self.kept.get(entry.key, _NOTHING),
        )

    def _state(self, entry: JournalEntry) -> ItemState:
        state = readable(entry)
        if entry.files:
            return "downloaded"
        return "unfinished" if state == "intent" and self.in_use else _STATES[state]


def readable(entry: JournalEntry) -> EntryState:
    """Return the state of an entry that can be read.

    Raises:
        JournalError: It cannot: a run that went on without it might buy it again.
    """
    if entry.state == "damaged":
        assert entry.error is not None  # It says what is wrong with the row.
        raise entry.error
    return entry.state


def code_of(error: Exception) -> str:
    """Return the service's code of a failure, or the name of the error."""
    if isinstance(error, TaskFailedError):
        return error.fail_code or "failed"
    return type(error).__name__


def failure_of(error: ApixoError) -> Failure:
    """Return an error as the report has it."""
    words = error.fail_msg or "" if isinstance(error, TaskFailedError) else str(error)
    return Failure(error.category, code_of(error), words)


def prompt_of(asked: Mapping[str, object]) -> str:
    """Return what an input asks for, or "" if it has no prompt."""
    prompt = asked.get("prompt", "")
    return prompt if isinstance(prompt, str) else json.dumps(prompt)


def _duration(entry: JournalEntry) -> float | None:
    """Return the seconds of a task by the service's stamps; by ours if it gives none."""
    result = entry.result
    if result is not None and result.created_at and result.completed_at:
        return (result.completed_at - result.created_at).total_seconds()
    if entry.submitted_at is None or entry.ended_at is None:
        return None
    return (entry.ended_at - entry.submitted_at).total_seconds()


def _beside(path: Path, folder: Path) -> Path:
    try:
        return Path(os.path.relpath(path, folder))
    except ValueError:  # On another drive of Windows.
        return path


class JournalHistory:
    """The items of a journal by their keys, and the lines that the rows of this run have."""

    def __init__(self, options: RunOptions) -> None:
        self._options = options
        # By key: the hash of what the item is, and whether nothing is to be bought for it.
        self._known: dict[str, tuple[int, bool]] = {}
        self._occurred = Counter[str]()
        self.costs: dict[str, Decimal] = {}
        self.lines: dict[str, int] = {}
        self.kept: dict[str, Mapping[str, object]] = {}

    @property
    def spent(self) -> Decimal:
        """USD that earlier runs spent."""
        return sum(self.costs.values(), _NONE)

    def add(self, entry: JournalEntry) -> None:
        """Take in an item of the journal."""
        state, error = readable(entry), entry.error
        if state == "uncertain":
            is_bought = not self._options.resubmit_uncertain
        elif isinstance(error, TaskFailedError):
            options = self._options
            is_left = not error.retryable or entry.purchases >= options.attempts
            is_bought = is_left and error.category not in ("balance", *options.retry)
        else:
            is_bought = state in ("submitted", "success", "failed")
        assert entry.input is not None  # It is readable.
        what = item_key(entry.input, provider=entry.provider)
        self._known[entry.key] = (hash(what), is_bought)
        if entry.cost:
            self.costs[entry.key] = entry.cost

    def is_bought(self, row: ParsedRow) -> bool:
        """Return True if a row needs no purchase; ask once for each row, in their order.

        Raises:
            ConfigurationError: Its key belongs to another input.
        """
        key, what = row.key, item_key(row.input, provider=self._options.provider)
        if key is None:
            self._occurred[what] += 1
            key = item_key(
                row.input, provider=self._options.provider, occurrence=self._occurred[what]
            )
        self.lines[key] = row.line
        if row.kept:
            self.kept[key] = row.kept
        known = self._known.get(key)
        if known is None:
            return False
        if known[0] != hash(what):
            raise ConfigurationError(
                f"key: {key!r:.60} is the key of another input in {self._options.journal}; give a"
                " changed row a new key, or begin with another --out"
            )
        return known[1]


async def read_history(options: RunOptions) -> JournalHistory:
    """Read the journal of a run, if there is one, before anything is asked or bought.

    Raises:
        JournalError: It cannot be read or written, or another run has it open.
    """
    path, history = options.journal, JournalHistory(options)
    for place in (path, path.parent):
        if place.exists() and not os.access(place, os.W_OK):
            raise JournalError(
                f"journal {path}: it cannot be written: {place} is read-only. What it holds is "
                "safe: allow writing to the file and its folder, or give another --out"
            )
    if not path.exists() and not path.with_name(f"{path.name}-wal").exists():
        return history
    async with open_journal(path) as journal:
        if journal.in_use:
            raise JournalError(
                f"journal {path}: another run is using it. Wait for that run, or end it: two runs "
                "never share a journal"
            )
        async for entry in journal.entries():
            history.add(entry)
    return history

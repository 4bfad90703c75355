"""What the journal of a run knows: which rows are bought, what was spent, and each item."""

from __future__ import annotations

import json
import os
import warnings
from collections import Counter
from collections.abc import Mapping
from contextlib import aclosing
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final, NamedTuple, cast

from apixo_async import ApixoError, ConfigurationError, JournalWarning, TaskFailedError
from apixo_async._canonical import identity, key_of
from apixo_async._cli.console import Screen
from apixo_async._cli.report.records import Failure, ItemRecord, ItemState
from apixo_async._cli.rows.rows import ParsedRow
from apixo_async._cli.run.order import RunOptions
from apixo_async._map.policy import is_worth_another
from apixo_async.journal._entry import Entry, EntryState
from apixo_async.journal._journal import Journal

#: Where an item stands by its state in the journal; a success by whether it has files.
_STATES: Final[Mapping[EntryState, ItemState]] = {
    "new": "unbought",
    "intent": "uncertain",
    "submitted": "unfinished",
    "success": "success",
    "failed": "failed",
    "uncertain": "uncertain",
}


class View(NamedTuple):
    """What is known of the items of a journal beside it.

    Attributes:
        folder: That of the report.
        began_at: When this run began; what was bought before is an earlier run's.
        lines: The line of each item that this run's file has, by its key.
        failures: Why items of this run have no result or no files, by their keys.
    """

    folder: Path
    began_at: datetime
    lines: Mapping[str, int]
    failures: Mapping[str, Failure]

    def record(self, entry: Entry) -> ItemRecord:
        """Return the record of an item."""
        asked = cast("dict[str, object]", json.loads(entry.payload))
        result, state = entry.result, _STATES[entry.state]
        is_known = bool(entry.purchases) and not entry.unpriced
        return ItemRecord(
            number=entry.row,
            key=entry.key,
            model=entry.model,
            prompt=prompt_of(asked),
            state="downloaded" if entry.files else state,
            line=self.lines.get(entry.key),
            input=asked,
            task_id=entry.task_id,
            cost=entry.cost if is_known else None,
            created_at=(result and result.created_at) or entry.submitted_at,
            ended_at=(result and result.completed_at) or entry.ended_at,
            duration=_duration(entry),
            urls=() if result is None else result.urls,
            files=tuple(_beside(path, self.folder) for path in entry.files),
            failure=self._failure(entry),
            resumed=entry.intent_at is not None and entry.intent_at < self.began_at,
        )

    def _failure(self, entry: Entry) -> Failure | None:
        if entry.error is not None:
            return failure_of(entry.error)
        return None if entry.files else self.failures.get(entry.key)


def failure_of(error: ApixoError) -> Failure:
    """Return an error as the report has it."""
    if isinstance(error, TaskFailedError):
        return Failure(error.family, error.fail_code or "failed", error.fail_msg or "")
    name = type(error).__name__
    return Failure(_word(name), name, str(error))


def _word(name: str) -> str:
    # SubmitUncertainError -> "submit uncertain": a family of its own.
    letters = (f" {char.lower()}" if char.isupper() else char for char in name)
    return "".join(letters).strip().removesuffix(" error")


def prompt_of(asked: Mapping[str, object]) -> str:
    """Return what an input asks for, or "" where it has no prompt."""
    prompt = asked.get("prompt", "")
    return prompt if isinstance(prompt, str) else json.dumps(prompt)


def _duration(entry: Entry) -> float | None:
    """Return the seconds of a task by the service's stamps; by ours where it gives none."""
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


class Known(NamedTuple):
    """One item of the journal: the hash of what it is, and whether it is bought."""

    what: int
    is_bought: bool


class JournalHistory:
    """The items of a journal by their keys, and the lines that the rows of this run have.

    Args:
        order: The run.

    Attributes:
        spent: USD of all purchases before this run.
        lines: Where each row begins, by its key in the journal.
    """

    def __init__(self, order: RunOptions) -> None:
        self._order = order
        self._known: dict[str, Known] = {}
        self._occurred: Counter[str] = Counter()
        self.spent = Decimal(0)
        self.lines: dict[str, int] = {}

    def add(self, entry: Entry) -> None:
        """Take in an item of the journal."""
        what = hash((entry.model, entry.provider, entry.payload))
        self._known[entry.key] = Known(what, self._needs_nothing(entry))
        self.spent += entry.cost

    def _needs_nothing(self, entry: Entry) -> bool:
        if entry.state == "uncertain":
            return not self._order.resubmit_uncertain
        if entry.state == "failed" and entry.error is not None:
            return not is_worth_another(entry.error, entry.purchases, self._order.attempts)
        return entry.state in ("submitted", "success", "failed")

    def is_bought(self, row: ParsedRow) -> bool:
        """Return True if a row needs no purchase; ask once for each row, in their order.

        Raises:
            ConfigurationError: Its key belongs to another input.
        """
        wanted = identity(row.input, self._order.provider)
        key = row.key
        if key is None:
            self._occurred[wanted.digest] += 1
            key = key_of(wanted.digest, self._occurred[wanted.digest])
        self.lines[key] = row.line
        known = self._known.get(key)
        if known is None:
            return False
        if known.what != hash((wanted.model, wanted.provider, wanted.payload)):
            raise ConfigurationError(
                f"key: {key!r:.60} is the key of another input in {self._order.journal}; give a"
                " changed row a new key, or begin with another --out"
            )
        return known.is_bought


async def read_history(order: RunOptions, screen: Screen) -> JournalHistory:
    """Read the journal of a run, and let go of it; one that is missing is made.

    Raises:
        JournalError: It cannot be used.
    """
    history = JournalHistory(order)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", JournalWarning)
        journal = await Journal.open(order.journal)
    for warning in caught:
        screen.warning(str(warning.message))
    try:
        async with aclosing(journal.entries()) as entries:
            async for entry in entries:
                history.add(entry)
    finally:
        await journal.aclose()
    return history

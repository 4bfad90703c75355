"""Items of the journal as records of the report."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple, cast

from apixo_async import ApixoError, TaskFailedError
from apixo_async._cli.report.records import Failure, Record, State
from apixo_async._journal.entry import Entry
from apixo_async._journal.entry import State as Stage

#: Where an item stands by its state in the journal; a success by whether it has files.
_STATES: Final[Mapping[Stage, State]] = {
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

    def record(self, entry: Entry) -> Record:
        """Return the record of an item."""
        asked = cast("dict[str, object]", json.loads(entry.payload))
        result, state = entry.result, _STATES[entry.state]
        is_known = bool(entry.purchases) and not entry.unpriced
        return Record(
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

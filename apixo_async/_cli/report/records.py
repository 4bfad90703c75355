"""What a report is made of: a record of each item, and what is known of the run as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

from apixo_async._cli.report.samples import RunSample

#: Where an item stands.
#:
#: downloaded: it was made, and its files are saved.
#: success: it was made, and its files are not saved.
#: failed: its task was bought, and ended otherwise.
#: uncertain: nobody can know whether a task was bought; none is bought again unasked.
#: unbought: nothing was bought for it, as the service refused it or the run ended before.
#: unfinished: its task was bought, and was not over when the run ended.
ItemState: TypeAlias = Literal[
    "downloaded", "success", "failed", "uncertain", "unbought", "unfinished"
]
STATES: Final[tuple[ItemState, ...]] = get_args(ItemState)

#: States in which a task was bought for certain.
BOUGHT: Final[frozenset[ItemState]] = frozenset({"downloaded", "success", "failed", "unfinished"})

_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})


class Failure(NamedTuple):
    """Why an item has no result.

    Attributes:
        family: What the code is about, as in `TaskFailedError.family`, or the report's own word.
        code: The service's code, or an error's name.
        message: The words for people.
    """

    family: str
    code: str
    message: str = ""


class ItemRecord(NamedTuple):
    """What became of one item of a run.

    Attributes:
        number: Its place among the items, from 1.
        key: What it is known by.
        model: The model's name.
        prompt: A short text of what was asked for.
        state: Where it stands.
        line: Its line in the file it came from, or None.
        input: The whole of what was asked for.
        task_id: The service's id, or None where no task is known.
        cost: USD of its tasks by the documents' prices, or None where that is unknown. Of an
            uncertain item, what may have been charged.
        created_at: When its task was made, in UTC, or None.
        ended_at: When its outcome was known, in UTC, or None.
        duration: Seconds that its task took, or None.
        urls: Where the service keeps the files.
        files: The saved files, relative to the report's folder.
        failure: Why there is no result, or None.
        resumed: Whether an earlier run bought it.
    """

    number: int
    key: str
    model: str
    prompt: str
    state: ItemState
    line: int | None = None
    input: Mapping[str, object] = _NOTHING
    task_id: str | None = None
    cost: Decimal | None = None
    created_at: datetime | None = None
    ended_at: datetime | None = None
    duration: float | None = None
    urls: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    failure: Failure | None = None
    resumed: bool = False


class RunFacts(NamedTuple):
    """What is known of a run beside its items.

    Attributes:
        started_at: When it began, in UTC.
        ended_at: When it ended, in UTC.
        exit_word: How it ended, in a word or two: "complete", "interrupted".
        title: The heading of the page.
        note: The last line of the page, such as how to go on.
        estimated: USD that it was expected to cost, or None.
        balance_before: USD on the account at the beginning, or None where nobody asked.
        balance_after: USD on it at the end, or None where nobody asked.
        samples: How it went over time, from a `Recorder`.
        versions: Of the programs that took part, by name.
    """

    started_at: datetime
    ended_at: datetime
    exit_word: str
    title: str = "apixo run"
    note: str = ""
    estimated: Decimal | None = None
    balance_before: Decimal | None = None
    balance_after: Decimal | None = None
    samples: Sequence[RunSample] = ()
    versions: Mapping[str, str] = MappingProxyType({})

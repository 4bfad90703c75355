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
#: uncertain: it cannot be known whether a task was bought; none is bought again unasked.
#: unbought: nothing was bought for it, as the service refused it or the run ended before.
#: unfinished: its task was bought, and was not over when the run ended.
ItemState: TypeAlias = Literal[
    "downloaded", "success", "failed", "uncertain", "unbought", "unfinished"
]
STATES: Final[tuple[ItemState, ...]] = get_args(ItemState)

#: States in which a task was bought for certain.
BOUGHT: Final[frozenset[ItemState]] = frozenset({"downloaded", "success", "failed", "unfinished"})

#: Names in a row of `failed.jsonl` that are no fields of its input.
FAILURE: Final = "_failure"
KEPT: Final = "_kept"

_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})


class Failure(NamedTuple):
    """Why an item has no result."""

    #: What the error is about, as in `ApixoError.category`.
    category: str
    code: str
    message: str = ""


class ItemRecord(NamedTuple):
    """What became of one item of a run."""

    #: Its place among the items, from 1.
    number: int
    key: str
    model: str
    prompt: str
    state: ItemState
    #: Whether the caller gave the key; else it is made from the input.
    is_key_given: bool = True
    line: int | None = None
    input: Mapping[str, object] = _NOTHING
    task_id: str | None = None
    #: USD of its tasks by the documents' prices, or None where that is unknown. Of an uncertain
    #: item, what may have been charged.
    cost: Decimal | None = None
    #: What of it was spent by earlier runs.
    cost_before: Decimal = Decimal(0)
    created_at: datetime | None = None
    #: When its outcome was known, in UTC, or None.
    ended_at: datetime | None = None
    duration: float | None = None
    #: Where the service keeps the files.
    urls: tuple[str, ...] = ()
    #: The saved files, relative to the report's folder.
    files: tuple[Path, ...] = ()
    failure: Failure | None = None
    resumed: bool = False
    #: What the row says beside its input, to be found again in the report.
    kept: Mapping[str, object] = _NOTHING


class RunFacts(NamedTuple):
    """What is known of a run beside its items."""

    #: None where the report is of a journal, and of no run.
    started_at: datetime | None
    ended_at: datetime
    #: How it ended, in a word or two: "complete", "interrupted".
    exit_word: str
    title: str = "apixo run"
    note: str = ""
    estimated: Decimal | None = None
    #: USD on the account at the beginning, or None if it is not known.
    balance_before: Decimal | None = None
    balance_after: Decimal | None = None
    samples: Sequence[RunSample] = ()
    versions: Mapping[str, str] = MappingProxyType({})

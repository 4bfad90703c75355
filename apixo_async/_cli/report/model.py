"""Counts and sums over the records of a run, and the model of `report.json` that they make."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from pydantic import BaseModel, Field

from apixo_async._cli.report.records import BOUGHT, STATES, ItemRecord, ItemState, RunFacts
from apixo_async._cli.report.samples import mean_shares, rates

#: The columns of the samples in `report.json`.
COLUMNS: Final = (
    "seconds",
    "finished",
    "finished_per_minute",
    "tasks_in_flight",
    "tasks_limit",
    "requests",
    "requests_limit",
    "spent",
)


class ItemCounts(BaseModel):
    """How many items there are; `failures` counts them by category."""

    total: int = 0
    states: dict[ItemState, int] = dict.fromkeys(STATES, 0)
    failures: Counter[str] = Counter()
    models: Counter[str] = Counter()
    from_earlier_runs: int = 0
    bought_in_this_run: int = 0
    files: int = 0


class Money(BaseModel):
    """USD by the documents' prices, but for the balances, which are the account's.

    `spent_in_this_run` has what may have been charged for uncertain items, too.
    """

    currency: str = "USD"
    estimated: Decimal | None = None
    spent: Decimal = Decimal(0)
    spent_in_this_run: Decimal = Decimal(0)
    uncertain: Decimal = Decimal(0)
    bought_without_known_price: int = 0
    balance_before: Decimal | None = None
    balance_after: Decimal | None = None
    balance_difference: Decimal | None = None


class RunTimes(BaseModel):
    """When the run began and ended (UTC), and how long it and its tasks took, in seconds."""

    started_at: datetime | None = None
    ended_at: datetime | None = None
    seconds: int | float = 0
    mean_task_seconds: int | float | None = None


class Throughput(BaseModel):
    """Items finished in a minute."""

    mean_per_minute: int | float = 0
    peak_per_minute: int | float = 0


class LimitUse(BaseModel):
    """How much of a limit was used; a share of 1 is all of it."""

    limit: int | None
    peak: int
    mean_share: int | float
    peak_share: int | float


class SampleTable(BaseModel):
    """The course of the run: rows of these columns."""

    columns: tuple[str, ...] = COLUMNS
    rows: list[list[int | float | Decimal]] = []


class RunReport(BaseModel):
    """What `report.json` and the page say of a run as a whole: records are counted as they come."""

    format: int = 1
    exit: str = ""
    items: ItemCounts = Field(default_factory=ItemCounts)
    money: Money = Field(default_factory=Money)
    times: RunTimes = Field(default_factory=RunTimes)
    throughput: Throughput = Field(default_factory=Throughput)
    limits: dict[str, LimitUse] = {}
    samples: SampleTable = Field(default_factory=SampleTable)
    versions: dict[str, str] = {}
    _durations: tuple[float, int] = (0.0, 0)

    def add(self, record: ItemRecord) -> None:
        """Count a record."""
        items, money, cost = self.items, self.money, record.cost or Decimal(0)
        items.total += 1
        items.states[record.state] += 1
        items.models[record.model] += 1
        items.from_earlier_runs += record.resumed
        items.files += len(record.files)
        if record.failure is not None:
            items.failures[record.failure.category] += 1
        if record.duration is not None:
            seconds, count = self._durations
            self._durations = seconds + record.duration, count + 1
        if record.state == "uncertain":
            money.uncertain += cost
        elif record.state in BOUGHT:
            money.spent += cost
            money.bought_without_known_price += record.cost is None
            if not record.resumed:
                items.bought_in_this_run += 1
        if record.state in ("uncertain", *BOUGHT):
            money.spent_in_this_run += cost - record.cost_before

    def finish(self, run: RunFacts) -> dict[str, Any]:
        """Fill in what is known of the run as a whole, and return the document."""
        self.exit, self.versions = run.exit_word, dict(run.versions)
        self.items.failures = Counter(dict(self.items.failures.most_common()))
        self.items.models = Counter(dict(self.items.models.most_common()))
        if run.started_at is None:
            self.items.bought_in_this_run, self.money.spent_in_this_run = 0, Decimal(0)
        before, after = run.balance_before, run.balance_after
        self.money.estimated = run.estimated
        self.money.balance_before, self.money.balance_after = before, after
        if before is not None and after is not None:
            self.money.balance_difference = before - after
        seconds, count = self._durations
        self.times = RunTimes(
            started_at=run.started_at,
            ended_at=run.ended_at,
            seconds=round((run.ended_at - (run.started_at or run.ended_at)).total_seconds(), 3),
            mean_task_seconds=round(seconds / count, 3) if count else None,
        )
        samples, course = run.samples, rates(run.samples)
        last = samples[-1] if samples else None
        mean = 60 * last.finished / last.seconds if last and last.seconds > 0 else 0.0
        self.throughput.mean_per_minute = round(mean, 1)
        self.throughput.peak_per_minute = round(max(course, default=0.0), 1)
        slots, requests = mean_shares(samples)
        self.limits = {
            "tasks": LimitUse(
                limit=last and last.slots_limit,
                peak=max((sample.in_flight for sample in samples), default=0),
                mean_share=round(slots, 4),
                peak_share=round(max((one.slots_share for one in samples), default=0.0), 4),
            ),
            "requests": LimitUse(
                limit=last and last.requests_limit,
                peak=max((sample.requests for sample in samples), default=0),
                mean_share=round(requests, 4),
                peak_share=round(max((one.requests_share for one in samples), default=0.0), 4),
            ),
        }
        self.samples.rows = [
            [round(sample.seconds, 2), sample.finished, round(rate, 1), *sample[2:]]
            for sample, rate in zip(samples, course, strict=True)
        ]
        return self.model_dump()

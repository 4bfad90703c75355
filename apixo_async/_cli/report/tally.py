"""Counts and sums over the records of a run, and the document `report.json` that they make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from apixo_async._cli.report.records import BOUGHT, STATES, ItemRecord, ItemState, RunFacts
from apixo_async._cli.report.samples import RunSample, mean_shares, rates

FORMAT: Final = 1

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


class ReportTally:
    """What is counted and added up while records go by."""

    __slots__ = (
        "_bought_now", "_families", "_files", "_models", "_resumed", "_seconds", "_spent",
        "_spent_now", "_states", "_timed", "_uncertain", "_unpriced",
    )  # fmt: skip

    def __init__(self) -> None:
        self._states: Counter[ItemState] = Counter()
        self._families: Counter[str] = Counter()
        self._models: Counter[str] = Counter()
        self._files = self._resumed = self._bought_now = self._unpriced = self._timed = 0
        self._seconds = 0.0
        self._spent = self._spent_now = self._uncertain = Decimal(0)

    def add(self, record: ItemRecord) -> None:
        """Count a record."""
        self._states[record.state] += 1
        self._models[record.model] += 1
        self._resumed += record.resumed
        self._files += len(record.files)
        if record.failure is not None:
            self._families[record.failure.family] += 1
        if record.duration is not None:
            self._timed += 1
            self._seconds += record.duration
        self._add_cost(record)

    def _add_cost(self, record: ItemRecord) -> None:
        cost = record.cost or Decimal(0)
        if record.state == "uncertain":
            self._uncertain += cost
        elif record.state in BOUGHT:
            self._spent += cost
            self._unpriced += record.cost is None
            if not record.resumed:
                self._bought_now += 1
                self._spent_now += cost

    def document(self, run: RunFacts) -> Mapping[str, object]:
        """Return what `report.json` says.

        `items.failures` counts by family; all money is USD, by the documents' prices but for the
        balances; `balance_difference` is what the account lost between the two; `samples.rows`
        have the `samples.columns`; a share is of a limit, 1 being all of it.
        """
        return {
            "format": FORMAT,
            "exit": run.exit_word,
            "items": self._items(),
            "money": self._money(run),
            "times": self._times(run),
            "throughput": _throughput(run.samples),
            "limits": _limits(run.samples),
            "samples": {"columns": COLUMNS, "rows": _rows(run.samples)},
            "versions": dict(run.versions),
        }

    def _items(self) -> Mapping[str, object]:
        return {
            "total": self._states.total(),
            "states": {state: self._states[state] for state in STATES},
            "failures": dict(self._families.most_common()),
            "models": dict(self._models.most_common()),
            "from_earlier_runs": self._resumed,
            "bought_in_this_run": self._bought_now,
            "files": self._files,
        }

    def _money(self, run: RunFacts) -> Mapping[str, object]:
        before, after = run.balance_before, run.balance_after
        return {
            "currency": "USD",
            "estimated": run.estimated,
            "spent": self._spent,
            "spent_in_this_run": self._spent_now,
            "uncertain": self._uncertain,
            "bought_without_known_price": self._unpriced,
            "balance_before": before,
            "balance_after": after,
            "balance_difference": None if before is None or after is None else before - after,
        }

    def _times(self, run: RunFacts) -> Mapping[str, object]:
        return {
            "started_at": run.started_at,
            "ended_at": run.ended_at,
            "seconds": round((run.ended_at - run.started_at).total_seconds(), 3),
            "mean_task_seconds": round(self._seconds / self._timed, 3) if self._timed else None,
        }


def _throughput(samples: Sequence[RunSample]) -> Mapping[str, object]:
    last = samples[-1] if samples else None
    mean = 60 * last.finished / last.seconds if last and last.seconds > 0 else 0.0
    return {
        "mean_per_minute": round(mean, 1),
        "peak_per_minute": round(max(rates(samples), default=0.0), 1),
    }


def _limits(samples: Sequence[RunSample]) -> Mapping[str, object]:
    slots, requests = mean_shares(samples)
    return {
        "tasks": {
            "limit": samples[-1].slots_limit if samples else None,
            "peak": max((sample.in_flight for sample in samples), default=0),
            "mean_share": round(slots, 4),
            "peak_share": round(max((one.slots_share for one in samples), default=0.0), 4),
        },
        "requests": {
            "limit": samples[-1].requests_limit if samples else None,
            "peak": max((sample.requests for sample in samples), default=0),
            "mean_share": round(requests, 4),
            "peak_share": round(max((one.requests_share for one in samples), default=0.0), 4),
        },
    }


def _rows(samples: Sequence[RunSample]) -> list[list[object]]:
    return [
        [
            round(sample.seconds, 2),
            sample.finished,
            round(rate, 1),
            *sample[2:],
        ]
        for sample, rate in zip(samples, rates(samples), strict=True)
    ]

"""The counts and sums of a run, as report.json has them."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest

from apixo_async._cli.report.model import COLUMNS, RunReport
from apixo_async._cli.report.records import Failure, ItemRecord

from ...support.records import BEGAN, failed, record, run, sample


def document(records: Iterable[ItemRecord] = (), **fields: Any) -> Any:
    """Count records, and return what report.json says."""
    report = RunReport()
    for one in records:
        report.add(one)
    return report.finish(run(**fields))


RECORDS = [
    record(1, resumed=True, cost_before=Decimal("0.035"), duration=None),
    record(2, cost=Decimal("0.70"), files=()),
    record(3, cost=None, state="success", files=()),
    failed(4),
    failed(5, failure=Failure("image", "INVALID_IMAGE_URL")),
    failed(6),
    record(7, state="uncertain", cost=Decimal("0.02"), files=(), duration=None),
    record(8, state="unbought", cost=Decimal(9), files=(), duration=None, model="flux-kontext"),
    record(9, state="unfinished", files=(), duration=None),
]


def test_items_are_counted() -> None:
    """Every item is in one state, those of no item among them; failures count by category."""
    items = document(RECORDS)["items"]
    assert items["states"] == {
        "downloaded": 2, "success": 1, "failed": 3, "uncertain": 1, "unbought": 1, "unfinished": 1
    }  # fmt: skip
    assert items["total"] == sum(items["states"].values()) == 9
    assert items["failures"] == {"content": 2, "image": 1}
    assert items["models"] == {"gpt-image-1": 8, "flux-kontext": 1}
    assert (items["files"], items["from_earlier_runs"], items["bought_in_this_run"]) == (1, 1, 6)


def test_money_is_added_up() -> None:
    """What was bought is spent; what may have been, and what has no price, is told apart."""
    money = document(
        RECORDS, estimated=Decimal(2), balance_before=Decimal(10), balance_after=Decimal("9.1")
    )["money"]
    assert money == {
        "currency": "USD",
        "estimated": Decimal(2),
        "spent": Decimal("0.875"),
        "spent_in_this_run": Decimal("0.86"),
        "uncertain": Decimal("0.02"),
        "bought_without_known_price": 1,
        "balance_before": Decimal(10),
        "balance_after": Decimal("9.1"),
        "balance_difference": Decimal("0.9"),
    }


def test_an_item_that_is_bought_anew() -> None:
    """Only what this run paid for it counts as spent in this run."""
    again = record(cost=Decimal("0.06"), cost_before=Decimal("0.02"))
    money = document([again])["money"]
    assert (money["spent"], money["spent_in_this_run"]) == (Decimal("0.06"), Decimal("0.04"))


def test_a_report_of_no_run() -> None:
    """Where no run has ended, nothing is said of one."""
    found = document(RECORDS, started_at=None)
    assert (found["times"]["started_at"], found["times"]["seconds"]) == (None, 0)
    assert found["items"]["bought_in_this_run"] == found["money"]["spent_in_this_run"] == 0
    assert found["money"]["spent"] == Decimal("0.875")


@pytest.mark.parametrize("known", ["balance_before", "balance_after"])
def test_half_a_balance_makes_no_difference(known: str) -> None:
    """Without both balances nobody knows what the account lost."""
    assert document(**{known: Decimal(1)})["money"]["balance_difference"] is None


def test_an_empty_run() -> None:
    """A run of nothing has zeroes, and no means."""
    found = document()
    assert found["items"]["total"] == 0
    assert found["times"] == {
        "started_at": BEGAN, "ended_at": run().ended_at, "seconds": 90.0, "mean_task_seconds": None
    }  # fmt: skip
    assert found["throughput"] == {"mean_per_minute": 0.0, "peak_per_minute": 0.0}
    assert found["limits"]["tasks"] == {"limit": None, "peak": 0, "mean_share": 0, "peak_share": 0}
    assert found["samples"]["rows"] == []
    assert document(samples=[sample(0)])["throughput"]["mean_per_minute"] == 0


def test_the_course_of_the_run() -> None:
    """Throughput and the shares of both limits come from the samples, which are there as well."""
    samples = [
        sample(0, in_flight=0, requests=0),
        sample(60, 30, in_flight=10, requests=50, spent=Decimal("0.3")),
        sample(120, 120, requests_limit=200),
    ]
    found = document(samples=samples, versions={"apixo-async": "1"})
    assert found["throughput"] == {"mean_per_minute": 60.0, "peak_per_minute": 90.0}
    assert found["limits"] == {
        "tasks": {"limit": 10, "peak": 10, "mean_share": 0.75, "peak_share": 1.0},
        "requests": {"limit": 200, "peak": 50, "mean_share": 0.3, "peak_share": 0.5},
    }
    assert found["samples"]["columns"] == COLUMNS
    assert found["samples"]["rows"][1] == [60, 30, 30.0, 10, 10, 50, 100, Decimal("0.3")]
    assert (found["format"], found["exit"], found["versions"]) == (
        1,
        "complete",
        {"apixo-async": "1"},
    )


def test_the_mean_time_of_a_task() -> None:
    """The mean is over the tasks whose time is known."""
    records = [record(duration=2.0), record(duration=4.0), record(duration=None)]
    assert document(records)["times"]["mean_task_seconds"] == 3

"""What can be done after a run."""

from __future__ import annotations

import signal
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from apixo_async import AuthenticationError, BudgetExceededError, Progress, Reconciliation
from apixo_async._cli.console import counted
from apixo_async._cli.exits import ExitCode
from apixo_async._cli.rows.question import Terms
from apixo_async._cli.run.buying import RunResult
from apixo_async._cli.run.options import RunOptions
from apixo_async._cli.run.summary import steps

ORDER = RunOptions(
    "a.csv", Path("out"), Terms(yes=True, max_cost=Decimal(1)), resubmit_uncertain=True
)
SAME = "apixo run a.csv --out out --max-cost 1 --yes"


def commands(result: RunResult) -> list[str]:
    """Return the commands of the steps after a run."""
    return [step.command for step in steps(ORDER, Path("a.csv"), Decimal("3.141"), result)]


def result(**values: object) -> RunResult:
    """Return a run of one row that is over."""
    return RunResult(1, {}, progress=Progress(read=1), **values)  # type: ignore[arg-type]  # as given


CHANGED = "out/failed.jsonl"
BUDGET = BudgetExceededError("x", max_cost=Decimal(1), spent=Decimal(1), price=Decimal(1))
NO_KEY = AuthenticationError("no", status=401, code=401, message="no")


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        (result(), []),
        (result(error=NO_KEY), [SAME]),
        (result(signal=signal.SIGINT, passed_over=1), [SAME]),
        (result(error=BUDGET), [SAME.replace("cost 1", "cost 3.15")]),
        (
            result(failed=Counter(timeout=2, content=1)),
            [
                SAME.replace(" --max", " --retry-failed=timeout --max"),
                SAME.replace("a.csv", CHANGED),
            ],
        ),
        (
            result(
                failed=Counter(balance=2),
                others=Counter(download=1, other=3, budget=2, uncertain=1),
            ),
            [SAME],
        ),
        (
            result(codes=Counter({ExitCode.UNCERTAIN: 1})),
            [SAME.replace(" --max", " --resubmit-uncertain --max")],
        ),
    ],
)
def test_each_step_has_its_command(ended: RunResult, expected: list[str]) -> None:
    """A finished run needs none; the word to pay twice is given anew, or not at all."""
    assert commands(ended) == expected


def doubts(verdict: str, bought: int | None) -> Reconciliation:
    cents = Decimal("0.02")
    return Reconciliation(
        verdict,  # type: ignore[arg-type]  # one of its words
        bought, 3, 3 * cents, 9, 9 * cents, Decimal(1), Decimal("0.82"), _why="none was bought",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "which cannot be known: look at your account. To buy what is uncertain anew, at"),
        (doubts("unclear", None), "which cannot be known: look at your account. To buy"),
        (doubts("some", 2), "and by the balance 2 were: look at your account. To buy what is unc"),
        (doubts("none", 0), "but by the balance none was. To buy what is uncertain anew:"),
    ],
)
def test_what_the_balance_says_of_doubts(found: Reconciliation | None, said: str) -> None:
    """The command is the same; whether it may pay twice is said by what is known."""
    ended = result(codes=Counter({ExitCode.UNCERTAIN: 3}), reconciliation=found)
    [step] = steps(ORDER, Path("a.csv"), Decimal(1), ended)
    assert step.why.startswith(f"3 rows may have been bought, {said}")
    assert "--resubmit-uncertain" in step.command


def test_failures_are_counted_by_category() -> None:
    """Each step says how many rows it is for, and why they have no result."""
    ended = result(failed=Counter(balance=2, timeout=1), others=Counter(download=3))
    assert [step.why for step in steps(ORDER, Path("a.csv"), Decimal(1), ended)] == [
        "1 row failed for timeout. To buy anew:",
        "5 rows without a result: 3 download, 2 balance. To try again:",
    ]


def test_a_budget_that_was_reached_is_raised_to_what_all_costs() -> None:
    """The amount is rounded up: a cent more, and never one too few."""
    (step,) = steps(ORDER, Path("a.csv"), Decimal("3.141"), result(error=BUDGET))
    assert step.why == "To buy all rows:"


def test_rows_are_counted() -> None:
    """One row is one row."""
    assert [counted(1, "row"), counted(2_000, "row")] == ["1 row", "2,000 rows"]

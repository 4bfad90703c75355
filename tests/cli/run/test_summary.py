"""The end of a run: its report, its summary, its exit code."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path

import pytest

from apixo_async import (
    BudgetExceededError,
    GptImage2,
    JournalError,
    Progress,
    Reconciliation,
    Result,
)
from apixo_async._cli.console import Screen
from apixo_async._cli.exits import ExitCode
from apixo_async._cli.run.buying import RunResult
from apixo_async._cli.run.options import RunOptions
from apixo_async._cli.run.summary import Step, Summary
from apixo_async.journal._journal import Journal


async def fill(options: RunOptions, count: int) -> None:
    """Leave so many saved results."""
    journal = await Journal.open(options.journal)
    for number in range(count):
        entry = await journal.enter(f"{number:03}", GptImage2(prompt=f"fox {number}"))
        await journal.intend(entry, None, Decimal("0.02"))
        journal.submitted(entry, f"task_{number}")
        journal.succeeded(entry, Result(f"task_{number}", "gpt-image-2", ("https://x/y.png",)))
        journal.downloaded(entry, [options.out / f"task_{number}-1.png"])
    await journal.aclose()


def closing_of(folder: Path, count: int = 3, rows: int = 3) -> Summary:
    """Return a run of some rows, so many of which are in the journal."""
    options = RunOptions("a.csv", folder.absolute())
    asyncio.run(fill(options, count))
    progress = Progress(read=count, succeeded=count, resumed=1, spent=Decimal("0.06"))
    result = RunResult(
        rows, {}, balance_before=Decimal(10), balance_after=Decimal("9.94"), progress=progress
    )
    return Summary(options, result, "apixo run: a.csv", [], Decimal("0.06"))


def test_a_person_gets_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows, time, money, balances and the place of the report; nothing to do, nothing said."""
    assert closing_of(tmp_path).close(Screen()) is ExitCode.OK
    out, err = capsys.readouterr()
    facts = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert facts["Rows"] == "3: 3 succeeded"
    assert facts["Earlier"].startswith("1 of them")
    assert facts["Spent"] == (
        "$0.06 in all, by the documents' prices; balance $10.00 before, $9.94 after"
    )
    assert facts["Files"] == f"3 in {tmp_path}"
    assert facts["Report"] == str(tmp_path / "index.html")
    assert err == ""
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["exit"], report["money"]["balance_difference"]) == ("complete", 0.06)


def test_a_program_gets_a_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line has what report.json says but for the samples, the exit code, and what is next."""
    run = closing_of(tmp_path, rows=5)
    run = run._replace(steps=[Step("To go on:", "apixo run a.csv --out x")])
    run.result.error = BudgetExceededError(
        "x", max_cost=Decimal("0.06"), spent=Decimal("0.060000"), price=Decimal("0.02")
    )
    assert run.close(Screen(as_json=True)) is ExitCode.BUDGET
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["items"]["total"] == 3
    assert document["rows"] == {"total": 5, "not_reached": 2}
    assert document["exit_code"] == ExitCode.BUDGET
    assert document["next"][0]["command"].startswith("apixo run a.csv --out")
    assert "samples" not in document
    assert err.splitlines()[0] == (
        "apixo: --max-cost $0.06 is reached: $0.06 are spent, and the next task costs $0.02"
    )


def test_what_the_balance_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of uncertain rows, in a line and in the document."""
    run, cents = closing_of(tmp_path), Decimal("0.02")
    run.result.reconciliation = Reconciliation(
        "none", 0, 2, 2 * cents, 3, 3 * cents, Decimal(10), Decimal("9.94"), "none was bought"
    )
    run.close(Screen())
    said = (
        "the balance fell by $0.06, 3 known purchases cost $0.06: none was bought of 2 uncertain "
        "submits (if nothing else used the key, and nothing was refunded or added)"
    )
    assert f"Doubts   {said}\n" in capsys.readouterr().out
    run._replace(options=run.options).close(Screen(as_json=True))
    document = json.loads(capsys.readouterr().out)["reconciliation"]
    assert document == {
        "verdict": "none", "uncertain": 2, "bought": 0, "known": 3, "known_cost": 0.06,
        "balance_before": 10, "balance_after": 9.94, "says": said,
    }  # fmt: skip


def test_many_items_are_read(tmp_path: Path) -> None:
    """Every item is in the report once and in its options, however the pages fall."""
    closing_of(tmp_path, count=401).close(Screen())
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines] == [*range(1, 402)]


def test_a_report_that_cannot_be_written_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that went well ends with 7 then, one that did not with its own code."""
    run = closing_of(tmp_path)
    (tmp_path / "report.json").mkdir()
    assert run.close(Screen()) is ExitCode.NOT_SAVED
    out, err = capsys.readouterr()
    assert "report.json" in err
    assert "Rows " in out
    assert "Report" not in out
    run.result.codes[ExitCode.FAILED] += 1
    assert run.close(Screen()) is ExitCode.FAILED


def test_a_journal_that_is_lost_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the run has ended with is not said again for the report."""
    run = closing_of(tmp_path)
    run.options.journal.write_text("no journal any more, and longer than a byte " * 30)
    assert run.close(Screen()) is ExitCode.JOURNAL
    assert "something else than a journal" in capsys.readouterr().err
    run.result.error = JournalError("it was taken away")
    assert run.close(Screen()) is ExitCode.JOURNAL
    assert capsys.readouterr().err.count("apixo: ") == 1

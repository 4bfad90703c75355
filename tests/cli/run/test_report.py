"""The report of a journal at any moment, and what is kept of rows for it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from apixo_async import GptImage2, TaskFailedError, TaskRef
from apixo_async._cli.app import run
from apixo_async._cli.exits import ExitCode
from apixo_async._cli.report.records import RunFacts
from apixo_async._cli.run.history import RecordView
from apixo_async._cli.run.report import read_kept, report_journal, write_kept
from apixo_async.journal._journal import Journal

from ...support.journals import change

PRICE = Decimal("0.02")
NO_RUN = RunFacts(None, datetime(2026, 1, 1, tzinfo=UTC), "unknown")


async def fill(path: Path) -> Journal:
    """Leave a task, a failure and a new item in a journal, and return it open."""
    journal = await Journal.open(path)
    for name in ("a fox", "a hen"):
        entry = await journal.enter(None, GptImage2(prompt=name))
        await journal.intend(entry, None, PRICE)
        journal.submitted(entry, f"task_{name[2:]}")
    ref = TaskRef("gpt-image-2", "task_hen")
    error = TaskFailedError(
        "failed", ref=ref, fail_code="NSFW", fail_msg="no", family="content", retryable=False
    )
    journal.failed(entry, error)
    await journal.enter("k", GptImage2(prompt="a cow"))
    await journal.flush()
    return journal


def leave(path: Path) -> None:
    """Leave a journal that no run has open."""

    async def left() -> None:
        await (await fill(path)).aclose()

    asyncio.run(left())


def results(folder: Path) -> list[dict[str, object]]:
    """Return what results.jsonl says."""
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


async def test_while_a_run_goes_on(tmp_path: Path) -> None:
    """A submit under way is unfinished, and the report says that it is of no run that has ended."""
    journal = await fill(tmp_path / "run.db")
    view = RecordView(tmp_path, kept={"k": {"note": "dusk"}})
    document, _ = await report_journal(tmp_path / "run.db", tmp_path, view, NO_RUN)
    await journal.aclose()
    assert (document["exit"], document["times"]["started_at"]) == ("a run is under way", None)
    assert [one["state"] for one in results(tmp_path)] == ["unfinished", "failed", "unbought"]
    assert [one["kept"] for one in results(tmp_path)] == [{}, {}, {"note": "dusk"}]


def test_the_journal_is_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a run that wrote no report one is made of its journal, and no key is asked for."""
    monkeypatch.delenv("APIXO_API_KEY", raising=False)
    leave(tmp_path / "run.db")
    assert run(["report", str(tmp_path)]) == ExitCode.OK
    facts = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert facts == {
        "Items": "3: 1 failed, 1 unbought, 1 unfinished",
        "Failed": "1 content",
        "Spent": "$0.04 by the documents' prices",
        "Report": str(tmp_path / "index.html"),
    }
    (failed,) = (tmp_path / "failed.jsonl").read_text().splitlines()
    assert json.loads(failed)["prompt"] == "a hen"
    assert "key" not in json.loads(failed)
    assert run(["report", str(tmp_path / "run.db"), "--json"]) == ExitCode.OK
    document = json.loads(capsys.readouterr().out)
    assert document["exit"].startswith("as of ")
    assert document["items"]["failures"] == {"content": 1}


def test_a_damaged_row_is_said_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What can be read is reported all the same."""
    leave(tmp_path / "simulated.db")
    change(tmp_path / "simulated.db", "UPDATE item SET payload = '[' WHERE row = 1")
    assert run(["report", str(tmp_path)]) == ExitCode.JOURNAL
    out, err = capsys.readouterr()
    assert "2: 1 failed, 1 unbought" in out
    assert "is damaged" in err


def test_a_folder_without_a_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written where there is nothing to report."""
    assert run(["report", str(tmp_path)]) == ExitCode.USAGE
    assert "holds no run.db or simulated.db" in capsys.readouterr().err
    assert run(["report", str(tmp_path / "none.db")]) == ExitCode.JOURNAL
    assert [*tmp_path.iterdir()] == []


def test_what_is_kept_stays_over_runs(tmp_path: Path) -> None:
    """A run of some rows only loses nothing of the others, and what was mangled is left out."""
    assert write_kept(tmp_path, {}) == {}
    assert [*tmp_path.iterdir()] == []
    write_kept(tmp_path, {"a": {"note": "dusk"}, "b": {"note": "x"}})
    assert write_kept(tmp_path, {"b": {"note": "dawn"}}) == {
        "a": {"note": "dusk"},
        "b": {"note": "dawn"},
    }
    with (tmp_path / "kept.jsonl").open("ab") as file:
        file.write(b'[1\n{"a": 1}\n["c", [3]]\n\xff\n')
    assert write_kept(tmp_path, {}) == read_kept(tmp_path)
    assert read_kept(tmp_path).keys() == {"a", "b"}

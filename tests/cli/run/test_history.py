"""What the journal knows before a run goes on."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from apixo_async import (
    ConfigurationError,
    GptImage2,
    JournalError,
    Result,
    TaskFailedError,
    TaskRef,
)
from apixo_async._cli.rows.rows import ParsedRow
from apixo_async._cli.run.history import read_history
from apixo_async._cli.run.options import RunOptions
from apixo_async.journal._journal import Journal

from ...support.journals import change

PRICE = Decimal("0.02")


def names(folder: Path) -> list[str]:
    """Return what lies in a folder."""
    return [one.name for one in folder.iterdir()]


def row(prompt: str, key: str | None = None, line: int = 1) -> ParsedRow:
    """Return a row."""
    return ParsedRow(line, key, GptImage2(prompt=prompt))


async def fill(path: Path) -> None:
    """Leave an item in each state: a success, a task, two failures, an intent and a new one."""
    journal = await Journal.open(path)
    entries = {
        name: await journal.enter(None, GptImage2(prompt=name))
        for name in ("success", "submitted", "passing", "final", "intent", "new")
    }
    for name, entry in entries.items():
        if name == "new":
            continue
        await journal.intend(entry, None, PRICE)
        if name != "intent":
            journal.submitted(entry, f"task_{name}")
    journal.succeeded(entries["success"], Result("task_success", "gpt-image-2", ()))
    for name in ("passing", "final"):
        error = TaskFailedError(
            "failed", ref=TaskRef("gpt-image-2", f"task_{name}"), fail_code="X", fail_msg=None,
            family="timeout", retryable=name == "passing",
        )  # fmt: skip
        journal.failed(entries[name], error)
    await journal.aclose()


@pytest.mark.parametrize(
    ("options", "to_buy"),
    [
        ({}, {"new"}),
        ({"attempts": 2}, {"new", "passing"}),
        ({"retry": ("timeout",)}, {"new", "passing", "final"}),
        ({"retry": ("content",)}, {"new"}),
        ({"resubmit_uncertain": True}, {"new", "intent"}),
    ],
)
async def test_what_a_run_still_buys(
    options: dict[str, Any], to_buy: set[str], tmp_path: Path
) -> None:
    """A row is bought if it is new, failed with an attempt left, or asked for."""
    asked = RunOptions("a.txt", tmp_path, **options)
    await fill(asked.journal)
    history = await read_history(asked)
    names = ("success", "submitted", "passing", "final", "intent", "new")
    rows = [row(name, line=line) for line, name in enumerate(names, 1)]
    assert {one.input.prompt for one in rows if not history.is_bought(one)} == to_buy  # type: ignore[union-attr]
    assert history.spent == 5 * PRICE
    assert sorted(history.lines.values()) == [1, 2, 3, 4, 5, 6]


async def test_a_failure_for_the_balance_is_bought_again(tmp_path: Path) -> None:
    """What failed as the account was empty is in the price that is agreed to."""
    options = RunOptions("a.txt", tmp_path)
    journal = await Journal.open(options.journal)
    entry = await journal.enter("k", GptImage2(prompt="a fox"))
    await journal.intend(entry, None, PRICE)
    journal.submitted(entry, "task_1")
    error = TaskFailedError(
        "failed", ref=TaskRef("gpt-image-2", "task_1"), fail_code="INSUFFICIENT_BALANCE",
        fail_msg=None, family="balance", retryable=False,
    )  # fmt: skip
    journal.failed(entry, error)
    await journal.aclose()
    history = await read_history(options)
    assert not history.is_bought(row("a fox", "k")._replace(kept={"note": "dusk"}))
    assert (history.costs, history.kept) == ({"k": PRICE}, {"k": {"note": "dusk"}})


async def test_equal_rows_are_told_apart_by_their_number(tmp_path: Path) -> None:
    """The second of two equal rows is another item; a row put before them changes nothing."""
    options = RunOptions("a.txt", tmp_path)
    await fill(options.journal)
    history = await read_history(options)
    asked = [history.is_bought(row(name)) for name in ("other", "success", "success")]
    assert asked == [False, True, False]


async def test_a_key_of_another_input_is_refused(tmp_path: Path) -> None:
    """A row that was changed under its key, or goes another way, is no row to buy."""
    options = RunOptions("a.txt", tmp_path)
    journal = await Journal.open(options.journal)
    await journal.enter("k", GptImage2(prompt="a fox"))
    await journal.aclose()
    history = await read_history(options)
    assert not history.is_bought(row("a fox", "k"))
    with pytest.raises(ConfigurationError, match="'k' is the key of another input"):
        history.is_bought(row("a hen", "k"))
    other = await read_history(options._replace(provider="value"))
    with pytest.raises(ConfigurationError, match="key of another"):
        other.is_bought(row("a fox", "k"))


async def test_without_a_journal_nothing_is_known(tmp_path: Path) -> None:
    """A run that begins has no history, and reading it makes no file."""
    history = await read_history(RunOptions("a.txt", tmp_path))
    assert (history.spent, history.is_bought(row("a fox"))) == (0, False)
    assert names(tmp_path) == []


async def test_another_run_is_using_it(tmp_path: Path) -> None:
    """Two runs share no folder: the second one is refused before anything is asked."""
    options = RunOptions("a.txt", tmp_path)
    journal = await Journal.open(options.journal)
    with pytest.raises(JournalError, match="another run is using it"):
        await read_history(options)
    await journal.aclose()


async def test_a_damaged_row_ends_the_run(tmp_path: Path) -> None:
    """A row that cannot be read might be bought again: the run does not begin."""
    options = RunOptions("a.txt", tmp_path)
    await fill(options.journal)
    change(options.journal, "UPDATE item SET payload = '[' WHERE row = 2")
    with pytest.raises(JournalError, match=r"row 2 .* is damaged"):
        await read_history(options)


async def test_a_lost_file_is_not_taken_for_none(tmp_path: Path) -> None:
    """A log without its file is refused: what it holds would be bought again."""
    (tmp_path / "run.db-wal").write_bytes(b"x" * 100)
    with pytest.raises(JournalError, match="missing or empty, but the log"):
        await read_history(RunOptions("a.txt", tmp_path))


async def test_a_foreign_file_is_no_journal(tmp_path: Path) -> None:
    """What is something else is left alone, before anything is asked or bought."""
    options = RunOptions("a.txt", tmp_path)
    options.journal.write_text("not a database, and rather long " * 40)
    with pytest.raises(JournalError, match="something else than a journal"):
        await read_history(options)

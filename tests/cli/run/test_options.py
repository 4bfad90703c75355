"""What a run is asked for, and the command that asks for the same again."""

from __future__ import annotations

import shlex
from decimal import Decimal
from pathlib import Path
from typing import get_args

import pytest

from apixo_async import ConfigurationError, FailureCategory, Limits
from apixo_async._cli.rows.question import Terms
from apixo_async._cli.rows.source import Format
from apixo_async._cli.run.options import RunOptions
from apixo_async._cli.session import Access


def test_the_command_to_go_on_is_short_where_it_can_be() -> None:
    """Options that are as usual are not repeated."""
    assert RunOptions("a.csv", Path("out")).command(Path("a.csv")) == "apixo run a.csv --out out"


def test_the_command_to_go_on_repeats_every_option() -> None:
    """It asks for the same run, of the copy where the rows came through a pipe, and is quoted."""
    terms = Terms(True, True, Decimal("1.5"), {"sora-2": Decimal("0.25")})
    access = Access(Path("my key"), "http://127.0.0.1:1")
    options = RunOptions(
        "-", Path("a b"), terms, Limits(7, 70), access, Format.CSV, "m", ("x=1", "y=it's"),
        "value", 3, True, False, retry=("timeout", "upstream"), ignore=("id",), keep=("a note",),
        name="{row:04} {slug}",
    )  # fmt: skip
    assert shlex.split(options.command(Path("-copy.csv"))) == [
        "apixo", "run", "./-copy.csv", "--out", "a b", "--format", "csv", "--model", "m",
        "--set", "x=1", "--set", "y=it's", "--ignore", "id",
        "--keep", "a note", "--provider", "value", "--attempts", "3",
        "--name", "{row:04} {slug}",
        "--retry-failed=timeout,upstream", "--resubmit-uncertain", "--max-cost", "1.5",
        "--price", "sora-2=0.25",
        "--yes-unknown-price", "--yes", "--concurrent-tasks", "7", "--requests-per-minute", "70",
        "--api-key-file", "my key", "--base-url", "http://127.0.0.1:1",
    ]  # fmt: skip


def test_what_is_bought_anew_was_meant_for_this_run() -> None:
    """The command that goes on repeats neither; all categories need no names."""
    every: tuple[FailureCategory, ...] = get_args(FailureCategory)
    options = RunOptions("a.csv", Path("out"), resubmit_uncertain=True, retry=every)
    assert "--retry-failed --resubmit-uncertain" in options.command(Path("a.csv"))
    assert options.command_to_go_on(Path("a.csv")) == "apixo run a.csv --out out"


def test_a_simulated_run_needs_no_yes() -> None:
    """What the command itself takes for granted is not repeated."""
    options = RunOptions("a.csv", Path("out"), Terms(yes=True), simulate=True)
    assert options.command(Path("a.csv")) == "apixo run a.csv --out out --simulate"


def test_real_and_simulated_runs_share_no_folder(tmp_path: Path) -> None:
    """What a simulator made is never taken for what was paid for, nor the other way round."""
    rows = tmp_path / "a.txt"
    rows.write_text("a fox\n")
    real = RunOptions(str(rows), tmp_path / "real", model="m")
    simulated = RunOptions(str(rows), tmp_path / "simulated", model="m", simulate=True)
    for options in (real, simulated):
        options.open_rows()
        options.journal.touch()
        options.open_rows()
    with pytest.raises(ConfigurationError, match="real holds a real run"):
        real._replace(simulate=True).open_rows()
    with pytest.raises(ConfigurationError, match="holds a simulated run"):
        simulated._replace(simulate=False).open_rows()


def test_the_folder_is_a_folder(tmp_path: Path) -> None:
    """A file in its place is named before anything else happens."""
    (tmp_path / "out").touch()
    with pytest.raises(ConfigurationError, match=r"--out .*out is a file; give a folder"):
        RunOptions("a.csv", tmp_path / "out").open_rows()

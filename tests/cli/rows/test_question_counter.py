"""What a person sees of the price, and how they are asked."""

from __future__ import annotations

import io
from decimal import Decimal
from pathlib import Path

import pytest
import typer

from apixo_async._cli.console import Screen
from apixo_async._cli.exits import ExitCode
from apixo_async._cli.rows.question import (
    Ask,
    Go,
    PriceGroup,
    RowsReport,
    Stop,
    carry_out,
    is_attended,
    show,
)
from apixo_async._cli.rows.source import Format, Problem, RowsSource

FILE = RowsSource(Path("a.csv"), "a.csv", Format.CSV)
CHEAP = PriceGroup("gpt-image-2", "resolution 1k", Decimal("0.02"), 1_000)
UNKNOWN = PriceGroup("sora-2", "", None, 3)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say yes."""
        return True


def shown(
    report: RowsReport,
    capsys: pytest.CaptureFixture[str],
    source: RowsSource = FILE,
    as_json: bool = False,
) -> list[str]:
    """Return the lines that are shown, all of them beside the results."""
    show(source, report, Screen(as_json=as_json))
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


@pytest.mark.parametrize("as_json", [False, True])
def test_one_lot_is_one_line(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    """Rows, model, price and sum stand in a table, and stdout is left to the results."""
    report = RowsReport("a.csv", 1_000, 0, (CHEAP,))
    assert shown(report, capsys, as_json=as_json) == [
        "rows\tmodel\ttask\tprice each\tsum",
        "1,000\tgpt-image-2\tresolution 1k\t$0.02\t$20.00",
    ]


def test_several_lots_have_a_sum(capsys: pytest.CaptureFixture[str]) -> None:
    """The last line adds up, and says when a part of it is unknown."""
    report = RowsReport("a.csv", 1_003, 0, (CHEAP, UNKNOWN))
    assert shown(report, capsys)[2:] == [
        "3\tsora-2\t\tunknown\tunknown",
        "1,003\tall\t\t\t$20.00 + unknown",
    ]
    priced = report.priced({"sora-2": Decimal(1)})
    assert shown(priced, capsys)[-1] == "1,003\tall\t\t\t$23.00"


def test_doubts_are_warnings_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The first doubts are shown, the rest counted."""
    doubts = (Problem(7, "aspect_ratio: odd"),)
    report = RowsReport("a.csv", 9, 9, (), doubtful=3, doubts=doubts)
    assert shown(report, capsys) == [
        "apixo: warning: line 7: aspect_ratio: odd",
        "apixo: warning: ... and 2 more rows with something that may be a mistake",
    ]
    report = RowsReport("a.csv", 9, 9, (), doubtful=1, doubts=doubts)
    assert len(shown(report, capsys)) == 1


def test_bad_rows_have_no_price(capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing can be bought, no price is in the way of what is wrong."""
    assert shown(RowsReport("a.csv", 1_000, 0, (CHEAP,), bad=1), capsys) == []


def test_a_copy_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Who piped the rows in is told where they are kept."""
    copy = RowsSource(Path("out/rows-1.txt"), "stdin", Format.PLAIN, is_copy=True)
    (line,) = shown(RowsReport("stdin", 0, 0, ()), capsys, copy)
    assert line == f"stdin is kept as {copy.path}; to go on later, give that file"


def test_a_stop_ends_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Each reason is a line, and the exit code is that of the decision."""
    with pytest.raises(typer.Exit) as caught:
        carry_out(Stop(("a fault", "another"), ("a note",)), Screen())
    assert caught.value.exit_code == ExitCode.USAGE
    assert capsys.readouterr().err == "a note\napixo: a fault\napixo: another\n"


def test_going_on_needs_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """Notes are said, and nobody is asked."""
    carry_out(Go(("a note",)), Screen())
    assert capsys.readouterr() == ("", "a note\n")


@pytest.mark.parametrize(
    ("answer", "goes"), [("y\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_a_question_is_put_beside_the_results(
    answer: str, goes: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a yes goes on; anything else ends the command, as Ctrl-C does."""
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    decision = Ask(("a note",), "Buy 2 tasks for $0.04?")
    if goes:
        carry_out(decision, Screen())
    else:
        with pytest.raises(typer.Abort):
            carry_out(decision, Screen())
    assert capsys.readouterr() == ("", "a note\nBuy 2 tasks for $0.04? [y/n] (n): ")


@pytest.mark.parametrize("stdin", [Terminal, io.StringIO])
@pytest.mark.parametrize("stderr", [Terminal, io.StringIO])
def test_somebody_is_there_at_a_terminal(
    stdin: type[io.StringIO], stderr: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question needs a terminal to be read on, and one to be answered on."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdin", stdin())
    monkeypatch.setattr("sys.stderr", stderr())
    assert is_attended(Screen()) is (stdin is stderr is Terminal)

"""Screen: results to stdout, the rest to stderr, tables for people and tabs for pipes."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from rich.console import Group
from rich.live import Live
from rich.progress import Progress, TextColumn
from rich.progress_bar import ProgressBar
from rich.text import Text

from apixo_async._cli import console
from apixo_async._cli.console import Screen, seconds
from apixo_async._text import dollars


class ClosedPipe(io.StringIO):
    """A stream whose reader has gone."""

    def write(self, text: str) -> int:
        """Refuse, as a closed pipe does."""
        raise BrokenPipeError(32, "Broken pipe", text[:0])


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say yes."""
        return True


def test_results_and_remarks_go_to_different_streams(capsys: pytest.CaptureFixture[str]) -> None:
    """Results are all that is on stdout."""
    screen = Screen()
    screen.line("a result")
    screen.note("  a remark")
    screen.warning("a doubt")
    screen.error("a fault")
    out, err = capsys.readouterr()
    assert out == "a result\n"
    assert err == "  a remark\napixo: warning: a doubt\napixo: a fault\n"


def test_a_long_line_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Paths and ids are neither wrapped nor cut, and brackets are no markup."""
    Screen().line(f"[red]{'x' * 500}")
    assert capsys.readouterr().out == f"[red]{'x' * 500}\n"


def test_a_document_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Amounts are numbers, times ISO 8601, everything else text."""
    moment = datetime(2026, 11, 2, 3, 4, tzinfo=UTC)
    Screen(as_json=True).document(
        {"usd": Decimal("0.35"), "at": moment, "path": Path("a\tb"), "text": "ü\n"}
    )
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {
        "usd": 0.35, "at": "2026-11-02T03:04:00+00:00", "path": "a\tb", "text": "ü\n"
    }  # fmt: skip


def test_a_table_is_lines_with_tabs_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """A pipe gets one line a row, cells parted by tabs, whatever is in them."""
    Screen().table(("name", "value"), [("a", "1 | 2"), ("b\tc\n", "x" * 200)])
    assert capsys.readouterr().out == f"name\tvalue\na\t1 | 2\nb c\t{'x' * 200}\n"


def test_a_table_can_stand_beside_the_results(capsys: pytest.CaptureFixture[str]) -> None:
    """What is no result goes to stderr, tables as well."""
    Screen(as_json=True).table(("name",), [("a",)], aside=True)
    assert capsys.readouterr() == ("", "name\na\n")


def test_a_table_is_a_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets aligned columns with a rule under the head."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    Screen().table(("name", "value"), [("a", "[bold]1[/bold]")])
    shown = terminal.getvalue()
    assert "\t" not in shown
    assert "──" in shown
    assert "[bold]1[/bold]" in shown


@pytest.mark.parametrize("no_color", [True, False])
def test_colours_obey_no_color(monkeypatch: pytest.MonkeyPatch, no_color: bool) -> None:
    """NO_COLOR takes colours away; a terminal without it has them."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    Screen().error("a fault")
    assert ("[1;31m" in terminal.getvalue()) is not no_color


@pytest.mark.parametrize(("stream", "live"), [(Terminal, True), (io.StringIO, False)])
def test_progress_moves_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO], live: bool
) -> None:
    """Progress is live where stderr is a terminal."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", stream())
    assert Screen().live is live


def test_a_pipe_without_a_reader_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way to write raises BrokenPipeError, for the command to end in one place."""
    monkeypatch.setattr("sys.stdout", ClosedPipe())
    screen = Screen()
    with pytest.raises(BrokenPipeError):
        screen.line("x")
    with pytest.raises(BrokenPipeError):
        screen.document({})
    with pytest.raises(BrokenPipeError):
        screen.table(("a",), [("b",)])


@pytest.mark.parametrize(
    ("amount", "text"), [("0.35", "$0.35"), ("5", "$5.00"), ("0.005", "$0.005"), ("1.40", "$1.40")]
)
def test_dollars_have_two_decimals_at_least(amount: str, text: str) -> None:
    """Amounts below a cent are not rounded away."""
    assert dollars(Decimal(amount)) == text


@pytest.mark.parametrize(
    ("span", "text"),
    [(0.04, "0.0 s"), (2.04, "2.0 s"), (3, "3 s"), (75.4, "75 s"), (600, "10 min")],
)
def test_durations_are_written_for_people(span: float, text: str) -> None:
    """Short spans keep a decimal, long ones become minutes."""
    assert seconds(span) == text


@pytest.mark.parametrize(("value", "wanted"), [("1", True), ("", False), ("0", False)])
def test_debugging_is_asked_for_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, value: str, wanted: bool
) -> None:
    """APIXO_DEBUG, neither empty nor 0, asks for tracebacks."""
    monkeypatch.setenv("APIXO_DEBUG", value)
    assert console.debugging() is wanted


ATTACK = "x\x1b]52;c;cm0=\x07\x1b]0;t\x1b\\\x1b[2J\x9b2J\rforged\u202ey"


def controls(text: str) -> set[str]:
    """Return what is left of the control characters once rich's own are taken out."""
    own = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text.replace("\x1b[2J", "CLEARED"))
    return {char for char in own if not char.isprintable()} - {"\n", "\r"}


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_no_text_is_more_than_text(stream: type[io.StringIO]) -> None:
    """A name or a state of others steers no terminal, whichever way it takes there."""
    screen = Screen()
    screen.out.file = screen.err.file = shown = stream()
    screen.line(ATTACK)
    screen.note(ATTACK)
    screen.error(ATTACK)
    screen.table([ATTACK], [[ATTACK]])
    screen.document({ATTACK: [ATTACK, "\ud83d"]})
    screen.err.print(Group(Text(ATTACK), ProgressBar(2, 1)))
    with Live(console=screen.err, auto_refresh=False) as live:
        live.update(Text(ATTACK), refresh=True)
    columns = (TextColumn("{task.fields[prefix]}", markup=False), TextColumn("{task.description}"))
    with Progress(*columns, console=screen.err) as bar:
        bar.add_task(ATTACK, prefix=ATTACK)
    assert shown.getvalue().count("forged") >= 8
    assert controls(shown.getvalue()) == set()
    assert "CLEARED" not in shown.getvalue().replace("\x1b[2J", "CLEARED")


def test_a_document_holds_half_a_character(capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be written in UTF-8 is written in JSON's way."""
    Screen(as_json=True).document({"state": "\ud83d", "more": "ü"})
    assert json.loads(capsys.readouterr().out) == {"state": "\ud83d", "more": "ü"}

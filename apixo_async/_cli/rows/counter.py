"""Where the price is shown and the question put: the side of it that a person sees."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import typer
from rich.prompt import Confirm
from rich.text import Text

from apixo_async._cli.console import Screen, dollars
from apixo_async._cli.rows.question import Ask, Decision, Stop
from apixo_async._cli.rows.source import Source
from apixo_async._cli.rows.survey import Survey

_HEAD = ("rows", "model", "task", "price each", "sum")


def is_attended(screen: Screen) -> bool:
    """Return whether somebody is there to be asked: stdin may be a pipe that holds the rows."""
    return sys.stdin.isatty() and screen.err.is_terminal


def show(source: Source, survey: Survey, screen: Screen) -> None:
    """Print what is to be bought at which price, and what may be a mistake, beside the results."""
    if source.is_copy:
        screen.note(f"{source.name} is kept as {source.path}; to go on later, give that file")
    if survey.bad:
        return
    if survey.lots:
        screen.table(_HEAD, [*_lines(survey)], aside=True)
    for doubt in survey.doubts:
        screen.warning(str(doubt))
    if more := survey.doubtful - len(survey.doubts):
        screen.warning(f"... and {more:,} more rows with something that may be a mistake")


def _lines(survey: Survey) -> Iterator[tuple[str, ...]]:
    for lot in survey.lots:
        each, whole = "unknown", "unknown"
        if lot.price is not None:
            each, whole = dollars(lot.price), dollars(lot.price * lot.rows)
        yield f"{lot.rows:,}", lot.model, lot.option, each, whole
    if len(survey.lots) > 1:
        known = dollars(survey.total)
        whole = f"{known} + unknown" if survey.unpriced else known
        yield f"{survey.to_buy:,}", "all", "", "", whole


def carry_out(decision: Decision, screen: Screen) -> None:
    """Return if the run goes on.

    Raises:
        typer.Exit: It may not; the reasons have been said.
        typer.Abort: Somebody was asked, and said no.
    """
    for note in decision.notes:
        screen.note(note)
    if isinstance(decision, Stop):
        for error in decision.errors:
            screen.error(error)
        raise typer.Exit(decision.code)
    if isinstance(decision, Ask) and not _says_yes(decision.question, screen):
        raise typer.Abort


def _says_yes(question: str, screen: Screen) -> bool:
    try:
        # On stderr: stdout holds results only.
        return Confirm.ask(Text(question), console=screen.err, default=False)
    except EOFError:
        return False

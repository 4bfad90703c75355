"""Where the command writes: results to stdout, everything else to stderr, JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NoReturn

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from apixo_async._text import one_line, printable


class _Pipe(Console):
    """A console to which no text is more than text, and whose reader may leave early.

    `apixo models | head -1` is no error.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render it, with rich's own control codes and no others."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                shown = "\n".join(printable(line) for line in segment.text.split("\n"))
                yield Segment(shown, segment.style)

    def on_broken_pipe(self) -> NoReturn:
        """Let the command end in its one place, instead of in the middle of a table."""
        raise BrokenPipeError


class Screen:
    """The two streams of one run of the command."""

    __slots__ = ("as_json", "err", "out")

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.out = _Pipe(highlight=False)
        self.err = _Pipe(stderr=True, highlight=False)

    @property
    def live(self) -> bool:
        """Whether a person watches stderr, so that progress may move there."""
        return self.err.is_terminal and not self.err.is_dumb_terminal

    def line(self, text: str) -> None:
        """Print one line of a result."""
        self.out.print(Text(printable(text)), soft_wrap=True)

    def note(self, text: str, style: str = "") -> None:
        """Print one line beside the results: progress, advice, a warning."""
        self.err.print(Text(printable(text), style=style), soft_wrap=True)

    def error(self, text: str) -> None:
        """Print one line that says what went wrong."""
        self.err.print(Text.assemble(("apixo:", "bold red"), " ", one_line(text)), soft_wrap=True)

    def warning(self, text: str) -> None:
        """Print one line of something that may be a mistake."""
        self.err.print(
            Text.assemble(("apixo: warning:", "yellow"), " ", one_line(text)), soft_wrap=True
        )

    def document(self, value: object) -> None:
        """Print one JSON document in one line."""
        # In ASCII: half a surrogate pair has no UTF-8, and some characters move a cursor.
        self._write(json.dumps(value, default=_plain))

    def table(
        self, head: Sequence[str], rows: Sequence[Sequence[str]], *, aside: bool = False
    ) -> None:
        """Print a table to a person, or its rows as lines with tabs into a pipe."""
        console = self.err if aside else self.out
        if not console.is_terminal:
            for row in (head, *rows):
                self._write("\t".join(one_line(cell) for cell in row), console)
            return
        table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
        for name in head:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*(Text(one_line(cell)) for cell in row))
        console.print(table)

    def _write(self, line: str, console: Console | None = None) -> None:
        # Not through rich, which would turn tabs into spaces.
        console = console or self.out
        try:
            console.file.write(f"{line}\n")
            console.file.flush()
        except BrokenPipeError:
            console.on_broken_pipe()


def debugging() -> bool:
    """Whether the person asked for tracebacks and the log."""
    return os.environ.get("APIXO_DEBUG", "") not in ("", "0")


def close_quietly() -> None:
    """Point stdout away from a pipe without a reader, so that the exit of Python prints nothing."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  # os.devnull is a name, no path
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def counted(number: int, noun: str = "row") -> str:
    """Write a number of things: `1 row`, `2,000 rows`."""
    return f"1 {noun}" if number == 1 else f"{number:,} {noun}s"


def seconds(span: float) -> str:
    """Write a duration for a person: `8.4 s`, `75 s`, `10 min`."""
    if span < 10 and span != int(span):
        return f"{span:.1f} s"
    return f"{span:.0f} s" if span < 600 else f"{span / 60:.0f} min"


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else str(value)

"""What is seen of a run while it goes on: the live view, or lines in a pipe, and notices."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import Final, NamedTuple

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import Progress as ProgressView
from rich.progress import ProgressColumn, TextColumn
from rich.progress import Task as ViewRow
from rich.progress_bar import ProgressBar
from rich.table import Column
from rich.text import Text

from apixo_async import Outcome, Progress, Statistics, errors, events
from apixo_async._cli.console import Screen, counted
from apixo_async._cli.exits import lines
from apixo_async._text import dollars, one_line

#: Lines below the live view.
_SHOWN: Final = 4

#: Failures that are printed in a pipe; all of them are in the report.
_PRINTED: Final = 20

#: Seconds in which an event of one kind is shown once: a thousand tasks meet the same outage.
_QUIET: Final = 30.0

#: What makes a run slower, and what ends that.
_REPORTED: Final = (
    events.EffectiveLimitLowered,
    events.LimitReached,
    events.ServiceRecovered,
    events.ServiceDown,
)


#: Errors of a row that end the buying: the run ends with them, and they are printed then.
_ENDING: Final = (
    errors.AuthenticationError,
    errors.BudgetExceededError,
    errors.ClientClosedError,
    errors.InsufficientBalanceError,
    errors.JournalError,
    errors.PollerDiedError,
)


class Notices:
    """Keep the latest lines for the live view, or print them in a pipe."""

    def __init__(self, screen: Screen, clock: Callable[[], float] = time.monotonic) -> None:
        self._screen = screen
        self._clock = clock
        self._said: dict[type[events.Event], float] = {}
        self._failures = 0
        self.shown: deque[Text] = deque(maxlen=_SHOWN)

    def event(self, event: events.Event) -> None:
        """Show an event of the client; of each kind one in half a minute."""
        if isinstance(event, events.SubmitRefused):
            if event.again_in is None:
                return  # It is the failure of its row.
        elif not isinstance(event, _REPORTED):
            return
        now, kind = self._clock(), type(event)
        if now - self._said.get(kind, -_QUIET) >= _QUIET:
            self._said[kind] = now
            self._add(str(event), "yellow")

    def outcome(self, where: str, outcome: Outcome) -> None:
        """Show that a row of this run has no result; what succeeded needs no line."""
        error = outcome.error
        is_balance = error is not None and error.category == "balance"
        if error is None or is_balance or isinstance(error, _ENDING):
            return
        self._failures += 1
        if self._screen.live or self._failures <= _PRINTED:
            self._add(f"{where}: {next(lines(error))}", "red")
        elif self._failures == _PRINTED + 1:
            self._add("more rows fail; results.jsonl will have them all", "")

    def _add(self, words: str, style: str) -> None:
        self.add(Text(one_line(words), style=style, no_wrap=True, overflow="ellipsis"))

    def add(self, line: Text) -> None:
        """Show a line: below the live view, or in the pipe."""
        if self._screen.live:
            self.shown.append(line)
            return
        # The reader of a pipe may have left, which is no reason to buy less.
        with suppress(BrokenPipeError):
            self._screen.err.print(line, soft_wrap=True)


#: Seconds that count: at most, and at least for a rate to mean anything.
_WINDOW: Final = 60.0
_LEAST: Final = 3.0


class Rate:
    """Measure a rate over the last minute; it counts from the first task that was over."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, seconds: float, finished: int) -> None:
        """Note how many were finished N seconds after the beginning."""
        if not finished:
            return
        self._seen.append((seconds, finished))
        while len(self._seen) > 2 and self._seen[1][0] <= seconds - _WINDOW:
            self._seen.popleft()

    @property
    def per_minute(self) -> float | None:
        """How many are finished in a minute, or None before the rate is known."""
        if not self._seen:
            return None
        (early, before), (late, after) = self._seen[0], self._seen[-1]
        return 60 * (after - before) / (late - early) if late - early >= _LEAST else None

    def left(self, rows: int) -> float | None:
        """Return the seconds that N rows take, or None before the rate is known."""
        rate = self.per_minute
        return 60 * rows / rate if rate else None


_BAR: Final = 24  # so that all fits on 80 columns


class RunSnapshot(NamedTuple):
    """One instant of a run."""

    title: str
    rows: int
    progress: Progress
    statistics: Statistics
    max_cost: Decimal | None = None
    #: Rows finished in a minute, or None before the rate is known.
    per_minute: float | None = None
    #: Seconds that the rest takes, or None before the rate is known.
    left: float | None = None
    ending: str = ""

    @property
    def finished(self) -> int:
        """Rows that are over, those of earlier runs included."""
        return self.progress.read - self.progress.in_progress


class _Bar(ProgressColumn):
    """A bar in the colour of its row; none in a row that is no part of anything."""

    def render(self, task: ViewRow) -> RenderableType:
        if not task.total:
            return ""
        colour = str(task.fields["colour"])
        return ProgressBar(
            task.total, task.completed, width=_BAR, complete_style=colour, finished_style=colour
        )


def draw(snapshot: RunSnapshot, notices: Iterable[Text]) -> RenderableType:
    """Return the live view: ten to thirteen lines, and the notices."""
    view = ProgressView(
        TextColumn("{task.description} ", markup=False, table_column=Column(no_wrap=True)),
        _Bar(),
        TextColumn(
            " {task.fields[value]}",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis"),
        ),
        auto_refresh=False,
    )

    def add(name: str, value: str, part: int = 0, whole: int = 0, colour: str = "blue") -> None:
        view.add_task(name, total=whole, completed=part, value=value, colour=colour)

    done, rows = snapshot.finished, snapshot.rows
    add("finished", f"{done:,} of {rows:,} rows", done, max(1, rows), "green")
    for word, count, colour in _ends(snapshot.progress):
        add(f"  {word}", f"{count:,}", count, max(1, rows), colour)
    counts = snapshot.statistics
    used, limit = counts.slots_used, counts.slots_limit
    add("tasks in flight", _share(used, limit), used, limit)
    used, limit = counts.requests_in_window, counts.requests_limit
    add("requests / 60 s", _share(used, limit), used, limit)
    add("rate", _pace(snapshot))
    add("spent", _money(snapshot))
    ending = [Text(snapshot.ending, style="yellow")] if snapshot.ending else []
    # A short line at the end: terminals write ^C there, which is not to move to the next one.
    return Group(
        Text(snapshot.title, style="bold"),
        Text(),
        view.get_renderable(),
        Text(),
        *ending,
        *notices,
        Text(),
    )


def line(snapshot: RunSnapshot) -> str:
    """Return the same in one line."""
    ends = ", ".join(f"{count:,} {word}" for word, count, _ in _ends(snapshot.progress))
    counts = snapshot.statistics
    return (
        f"{snapshot.finished:,} of {snapshot.rows:,} rows ({ends}); {_pace(snapshot)};"
        f" {counted(counts.slots_used, 'task')} in flight; {_money(snapshot)} spent"
    )


def _ends(progress: Progress) -> Iterator[tuple[str, int, str]]:
    """Yield what rows came to, with its colour; what seldom occurs only where it occurs."""
    yield "succeeded", progress.succeeded, "green"
    yield "failed", progress.failed, "red"
    if progress.uncertain:
        yield "uncertain", progress.uncertain, "magenta"
    if progress.unbought:
        yield "not bought", progress.unbought, "yellow"


def _share(used: int, limit: int) -> str:
    return f"{used:,} of {limit:,} ({used / limit:.0%})"


def _pace(snapshot: RunSnapshot) -> str:
    if snapshot.per_minute is None:
        return "no rate yet"
    rate = f"{snapshot.per_minute:,.0f} a minute"
    return rate if snapshot.left is None else f"{rate}, {span(snapshot.left)} left"


def span(seconds: float) -> str:
    """Write a time that is guessed: `8 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _money(snapshot: RunSnapshot) -> str:
    progress = snapshot.progress
    spent = dollars(progress.spent)
    if snapshot.max_cost is not None:
        spent = f"{spent} of {dollars(snapshot.max_cost)}"
    if progress.unpriced:
        spent = f"{spent}, {progress.unpriced:,} tasks of unknown price"
    return spent


#: Seconds between two looks at the counts, until the first line, and between two lines.
TICK: Final = 0.25
_FIRST: Final = 10.0
_NEXT: Final = 30.0


@asynccontextmanager
async def watched(
    look: Callable[[], RunSnapshot], notices: Notices, screen: Screen
) -> AsyncGenerator[None]:
    """Show how a run goes for as long as the context lasts.

    `look` returns this snapshot of it; it is called every quarter of a second, and in the end.
    """
    work = _drawn(look, notices, screen) if screen.live else _printed(look, screen)
    watching = asyncio.create_task(work)
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait({watching})
        look()
    # The reader of a pipe may have left, which is no reason to buy less.
    failed = None if watching.cancelled() else watching.exception()
    if failed is not None and not isinstance(failed, BrokenPipeError):
        raise failed


async def _drawn(look: Callable[[], RunSnapshot], notices: Notices, screen: Screen) -> None:
    # Drawn by the loop itself: a thread of rich's would read counts while they change.
    with Live(console=screen.err, auto_refresh=False) as live:
        try:
            while True:
                live.update(draw(look(), notices.shown), refresh=True)
                await asyncio.sleep(TICK)
        finally:
            live.update(draw(look(), notices.shown), refresh=True)


async def _printed(look: Callable[[], RunSnapshot], screen: Screen) -> None:
    loop = asyncio.get_running_loop()
    screen.note(look().title)
    due = loop.time() + _FIRST
    while True:
        await asyncio.sleep(TICK)
        snapshot = look()
        if loop.time() >= due:
            screen.note(line(snapshot))
            due = loop.time() + _NEXT

"""The live picture of a run on a terminal, and the line that stands for it in a pipe."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Final, NamedTuple

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from apixo_async import Progress, Statistics
from apixo_async._cli.console import Screen, dollars
from apixo_async._cli.run.news import Notices

#: Seconds that count: at most, and at least for a rate to mean anything.
_WINDOW: Final = 60.0
_LEAST: Final = 3.0


class Rate:
    """Measure a rate over the last minute; it counts from the first task that was over."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, seconds: float, finished: int) -> None:
        """Note how many were finished so many seconds after the beginning."""
        if not finished:
            return
        self._seen.append((seconds, finished))
        while len(self._seen) > 2 and self._seen[1][0] <= seconds - _WINDOW:
            self._seen.popleft()

    @property
    def per_minute(self) -> float | None:
        """How many are finished in a minute, or None while nobody can tell."""
        if not self._seen:
            return None
        (early, before), (late, after) = self._seen[0], self._seen[-1]
        return 60 * (after - before) / (late - early) if late - early >= _LEAST else None

    def left(self, rows: int) -> float | None:
        """Return the seconds that so many rows take, or None while nobody can tell."""
        rate = self.per_minute
        return 60 * rows / rate if rate else None


_BAR: Final = 24  # so that all fits on 80 columns


class RunSnapshot(NamedTuple):
    """One instant of a run.

    Attributes:
        title: What it is.
        rows: All rows of the file.
        progress: The counts of the map.
        statistics: Those of the client.
        max_cost: USD that it may cost, or None.
        per_minute: Rows finished in a minute, or None while nobody can tell.
        left: Seconds that the rest takes, or None while nobody can tell.
        ending: Why nothing more is bought, or "".
    """

    title: str
    rows: int
    progress: Progress
    statistics: Statistics
    max_cost: Decimal | None = None
    per_minute: float | None = None
    left: float | None = None
    ending: str = ""

    @property
    def finished(self) -> int:
        """Rows that are over, those of earlier runs included."""
        return self.progress.read - self.progress.in_progress


def draw(moment: RunSnapshot, news: Iterable[Text]) -> RenderableType:
    """Return the picture: ten to thirteen lines, and the news."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(width=_BAR, no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    done, rows = moment.finished, moment.rows
    grid.add_row("finished", _bar(done, rows, "green"), f"{done:,} of {rows:,} rows")
    for word, count, colour in _ends(moment.progress):
        grid.add_row(f"  {word}", _bar(count, rows, colour), f"{count:,}")
    counts = moment.statistics
    used, limit = counts.slots_used, counts.slots_limit
    grid.add_row("tasks in flight", _bar(used, limit), _share(used, limit))
    used, limit = counts.requests_in_window, counts.requests_limit
    grid.add_row("requests / 60 s", _bar(used, limit), _share(used, limit))
    grid.add_row("rate", "", _pace(moment))
    grid.add_row("spent", "", _money(moment))
    ending = [Text(moment.ending, style="yellow")] if moment.ending else []
    # A short line at the end: terminals write ^C there, which is not to move to the next one.
    return Group(Text(moment.title, style="bold"), Text(), grid, Text(), *ending, *news, Text())


def line(moment: RunSnapshot) -> str:
    """Return the same in one line."""
    ends = ", ".join(f"{count:,} {word}" for word, count, _ in _ends(moment.progress))
    counts = moment.statistics
    return (
        f"{moment.finished:,} of {moment.rows:,} rows ({ends}); {_pace(moment)};"
        f" {counts.slots_used:,} tasks in flight; {_money(moment)} spent"
    )


def _ends(progress: Progress) -> Iterator[tuple[str, int, str]]:
    """Yield what rows came to, with its colour; what seldom occurs only where it occurs."""
    yield "succeeded", progress.succeeded, "green"
    yield "failed", progress.failed, "red"
    if progress.uncertain:
        yield "uncertain", progress.uncertain, "magenta"
    if progress.unbought:
        yield "not bought", progress.unbought, "yellow"


def _bar(part: int, whole: int, colour: str = "blue") -> ProgressBar:
    return ProgressBar(
        max(1, whole), part, width=_BAR, complete_style=colour, finished_style=colour
    )


def _share(used: int, limit: int) -> str:
    return f"{used:,} of {limit:,} ({used / limit:.0%})"


def _pace(moment: RunSnapshot) -> str:
    if moment.per_minute is None:
        return "no rate yet"
    rate = f"{moment.per_minute:,.0f} a minute"
    return rate if moment.left is None else f"{rate}, {span(moment.left)} left"


def span(seconds: float) -> str:
    """Write a time that is guessed: `8 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _money(moment: RunSnapshot) -> str:
    progress = moment.progress
    spent = dollars(progress.spent)
    if moment.max_cost is not None:
        spent = f"{spent} of {dollars(moment.max_cost)}"
    if progress.unpriced:
        spent = f"{spent}, {progress.unpriced:,} tasks of unknown price"
    return spent


#: Seconds between two looks at the counts, until the first line, and between two lines.
TICK: Final = 0.25
_FIRST: Final = 10.0
_NEXT: Final = 30.0


@asynccontextmanager
async def watched(
    look: Callable[[], RunSnapshot], news: Notices, screen: Screen
) -> AsyncGenerator[None]:
    """Show how a run goes for as long as the context lasts.

    Args:
        look: Returns this moment of it; called every quarter of a second, and in the end.
        news: What stands below the picture.
        screen: Where to show it.
    """
    work = _drawn(look, news, screen) if screen.live else _told(look, screen)
    watching = asyncio.create_task(work)
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait({watching})
        look()
    # Nobody may be there to read it any more, which is no reason to buy less.
    failed = None if watching.cancelled() else watching.exception()
    if failed is not None and not isinstance(failed, BrokenPipeError):
        raise failed


async def _drawn(look: Callable[[], RunSnapshot], news: Notices, screen: Screen) -> None:
    # Drawn by the loop itself: a thread of rich's would read counts while they change.
    with Live(console=screen.err, auto_refresh=False) as live:
        try:
            while True:
                live.update(draw(look(), news.shown), refresh=True)
                await asyncio.sleep(TICK)
        finally:
            live.update(draw(look(), news.shown), refresh=True)


async def _told(look: Callable[[], RunSnapshot], screen: Screen) -> None:
    loop = asyncio.get_running_loop()
    screen.note(look().title)
    due = loop.time() + _FIRST
    while True:
        await asyncio.sleep(TICK)
        moment = look()
        if loop.time() >= due:
            screen.note(line(moment))
            due = loop.time() + _NEXT

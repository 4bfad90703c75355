"""Watching a run: a picture that moves on a terminal, else a line now and then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final

from rich.live import Live

from apixo_async._cli.console import Screen
from apixo_async._cli.run.board import Moment, draw, line
from apixo_async._cli.run.news import News

#: Seconds between two looks at the counts, until the first line, and between two lines.
TICK: Final = 0.25
_FIRST: Final = 10.0
_NEXT: Final = 30.0


@asynccontextmanager
async def watched(look: Callable[[], Moment], news: News, screen: Screen) -> AsyncGenerator[None]:
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


async def _drawn(look: Callable[[], Moment], news: News, screen: Screen) -> None:
    # Drawn by the loop itself: a thread of rich's would read counts while they change.
    with Live(console=screen.err, auto_refresh=False) as live:
        try:
            while True:
                live.update(draw(look(), news.shown), refresh=True)
                await asyncio.sleep(TICK)
        finally:
            live.update(draw(look(), news.shown), refresh=True)


async def _told(look: Callable[[], Moment], screen: Screen) -> None:
    loop = asyncio.get_running_loop()
    screen.note(look().title)
    due = loop.time() + _FIRST
    while True:
        await asyncio.sleep(TICK)
        moment = look()
        if loop.time() >= due:
            screen.note(line(moment))
            due = loop.time() + _NEXT

"""Waiting for one task where a person can see it: a moving line on a terminal, else plain lines."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, Protocol

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from apixo_async import Result, Task, WaitTimeoutError
from apixo_async._catalog import timing
from apixo_async._cli.console import Screen, seconds

#: Seconds between two refreshes.
TICK: Final = 0.1


class _View(Protocol):
    def __call__(self, state: str, elapsed: float, /) -> None:
        """Show that a task is in a state, so many seconds after the wait began."""
        ...


async def watch(
    task: Task, screen: Screen, *, kind: str | None = None, timeout: float | None = None
) -> Result:
    """Wait for a task, show its state and the documents' typical time, and return its result.

    Args:
        task: The task.
        screen: Where to show it.
        kind: What drives its duration; the model where nothing better is known.
        timeout: Seconds after which to stop waiting.

    Raises:
        WaitTimeoutError: The timeout is over, and the task is not.
        ApixoError: What `await task` raises.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    waiting = asyncio.create_task(task.wait(timeout))
    try:
        with _view(task, screen, kind or task.model) as show:
            while not waiting.done():
                show(task.state, loop.time() - began)
                await asyncio.wait({waiting}, timeout=TICK)
            show(task.state, loop.time() - began)
    finally:
        waiting.cancel()
    if not await waiting:
        waited = seconds(loop.time() - began)
        raise WaitTimeoutError(f"{task.ref} is not over after {waited}; it goes on", ref=task.ref)
    return await task


@contextmanager
def _view(task: Task, screen: Screen, kind: str) -> Generator[_View]:
    documented = timing(kind)
    typical = f"typically {documented.typical_low:.0f}-{documented.typical_high:.0f} s"
    if screen.live:
        with _moving(screen, task.id, typical, documented.typical_high) as view:
            yield view
    else:
        yield _Lines(screen, task.id, typical)


class _Lines:
    """One line for each new state."""

    __slots__ = ("_prefix", "_screen", "_state", "_typical")

    def __init__(self, screen: Screen, prefix: str, typical: str) -> None:
        self._screen = screen
        self._prefix = prefix
        self._typical = typical
        self._state: str | None = None

    def __call__(self, state: str, elapsed: float, /) -> None:
        if state == self._state:
            return
        after = f"after {seconds(elapsed)}" if self._state else self._typical
        self._screen.note(f"{self._prefix}: {state}, {after}")
        self._state = state


@contextmanager
def _moving(screen: Screen, prefix: str, typical: str, expected: float) -> Generator[_View]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[prefix]}", markup=False),
        TextColumn("{task.description}", style="cyan", markup=False),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.fields[typical]}", style="dim", markup=False),
    )
    with Progress(*columns, console=screen.err, transient=True) as bar:
        row = bar.add_task("…", total=expected, prefix=prefix, typical=typical)

        def show(state: str, elapsed: float, /) -> None:
            # Past the typical time nobody knows how much is left: the bar pulses.
            total = expected if elapsed < expected else None
            bar.update(row, description=state, completed=elapsed, total=total)

        yield show

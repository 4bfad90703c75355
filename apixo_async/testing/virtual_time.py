"""An event loop on which waiting costs nothing: its clock jumps to the next timer."""

from __future__ import annotations

import asyncio
import math
import selectors
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, TypeVar, TypeVarTuple

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

START: Final = 1000.0  # not 0, so that code which takes 0 for None fails
_SLICE: Final = 0.01  # real seconds between two checks of worker threads


class RealTimeWarning(UserWarning):
    """A test waits in real time for what takes its documented time, 20 s and more for each task.

    Run it on a `VirtualTimeLoop`, or give it a fast simulator: `apixo docs testing`.
    """


class StuckError(RuntimeError):
    """Every task waits, and nothing is left that could end a wait."""

    def __init__(self, now: float = START) -> None:
        super().__init__(now)
        self.now = now

    def __str__(self) -> str:
        return (
            f"stuck at virtual time {self.now:.3f}: nothing is ready, no timer is set and no "
            "worker thread runs, so what the tasks of this loop wait for can never happen"
        )


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Run asyncio code in virtual time, as ``asyncio.Runner(loop_factory=VirtualTimeLoop)``.

    ``time()`` begins at 1000.0 and moves only when nothing is ready: straight to the next timer.
    While a worker thread of the loop's executors or of anyio works, the clock stands still and the
    loop really waits. Real sockets, subprocesses and threads of your own are not waited for.

    Raises:
        StuckError: Out of the run, when nothing is ready and no timer is set.
    """

    def __init__(self) -> None:
        self._now = START
        self._working = 0
        super().__init__(_JumpingSelector(self))
        self._move(START)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now

    def advance(self, delay: float | None) -> None:
        """Move the clock by ``delay`` seconds; None means that there is nothing to move to."""
        if delay is None:
            raise StuckError(self._now)
        self._move(self._now + delay)

    def _move(self, now: float) -> None:
        self._now = now
        # asyncio runs timers that are due within the clock's resolution, which is a nanosecond for
        # a real clock. Here it would never pass: two that sleep until then would find that they are
        # early, sleep on, and wake each other for ever.
        vars(self)["_clock_resolution"] = math.ulp(now)

    def stands_still(self) -> bool:
        """Return True if a worker thread of this loop is at work."""
        return self._working > 0 or any(map(self._is_busy, threading.enumerate()))

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        """Run ``func`` in a worker thread while the clock stands still."""
        future = super().run_in_executor(executor, func, *args)
        self._working += 1
        future.add_done_callback(self._stop_working)
        return future

    def _is_busy(self, thread: threading.Thread) -> bool:
        # anyio's worker threads have no public register; each carries its loop and its queue.
        if getattr(thread, "loop", None) is not self:
            return False
        return bool(getattr(getattr(thread, "queue", None), "unfinished_tasks", 0))

    def _stop_working(self, _: object) -> None:
        self._working -= 1

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ARG002  # the base class has it
        """Wait in real time for the threads: no timeout passes while the clock stands still."""
        self._working += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._working -= 1


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # A worker reports through the loop's self-pipe before it stops being busy. So a report is
        # not missed if the workers are checked first, and the pipe afterwards.
        while timeout != 0 and self._loop.stands_still():
            if events := super().select(_SLICE):
                return events
        events = super().select(0)
        if not events and timeout != 0:
            self._loop.advance(timeout)
        return events

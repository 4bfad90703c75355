"""A disk that is slow, and hangs at times: what a worker thread has done is confirmed later."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import Executor
from typing import Final

from apixo_async.testing import VirtualTimeLoop
from apixo_async.testing.virtual_time import START

#: Seconds that a journal lets its disk take when it is closed.
PATIENCE: Final = 30.0


class Disk:
    """How long the disk takes for each thing; one thing after the other.

    Args:
        rng: Decides it.

    Attributes:
        kind: "fast", "slow" or "hanging".
        longest_wait: Seconds that one confirmation had to wait at most.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._free = 0.0
        self.kind = rng.choice(("fast", "slow", "hanging"))
        self.longest_wait = 0.0

    def done_at(self, now: float) -> float:
        """Return when what begins now is confirmed."""
        rng = self._rng
        # Never at once: a thread that ends a step earlier or later would make another life.
        lasts = rng.uniform(0.0005, 0.002)
        if self.kind != "fast":
            lasts = rng.uniform(0.001, rng.choice((0.05, 1.0, 4.0)))
        if self.kind == "hanging" and rng.random() < 0.05:
            lasts = rng.uniform(5, 60)
        self._free = max(now, self._free) + lasts
        self.longest_wait = max(self.longest_wait, self._free - now)
        return self._free


class DiskLoop(VirtualTimeLoop):
    """A virtual-time loop on which the threads of executors work on a `Disk`.

    The thread works while the clock stands still; that it is done is known when the disk says so.

    Args:
        disk: How long things take.
        start: The time at which the loop begins.
    """

    def __init__(self, disk: Disk, start: float = START) -> None:
        super().__init__()
        self._disk = disk
        self._now = start

    def run_in_executor(
        self, executor: Executor | None, func: object, *args: object
    ) -> asyncio.Future[object]:
        """Run ``func`` in a worker thread, and tell the end of it later."""
        real = super().run_in_executor(executor, func, *args)  # type: ignore[arg-type]
        if executor is None:
            return real
        told = self.create_future()
        self.call_at(self._disk.done_at(self.time()), _tell, real, told)
        return told


def _tell(real: asyncio.Future[object], told: asyncio.Future[object]) -> None:
    if told.done():
        return
    error = real.exception()
    if error is None:
        told.set_result(real.result())
    else:
        told.set_exception(error)

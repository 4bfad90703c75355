"""One sleeper, woken at a time or when something is due before it."""

from __future__ import annotations

import asyncio
import math


class Alarm:
    """Let one coroutine sleep until a time of the loop's clock, or until it is needed earlier.

    Half as dear as an event under a timeout: a future and at most one timer, and nothing at all
    for what is due later than the sleeper wakes anyway.
    """

    def __init__(self) -> None:
        self._sleeper: asyncio.Future[None] | None = None
        self._wakes_at = math.inf

    async def sleep(self, until: float) -> None:
        """Sleep until a time, for ever if it is infinity, or until `need` or `wake`."""
        loop = asyncio.get_running_loop()
        self._sleeper, self._wakes_at = loop.create_future(), until
        timer = loop.call_at(until, self.wake) if until < math.inf else None
        try:
            await self._sleeper
        finally:
            self._sleeper = None
            if timer is not None:
                timer.cancel()

    def need(self, due: float) -> None:
        """Wake the sleeper if it would oversleep that time."""
        if due < self._wakes_at:
            self.wake()

    def wake(self) -> None:
        """Wake the sleeper, if there is one."""
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

"""Signals between the coroutines of one loop."""

from __future__ import annotations

import asyncio
import copy

from apixo_async._core.errors import ApixoError


class Signal:
    """Wake everybody who waits; waiters come and go freely."""

    __slots__ = ("_futures",)

    def __init__(self) -> None:
        # A dict, so that they wake in order; none while nobody watches, as most tasks are not.
        self._futures: dict[asyncio.Future[None], None] | None = None

    async def wait(self) -> None:
        """Wait for the next `fire`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._futures is None:
            self._futures = {}
        self._futures[future] = None
        try:
            await future
        finally:
            self._futures.pop(future, None)

    def fire(self) -> None:
        """Wake those who wait now."""
        for future in tuple(self._futures or ()):
            if not future.done():
                future.set_result(None)


def fresh(error: ApixoError) -> ApixoError:
    """Return a copy without a traceback, so that waiters do not share one exception."""
    twin = copy.copy(error)
    twin.__cause__ = error.__cause__
    return twin

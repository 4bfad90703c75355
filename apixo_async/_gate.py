"""The gate in front of the connection pool: a few requests at once, submits first."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from apixo_async._core.places import PlaceTable


class Gate:
    """Let as many requests into the pool as rate x latency needs, between 32 and 256.

    Places are kept for submits, so that a crowd of slow looks never stands in their way. Every
    exchange is bounded, and so is the wait for a place.

    Args:
        requests_per_second: What the limit allows.
    """

    def __init__(self, requests_per_second: float) -> None:
        self.table = PlaceTable(requests_per_second)
        self._waiting: dict[bool, OrderedDict[asyncio.Future[None], None]] = {
            True: OrderedDict(),
            False: OrderedDict(),
        }

    async def enter(self, *, for_submit: bool) -> None:
        """Wait for a place."""
        if self.table.has_place(for_submit=for_submit) and not self._waiting[for_submit]:
            self.table.enter()
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._waiting[for_submit]
        queue[future] = None
        try:
            await future
        except asyncio.CancelledError:
            queue.pop(future, None)
            if future.done() and not future.cancelled():
                self.leave(None)
            raise

    def leave(self, took: float | None) -> None:
        """Give a place back; `took` is the latency of an exchange that was answered."""
        self.table.leave(took)
        for for_submit, queue in self._waiting.items():
            while queue and self.table.has_place(for_submit=for_submit):
                self.table.enter()
                queue.popitem(last=False)[0].set_result(None)

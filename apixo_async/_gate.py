"""The gate in front of the connection pool: a few requests at once, submits first."""

from __future__ import annotations

from collections.abc import Callable

from apixo_async._core.places import PlaceTable
from apixo_async._waiters import Waiters


class Gate:
    """Let as many requests into the pool as rate x latency needs, between 32 and 256.

    Places are kept for submits, so that a crowd of slow looks never stands in their way. Every
    exchange is bounded, and so is the wait for a place.

    Args:
        requests_per_second: Tells what the limit allows, which may change.
        table: Counts the places.
    """

    def __init__(
        self, requests_per_second: Callable[[], float], table: PlaceTable | None = None
    ) -> None:
        self.table = PlaceTable() if table is None else table
        self._requests_per_second = requests_per_second
        self._waiting: dict[bool, Waiters[None]] = {True: Waiters(), False: Waiters()}

    async def enter(self, *, for_submit: bool) -> None:
        """Wait for a place."""
        await self._waiting[for_submit].join(self._admit, self.leave)

    def leave(self, took: float | None) -> None:
        """Give a place back; `took` is the latency of an exchange that was answered."""
        self.table.leave(took, self._requests_per_second())
        self._admit()

    def _admit(self) -> None:
        for for_submit, waiting in self._waiting.items():
            while waiting and self.table.has_place(for_submit=for_submit):
                self.table.enter()
                waiting.hand(None)

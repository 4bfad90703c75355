"""What callers wait for on a client, and how its close sends them away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from apixo_async._bounds import Bound, bound_after, bound_at
from apixo_async._core.errors import ClientClosedError
from apixo_async._track import fresh


class Calls:
    """The calls under way that a close ends: waits for a turn, a balance, downloads."""

    def __init__(self) -> None:
        self._open: set[Bound] = set()
        self._empty = asyncio.Event()
        self._reason: ClientClosedError | None = None

    @asynccontextmanager
    async def open(self, deadline: float | None = None) -> AsyncGenerator[None]:
        """Run a part of a call until it ends, its deadline passes or the client is closed.

        Raises:
            TimeoutError: The deadline has passed.
            ClientClosedError: The client was closed.
        """
        self.check()
        bound = bound_after(None)
        try:
            async with bound:
                self._open.add(bound)
                try:
                    async with bound_at(deadline):
                        yield
                finally:
                    self._open.discard(bound)
                    if not self._open:
                        self._empty.set()
        except TimeoutError:
            if bound.expired():
                self.check()
            raise

    def check(self) -> None:
        """Raise what closed the client, if it is closed."""
        if self._reason is not None:
            raise fresh(self._reason)

    async def aclose(self, reason: ClientClosedError) -> None:
        """End what is open, and wait until it has ended."""
        self._reason = reason
        for bound in self._open:
            if not bound.expired():
                bound.reschedule(0.0)
        self._empty.clear()
        while self._open:
            await self._empty.wait()

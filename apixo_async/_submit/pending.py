"""What callers wait for on a client, and how its close sends them away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Final
from weakref import WeakSet

from apixo_async._limits.limiter import Slot
from apixo_async._sync import Bound, Signal, bound_after, bound_at, fresh
from apixo_async.errors import ClientClosedError

#: Seconds in which what a close ends has to end.
PATIENCE: Final = 5.0


class PendingCalls:
    """The calls under way that a close ends: waits for a turn, a balance, downloads.

    Args:
        whole: The calls of which these are a part: their end ends these as well.
    """

    def __init__(self, whole: PendingCalls | None = None) -> None:
        self._open: set[Bound] = set()
        self._queueing: set[asyncio.Future[Slot]] = set()
        self._parts: WeakSet[PendingCalls] = WeakSet()
        self._left: Signal = Signal() if whole is None else whole._left
        self._reason: ClientClosedError | None = None if whole is None else whole._reason
        if whole is not None:
            whole._parts.add(self)

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
                try:
                    self._open.add(bound)
                    async with bound_at(deadline):
                        yield
                finally:
                    self._open.discard(bound)
                    self._left.fire()
        except TimeoutError:
            if bound.expired():
                self.check()
            raise

    def queue(self) -> asyncio.Future[Slot]:
        """Return what a call without a deadline waits for its slot with; a close fails it.

        100,000 calls may wait so, and `open` would keep 1.3 KB more for each. `unqueue` follows.

        Raises:
            ClientClosedError: The client was closed.
        """
        self.check()
        place: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._queueing.add(place)
        return place

    def unqueue(self, place: asyncio.Future[Slot]) -> None:
        """Say that the call waits no longer, however that ended."""
        self._queueing.discard(place)
        self._left.fire()

    def check(self) -> None:
        """Raise what closed the client, if it is closed."""
        if self._reason is not None:
            raise fresh(self._reason)

    def end(self, reason: ClientClosedError) -> None:
        """End what is open, each with an error of its own, and refuse what comes.

        The first reason stays.
        """
        self._reason = self._reason or reason
        for bound in self._open:
            if not bound.expired():
                bound.reschedule(0.0)
        for place in self._queueing:
            if not place.done():
                place.set_exception(fresh(self._reason))
        for part in self._parts:
            part.end(reason)

    async def aclose(self, reason: ClientClosedError, patience: float = PATIENCE) -> None:
        """End what is open, and wait until it has ended, for `patience` seconds at most."""
        self.end(reason)
        with suppress(TimeoutError):
            async with bound_after(patience):
                while self._is_busy():
                    await self._left.wait()

    def _is_busy(self) -> bool:
        return bool(self._open or self._queueing) or any(part._is_busy() for part in self._parts)

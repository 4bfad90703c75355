"""The life of a client: wired at its first use, bound to one loop, closed once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx2

from apixo_async._binding import Binding
from apixo_async._core.errors import ClientClosedError, ConfigurationError
from apixo_async._core.events import ClientClosed
from apixo_async._core.values import TaskRef
from apixo_async._engine import Engine
from apixo_async._reporting import Reporter


class Life:
    """Wire an engine when it is first needed, and end it.

    Args:
        wire: Builds the engine; called with a running loop.
        transport: The transport that the caller gave, closed even if it was never used.
        report: Where events go.
        patience: Seconds that POSTs under way get at the end.
    """

    def __init__(
        self,
        wire: Callable[[], Engine],
        *,
        transport: httpx2.AsyncBaseTransport | None,
        report: Reporter,
        patience: float,
    ) -> None:
        self._wire = wire
        self._transport = transport
        self._report = report
        self._patience = patience
        self._binding = Binding()
        self._engine: Engine | None = None
        self._closing: asyncio.Future[None] | None = None
        self.closed = False

    def engine(self) -> Engine:
        """Return the engine, wired for the running loop.

        Raises:
            ClientClosedError: The client was closed.
            ConfigurationError: It belongs to another loop or process.
        """
        if self.closed:
            raise ClientClosedError("this client was closed: make a new one")
        if self._engine is not None and self._binding.is_orphaned:
            self._check_rebindable()
        if self._binding.bind(len(self._in_flight())) or self._engine is None:
            if self._engine is not None:
                self._engine.leave_behind()
            self._engine = self._wire()
        return self._engine

    def _check_rebindable(self) -> None:
        # Its pooled connections belong to the closed loop: a POST on one of them would be lost.
        if isinstance(self._transport, httpx2.AsyncHTTPTransport):
            raise ConfigurationError(
                "the transport given to this client has connections of an event loop that is "
                "closed: make a new client and transport for each loop"
            )

    @property
    def engine_here(self) -> Engine | None:
        """The engine, if it is wired and its loop is the running one."""
        return self._engine if self._binding.is_here else None

    @property
    def unfinished(self) -> tuple[TaskRef, ...]:
        """The tasks in flight, or after the close those it left."""
        return self._in_flight()

    def _in_flight(self) -> tuple[TaskRef, ...]:
        return () if self._engine is None else tuple(self._engine.poller.ledger.tracks)

    async def aclose(self, drain: float) -> None:
        """Close once, in bounded time; who calls meanwhile waits for the same end.

        Raises:
            ConfigurationError: The client belongs to another loop, which still runs.
        """
        self._binding.check_elsewhere()
        if self._closing is not None:
            await asyncio.shield(self._closing)
        if self.closed:
            return
        self.closed = True
        self._closing = asyncio.get_running_loop().create_future()
        try:
            await self._end(drain)
        finally:
            self._closing.set_result(None)
            self._closing = None
            self._report(ClientClosed(tuple(map(str, self.unfinished))))

    async def _end(self, drain: float) -> None:
        engine = self.engine_here
        if engine is None:
            # Never used, or its loop is gone and its connections with it.
            if self._transport is not None and self._engine is None:
                await self._transport.aclose()
            return
        await engine.aclose(drain=drain, patience=self._patience)

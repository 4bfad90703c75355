"""Processes that share an account, in one event loop: each may be stopped, go on, or die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx2

from apixo_async import AsyncClient, Event
from apixo_async.stores import Store
from apixo_async.testing import Simulator, SimulatorTransport
from apixo_async.testing.memory_store import MemoryStore


class Process:
    """A client with its own way to the service and to the store; none of both works once it stops.

    Args:
        simulator: The service.
        store: Shared with the other processes.
        stops_at: Where it stops by itself, such as "before bought" or "after intend", and on its
            way to the service "connecting" and "answered".
        key: The API key; the service takes any for that of the one account.
        options: Those of the client.
    """

    def __init__(
        self,
        simulator: Simulator,
        store: MemoryStore,
        *,
        stops_at: str = "",
        key: str = "test-key",
        **options: Any,
    ) -> None:
        self.events: list[Event] = []
        self.stops_at = stops_at
        self.passed: list[str] = []
        self._goes_on = asyncio.Event()
        self._goes_on.set()
        self.client = AsyncClient(
            key,
            transport=_Transport(simulator, self),
            store=_Backend(store, self),
            on_event=self.events.append,
            **{"seed": 1, **options},
        )

    async def passes(self, point: str) -> None:
        """Come by a point, and stop there if that is where it stops."""
        self.passed.append(point)
        if point == self.stops_at:
            self.stop()
        await self._goes_on.wait()

    def stop(self) -> None:
        """Reach neither the service nor the store from now on, as after SIGSTOP or SIGKILL."""
        self._goes_on.clear()

    def go_on(self) -> None:
        """Go on after a stop, as after SIGCONT."""
        self.stops_at = ""
        self._goes_on.set()

    @property
    def is_stopped(self) -> bool:
        """Whether it stands."""
        return not self._goes_on.is_set()


class _Transport(SimulatorTransport):
    def __init__(self, simulator: Simulator, process: Process) -> None:
        super().__init__(simulator, 0.05)
        self._process = process

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        kind = "" if request.method == "POST" else "poll "
        await self._process.passes(f"{kind}connecting")
        request.headers["Authorization"] = "Bearer test-key"
        response = await super().handle_async_request(request)
        await self._process.passes(f"{kind}answered")
        return response


class _Backend:
    def __init__(self, store: MemoryStore, process: Process) -> None:
        self._store = store
        self._process = process

    @property
    def keep(self) -> timedelta:
        return self._store.keep

    async def open(self, account: str) -> Store:
        await self._process.passes("before open")
        return _Opened(await self._store.open(account), self._process)  # type: ignore[return-value]


class _Opened:
    def __init__(self, store: Store, process: Process) -> None:
        self._store = store
        self._process = process

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._store, name)
        if name in {"entries", "listen"}:
            return method  # type: ignore[no-any-return]

        async def call(*args: Any, **options: Any) -> Any:
            await self._process.passes(f"before {name}")
            done = await method(*args, **options)
            await self._process.passes(f"after {name}")
            return done

        return call


@asynccontextmanager
async def processes(*made: Process) -> AsyncIterator[None]:
    """Close those that live when the block ends; the others are left where they stand."""
    try:
        yield
    finally:
        for process in made:
            if not process.is_stopped:
                await process.client.aclose()

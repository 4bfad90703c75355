"""Run every async test in virtual time; tests/realtime has a plain loop of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from apixo_async import AsyncClient, Event
from apixo_async.testing import Simulator
from apixo_async.testing.virtual_time import VirtualTimeLoop

pytest_plugins = ["pytester"]

# A shell has what it starts with "&" ignore interrupts, and so would every process of a test.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only long runs run, such as `nox -s soak`."""
    if not os.environ.get("APIXO_LONG"):
        left_out = [item for item in items if item.get_closest_marker("long")]
        items[:] = [item for item in items if not item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run anyio's tests on a loop on which waiting costs nothing."""
    return "asyncio", {"loop_factory": VirtualTimeLoop}


@pytest.fixture
def simulator() -> Simulator:
    """Be the service, with durations that replay."""
    return Simulator(seed=1)


@pytest.fixture
def events() -> list[Event]:
    """Collect what the clients of this test report."""
    return []


@pytest.fixture
async def client_of(events: list[Event]) -> AsyncIterator[Callable[..., AsyncClient]]:
    """Make clients of a simulator, closed when the test ends."""
    clients: list[AsyncClient] = []

    def make(simulator: Simulator, latency: float = 0.05, **options: Any) -> AsyncClient:
        options = {"seed": 1, "on_event": events.append} | options
        clients.append(AsyncClient("test-key", transport=simulator.transport(latency), **options))
        return clients[-1]

    yield make
    for client in clients:
        await client.aclose()

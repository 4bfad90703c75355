from __future__ import annotations

import asyncio

import pytest

from apixo_async import AsyncClient, ClientClosed, ClientClosedError, Event, FluxKontext
from apixo_async._reporting import Reporter
from apixo_async._runtime import Lifecycle
from apixo_async.testing import Simulator


async def test_never_wired(events: list[Event]) -> None:
    """A life that was never used has no engine and nothing unfinished, and ends once."""

    def wire() -> object:
        raise AssertionError("nobody asked for an engine")

    life = Lifecycle(wire, transport=None, report=Reporter(events.append), patience=1.0)  # type: ignore[arg-type]  # never called
    assert life.engine_here is None
    await life.aclose(0.0)
    await life.aclose(0.0)
    assert (life.unfinished, events) == ((), [ClientClosed(())])
    with pytest.raises(ClientClosedError):
        life.engine()


async def test_second_closer_waits_for_the_first(simulator: Simulator) -> None:
    """Whoever closes while a close is under way returns when it is over, not before."""
    client = AsyncClient("test-key", transport=simulator.transport())
    await client.submit(FluxKontext(mode="pro", prompt="a castle"))
    loop = asyncio.get_running_loop()
    start = loop.time()
    first = asyncio.create_task(client.aclose(drain=10.0))
    await asyncio.sleep(1)
    await client.aclose()
    assert loop.time() - start == pytest.approx(10.0)
    await first

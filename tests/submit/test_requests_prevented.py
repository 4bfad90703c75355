"""What may come while a POST connects, and keeps it from being sent."""

from __future__ import annotations

import asyncio

import httpx2
import pytest

from apixo_async import (
    AsyncClient,
    ClientClosedError,
    ConfigurationError,
    FluxKontext,
    SubmitRefused,
    Task,
)
from apixo_async._types import Delivery
from apixo_async.testing import Simulator, SimulatorTransport

CASTLE = FluxKontext(mode="pro", prompt="a castle")


class SlowToConnect(SimulatorTransport):
    """A transport whose connections take 3 s, before the first byte is reported."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(3.0)
        return await super().handle_async_request(request)


async def test_a_caller_that_is_cancelled_while_it_connects(simulator: Simulator) -> None:
    """Nothing is bought for a caller that was cancelled before the first byte was written."""
    orphans, events = list[object](), list[object]()
    transport = SlowToConnect(simulator)
    async with AsyncClient(
        "test-key", transport=transport, on_orphan=orphans.append, on_event=events.append
    ) as client:
        submit = asyncio.create_task(client.submit(CASTLE))
        await asyncio.sleep(1.0)
        submit.cancel()
        await asyncio.gather(submit, return_exceptions=True)
        await asyncio.sleep(60.0)
        assert (simulator.created, orphans) == (0, [])
        assert client.statistics().slots_used == 0
        assert [one.again_in for one in events if isinstance(one, SubmitRefused)] == [None]


async def test_a_close_while_it_connects(simulator: Simulator) -> None:
    """A close before the first byte is what the caller gets, and not a fault of the network."""
    client = AsyncClient("test-key", transport=SlowToConnect(simulator))
    submit = asyncio.create_task(client.submit(CASTLE))
    await asyncio.sleep(1.0)
    closing = asyncio.create_task(client.aclose())
    with pytest.raises(ClientClosedError) as caught:
        await submit
    await closing
    assert caught.value.bought is False
    assert simulator.created == 0


async def test_a_check_that_refuses_while_it_connects(simulator: Simulator) -> None:
    """What a check raises before the first byte is raised as it is, and is not repeated."""
    refusals = list[bool]()

    def check() -> None:
        refusals.append(True)
        if len(refusals) > 1:
            raise ConfigurationError("found meanwhile")

    async with AsyncClient("test-key", transport=SlowToConnect(simulator)) as client:
        submitter = client._life.engine().submitter
        task = await client.submit(CASTLE)
        assert isinstance(task, Task)
        with pytest.raises(ConfigurationError, match="found meanwhile") as caught:
            await submitter.submit(CASTLE, Delivery(), check=check)
    assert caught.value.bought is False
    assert len(refusals) == 2
    assert simulator.created == 1

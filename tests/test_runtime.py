from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx2
import pytest

from apixo_async import AsyncClient, ClientClosedError, FluxKontext, Polling
from apixo_async.testing import Simulator, SimulatorTransport

ClientOf = Callable[..., AsyncClient]
CASTLE = FluxKontext(mode="pro", prompt="a castle")


async def test_statistics(simulator: Simulator, client_of: ClientOf) -> None:
    """Every count of an instant with three tasks in flight and one over."""
    client = client_of(simulator, latency=0.2)
    await client.generate(CASTLE)
    for _ in range(3):
        await client.submit(CASTLE)
    counts = client.statistics()
    assert (counts.slots_used, counts.slots_limit, counts.slots_waiting) == (3, 1_000, 0)
    assert (counts.tasks_tracked, counts.submits, counts.succeeded) == (3, 4, 1)
    assert counts.polls == simulator.count("poll")
    assert counts.requests_in_window == counts.submits + counts.polls
    assert (counts.failed, counts.uncertain, counts.throttled) == (0, 0, 0)
    assert counts.latency == pytest.approx(0.2)
    assert counts.requests_at_once_limit == 67


class Stubborn(SimulatorTransport):
    """A transport that never finishes closing."""

    async def aclose(self) -> None:
        await super().aclose()
        await asyncio.get_running_loop().create_future()


async def test_transport_that_does_not_close(simulator: Simulator) -> None:
    """Closing is bounded although the transport hangs, and loses no ref."""
    client = AsyncClient("test-key", transport=Stubborn(simulator))
    task = await client.submit(CASTLE)
    start = asyncio.get_running_loop().time()
    await client.aclose()
    assert asyncio.get_running_loop().time() - start == pytest.approx(5.0, abs=0.1)
    assert client.unfinished == (task.ref,)


async def test_transport_that_was_never_used_and_does_not_close(simulator: Simulator) -> None:
    """The close of a client that was never used is bounded as well."""
    client = AsyncClient("test-key", transport=Stubborn(simulator))
    start = asyncio.get_running_loop().time()
    await client.aclose()
    assert asyncio.get_running_loop().time() - start == pytest.approx(5.0, abs=0.1)


class SlowToCancel(SimulatorTransport):
    """A transport whose polls never come back, and take 6 s to be cancelled."""

    closed = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            return await super().handle_async_request(request)
        try:
            return await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(6.0)

    async def aclose(self) -> None:
        self.closed = True
        await super().aclose()


async def test_polls_that_take_long_to_be_cancelled(simulator: Simulator) -> None:
    """Waiters get the reason at once, and the transport is closed, however long polls take."""
    transport = SlowToCancel(simulator)
    client = AsyncClient("test-key", transport=transport)
    task = await client.submit(CASTLE)
    waiter = asyncio.create_task(task.wait())
    await asyncio.sleep(30.0)
    assert task.state == "pending"  # A poll is in flight.
    start = asyncio.get_running_loop().time()
    await client.aclose()
    assert asyncio.get_running_loop().time() - start < 11.0
    assert waiter.done()
    with pytest.raises(ClientClosedError):
        await waiter
    assert transport.closed
    assert client.unfinished == (task.ref,)
    await asyncio.sleep(10.0)


class Deaf(SimulatorTransport):
    """A transport that goes on although it is cancelled, until `ends` is set."""

    ends = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        while not self.ends:
            with suppress(asyncio.CancelledError):
                await asyncio.get_running_loop().create_future()
        raise httpx2.ReadError("ended", request=request)


async def test_post_that_cannot_be_cancelled(
    simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A transport that swallows cancellations does not hold the close for ever."""
    transport = Deaf(simulator)
    client = AsyncClient("test-key", transport=transport, timeout=20.0)
    submit = asyncio.create_task(client.submit(CASTLE))
    await asyncio.sleep(1.0)
    start = asyncio.get_running_loop().time()
    await client.aclose()
    assert asyncio.get_running_loop().time() - start < 20.0 + 5.0 + 5.0 + 1.0
    assert "1 POSTs did not end" in caplog.text
    transport.ends = True
    submit.cancel()
    await asyncio.gather(submit, return_exceptions=True)


async def test_close_under_cancellation(simulator: Simulator) -> None:
    """A close that is cancelled while it drains still closes everything, and keeps the refs."""
    client = AsyncClient("test-key", transport=simulator.transport())
    task = await client.submit(CASTLE)
    before = asyncio.all_tasks()
    closing = asyncio.create_task(client.aclose(drain=1_000))
    await asyncio.sleep(5)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert client.unfinished == (task.ref,)
    left = {one.get_name() for one in asyncio.all_tasks() & before}
    assert "apixo_async poller" not in left


async def test_given_transport_is_closed() -> None:
    """A transport that was given is closed with the client, as httpx2 does."""
    closed: list[bool] = []

    class Transport(httpx2.MockTransport):
        async def aclose(self) -> None:
            closed.append(True)

    async with AsyncClient("k", transport=Transport(lambda _: httpx2.Response(500))):
        assert closed == []
    assert closed == [True]


@pytest.mark.parametrize(
    ("url", "options", "follows"),
    [
        ("http://127.0.0.1:8000", {}, True),
        ("http://localhost:8000", {}, True),
        ("https://api.apixo.ai", {}, False),
        ("http://127.0.0.1:8000", {"polling": Polling()}, False),
    ],
)
def test_whose_speed_is_believed(url: str, options: dict[str, Any], follows: bool) -> None:
    """That of a simulator on this machine, unless the caller has said when to poll."""
    client = AsyncClient("k", base_url=url, **options)
    assert client._settings.follows_speed is follows

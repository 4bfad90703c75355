"""The default transport's connections: which one is used, which are kept, and how they end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import httpcore2
import httpx2
import pytest

from apixo_async import ConfigurationError, Timeouts
from apixo_async._http.channel import build_transport
from apixo_async._http.exchange import Incoming, Outgoing, Phase, SendExchange
from apixo_async._http.pooled import LONGEST_IDLE, PooledTransport

BOUND = 20.0
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """Answer requests, and remember on which connection each came."""

    def __init__(self) -> None:
        self.url = ""
        self.used: list[int] = []
        self.targets: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.silent = False
        self.behind = b""

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        number = len(self.writers)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.used.append(number)
                self.targets.append(head.split(b" ")[1])
                if self.silent:
                    continue
                await asyncio.sleep(0.02)
                writer.write(GOOD + self.behind)
        writer.close()


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    server = Server()
    listening = await asyncio.start_server(server.connected, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        async with asyncio.timeout(BOUND):
            yield server
    finally:
        listening.close()
        for writer in server.writers:
            writer.close()
        closing = [writer.wait_closed() for writer in server.writers]
        await asyncio.gather(*closing, return_exceptions=True)


@pytest.fixture
async def transport() -> AsyncIterator[PooledTransport]:
    made = PooledTransport(verify=True, proxy=None)
    yield made
    await made.aclose()


async def get(exchange: SendExchange, body: bytes | None = None) -> bytes:
    answer = Incoming()
    await exchange(Outgoing("/x", [], body, Phase(phase_aware=False)), answer)
    return answer.body


async def test_one_after_the_other(transport: PooledTransport) -> None:
    """Exchanges one after the other share a connection."""
    async with serving() as server:
        exchange = transport.exchange_with(server.url, Timeouts())
        assert [await get(exchange) for _ in range(4)] == [b"{}"] * 4
    assert server.used == [1, 1, 1, 1]


async def test_the_last_used_is_the_next(transport: PooledTransport) -> None:
    """After a crowd, one connection does the work, and the others rest."""
    async with serving() as server:
        exchange = transport.exchange_with(server.url, Timeouts())
        await asyncio.gather(*(get(exchange) for _ in range(5)))
        assert sorted(server.used) == [1, 2, 3, 4, 5]
        for _ in range(4):
            await get(exchange)
    assert len(set(server.used[5:])) == 1


async def test_connections_that_rest_too_long_are_closed(transport: PooledTransport) -> None:
    """What has rested longest is closed once it has expired, while others are used."""
    async with serving() as server:
        exchange = transport.exchange_with(server.url, Timeouts())
        await asyncio.gather(*(get(exchange) for _ in range(5)))
        [service] = transport._services
        rested = [connection for _, connection in service._idle][:4]
        for number in range(4):
            service._idle[number] = (time.monotonic() - LONGEST_IDLE - 0.1, rested[number])
        for left in (4, 3, 2, 1, 1):
            await get(exchange)
            assert len(service._open) == len(service._idle) == left
        assert all(connection.is_closed() for connection in rested)


async def test_connection_that_the_server_closed(transport: PooledTransport) -> None:
    """A connection that the server has closed while it rested is not used again."""
    async with serving() as server:
        exchange = transport.exchange_with(server.url, Timeouts())
        await asyncio.gather(get(exchange), get(exchange))
        for writer in server.writers:
            writer.close()
            await writer.wait_closed()
        assert await get(exchange) == b"{}"
        assert len(transport._services[0]._open) == 1
    assert server.used[2:] == [3]


async def cancelled(exchange: SendExchange) -> None:
    task = asyncio.create_task(get(exchange))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def timed_out(exchange: SendExchange) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        await get(exchange, b"{}")


@pytest.mark.parametrize("end", [cancelled, timed_out])
async def test_connection_whose_exchange_was_cut_short(
    transport: PooledTransport, end: Callable[[SendExchange], Awaitable[None]]
) -> None:
    """A connection on which an answer may still come is closed."""
    async with serving() as server:
        exchange = transport.exchange_with(server.url, Timeouts(read=0.2))
        server.silent = True
        await end(exchange)
        assert not transport._services[0]._open
        server.silent = False
        assert await get(exchange) == b"{}"
    assert server.used == [1, 2]


async def test_connection_that_was_never_made(transport: PooledTransport) -> None:
    """A connection that is refused leaves nothing behind."""
    async with serving() as server:
        gone = server.url
    exchange = transport.exchange_with(gone, Timeouts())
    for _ in range(2):
        with pytest.raises(httpx2.ConnectError):
            await get(exchange)
        [service] = transport._services
        assert not service._open
        assert not service._idle


async def test_close_ends_what_is_under_way() -> None:
    """A close ends connections in use, and those that rest."""
    transport = PooledTransport(verify=True, proxy=None)
    async with serving() as server:
        exchange = transport.exchange_with(server.url, Timeouts())
        await get(exchange)
        server.silent = True
        under_way = asyncio.create_task(get(exchange))
        await asyncio.sleep(0.05)
        await transport.aclose()
        with pytest.raises(httpx2.TransportError):
            await under_way
        assert not transport._services[0]._open


async def test_proxy() -> None:
    """With a proxy, connections are made to it, and it is told where the request goes."""
    async with serving() as server:
        transport = PooledTransport(verify=True, proxy=server.url)
        exchange = transport.exchange_with("http://api.invalid/api/v1", Timeouts())
        assert await get(exchange) == await get(exchange) == b"{}"
        await transport.aclose()
    assert server.targets == [b"http://api.invalid/api/v1/x"] * 2
    assert server.used == [1, 1]


async def test_usual_way(transport: PooledTransport) -> None:
    """It is a transport of httpx2 as any other."""
    async with serving() as server, httpx2.AsyncClient(transport=transport) as client:
        response = await client.get(f"{server.url}/y")
    assert (response.status_code, response.json()) == (200, {})


async def test_bytes_behind_an_answer(transport: PooledTransport) -> None:
    """A connection on which more came than one answer is not used again: it would answer the next.

    A POST that is answered by such bytes would be bought twice, or never known.
    """
    async with serving() as server:
        exchange = transport.exchange_with(server.url, Timeouts())
        server.behind = GOOD.replace(b"{}", b"[]")
        assert await get(exchange) == b"{}"
        server.behind = b""
        assert await get(exchange) == b"{}"
        await get(exchange)
    assert server.used == [1, 2, 2]


async def test_bytes_behind_an_answer_of_a_proxy() -> None:
    """A connection to a proxy on which more came than one answer is not used again either."""
    async with serving() as server:
        transport = PooledTransport(verify=True, proxy=server.url)
        exchange = transport.exchange_with("http://api.invalid/api/v1", Timeouts())
        server.behind = GOOD.replace(b"{}", b"[]")
        assert await get(exchange) == b"{}"
        server.behind = b""
        assert await get(exchange) == b"{}"
        await transport.aclose()
    assert server.used == [1, 2]


def test_a_pool_that_makes_no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version of httpx2 whose pool is another is refused when the transport is made."""
    monkeypatch.delattr(httpcore2.AsyncConnectionPool, "create_connection")
    with pytest.raises(ConfigurationError, match=r"^httpx2 .* install httpx2>=2\.12,<3"):
        build_transport("https://api.apixo.ai", proxy="", verify=True)

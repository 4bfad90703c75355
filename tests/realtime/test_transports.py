"""Transports: what each tells of a POST that went wrong, on real sockets, and that it recovers."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from apixo_async import AsyncClient, FluxKontext, Polling, SubmitUncertainError, Timeouts
from apixo_async._config import Secret
from apixo_async._transport import Channel, Unanswered
from apixo_async.aiohttp import AiohttpTransport
from apixo_async.testing import Simulator, serve

pytestmark = pytest.mark.anyio
BOUND = 30.0
GOOD = b'{"code": 200, "message": "success", "data": {"taskId": "task_1"}}'
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

TRANSPORTS: dict[str, Callable[[], httpx2.AsyncBaseTransport]] = {
    "plain": httpx2.AsyncHTTPTransport,
    "aiohttp": AiohttpTransport,
}


@pytest.fixture(params=TRANSPORTS)
async def transport(request: pytest.FixtureRequest) -> AsyncIterator[httpx2.AsyncBaseTransport]:
    made = TRANSPORTS[request.param]()
    yield made
    await made.aclose()


@asynccontextmanager
async def server(handle: Serve) -> AsyncIterator[str]:
    connections: set[asyncio.StreamWriter] = set()
    handlers: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        handlers.add(asyncio.current_task())  # type: ignore[arg-type]  # a coroutine has one
        await handle(reader, writer)

    listening = await asyncio.start_server(connected, "127.0.0.1", 0)
    host, port = listening.sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}"
    finally:
        listening.close()
        for writer in connections:
            writer.close()
        for handler in handlers:
            handler.cancel()
        closing = [writer.wait_closed() for writer in connections]
        await asyncio.gather(*handlers, *closing, return_exceptions=True)
        await listening.wait_closed()


def channel(transport: httpx2.AsyncBaseTransport, url: str) -> Channel:
    return Channel(
        transport,
        base_url=url,
        key=Secret("canary"),
        timeouts=Timeouts(connect=1.0, read=0.3, exchange=1.0),
        user_agent="test",
    )


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (
            int(line.split(b":")[1])
            for line in head.splitlines()
            if b"content-length" in line.lower()
        ),
        0,
    )
    return await reader.readexactly(length)


def reset(writer: asyncio.StreamWriter) -> None:
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


def answer(body: bytes, *, claim: int | None = None, status: str = "200 OK") -> bytes:
    length = len(body) if claim is None else claim
    return f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n".encode() + body


async def close_after_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.close()


async def reset_after_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    reset(writer)


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    await reader.read()
    writer.close()


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"\x00\x01\x02 this is not HTTP\r\n\r\n")
    writer.close()


async def partial_status(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 2")
    writer.close()


async def reset_on_accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    reset(writer)


MAYBE_SENT: dict[str, Serve] = {
    "close after the request": close_after_request,
    "reset after the request": reset_after_request,
    "no answer": hang,
    "garbage": garbage,
    "partial status line": partial_status,
    "reset on accept": reset_on_accept,
}


@pytest.mark.parametrize("fault", MAYBE_SENT.values(), ids=MAYBE_SENT.keys())
async def test_maybe_sent(transport: httpx2.AsyncBaseTransport, fault: Serve) -> None:
    """When bytes were written and no answer came, the request may have been received."""
    async with asyncio.timeout(BOUND), server(fault) as url:
        with pytest.raises(Unanswered) as caught:
            await channel(transport, url).post("/generateTask/m", b"{}")
        assert caught.value.maybe_sent is True
        assert "canary" not in caught.value.reason


async def test_refused_connection(transport: httpx2.AsyncBaseTransport) -> None:
    """Where no connection is made, nothing was sent."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(Unanswered) as caught:
            await channel(transport, f"http://127.0.0.1:{port}").post("/x", b"{}")
    assert caught.value.maybe_sent is False


async def test_unknown_host(transport: httpx2.AsyncBaseTransport) -> None:
    """Where the name is not found, nothing was sent."""
    with pytest.raises(Unanswered) as caught:
        await channel(transport, "http://no-such-host.invalid").post("/x", b"{}")
    assert caught.value.maybe_sent is False


async def test_mark_comes_before_the_first_byte(transport: httpx2.AsyncBaseTransport) -> None:
    """Whenever the server has seen a byte, the phase is marked: pinned over a warm connection."""
    marks: list[bool] = []
    phases: list[object] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                await read_request(reader)
            except asyncio.IncompleteReadError:
                writer.close()
                return
            marks.append(len(phases) == len(marks) + 1)
            writer.write(answer(GOOD))

    async with asyncio.timeout(BOUND), server(handle) as url:
        one = channel(transport, url)
        for _ in range(3):
            request = one._request("POST", "/x", b"{}")
            request.extensions["apixo_async.sending"] = lambda: phases.append(None)

            async def trace(event: str, _: object) -> None:
                if event.endswith("send_request_headers.started"):
                    phases.append(None)

            request.extensions["trace"] = trace
            response = await transport.handle_async_request(request)
            await response.aread()
            await response.aclose()
        await transport.aclose()
    assert marks == [True, True, True]


async def test_truncated_body_with_an_id(transport: httpx2.AsyncBaseTransport) -> None:
    """A body that ends early but holds the task id buys the task."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer(GOOD, claim=1_000))
        writer.close()

    async with asyncio.timeout(BOUND), server(handle) as url:
        got = await channel(transport, url).post("/x", b"{}")
    assert (got.status, got.body) == (200, GOOD)


async def test_redirect_is_not_followed(transport: httpx2.AsyncBaseTransport) -> None:
    """A redirect of a submit sends neither key nor prompt anywhere else."""
    visits: list[bytes] = []

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(await reader.read(1))
        writer.close()

    async with asyncio.timeout(BOUND), server(elsewhere) as other:

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(
                f"HTTP/1.1 307 Moved\r\nLocation: {other}/x\r\nContent-Length: 0\r\n\r\n".encode()
            )

        async with (
            server(handle) as url,
            AsyncClient("canary", base_url=url, transport=transport) as client,
        ):
            with pytest.raises(SubmitUncertainError, match="HTTP 307"):
                await client.submit(FluxKontext(mode="pro", prompt="x"))
    assert visits == []


def descriptors() -> int:
    """Return how many file descriptors this process has open, where that can be told."""
    open_ones = Path("/proc/self/fd")
    return len(list(open_ones.iterdir())) if open_ones.is_dir() else 0


@pytest.mark.parametrize("kind", TRANSPORTS)
async def test_cancelled_requests_leave_the_pool_whole(kind: str) -> None:
    """After 500 cancelled looks, healthy requests work and no file descriptor is lost."""
    simulator = Simulator(speed=100.0)
    async with asyncio.timeout(BOUND), serve(simulator) as url:
        transport = TRANSPORTS[kind]()
        one = channel(transport, f"{url}/api/v1")
        one._key = Secret("test-key")
        await one.get("/apikeys/current-balance")
        before = descriptors()
        for wave in range(10):
            looks = [asyncio.create_task(one.get("/apikeys/current-balance")) for _ in range(50)]
            await asyncio.sleep(0.001 * wave)
            for look in looks:
                look.cancel()
            await asyncio.gather(*looks, return_exceptions=True)
        answers = await asyncio.gather(*(one.get("/apikeys/current-balance") for _ in range(30)))
        assert [got.status for got in answers] == [200] * 30
        await transport.aclose()
        await asyncio.sleep(0.05)
    after = descriptors()
    assert after <= before + 2


async def test_client_over_each_transport(transport: httpx2.AsyncBaseTransport) -> None:
    """The whole job runs over each transport, and cookies are neither kept nor sent."""
    simulator = Simulator(speed=200.0)
    async with asyncio.timeout(BOUND), serve(simulator) as url:
        client = AsyncClient(
            "test-key", base_url=url, transport=transport, polling=Polling.fixed(0.05, 0.05)
        )
        async with client:
            results = await asyncio.gather(
                *(client.generate(FluxKontext(mode="pro", prompt=f"{n}")) for n in range(20))
            )
    assert len({result.task_id for result in results}) == simulator.created == 20
    assert not any(exchange.had_cookie for exchange in simulator.log)

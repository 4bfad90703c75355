"""Transports: what each tells of a POST that went wrong, on real sockets, and that it recovers."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import httpx2
import pytest

from apixo_async import (
    AsyncClient,
    ConfigurationError,
    FluxKontext,
    Polling,
    SubmitUncertainError,
    Timeouts,
)
from apixo_async._config import Secret
from apixo_async._http.channel import Channel, Unanswered, build_transport
from apixo_async._http.exchange import (
    FRESH,
    LONGEST_ANSWER,
    Incoming,
    Outgoing,
    Phase,
    SendExchange,
    exchange_over,
    usual_exchange,
)
from apixo_async.aiohttp import AiohttpTransport
from apixo_async.testing import Simulator, serve

BOUND = 30.0
GOOD = b'{"code": 200, "message": "success", "data": {"taskId": "task_1"}}'
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

TRANSPORTS: dict[str, Callable[[], httpx2.AsyncBaseTransport]] = {
    "plain": httpx2.AsyncHTTPTransport,
    "default": lambda: build_transport("http://127.0.0.1", proxy="", verify=True),
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


def channel(transport: httpx2.AsyncBaseTransport, url: str, connect: float = BOUND) -> Channel:
    return Channel(
        transport,
        base_url=url,
        key=Secret("canary"),
        timeouts=Timeouts(connect=connect, read=0.3, exchange=BOUND),
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


WAYS: dict[str, Callable[[httpx2.AsyncBaseTransport, str, Timeouts], SendExchange]] = {
    "own": exchange_over,
    "usual": usual_exchange,
}


@pytest.mark.parametrize("way", WAYS)
async def test_mark_comes_before_the_first_byte(
    transport: httpx2.AsyncBaseTransport, way: str
) -> None:
    """Whenever the server has seen a byte, the phase is marked: pinned over a warm connection."""
    phases: list[Phase] = []
    marks: list[bool] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                await read_request(reader)
            except asyncio.IncompleteReadError:
                writer.close()
                return
            marks.append(phases[-1].maybe_sent)
            writer.write(answer(GOOD))

    async with asyncio.timeout(BOUND), server(handle) as url:
        exchange = WAYS[way](transport, url, Timeouts())
        for _ in range(3):
            phases.append(Phase(phase_aware=True))
            got = Incoming()
            await exchange(Outgoing("/x", [], b"{}", phases[-1]), got)
            assert (got.status, got.body) == (200, GOOD)
        await transport.aclose()
    assert marks == [True, True, True]


@pytest.mark.parametrize("way", WAYS)
async def test_errors_are_those_of_httpx2(transport: httpx2.AsyncBaseTransport, way: str) -> None:
    """A reset raises an error of httpx2; ours leads to no other, whose frames hold the key."""
    async with asyncio.timeout(BOUND), server(reset_after_request) as url:
        exchange = WAYS[way](transport, url, Timeouts())
        with pytest.raises(httpx2.ReadError) as caught:
            await exchange(Outgoing("/x", [], b"{}", Phase(phase_aware=True)), Incoming())
    if way == "own" and type(transport) is not httpx2.AsyncHTTPTransport:
        assert caught.value.__context__ is caught.value.__cause__ is None


async def test_request_on_the_wire(transport: httpx2.AsyncBaseTransport) -> None:
    """The server sees target, host, key and length, each once, and nothing of a stack's own."""
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(
            answer(GOOD, status="200 OK\r\nRetry-After: 7\r\nDate: Wed, 21 Oct 2026 07:28:00 GMT")
        )

    async with asyncio.timeout(BOUND), server(handle) as url:
        one = channel(transport, f"{url}/api/v1")
        got = await one.get("/statusTask/m?taskId=a%2Fb%20c")
        assert (got.status, got.body, got.retry_after) == (200, GOOD, 7.0)
        assert got.date == 1_792_567_680.0
    [head] = heads
    first, *lines = head.decode().strip().split("\r\n")
    assert first == "GET /api/v1/statusTask/m?taskId=a%2Fb%20c HTTP/1.1"
    sent = sorted(line.lower() for line in lines)
    assert sent == [
        "accept-encoding: identity",
        "accept: application/json",
        "authorization: bearer canary",
        f"host: {url.removeprefix('http://')}",
        "user-agent: test",
    ]


async def test_packed_answer(transport: httpx2.AsyncBaseTransport) -> None:
    """An answer that is packed although nobody asked for it is unpacked: a task may be in it."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer(gzip.compress(GOOD), status="200 OK\r\nContent-Encoding: gzip"))

    async with asyncio.timeout(BOUND), server(handle) as url:
        got = await channel(transport, url).post("/x", b"{}")
    assert (got.status, got.body) == (200, GOOD)


async def test_endless_answer_is_cut(transport: httpx2.AsyncBaseTransport) -> None:
    """An answer without end is cut, and its connection is of no more use."""
    visits = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal visits
        visits += 1
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with suppress(ConnectionError):
            while True:
                writer.write(b"x" * 65_536)
                await writer.drain()

    async with asyncio.timeout(BOUND), server(handle) as url:
        one = channel(transport, url)
        one._timeouts = Timeouts()
        for number in (1, 2):
            got = await one.get("/x")
            assert (got.status, len(got.body), visits) == (200, LONGEST_ANSWER, number)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_silence_is_bounded(transport: httpx2.AsyncBaseTransport, method: str) -> None:
    """A body that stops is given up after its timeout; what came of it is the answer.

    That is the read timeout of a submit, and of a poll the one of its connection as well.
    """

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer(GOOD[:20], claim=1_000))
        await reader.read()
        writer.close()

    async with asyncio.timeout(BOUND), server(handle) as url:
        start, one = time.monotonic(), channel(transport, url, connect=0.2)
        got = await (one.get("/x") if method == "GET" else one.post("/x", b"{}"))
    assert (got.status, got.body) == (200, GOOD[:20])
    assert time.monotonic() - start > 0.25


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
    """After 500 cancelled polls, healthy requests work and no file descriptor is lost."""
    simulator = Simulator(speed=100.0)
    async with asyncio.timeout(BOUND), serve(simulator) as url:
        transport = TRANSPORTS[kind]()
        one = channel(transport, f"{url}/api/v1")
        one._key = Secret("test-key")
        await one.get("/apikeys/current-balance")
        before = descriptors()
        for wave in range(10):
            polls = [asyncio.create_task(one.get("/apikeys/current-balance")) for _ in range(50)]
            await asyncio.sleep(0.001 * wave)
            for poll in polls:
                poll.cancel()
            await asyncio.gather(*polls, return_exceptions=True)
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


@pytest.mark.parametrize("is_warm", [False, True])
async def test_a_post_that_is_prevented(
    transport: httpx2.AsyncBaseTransport, is_warm: bool
) -> None:
    """What is raised just before the first byte keeps it back: the service sees no request."""
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            data = await reader.read(65_536)
            seen.append(data)
            if data:
                writer.write(answer(GOOD))

    def prevent() -> None:
        raise LookupError

    async with asyncio.timeout(BOUND), server(handle) as url:
        if is_warm:
            await channel(transport, url).post("/x", b"{}")
        before = b"".join(seen)
        with pytest.raises(Unanswered) as caught:
            await channel(transport, url).post("/x", b"{}", prevent)
        assert not caught.value.maybe_sent
        assert (await channel(transport, url).post("/x", b"{}")).body == GOOD
    assert b"".join(seen)[len(before) :].count(b"POST") == 1


@pytest.mark.parametrize("rest", [0.0, 0.2])
async def test_bytes_behind_an_answer(transport: httpx2.AsyncBaseTransport, rest: float) -> None:
    """What comes behind an answer, at once or later, is not the answer to the next request."""
    if type(transport) is httpx2.AsyncHTTPTransport and not rest:
        pytest.skip("the pool of httpx2 itself keeps what came with an answer")
    asked: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await read_request(reader)
                asked.append(b"")
                behind = answer(b"{}", status="404 Not Found") if len(asked) == 1 else b""
                writer.write(answer(GOOD) + (b"" if rest else behind))
                if behind and rest:
                    await asyncio.sleep(rest / 2)
                    writer.write(behind)

    async with asyncio.timeout(BOUND), server(handle) as url:
        one = channel(transport, url)
        assert (await one.get("/x")).status == 200
        await asyncio.sleep(rest)
        got = await one.post("/x", b"{}")
    assert (got.status, got.body, len(asked)) == (200, GOOD, 2)


@pytest.mark.parametrize("kind", ["default", "aiohttp"])
async def test_a_post_uses_only_a_fresh_connection(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that rested for longer than 2 s, and may be closed any moment, serves polls."""
    used: list[int] = []
    opened: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        number = len(opened)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await read_request(reader)
                used.append(number)
                await asyncio.sleep(0.02)
                writer.write(answer(GOOD))

    skipped, monotonic = 0.0, time.monotonic
    made = TRANSPORTS[kind]()
    clock = SimpleNamespace(monotonic=lambda: monotonic() + skipped)
    for module in ("_http.pooled", "aiohttp"):
        monkeypatch.setattr(f"apixo_async.{module}.time", clock)
    async with asyncio.timeout(BOUND), server(handle) as url:
        one = channel(made, url)
        await asyncio.gather(one.get("/a"), one.get("/b"))  # Two connections rest.
        await one.post("/c", b"{}")
        skipped = FRESH + 0.2
        await one.post("/d", b"{}")
        await asyncio.gather(*(one.get(f"/{name}") for name in "efg"))
        await made.aclose()
    assert used[2] in (1, 2)
    assert used[3] == 3
    assert set(used[4:]) == {1, 2, 3}


def test_an_aiohttp_that_repeats_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version of aiohttp without the switch for repeats is refused when the transport is made."""
    monkeypatch.setattr(aiohttp.ClientSession, "ATTRS", frozenset({"_loop"}))
    with pytest.raises(ConfigurationError, match=r"install aiohttp>=3\.13\.3,<4"):
        AiohttpTransport()

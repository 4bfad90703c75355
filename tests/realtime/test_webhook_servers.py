"""The receiver under the servers that people run it with, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any, Final
from urllib.parse import quote

import pytest
import uvicorn
from aiohttp import web
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from uvicorn.lifespan.on import LifespanOn

from apixo_async.testing.uvicorn_server import SimulatorServer
from apixo_async.webhooks import WebhookReceiver, _body

from ..support.requests import BODY, FORGERIES, METHODS, SECRET, Forgery, Watched, forgeries

BOUND: Final = 60.0


@contextlib.asynccontextmanager
async def uvicorn_of(app: Any) -> AsyncIterator[int]:
    """Serve an ASGI application on a free port."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    server = SimulatorServer(app)
    running = asyncio.create_task(server.serve([listening]))
    try:
        await server.ready.wait()
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        await asyncio.wait_for(running, BOUND)


def fastapi_of(receiver: WebhookReceiver) -> contextlib.AbstractAsyncContextManager[int]:
    """Serve it mounted in FastAPI, at the public URL's path."""
    app = FastAPI()
    app.mount("/apixo", receiver.asgi())
    return uvicorn_of(app)


def bare_of(receiver: WebhookReceiver) -> contextlib.AbstractAsyncContextManager[int]:
    """Serve it under uvicorn with no framework."""
    return uvicorn_of(receiver.asgi())


@contextlib.asynccontextmanager
async def aiohttp_of(receiver: WebhookReceiver) -> AsyncIterator[int]:
    """Serve it as routes of an aiohttp application."""
    app = web.Application()
    app.add_routes(receiver.aiohttp_routes())
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=256)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


SERVERS = [fastapi_of, bare_of, aiohttp_of]
Served = tuple[Watched, int]


@pytest.fixture(params=SERVERS, ids=["FastAPI", "uvicorn", "aiohttp"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    """Serve a receiver with an open ticket."""
    watched = Watched()
    watched.open()
    async with request.param(watched.receiver) as port:
        yield watched, port


def head(token: str, *more: str, method: str = "POST", length: int | None = None) -> bytes:
    """Return the head of a request."""
    lines = [f"{method} /apixo/{token} HTTP/1.1", "Host: app.example.com", *more]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Hold a connection, within the bound."""
    async with asyncio.timeout(BOUND):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def status_in(reader: asyncio.StreamReader) -> int:
    """Return the status of the answer to come."""
    line = await reader.readline()
    return int(line.split()[1])


async def send(port: int, *parts: bytes) -> int:
    """Send a request in parts, and return its status."""
    async with connected(port) as (reader, writer):
        for part in parts:
            writer.write(part)
            await writer.drain()
        return await status_in(reader)


async def deliver(watched: Watched, port: int) -> int:
    """Send a callback as the service does."""
    return await send(port, head(watched.token, length=len(BODY)), BODY)


async def test_a_callback(served: Served) -> None:
    """A callback is answered 200, and told once."""
    watched, port = served
    assert await deliver(watched, port) == 200
    assert watched.polls == ["task_1"]


async def test_a_callback_in_chunks(served: Served) -> None:
    """A body without a length, in chunks, is read like any other."""
    watched, port = served
    chunks = [b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:7], BODY[7:])]
    request = head(watched.token, "Transfer-Encoding: chunked")
    assert await send(port, request, *chunks, b"0\r\n\r\n") == 200
    assert watched.polls == ["task_1"]


@pytest.mark.parametrize("method", [one for one in METHODS if one != "POST"])
async def test_other_methods(served: Served, method: str) -> None:
    """Whoever opens a callback's URL with a browser or a scanner meets 404."""
    watched, port = served
    assert await send(port, head(watched.token, method=method, length=0)) == 404
    assert not watched.told


async def test_a_wrong_token_is_refused_unread(served: Served) -> None:
    """A wrong token is refused although not one byte of its long body has come."""
    watched, port = served
    for token in ("wrong", watched.token[:-1], watched.token + "A"):
        assert await send(port, head(token, length=50_000)) == 404
    assert not watched.told


async def test_a_long_body(served: Served) -> None:
    """A body above what is polled is read, answered and polled, however it is framed."""
    watched, port = served
    body = BODY.ljust(_body.LONGEST_BODY + 5_000)
    assert await send(port, head(watched.token, length=len(body)), body) == 200
    chunk = b"1000\r\n%s\r\n" % (b"x" * 4_096)
    chunked = head(watched.token, "Transfer-Encoding: chunked")
    assert await send(port, chunked, *[chunk] * 17, b"0\r\n\r\n") == 200
    assert watched.polls[0] == "task_1"


async def test_a_slow_body(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that drips is answered when its time is over, and looked at."""
    monkeypatch.setattr(_body, "PATIENCE", 0.3)
    watched, port = served
    loop = asyncio.get_running_loop()
    async with connected(port) as (reader, writer):
        start, answer = loop.time(), asyncio.create_task(status_in(reader))
        writer.write(head(watched.token, length=len(BODY)))
        for byte in BODY[:-1]:
            writer.write(bytes([byte]))
            await asyncio.wait([answer], timeout=0.05)
            if answer.done():
                break
        assert await answer == 200
        assert loop.time() - start >= 0.3
    assert watched.polls
    assert await deliver(watched, port) == 200


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_clients_that_leave(
    served: Served, reset: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Clients that leave at any byte of a request harm nothing; the next callback is taken."""
    watched, port = served
    request = head(watched.token, length=len(BODY)) + BODY
    for end in range(0, len(request), 7):
        async with connected(port) as (_, writer):
            if reset:
                linger = struct.pack("ii", 1, 0)  # An RST in place of a FIN.
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, linger
                )
            writer.write(request[:end])
            await writer.drain()
    assert await deliver(watched, port) == 200
    assert set(watched.polls) <= {None, "task_1"}
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_client_that_does_not_wait(served: Served) -> None:
    """A client that sends its whole callback and leaves is heard."""
    watched, port = served
    async with connected(port) as (_, writer):
        writer.write(head(watched.token, length=len(BODY)) + BODY)
        await writer.drain()
    for _ in range(100):
        await asyncio.sleep(0.0 if watched.polls else 0.01)
    assert watched.polls == ["task_1"]


@pytest.mark.parametrize(
    "lengths", [["Content-Length: 5", "Content-Length: 9"], ["Content-Length: -1"]]
)
async def test_a_length_that_is_none(served: Served, lengths: list[str]) -> None:
    """A length that contradicts itself is refused by the server, with 400."""
    watched, port = served
    assert await send(port, head(watched.token, *lengths), BODY) == 400
    assert not watched.told


async def test_a_body_longer_than_it_says(served: Served) -> None:
    """What comes after the declared length is no part of the body, if the server reads on."""
    watched, port = served
    status = await send(port, head(watched.token, length=len(BODY)), BODY + b"}" * 20)
    assert (status, watched.polls) in [(200, ["task_1"]), (400, [])]
    assert await send(port, head(watched.token, length=9), BODY) in {200, 400}
    assert set(watched.polls) <= {None, "task_1"}


async def test_an_encoding_that_is_none(served: Served) -> None:
    """A body that is not encoded as it says is polled all the same."""
    watched, port = served
    junk = b"\x1f\x8b" + b"x" * 40
    request = head(watched.token, "Content-Encoding: gzip", length=len(junk))
    assert await send(port, request, junk) in {200, 400}  # A server may refuse it by itself.
    assert set(watched.polls) <= {None}


async def test_a_hundred_at_once(served: Served) -> None:
    """A hundred deliveries of one task at once: each 200, one poll now and at most one after."""
    watched, port = served
    answers = await asyncio.gather(*(deliver(watched, port) for _ in range(100)))
    assert set(answers) == {200}
    assert 1 <= len(watched.polls) <= 2
    assert set(watched.polls) == {"task_1"}


async def test_the_secret_is_in_no_log(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """No server logs the secret, whatever it logs of good and bad requests."""
    caplog.set_level(logging.DEBUG)
    watched, port = served
    await deliver(watched, port)
    await send(port, head("wrong", length=2), b"{}")
    await send(port, b"nonsense\r\n\r\n")
    assert SECRET not in caplog.text


async def test_a_server_with_lifespan() -> None:
    """The lifespan protocol is answered: the server starts and ends without complaint."""
    lifespan = LifespanOn(uvicorn.Config(Watched().receiver.asgi(), lifespan="on", log_config=None))
    async with asyncio.timeout(BOUND):
        await lifespan.startup()
        assert not lifespan.should_exit
        await lifespan.shutdown()
    assert not lifespan.startup_failed
    assert not lifespan.shutdown_failed


@pytest.mark.parametrize("server", [fastapi_of, aiohttp_of], ids=["FastAPI", "aiohttp"])
def test_forged_and_mutated_requests(server: Callable[..., Any]) -> None:
    """Nothing that is forged or mutated tells anybody anything, or is answered otherwise."""
    with asyncio.Runner() as runner:
        watched, stack = Watched(), contextlib.AsyncExitStack()

        async def started() -> int:
            watched.open()
            return int(await stack.enter_async_context(server(watched.receiver)))

        async def ask(forgery: Forgery) -> int:
            token = quote(forgery.token, safe="")
            request = head(token, method=forgery.method, length=len(forgery.body))
            async with connected(port) as (reader, writer):
                writer.write(request + forgery.body)
                return await status_in(reader)

        port = runner.run(started())

        @settings(max_examples=FORGERIES, deadline=None, suppress_health_check=list(HealthCheck))
        @given(forgeries(watched.token))
        def forge(forgery: Forgery) -> None:
            assert runner.run(ask(forgery)) in {400, 404}
            assert not watched.told

        forge()
        runner.run(stack.aclose())

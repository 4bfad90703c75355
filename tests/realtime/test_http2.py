"""HTTP/2: what the plain transport tells of a POST, pinned against a server of h2's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx2
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event, RequestReceived, StreamEnded
from hpack import Encoder

from apixo_async import AsyncClient, FluxKontext, SubmitUncertainError, Task, Timeouts
from apixo_async._http.channel import Phase

CASTLE = FluxKontext(mode="pro", prompt="a castle")
MADE = b'{"code": 200, "message": "success", "data": {"taskId": "task_1"}}'
Act = Callable[[H2Connection, int, asyncio.StreamWriter], None]


def answer(connection: H2Connection, stream: int, _: asyncio.StreamWriter) -> None:
    """Tell of a task that was made."""
    connection.send_headers(stream, [(":status", "200"), ("content-length", str(len(MADE)))])
    connection.send_data(stream, MADE, end_stream=True)


def reset_stream(connection: H2Connection, stream: int, _: asyncio.StreamWriter) -> None:
    """Reset the stream once the request has come."""
    connection.reset_stream(stream)


def close(_: H2Connection, __: int, writer: asyncio.StreamWriter) -> None:
    """Close the connection once the request has come."""
    writer.close()


@asynccontextmanager
async def server(act: Act, seen: Callable[[], None] = lambda: None) -> AsyncIterator[str]:
    """Speak HTTP/2 with prior knowledge; `seen` is called when a request's headers have come."""
    handlers: set[asyncio.Task[None]] = set()

    def handle(connection: H2Connection, event: Event, writer: asyncio.StreamWriter) -> None:
        if isinstance(event, RequestReceived):
            seen()
        if isinstance(event, StreamEnded):
            assert event.stream_id is not None
            act(connection, event.stream_id, writer)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        connection = H2Connection(H2Configuration(client_side=False))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        with suppress(ConnectionError, asyncio.CancelledError):
            while data := await reader.read(65_536):
                for event in connection.receive_data(data):
                    handle(connection, event, writer)
                if not writer.is_closing():
                    writer.write(connection.data_to_send())
        writer.close()

    listening = await asyncio.start_server(connected, "127.0.0.1", 0)
    host, port = listening.sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}"
    finally:
        listening.close()
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


def client_of(url: str) -> AsyncClient:
    """Return a client that speaks nothing but HTTP/2."""
    transport = httpx2.AsyncHTTPTransport(http1=False, http2=True)
    timeouts = Timeouts(read=1.0, exchange=2.0, retry=0.01)
    return AsyncClient("canary", base_url=url, transport=transport, timeout=timeouts)


async def test_mark_comes_before_the_first_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever the server has seen a request, its phase is marked already, on new and old ones."""
    phases: list[Phase] = []
    marked: list[bool] = []
    make = Phase.__init__

    def spy(phase: Phase, *, phase_aware: bool, **more: Any) -> None:
        make(phase, phase_aware=phase_aware, **more)
        assert phase.maybe_sent is not phase_aware
        phases.append(phase)

    monkeypatch.setattr(Phase, "__init__", spy)
    async with (
        asyncio.timeout(20),
        server(answer, lambda: marked.append(phases[-1].maybe_sent)) as url,
        client_of(url) as client,
    ):
        for _ in range(3):
            assert isinstance(await client.submit(CASTLE), Task)
    assert marked == [True, True, True]


async def test_the_key_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG the parts of HTTP/2 print headers, plain and packed; none of that is logged."""
    caplog.set_level(logging.DEBUG)
    async with asyncio.timeout(20), server(answer) as url, client_of(url) as client:
        await client.submit(CASTLE)
    packed = Encoder().huffman_coder.encode(b"Bearer canary")
    logged = [(record.name, record.getMessage(), record.args) for record in caplog.records]
    shown = [one for one in logged if "canary" in str(one) or str(packed)[2:-1] in str(one)]
    assert shown == []
    assert any(name.startswith("httpcore2") for name, *_ in logged)
    # What is not about headers is logged as ever.
    logging.getLogger("hpack.hpack").warning("too large")
    assert caplog.records[-1].getMessage() == "too large"


@pytest.mark.parametrize("act", [reset_stream, close], ids=["stream reset", "closed"])
async def test_lost_answer_is_uncertain(act: Act) -> None:
    """A request that the server has and does not answer may have bought a task."""
    async with asyncio.timeout(20), server(act) as url, client_of(url) as client:
        with pytest.raises(SubmitUncertainError):
            await client.submit(CASTLE)

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace

import httpcore2
import httpx2
import pytest

from apixo_async import Timeouts
from apixo_async._http.exchange import (
    LONGEST_ANSWER,
    SENDING,
    Incoming,
    Outgoing,
    Phase,
    SendExchange,
    exchange_over,
    usual_exchange,
)
from apixo_async._http.pooled import _read

URL = "https://api.apixo.ai/api/v1"


async def test_trace_events_of_httpcore() -> None:
    """The request's own headers mark the phase; connecting and a proxy's CONNECT do not."""
    phase = Phase(phase_aware=True)
    post, connect = SimpleNamespace(method=b"POST"), SimpleNamespace(method=b"CONNECT")
    await phase.trace("connection.connect_tcp.started", {})
    await phase.trace("http11.send_request_headers.started", {"request": connect})
    await phase.trace("http2.send_connection_init.started", {"request": post})
    assert not phase.maybe_sent
    await phase.trace("http2.send_request_headers.started", {"request": post})
    assert phase.maybe_sent


def test_a_request_does_not_show_its_headers() -> None:
    """The key among the headers is in no repr."""
    request = Outgoing("/x", [(b"Authorization", b"Bearer canary")], None, Phase(phase_aware=True))
    assert "canary" not in repr(request)
    assert "/x" in repr(request)


def test_body_is_cut() -> None:
    """A body grows to the longest answer and no further; the chunk that does not fit says so."""
    answer = Incoming()
    assert not answer.take(b"x" * (LONGEST_ANSWER - 2))
    assert not answer.take(b"x")
    assert not answer.cut
    assert answer.take(b"yz")
    assert answer.cut
    assert len(answer.body) == LONGEST_ANSWER
    assert answer.body.endswith(b"xy")


def test_a_body_that_is_no_longer_than_the_longest_is_whole() -> None:
    """A body of exactly the longest length is not cut."""
    answer = Incoming()
    assert not answer.take(b"x" * LONGEST_ANSWER)
    assert not answer.cut


def test_small_chunks_are_not_copied_again_and_again() -> None:
    """Twice as many small chunks take about twice the time, and not four times."""

    def seconds(count: int) -> float:
        answer, began = Incoming(), time.process_time()
        for _ in range(count):
            answer.take(b"0123456789abcdef")
        return time.process_time() - began

    few = min(seconds(8_000) for _ in range(3))
    assert min(seconds(64_000) for _ in range(3)) < 30 * few


@pytest.mark.parametrize("way", ["default", "usual"])
async def test_the_loop_runs_while_tiny_chunks_come(way: str) -> None:
    """Thousands of chunks that came at once do not hold the loop up until the last of them."""
    turns = 0

    async def run() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    class Chunks(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for _ in range(10_000):
                yield b"x"

    answer, runner = Incoming(), asyncio.create_task(run())
    if way == "usual":
        transport = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=Chunks()))
        exchange = usual_exchange(transport, "https://api.apixo.ai", Timeouts())
        await exchange(Outgoing("/x", [], None, Phase(phase_aware=True)), answer)
    else:
        await _read(httpcore2.Response(200, content=Chunks()), answer)
    runner.cancel()
    assert len(answer.body) == 10_000
    assert 70 < turns < 200


class Direct(httpx2.MockTransport):
    """A transport with both ways, which says which one was taken."""

    def __init__(self) -> None:
        super().__init__(self.usual)
        self.requests: list[httpx2.Request] = []

    def usual(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return httpx2.Response(200, content=b"usual", headers={"retry-after": "5", "date": "x"})

    def exchange_with(self, base_url: str, timeouts: Timeouts) -> SendExchange:
        async def exchange(_: Outgoing, answer: Incoming) -> None:
            answer.take(f"{base_url}, {timeouts.read:g} s".encode())

        return exchange


class Sub(Direct):
    """A subclass, which might have changed how requests are handled."""


async def taken(transport: httpx2.AsyncBaseTransport, body: bytes | None = None) -> Incoming:
    answer = Incoming()
    phase = Phase(phase_aware=body is not None)
    request = Outgoing("/x", [(b"Accept", b"a/b")], body, phase)
    await exchange_over(transport, URL, Timeouts(read=3.0))(request, answer)
    return answer


async def test_direct_way() -> None:
    """A class that has a way of its own is used by it."""
    assert (await taken(Direct())).body == f"{URL}, 3 s".encode()


async def test_subclass_goes_the_usual_way() -> None:
    """A subclass of such a class, which may have changed the usual way, is used by that."""
    transport = Sub()
    answer = await taken(transport)
    assert (answer.status, answer.body) == (200, b"usual")
    assert (answer.retry_after, answer.date) == ("5", "x")
    [request] = transport.requests
    assert (request.method, str(request.url)) == ("GET", f"{URL}/x")
    assert request.headers["accept"] == "a/b"
    assert request.extensions == {"timeout": Timeouts(read=3.0).extension}


async def test_only_a_post_tells_its_phase() -> None:
    """The usual way of a POST has both extensions that tell of its first byte."""
    transport = Sub()
    await taken(transport, b"{}")
    [request] = transport.requests
    assert (request.method, request.content) == ("POST", b"{}")
    assert request.extensions.keys() == {"timeout", "trace", SENDING}

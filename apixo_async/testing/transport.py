"""The service in process: a transport for httpx2 with the timing and the failures of a socket."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from email.utils import formatdate
from typing import Final, Protocol, TypeAlias, cast

import httpx2

from apixo_async.testing.exchanges import Call, Reply, ServedRequest
from apixo_async.testing.faults import Fault, framed
from apixo_async.testing.options import SimulatorOptions

Latency: TypeAlias = float | Callable[[random.Random], float]
ExchangeOutcome: TypeAlias = Reply | Exception

#: The request extension with the callable by which a client notes that a request counts as sent.
SENDING: Final = "apixo_async.sending"

_CHUNK: Final = 16_384

#: What a client meets instead of an answer.
_CUTS: Final[Mapping[str, Callable[[], Exception]]] = {
    "close": lambda: httpx2.RemoteProtocolError("Server disconnected without sending a response."),
    "reset": lambda: httpx2.ReadError("Connection reset by peer"),
}


class _SimulatedService(Protocol):
    """The course of one exchange at a `Simulator`, whose module imports this one."""

    options: SimulatorOptions

    def begin(self, call: Call) -> Fault: ...
    def arrive(self, call: Call, fault: Fault) -> ServedRequest: ...
    def answered(self, request: ServedRequest) -> None: ...
    def wall_clock(self) -> float: ...


class SimulatorTransport(httpx2.AsyncBaseTransport):
    """Send requests to a `Simulator` on the running loop's time, virtual or real.

    Each exchange runs in an asyncio.Task that the transport owns: a request given up by its client
    is carried out all the same. Half of the latency passes before the request arrives, the other
    half before its answer does. Connect and read timeouts of the request's ``timeout`` extension
    hold. Just before a request counts as sent the callable in its extension
    ``apixo_async.sending`` is called; never for a connection that was not made.

    Attributes:
        phase_aware: True: the transport tells what was sent from what was not.
        most_in_flight: The most requests at once that their clients waited for.
    """

    phase_aware = True

    def __init__(self, simulator: _SimulatedService, latency: Latency = 0.05) -> None:
        self._simulator = simulator
        self._latency = latency
        self._source = random.Random(simulator.options.seed)
        self._exchanges: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Future[ExchangeOutcome]] = set()
        self._closed = False
        self.most_in_flight = 0

    @property
    def in_flight(self) -> int:
        """How many sent requests their client waits for."""
        return len(self._waiting)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request and wait for its answer.

        Raises:
            httpx2.TransportError: As a socket's transport would for the same fault.
            RuntimeError: The transport is closed.
        """
        if self._closed:
            raise RuntimeError("the simulator's transport is closed")
        call = Call(
            method=request.method,
            host=request.url.netloc.decode("ascii"),
            path=request.url.path,
            query=dict(request.url.params),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.aread(),
        )
        fault = self._simulator.begin(call)
        await _connect(request, fault)
        sending = request.extensions.get(SENDING)
        if callable(sending):
            sending()
        answer: asyncio.Future[ExchangeOutcome] = asyncio.get_running_loop().create_future()
        exchange = asyncio.create_task(self._exchange(call, fault, answer))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._exchanges.discard)
        outcome = await self._wait(answer, request)
        if isinstance(outcome, Exception):
            raise outcome
        return _response(request, outcome, fault)

    async def aclose(self) -> None:
        """End the exchanges in progress; their clients get a ReadError."""
        self._closed = True
        for waiting in self._waiting:
            _settle(waiting, httpx2.ReadError("the simulator's transport was closed"))
        for exchange in self._exchanges:
            exchange.cancel()
        if self._exchanges:
            await asyncio.wait(self._exchanges)

    async def _exchange(
        self, call: Call, fault: Fault, answer: asyncio.Future[ExchangeOutcome]
    ) -> None:
        latency = self._latency(self._source) if callable(self._latency) else self._latency
        await asyncio.sleep(latency / 2)
        try:
            served = self._simulator.arrive(call, fault)
        except Exception as exc:  # an error of the simulator itself is raised by the request
            _settle(answer, exc)
            return
        await asyncio.sleep(fault.wait)
        if served.after is not None:
            await served.after.wait()
        if fault.end == "answer":
            self._simulator.answered(served)
        # Every HTTP server sends the date, and clients may compare clocks by it.
        date = formatdate(self._simulator.wall_clock(), usegmt=True)
        await asyncio.sleep(latency / 2)
        if fault.end in _CUTS:
            _settle(answer, _CUTS[fault.end]())
        elif fault.end != "hang":
            reply = served.reply
            _settle(answer, replace(reply, headers={"date": date, **reply.headers}))

    async def _wait(
        self, answer: asyncio.Future[ExchangeOutcome], request: httpx2.Request
    ) -> ExchangeOutcome:
        self._waiting.add(answer)
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            # The future is waited for, not the exchange: given up by its client, that goes on.
            await asyncio.wait((answer,), timeout=_timeout(request, "read"))
        finally:
            self._waiting.discard(answer)
        if answer.done():
            return answer.result()
        return httpx2.ReadTimeout("the simulator did not answer in time", request=request)


class _Body(httpx2.AsyncByteStream):
    def __init__(self, content: bytes, promised: int) -> None:
        self._content = content
        self._promised = promised

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._content), _CHUNK):
            yield self._content[start : start + _CHUNK]
        if len(self._content) < self._promised:
            raise httpx2.RemoteProtocolError(
                "peer closed connection without sending complete message body "
                f"(received {len(self._content)} bytes, expected {self._promised})"
            )


def _settle(answer: asyncio.Future[ExchangeOutcome], outcome: ExchangeOutcome) -> None:
    if not answer.done():
        answer.set_result(outcome)


def _timeout(request: httpx2.Request, phase: str) -> float | None:
    timeouts = cast("Mapping[str, float | None]", request.extensions.get("timeout", {}))
    return timeouts.get(phase)


async def _connect(request: httpx2.Request, fault: Fault) -> None:
    if fault.end == "refuse":
        await asyncio.sleep(fault.wait)
        raise httpx2.ConnectError("All connection attempts failed", request=request)
    if fault.end == "unreachable":
        never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await asyncio.wait((never,), timeout=_timeout(request, "connect"))
        raise httpx2.ConnectTimeout("the simulator cannot be reached", request=request)


def _response(request: httpx2.Request, reply: Reply, fault: Fault) -> httpx2.Response:
    body = b"" if request.method == "HEAD" else reply.body
    headers, sent = framed(reply, fault)
    promised = len(body) if "content-length" in headers else 0
    return httpx2.Response(
        reply.status,
        headers=headers,
        stream=_Body(body[:sent], promised),
        extensions={"http_version": b"HTTP/1.1"},
        request=request,
    )

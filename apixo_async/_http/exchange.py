"""One exchange between the channel and a transport: the request, and the answer as it comes in."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias, cast

import httpx2

from apixo_async._config import Timeouts
from apixo_async._http.wire import SPEED_HEADER

#: A transport that declares `phase_aware = True` calls this extension of a request just before it
#: writes the first byte, and never if it writes none. Only that proves that a submit was refused
#: (invariant 1).
SENDING: Final = "apixo_async.sending"

#: A transport that declares `tells_peer = True` calls this one with each address before it connects
#: to it; an OSError from the call prevents that.
CONNECTING: Final = "apixo_async.connecting"

#: Seconds for which a connection may have been idle when a POST is sent on it. A server that closes
#: it at that moment leaves the POST uncertain, as RFC 9112, section 9.3.1, says. uvicorn and Node
#: close after 5 s; the difference allows for their clocks and for the way to them.
FRESH: Final = 2.0

#: Bytes that are read of an answer of the API. By the documents it has a few hundred; one that
#: repeats the longest prompt (20,000 characters of up to 14 bytes each, as JSON within JSON) and 16
#: URLs has a third of this. Parsing this many blocks the loop for 0.03 to 0.1 s.
LONGEST_ANSWER: Final = 1024 * 1024

#: Chunks of one answer that are read before the loop may do something else: 3 ms of h11's work.
_CHUNKS_IN_A_ROW: Final = 128


class UntrustedError(httpx2.ConnectError):
    """The server's certificate is not trusted: nothing was sent, and no repeat helps."""


def untrusted(exc: BaseException) -> UntrustedError | None:
    """Return the error to raise instead of one that an untrusted certificate caused, else None."""
    link: BaseException | None = exc
    while link is not None:
        if isinstance(link, UntrustedError):
            return link
        if isinstance(link, ssl.SSLCertVerificationError):
            return UntrustedError(
                f"{link}: to trust it, name the file of its authority in the environment's "
                "SSL_CERT_FILE, or give `verify=` an ssl.SSLContext that has loaded it"
            )
        link = link.__cause__ or link.__context__
    return None


class Phase:
    """Whether a request may have reached the server (invariant 1).

    Args:
        phase_aware: Whether the transport calls `begin_sending`. If it does not, the channel does
            before it hands the request over.
        when_sending: Called by `begin_sending`; what it raises keeps the transport from sending.

    Attributes:
        maybe_sent: False until the first byte is about to be written.
        prevented: What `when_sending` raised, or None.
    """

    __slots__ = ("_when_sending", "maybe_sent", "phase_aware", "prevented")

    def __init__(
        self, *, phase_aware: bool, when_sending: Callable[[], None] | None = None
    ) -> None:
        self._when_sending = when_sending
        self.phase_aware = phase_aware
        self.maybe_sent = False
        self.prevented: Exception | None = None

    def begin_sending(self) -> None:
        """Note that the first byte is about to be written, unless `when_sending` prevents it."""
        if self._when_sending is not None:
            try:
                self._when_sending()
            except Exception as exc:
                # Kept, since the HTTP stack raises an error of its own in its place.
                self.prevented = exc
                raise
        self.maybe_sent = True

    async def trace(self, event: str, info: Mapping[str, object]) -> None:
        """Call `begin_sending` at the `trace` event of httpcore2, of HTTP/1.1 and of HTTP/2."""
        if not event.endswith("send_request_headers.started"):
            return
        # A CONNECT opens a tunnel through a proxy (RFC 9110, section 9.3.6), before the request.
        if getattr(info.get("request"), "method", None) != b"CONNECT":
            self.begin_sending()


@dataclass(frozen=True, slots=True, eq=False)
class Outgoing:
    """A request.

    Attributes:
        path: What follows the base URL: ASCII, and quoted.
        headers: All but Host and Content-Length.
        body: What is posted, or None for a GET.
        phase: Notes when its first byte is written.
    """

    path: str
    headers: list[tuple[bytes, bytes]] = field(repr=False)  # the key is among them
    body: bytes | None
    phase: Phase

    @property
    def method(self) -> str:
        """GET or POST."""
        return "GET" if self.body is None else "POST"

    @property
    def is_watched(self) -> bool:
        """Whether the transport has to report its first byte: a POST, or what may be prevented."""
        return self.body is not None or self.phase.phase_aware


class Incoming:
    """The part of an answer that has arrived.

    Attributes:
        status: The HTTP status, or None before the head has arrived.
        retry_after: The `Retry-After` header.
        date: The `Date` header.
        speed: The header of a simulator.
        cut: Whether the body is longer than `LONGEST_ANSWER`, and its end is missing.
    """

    __slots__ = ("_body", "cut", "date", "retry_after", "speed", "status")

    def __init__(self) -> None:
        self.status: int | None = None
        self.retry_after: str | None = None
        self.date: str | None = None
        self.speed: str | None = None
        self.cut = False
        self._body = bytearray()

    @property
    def body(self) -> bytes:
        """The part of the body that has arrived, up to `LONGEST_ANSWER`."""
        return bytes(self._body)

    def take(self, chunk: bytes) -> bool:
        """Add to the body; return True if it is cut, and no more is to be read."""
        room = LONGEST_ANSWER - len(self._body)
        self._body += chunk[:room]
        self.cut = self.cut or len(chunk) > room
        return self.cut


async def fill(answer: Incoming, chunks: AsyncIterable[bytes]) -> None:
    """Add chunks until their end or until the answer is cut.

    One read of the socket may bring thousands of tiny ones, so the loop runs between them.
    """
    number = 0
    async for chunk in chunks:
        if answer.take(chunk):
            return
        number += 1
        if number % _CHUNKS_IN_A_ROW == 0:
            await asyncio.sleep(0)


#: Sends a request and fills in its answer, and closes its response whatever happens.
SendExchange: TypeAlias = Callable[[Outgoing, Incoming], Awaitable[None]]


class Direct(Protocol):
    """A transport that does exchanges without the request and response objects of httpx2."""

    def exchange_with(self, base_url: str, timeouts: Timeouts) -> SendExchange:
        """Prepare exchanges with one service, each in the hands of one caller at a time."""
        ...


def exchange_over(
    transport: httpx2.AsyncBaseTransport, base_url: str, timeouts: Timeouts
) -> SendExchange:
    """Return a function that does exchanges over a transport: its own one if its class has one.

    That of a base class does not count, since it would pass by what a subclass overrides.
    """
    if "exchange_with" in vars(type(transport)):
        return cast("Direct", transport).exchange_with(base_url, timeouts)
    return usual_exchange(transport, base_url, timeouts)


def usual_exchange(
    transport: httpx2.AsyncBaseTransport, base_url: str, timeouts: Timeouts
) -> SendExchange:
    """Return a function that does exchanges over any transport of httpx2."""

    async def exchange(request: Outgoing, answer: Incoming) -> None:
        extensions: dict[str, object] = {"timeout": timeouts.extension}
        if request.is_watched:
            extensions |= {"trace": request.phase.trace, SENDING: request.phase.begin_sending}
        response = await transport.handle_async_request(
            httpx2.Request(
                request.method,
                base_url + request.path,
                headers=request.headers,
                content=request.body,
                extensions=extensions,
            )
        )
        answer.status = response.status_code
        answer.retry_after = response.headers.get("Retry-After")
        answer.date = response.headers.get("Date")
        answer.speed = response.headers.get(SPEED_HEADER)
        try:
            await fill(answer, response.aiter_bytes())
        finally:
            await response.aclose()

    return exchange

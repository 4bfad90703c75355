"""One exchange, as the channel and a transport see it: what goes out, and what has come in."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias, cast

import httpx2

from apixo_async._config import Timeouts

#: A transport that declares `phase_aware = True` calls this extension of a request just before
#: it writes the first byte, and never when it writes none.
SENDING: Final = "apixo_async.sending"

#: Such a transport calls this one with each address that it is about to connect to for a request;
#: what it raises, an OSError, prevents that.
CONNECTING: Final = "apixo_async.connecting"

#: Seconds for which a connection may have rested when a POST is sent on it. A server that closes
#: it in that moment leaves the POST uncertain; uvicorn and Node close after 5 s, and their clocks
#: and the way to them are given the rest.
FRESH: Final = 2.0

#: Bytes that are read of an answer of the API. It is a few hundred bytes by the documents; one
#: that repeats the longest prompt (20,000 characters of up to 14 bytes each, as JSON within JSON)
#: and 16 URLs has a third of this. Parsing as many bytes holds the loop up for 0.03 to 0.1 s.
LONGEST_ANSWER: Final = 1024 * 1024

#: Chunks of one answer between which the loop does nothing else: 3 ms of h11's work.
_CHUNKS_ON_END: Final = 128


class UntrustedError(httpx2.ConnectError):
    """The certificate of the other side is not trusted: nothing was sent, and no repeat helps."""


def untrusted(exc: BaseException) -> UntrustedError | None:
    """Return the error to raise if a certificate that is not trusted is behind another one."""
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
    """Whether a request may have reached the server: set just before its first byte is written.

    Args:
        believed: Whether the transport tells. One that does not tell has always "maybe sent".
        when_sending: Called before it is set; at once, where the transport does not tell. What it
            raises keeps the transport from sending.
    """

    __slots__ = ("_when_sending", "maybe_sent")

    def __init__(self, *, believed: bool, when_sending: Callable[[], None] | None = None) -> None:
        self._when_sending = when_sending
        self.maybe_sent = False
        if not believed:
            self.mark()

    def mark(self) -> None:
        """Note that the first byte is about to be written, unless `when_sending` prevents it."""
        if self._when_sending is not None:
            self._when_sending()
        self.maybe_sent = True

    async def trace(self, event: str, info: Mapping[str, object]) -> None:
        """Note it from the `trace` events of httpcore2, for HTTP/1.1 and HTTP/2."""
        if not event.endswith("send_request_headers.started"):
            return
        # A CONNECT opens a tunnel through a proxy; the request itself is yet to come.
        if getattr(info.get("request"), "method", None) != b"CONNECT":
            self.mark()


@dataclass(frozen=True, slots=True, eq=False)
class Outgoing:
    """A request.

    Attributes:
        path: What follows the base URL: ASCII, and quoted.
        headers: All but Host and Content-Length.
        body: What is posted, or None for a GET.
        phase: Told just before the first byte of a POST is written.
    """

    path: str
    headers: list[tuple[bytes, bytes]] = field(repr=False)  # the key is among them
    body: bytes | None
    phase: Phase

    @property
    def method(self) -> str:
        """GET or POST."""
        return "GET" if self.body is None else "POST"


class Incoming:
    """An answer, as far as it has come.

    Attributes:
        status: The HTTP status, or None before its head has come.
        retry_after: The `Retry-After` header.
        date: The `Date` header.
        cut: Whether more came of the body than the longest answer has.
    """

    __slots__ = ("_body", "cut", "date", "retry_after", "status")

    def __init__(self) -> None:
        self.status: int | None = None
        self.retry_after: str | None = None
        self.date: str | None = None
        self.cut = False
        self._body = bytearray()

    @property
    def body(self) -> bytes:
        """What came of the body, up to the longest answer."""
        return bytes(self._body)

    def take(self, chunk: bytes) -> bool:
        """Add to the body; return True if it is cut, so that no more is to be read."""
        room = LONGEST_ANSWER - len(self._body)
        self._body += chunk[:room]
        self.cut = self.cut or len(chunk) > room
        return self.cut


async def fill(answer: Incoming, chunks: AsyncIterable[bytes]) -> None:
    """Add chunks until their end or until the answer is cut.

    Thousands of tiny ones may come in one read of the socket: the loop runs between them.
    """
    number = 0
    async for chunk in chunks:
        if answer.take(chunk):
            return
        number += 1
        if number % _CHUNKS_ON_END == 0:
            await asyncio.sleep(0)


#: Sends a request and fills in its answer; raises what ends it early, and closes behind itself.
SendExchange: TypeAlias = Callable[[Outgoing, Incoming], Awaitable[None]]


class Direct(Protocol):
    """A transport that does exchanges without the request and response objects of httpx2."""

    def exchange_with(self, base_url: str, timeouts: Timeouts) -> SendExchange:
        """Prepare exchanges with one service, each in the hands of one caller at a time."""
        ...


def exchange_over(
    transport: httpx2.AsyncBaseTransport, base_url: str, timeouts: Timeouts
) -> SendExchange:
    """Return how to do exchanges over a transport: its own way if its class has one.

    What a subclass changes of the usual way is respected: it does not inherit the other one.
    """
    if "exchange_with" in vars(type(transport)):
        return cast("Direct", transport).exchange_with(base_url, timeouts)
    return UsualExchange(transport, base_url, timeouts)


class UsualExchange:
    """Exchanges over any transport of httpx2."""

    def __init__(
        self, transport: httpx2.AsyncBaseTransport, base_url: str, timeouts: Timeouts
    ) -> None:
        self._transport = transport
        self._base_url = base_url
        self._timeouts = timeouts

    async def __call__(self, request: Outgoing, answer: Incoming) -> None:
        """Do one exchange."""
        response = await self._transport.handle_async_request(self._built(request))
        answer.status = response.status_code
        answer.retry_after = response.headers.get("Retry-After")
        answer.date = response.headers.get("Date")
        try:
            await fill(answer, response.aiter_bytes())
        finally:
            await response.aclose()

    def _built(self, request: Outgoing) -> httpx2.Request:
        extensions: dict[str, object] = {"timeout": self._timeouts.extension}
        if request.body is not None:
            extensions |= {"trace": request.phase.trace, SENDING: request.phase.mark}
        return httpx2.Request(
            request.method,
            self._base_url + request.path,
            headers=request.headers,
            content=request.body,
            extensions=extensions,
        )

"""The default transport: httpx2's own, with a direct way to its connections.

In each exchange the pool of httpx2 visits every connection twice, and asks the socket of every idle
one: with the 85 connections that 167 polls a second need, that is half of the CPU time of a poll.
Here the connection that was given back last is taken next, and no other is visited.
"""

from __future__ import annotations

import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar, Final

import httpcore2
import httpx2

from apixo_async._config import Timeouts
from apixo_async._http.concurrency import MOST
from apixo_async._http.environment import certificates, with_proxy
from apixo_async._http.exchange import FRESH, Incoming, Outgoing, SendExchange, fill, untrusted
from apixo_async._http.wire import SPEED_HEADER
from apixo_async.errors import ConfigurationError

#: Seconds for which an idle connection is kept: less than the 5 s after which uvicorn and Node
#: close it, more than the 3 s between polls of one task.
LONGEST_IDLE: Final = 4.0

_LIMITS: Final = httpx2.Limits(
    max_connections=MOST, max_keepalive_connections=MOST, keepalive_expiry=LONGEST_IDLE
)

#: Each has a class of the same name in httpx2.
_ERRORS: Final = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.ProxyError,
    httpcore2.UnsupportedProtocol,
)

_PLAIN: Final = (b"", b"identity")

_SPEED: Final = SPEED_HEADER.lower().encode()


class PooledTransport(httpx2.AsyncHTTPTransport):
    """Keep as many connections as requests were in flight recently.

    Args:
        verify: Whether to check certificates, or the context that does.
        proxy: The URL of a proxy to the API, or None.
        route: Returns the proxy to a URL of a result, or None; without it, that is `proxy`, too.
    """

    phase_aware: ClassVar[bool] = True

    def __init__(
        self,
        *,
        verify: ssl.SSLContext | bool,
        proxy: str | None,
        route: Callable[[str], str | None] | None = None,
    ) -> None:
        self._context = certificates(verify)
        self._proxy = proxy
        self._route = route
        self._others: dict[str | None, httpx2.AsyncHTTPTransport] = {}
        super().__init__(verify=self._context, proxy=proxy, limits=_LIMITS)
        if not hasattr(getattr(self, "_pool", None), "create_connection"):
            raise ConfigurationError(
                f"httpx2 {httpx2.__version__} has no pool that makes connections, as the versions "
                "known here: install httpx2>=2.12,<3, or give a `transport=`"
            )
        self._services: list[_Service] = []

    def exchange_with(self, base_url: str, timeouts: Timeouts) -> SendExchange:
        """Prepare exchanges with one service; the caller bounds how many there are at once."""
        self._services.append(_Service(self._pool, httpx2.URL(base_url), timeouts))
        return self._services[-1].exchange

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request for a result; those to the API go through `exchange_with`."""
        proxy = self._proxy if self._route is None else self._route(str(request.url))
        if proxy == self._proxy:
            return await super().handle_async_request(request)
        if proxy not in self._others:
            self._others[proxy] = with_proxy(self._made, proxy)
        return await self._others[proxy].handle_async_request(request)

    def _made(self, proxy: str | None) -> httpx2.AsyncHTTPTransport:
        return httpx2.AsyncHTTPTransport(verify=self._context, proxy=proxy, limits=_LIMITS)

    async def aclose(self) -> None:
        """Close all connections."""
        for service in self._services:
            await service.aclose()
        for other in self._others.values():
            await other.aclose()
        await super().aclose()


class _Service:
    """The connections to one service. The pool makes them, through a proxy if there is one."""

    def __init__(
        self, pool: httpcore2.AsyncConnectionPool, base: httpx2.URL, timeouts: Timeouts
    ) -> None:
        self._pool = pool
        self._url = httpcore2.URL(
            scheme=base.raw_scheme, host=base.raw_host, port=base.port, target=base.raw_path
        )
        self._host = (b"Host", base.netloc)
        self._timeouts = timeouts.extension
        # A poll has no timers for its parts: the bound of the whole GET is hardly longer.
        self._timeouts_of_gets = {"connect": timeouts.connect}
        # Each with the time since when it is idle, the earliest first.
        self._idle: deque[tuple[float, httpcore2.AsyncConnectionInterface]] = deque()
        self._open: set[httpcore2.AsyncConnectionInterface] = set()

    async def exchange(self, request: Outgoing, answer: Incoming) -> None:
        """Do one exchange; errors are those of httpx2."""
        try:
            await self._exchange(request, answer)
        except _ERRORS as exc:
            failure = untrusted(exc) or getattr(httpx2, type(exc).__name__)(str(exc))
        else:
            return
        # Outside of the handler: the frames of httpcore2, whose locals hold the key, are not in the
        # context of this error (invariant 7).
        raise failure

    async def _exchange(self, request: Outgoing, answer: Incoming) -> None:
        connection = await self._taken(is_post=request.body is not None)
        try:
            response = await connection.handle_async_request(self._built(request))
            try:
                await _read(response, answer)
            finally:
                await response.aclose()
        finally:
            await self._put_back(connection)

    async def aclose(self) -> None:
        """Close the connections, those in use as well."""
        while self._open:
            await self._open.pop().aclose()

    def _built(self, request: Outgoing) -> httpcore2.Request:
        base, body = self._url, request.body
        headers = [self._host, *request.headers]
        extensions: dict[str, object] = {"timeout": self._timeouts_of_gets}
        if body is not None:
            headers.append((b"Content-Length", b"%d" % len(body)))
            extensions["timeout"] = self._timeouts
        if request.is_watched:
            extensions["trace"] = request.phase.trace
        target = base.target + request.path.encode("ascii")
        url = httpcore2.URL(scheme=base.scheme, host=base.host, port=base.port, target=target)
        return httpcore2.Request(
            request.method, url, headers=headers, content=body, extensions=extensions
        )

    async def _taken(self, *, is_post: bool) -> httpcore2.AsyncConnectionInterface:
        # Only a POST that meets a close is uncertain; a GET is simply sent again.
        earliest = time.monotonic() - FRESH if is_post else 0.0
        while self._idle and self._idle[-1][0] >= earliest:
            _, connection = self._idle.pop()
            if not connection.has_expired():
                return connection
            await self._closed(connection)
        connection = self._pool.create_connection(self._url.origin)
        self._open.add(connection)
        return connection

    async def _put_back(self, connection: httpcore2.AsyncConnectionInterface) -> None:
        now = time.monotonic()
        is_clean = connection.is_available() and not _has_more(connection)
        if is_clean and connection in self._open:
            self._idle.append((now, connection))
        else:
            await self._closed(connection)
        if self._idle and self._idle[0][0] + LONGEST_IDLE < now:
            await self._closed(self._idle.popleft()[1])

    async def _closed(self, connection: httpcore2.AsyncConnectionInterface) -> None:
        self._open.discard(connection)
        await connection.aclose()


def _has_more(connection: httpcore2.AsyncConnectionInterface) -> bool:
    """Return True if bytes follow an answer: they would be read as the answer to the next request.

    Only the parser of HTTP/1.1 has them (RFC 9112, section 9.3, on persistent connections). It is a
    private attribute of httpcore2, one layer deeper behind a proxy. If a new version has it
    elsewhere, no connection is used twice, and tests over sockets fail. Bytes that come later make
    the socket readable, which httpcore2 notices.
    """
    inner: Any = connection
    while inner is not None and not hasattr(inner, "_h11_state"):
        inner = getattr(inner, "_connection", None)
    return inner is None or bool(inner._h11_state.trailing_data[0])


async def _read(response: httpcore2.Response, answer: Incoming) -> None:
    answer.status = response.status
    head = {name.lower(): value for name, value in response.headers}
    if b"retry-after" in head:
        answer.retry_after = head[b"retry-after"].decode("ascii", "replace")
    if b"date" in head:
        answer.date = head[b"date"].decode("ascii", "replace")
    if _SPEED in head:
        answer.speed = head[_SPEED].decode("ascii", "replace")
    chunks = response.aiter_stream()
    if head.get(b"content-encoding", b"") not in _PLAIN:
        # The request asked for none, but the id of a paid task may be inside.
        coded = httpx2.Response(200, headers=response.headers, stream=_Coded(chunks))
        chunks = coded.aiter_bytes()
    await fill(answer, chunks)


class _Coded(httpx2.AsyncByteStream):
    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks

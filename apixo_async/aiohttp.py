"""A transport over aiohttp: less CPU per request. Needs the extra `apixo-async[aiohttp]`.

    from apixo_async.aiohttp import AiohttpTransport

    client = AsyncClient(transport=AiohttpTransport())

It takes no proxy, neither as an argument nor from the environment, and speaks HTTP/1.1. Behind a
proxy, leave the client its default transport. SSL_CERT_FILE and SSL_CERT_DIR are honoured.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, Final, Self, TypeVar

import httpx2

from apixo_async._config import Timeouts
from apixo_async._http.concurrency import MOST
from apixo_async._http.environment import certificates
from apixo_async._http.exchange import (
    CONNECTING,
    FRESH,
    SENDING,
    Incoming,
    Outgoing,
    SendExchange,
    untrusted,
)
from apixo_async._http.wire import SPEED_HEADER
from apixo_async.errors import ConfigurationError

try:
    import aiohttp
    from aiohttp.client_reqrep import ConnectionKey
    from httpx_aiohttp.httpx2 import AiohttpTransport as Adapter
    from yarl import URL
except ImportError as exc:  # pragma: no cover - seen only where the extra is missing
    raise ConfigurationError(
        "the aiohttp transport needs an extra: python -m pip install 'apixo-async[aiohttp]'"
    ) from exc

#: Seconds for which an idle connection is kept.
_LONGEST_REST: Final = 30.0

T = TypeVar("T")

_sending: Final[ContextVar[Callable[[], None] | None]] = ContextVar("sending", default=None)
_connecting: Final[ContextVar[Callable[[str], None] | None]] = ContextVar(
    "connecting", default=None
)


def _opened_socket(info: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol, _, address = info
    check = _connecting.get()
    if check is not None:
        check(str(address[0]))
    return socket.socket(family, kind, protocol)


async def _about_to_send(
    _session: aiohttp.ClientSession,
    _context: SimpleNamespace,
    _headers: aiohttp.TraceRequestHeadersSentParams,
) -> None:
    # aiohttp sends this signal before it writes the headers, which it does not document: a test
    # fails if the order changes. Invariant 1 depends on it.
    mark = _sending.get()
    if mark is not None:
        mark()


class AiohttpTransport(httpx2.AsyncBaseTransport):
    """Send requests through aiohttp, and prove that no byte of one was written (invariant 1).

    No cookies are kept, no redirect is followed, no request is repeated, no proxy is used.

    Args:
        verify: Whether to check certificates, or the context that does.
    """

    phase_aware: ClassVar[bool] = True
    tells_peer: ClassVar[bool] = True

    def __init__(self, *, verify: ssl.SSLContext | bool = True) -> None:
        # Both are internals of aiohttp, and this module changes what they do.
        has_switch = "_retry_connection" in getattr(aiohttp.ClientSession, "ATTRS", ())
        if not has_switch or not hasattr(aiohttp.TCPConnector, "_get"):
            raise ConfigurationError(
                f"aiohttp {aiohttp.__version__} would repeat requests by itself, or reuse "
                "connections on which a POST may be lost: install aiohttp>=3.13.3,<4, or use the "
                "default transport"
            )
        # Here and not in the event loop, which it would block for 40 ms.
        self._context = certificates(verify)
        self._sessions: _Sessions | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request; errors are those of httpx2."""
        extensions = request.extensions
        sending, connecting = extensions.get(SENDING), extensions.get(CONNECTING)
        with _set(_sending, sending), _set(_connecting, connecting), _mapped():
            response = await self._opened().adapter.handle_async_request(request)
        stream = response.stream
        assert isinstance(stream, httpx2.AsyncByteStream)
        response.stream = _MappedStream(stream)
        return response

    def exchange_with(self, base_url: str, timeouts: Timeouts) -> SendExchange:
        """Prepare exchanges with one service, without the objects of httpx2."""
        base = str(URL(base_url))
        # A poll has no timer for its silence: the bound of the whole GET is hardly longer.
        polled = aiohttp.ClientTimeout(connect=timeouts.exchange, sock_connect=timeouts.connect)
        submitted = aiohttp.ClientTimeout(
            connect=timeouts.exchange, sock_connect=timeouts.connect, sock_read=timeouts.read
        )

        async def exchange(request: Outgoing, answer: Incoming) -> None:
            url = URL(base + request.path, encoded=True)
            try:
                if not request.is_watched:
                    await _fill(answer, self._opened().polling, request, url, polled)
                else:
                    with _set(_sending, request.phase.begin_sending):
                        await _fill(answer, self._opened().submitting, request, url, submitted)
            except _FOREIGN as exc:
                failure = _described(exc)
            else:
                return
            # Outside of the handler: else the foreign exception would be its context, in which
            # tracebacks show the key (invariant 7).
            raise failure

        return exchange

    async def aclose(self) -> None:
        """Close the connections."""
        sessions, self._sessions = self._sessions, None
        if sessions is not None:
            await sessions.submitting.close()
            await sessions.polling.close()

    def _opened(self) -> _Sessions:
        loop = asyncio.get_running_loop()
        if self._sessions is None or loop is not self._loop:
            self._loop = loop
            self._sessions = _Sessions.opened(self._context)
        return self._sessions


@dataclass(frozen=True, slots=True)
class _Sessions:
    """Two sessions over the same connections.

    Attributes:
        polling: For GETs. It does not trace their phase, which costs a tenth of an exchange: a
            poll may be repeated, whatever was written of it.
        submitting: For POSTs, and GETs that may be prevented. It traces whether a byte was written.
        adapter: The second one, as a transport of httpx2.
    """

    polling: aiohttp.ClientSession
    submitting: aiohttp.ClientSession
    adapter: Adapter

    @classmethod
    def opened(cls, context: ssl.SSLContext) -> Self:
        connector = _Connector(
            limit=MOST,
            ssl=context,
            keepalive_timeout=_LONGEST_REST,
            socket_factory=_opened_socket,
        )
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_about_to_send)
        submitting = _session(connector, [trace])
        adapter = Adapter(verify=context, client=submitting)
        return cls(_session(connector, []), submitting, adapter)


class _Connector(aiohttp.TCPConnector):
    """Reuse no connection on which bytes came while it rested, and for a POST only a fresh one.

    Such bytes would be taken for the answer to the next request: a POST would buy a task whose id
    is never known. aiohttp closes such a connection only when it is given back; tests over sockets
    fail if this method is no longer called.
    """

    async def _get(
        self, key: ConnectionKey, traces: list[aiohttp.tracing.Trace]
    ) -> aiohttp.connector.Connection | None:
        resting, is_post = self._conns.get(key), _sending.get() is not None
        earliest = time.monotonic() - (FRESH if is_post else _LONGEST_REST)
        while resting:
            # The last one that was given back: after many at once, the others are soon too old for
            # a POST.
            protocol, since = resting[-1]
            if since < earliest and is_post:
                return None  # It may still serve a poll: a GET is repeated if it is closed.
            if protocol.is_connected() and not protocol.should_close and since >= earliest:
                resting.rotate(1)  # aiohttp takes the first one.
                break
            resting.pop()[0].close()
        return await super()._get(key, traces)


def _session(
    connector: aiohttp.TCPConnector, traces: list[aiohttp.TraceConfig]
) -> aiohttp.ClientSession:
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=traces,
        trust_env=False,
    )
    # Else aiohttp repeats a GET by itself, without a permit (invariant 3). There is no public
    # switch; aiohttp's own test client sets the same attribute.
    vars(session)["_retry_connection"] = False
    return session


async def _fill(
    answer: Incoming,
    session: aiohttp.ClientSession,
    request: Outgoing,
    url: URL,
    bounds: aiohttp.ClientTimeout,
) -> None:
    async with session.request(
        request.method,
        url,
        headers=[(name.decode(), value.decode()) for name, value in request.headers],
        data=request.body,
        allow_redirects=False,
        timeout=bounds,
    ) as response:
        answer.status = response.status
        answer.retry_after = response.headers.get("Retry-After")
        answer.date = response.headers.get("Date")
        answer.speed = response.headers.get(SPEED_HEADER)
        while chunk := await response.content.readany():
            if answer.take(chunk):
                response.close()  # The rest is not read: the connection cannot be reused.
                return


class _MappedStream(httpx2.AsyncByteStream):
    """The body of an answer, its errors mapped like those of the head."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _mapped():
            async for chunk in self._stream:
                yield chunk

    async def aclose(self) -> None:
        with _mapped():
            await self._stream.aclose()


@contextmanager
def _set(hook: ContextVar[T], value: T) -> Generator[None]:
    """Have a hook called for the requests within the context."""
    token = hook.set(value)
    try:
        yield
    finally:
        hook.reset(token)


@contextmanager
def _mapped() -> Generator[None]:
    """Map errors of aiohttp that the adapter passes on, and correct those that it maps wrongly."""
    try:
        yield
    except httpx2.HTTPError as exc:
        failure = _described(exc.__cause__ or exc, type(exc))
    except _FOREIGN as exc:
        failure = _described(exc)
    else:
        return
    raise failure


_FOREIGN: Final = (aiohttp.ClientError, TimeoutError, ValueError)

#: The adapter maps most of these to a ConnectTimeout.
_CLASSES: Final[dict[type[Exception], type[httpx2.TransportError]]] = {
    aiohttp.ConnectionTimeoutError: httpx2.ConnectTimeout,
    aiohttp.ServerTimeoutError: httpx2.ReadTimeout,
    TimeoutError: httpx2.ReadTimeout,
    aiohttp.ClientConnectorError: httpx2.ConnectError,
    aiohttp.ServerDisconnectedError: httpx2.RemoteProtocolError,
    aiohttp.ClientOSError: httpx2.ReadError,
    aiohttp.ClientConnectionError: httpx2.ReadError,
}


def _described(
    cause: BaseException, otherwise: type[httpx2.HTTPError] = httpx2.RemoteProtocolError
) -> httpx2.HTTPError:
    """Return the error of httpx2 without aiohttp's text, which may hold the request and its key."""
    name = type(cause).__name__
    if isinstance(cause, aiohttp.ClientConnectorCertificateError):
        found = untrusted(cause.certificate_error)
        if found is not None:
            return found
    classes = (ours for theirs, ours in _CLASSES.items() if isinstance(cause, theirs))
    return next(classes, otherwise)(name)

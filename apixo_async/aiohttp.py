"""A transport over aiohttp: less CPU per request. Needs the extra `apixo-async[aiohttp]`.

    from apixo_async.aiohttp import AiohttpTransport

    client = AsyncClient(transport=AiohttpTransport())

It takes no proxy, neither as an argument nor from the environment, and speaks HTTP/1.1.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from types import SimpleNamespace
from typing import ClassVar, Final

import httpx2

from apixo_async._core.errors import ConfigurationError
from apixo_async._core.places import MOST
from apixo_async._transport import SENDING

try:
    import aiohttp
    from httpx_aiohttp.httpx2 import AiohttpTransport as Adapter
except ImportError as exc:  # pragma: no cover - seen only where the extra is missing
    raise ConfigurationError(
        "the aiohttp transport needs an extra: python -m pip install 'apixo-async[aiohttp]'"
    ) from exc

_sending: Final[ContextVar[Callable[[], None] | None]] = ContextVar("sending", default=None)


async def _about_to_send(
    _session: aiohttp.ClientSession,
    _context: SimpleNamespace,
    _headers: aiohttp.TraceRequestHeadersSentParams,
) -> None:
    # aiohttp sends this signal before it writes the headers; a test pins that order.
    mark = _sending.get()
    if mark is not None:
        mark()


class AiohttpTransport(httpx2.AsyncBaseTransport):
    """Send requests through aiohttp, and tell whether a byte of them was written.

    No cookies are kept, no redirect is followed, no request is repeated, no proxy is used.

    Args:
        verify: Whether to check certificates, or the context that does.
    """

    phase_aware: ClassVar[bool] = True

    def __init__(self, *, verify: ssl.SSLContext | bool = True) -> None:
        self._verify = verify
        self._adapter: Adapter | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request; errors are those of httpx2."""
        token = _sending.set(request.extensions.get(SENDING))
        try:
            with _mapped():
                response = await self._bound_adapter().handle_async_request(request)
        finally:
            _sending.reset(token)
        stream = response.stream
        assert isinstance(stream, httpx2.AsyncByteStream)
        response.stream = _MappedStream(stream)
        return response

    async def aclose(self) -> None:
        """Close the connections."""
        adapter, self._adapter = self._adapter, None
        if adapter is not None:
            await adapter.aclose()

    def _bound_adapter(self) -> Adapter:
        loop = asyncio.get_running_loop()
        if self._adapter is None or loop is not self._loop:
            self._loop = loop
            self._adapter = Adapter(verify=self._verify, client=self._session)
        return self._adapter

    def _session(self) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_about_to_send)
        context = httpx2.create_ssl_context(verify=self._verify)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=MOST, ssl=context, keepalive_timeout=30.0),
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[trace],
            trust_env=False,
        )
        # Else aiohttp repeats a GET by itself, a request that no permit counts. There is no
        # public switch; aiohttp's own test client sets the same attribute.
        vars(session)["_retry_connection"] = False
        return session


class _MappedStream(httpx2.AsyncByteStream):
    """The body of an answer, its errors mapped as those of the head are."""

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
def _mapped() -> Generator[None]:
    """Map what the adapter lets through, and name resets what they are.

    The words of aiohttp's errors are left out: some print the request, with the key in it.
    """
    try:
        yield
    except httpx2.HTTPError as exc:
        cause = exc.__cause__ or exc
        failure: Exception = _httpx2_class(cause, type(exc))(type(cause).__name__)
    except TimeoutError:
        failure = httpx2.ReadTimeout("no answer in time")
    except (aiohttp.ClientError, ValueError) as exc:
        failure = httpx2.RemoteProtocolError(type(exc).__name__)
    else:
        return
    # Outside of the handler, so that the foreign exception is not its context.
    raise failure


#: The adapter calls most of these a ConnectTimeout.
_CLASSES: Final[dict[type[Exception], type[httpx2.TransportError]]] = {
    aiohttp.ConnectionTimeoutError: httpx2.ConnectTimeout,
    aiohttp.ServerTimeoutError: httpx2.ReadTimeout,
    aiohttp.ClientConnectorError: httpx2.ConnectError,
    aiohttp.ServerDisconnectedError: httpx2.RemoteProtocolError,
    aiohttp.ClientOSError: httpx2.ReadError,
    aiohttp.ClientConnectionError: httpx2.ReadError,
}


def _httpx2_class(cause: BaseException, mapped: type[Exception]) -> type[Exception]:
    return next((ours for theirs, ours in _CLASSES.items() if isinstance(cause, theirs)), mapped)

"""The one seam to HTTP: an exchange with the API, and whether its request was ever sent.

Requests are handed to the transport itself and not to an `httpx2.AsyncClient`, so there are no
cookies, no redirects and no log lines but ours, and the key lives in one request at a time.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

from apixo_async._bounds import bound_after
from apixo_async._config import Secret, Timeouts
from apixo_async._core.errors import ConfigurationError
from apixo_async._core.places import MOST
from apixo_async._core.wire import Answer, parse_retry_after

#: A transport that declares `phase_aware = True` calls this extension of a request just before
#: it writes the first byte, and never when it writes none.
SENDING: Final = "apixo_async.sending"

#: An answer of the API is a few hundred bytes; what is longer than this is cut.
LONGEST_ANSWER: Final = 4 * 1024 * 1024


class Phase:
    """Whether a request may have reached the server: set just before its first byte is written.

    Args:
        believed: Whether the transport tells. One that does not tell has always "maybe sent".
    """

    __slots__ = ("maybe_sent",)

    def __init__(self, *, believed: bool) -> None:
        self.maybe_sent = not believed

    def mark(self) -> None:
        """Note that the first byte is about to be written."""
        self.maybe_sent = True

    async def trace(self, event: str, info: Mapping[str, object]) -> None:
        """Note it from the `trace` events of httpcore2, for HTTP/1.1 and HTTP/2."""
        if not event.endswith("send_request_headers.started"):
            return
        # A CONNECT opens a tunnel through a proxy; the request itself is yet to come.
        if getattr(info.get("request"), "method", None) != b"CONNECT":
            self.maybe_sent = True


@dataclass(frozen=True, slots=True)
class Unanswered(Exception):
    """An exchange ended without an answer. Never leaves the package.

    Attributes:
        reason: What happened, in words that hold no key.
        maybe_sent: False only where a transport that tells such things wrote no byte.
        timed_out: Whether time ran out.
    """

    reason: str
    maybe_sent: bool
    timed_out: bool


class Channel:
    """Exchanges with the API through one transport.

    Args:
        transport: Where requests go; not owned.
        base_url: Up to and including `/api/v1`.
        key: Sent in the header of each request, and to this origin only.
        timeouts: The bounds of each exchange.
        user_agent: The `User-Agent` header.
    """

    def __init__(
        self,
        transport: httpx2.AsyncBaseTransport,
        *,
        base_url: str,
        key: Secret,
        timeouts: Timeouts,
        user_agent: str,
    ) -> None:
        self.transport = transport
        self.user_agent = user_agent
        self._base_url = base_url
        self._key = key
        self._timeouts = timeouts
        self._common = [
            (b"Accept", b"application/json"),
            (b"Accept-Encoding", b"identity"),
            (b"User-Agent", user_agent.encode("ascii")),
        ]
        self._believed = tells_phase(transport)

    async def get(self, path: str) -> Answer:
        """Send a GET to a path below the base URL.

        Raises:
            Unanswered: No answer came.
        """
        return await self._exchange(self._request("GET", path), Phase(believed=False))

    async def post(self, path: str, body: bytes) -> Answer:
        """Send a POST with a JSON body to a path below the base URL.

        Raises:
            Unanswered: No answer came; `maybe_sent` says whether the server may have the request.
        """
        phase = Phase(believed=self._believed)
        request = self._request("POST", path, body)
        request.extensions |= {"trace": phase.trace, SENDING: phase.mark}
        return await self._exchange(request, phase)

    def _request(self, method: str, path: str, body: bytes | None = None) -> httpx2.Request:
        content_type = [] if body is None else [(b"Content-Type", b"application/json")]
        return httpx2.Request(
            method,
            self._base_url + path,
            headers=[*self._common, self._key.authorization(), *content_type],
            content=body,
            extensions={"timeout": self._timeouts.extension},
        )

    async def _exchange(self, request: httpx2.Request, phase: Phase) -> Answer:
        body = bytearray()
        status: int | None = None
        retry_after: float | None = None
        failure: BaseException | None = None
        try:
            async with bound_after(self._timeouts.exchange):
                response = await self.transport.handle_async_request(request)
                status = response.status_code
                retry_after = parse_retry_after(
                    response.headers.get("Retry-After"), datetime.now(UTC)
                )
                await _read(response, body)
        except Exception as exc:
            failure = _described(exc, phase)
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit) as exc:
            # The same once more, but for the frames of the HTTP stack: its locals hold the key.
            status, failure = None, type(exc)(*exc.args)
        # A broken body still has a status, and may hold what was asked for.
        if status is not None:
            return Answer(status, self._key.hidden_in(bytes(body)), retry_after)
        assert failure is not None  # Without a status something was raised.
        # Raised outside of the handlers: the foreign exception, its request and its frames stay
        # out of the context of ours.
        raise failure


async def _read(response: httpx2.Response, into: bytearray) -> None:
    try:
        async for chunk in response.aiter_bytes():
            into += chunk[: LONGEST_ANSWER - len(into)]
            if len(into) >= LONGEST_ANSWER:
                return
    finally:
        await response.aclose()


def _described(exc: Exception, phase: Phase) -> Unanswered:
    timed_out = isinstance(exc, TimeoutError | httpx2.TimeoutException)
    # The text of an exception of a foreign transport could hold anything, a header even.
    own = isinstance(exc, httpx2.HTTPError | OSError)
    text = f": {exc}" if own and str(exc) else ""
    return Unanswered(f"{type(exc).__name__}{text}", phase.maybe_sent, timed_out)


def tells_phase(transport: httpx2.AsyncBaseTransport) -> bool:
    """Say whether a transport can be believed when it tells that nothing was sent."""
    # A subclass might send on its own account, so only the class itself is known to tell.
    plain = type(transport) is httpx2.AsyncHTTPTransport
    return plain or getattr(transport, "phase_aware", False) is True


def build_transport(
    base_url: str, *, proxy: str | None, verify: ssl.SSLContext | bool
) -> httpx2.AsyncHTTPTransport:
    """Build the default transport: as many connections as the gate lets in, kept alive.

    Args:
        base_url: Decides which of the environment's proxies applies.
        proxy: A proxy's URL; None for that of the environment, "" for none at all.
        verify: Whether to check certificates, or the context that does.
    """
    if proxy is None:
        proxy = _environment_proxy(base_url)
    try:
        return httpx2.AsyncHTTPTransport(
            verify=verify,
            proxy=proxy or None,
            limits=httpx2.Limits(max_connections=MOST, max_keepalive_connections=MOST),
        )
    except (ValueError, TypeError, ImportError, httpx2.InvalidURL) as exc:
        wrong = str(exc)
    # Outside of the handler: the frames of httpx2 hold a half-made proxy that cannot be shown.
    raise ConfigurationError(f"proxy or verify: {wrong}")


def _environment_proxy(base_url: str) -> str | None:
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    proxies = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    if not found or proxy_bypass(host):
        return None
    return found if "://" in found else f"http://{found}"


def check_transport(transport: object) -> httpx2.AsyncBaseTransport:
    """Return the transport if it is one of httpx2.

    Raises:
        ConfigurationError: It is anything else; an object of httpx 0.x gets words of its own.
    """
    if isinstance(transport, httpx2.AsyncBaseTransport):
        return transport
    name = f"{type(transport).__module__}.{type(transport).__qualname__}"
    if name.startswith(("httpx.", "httpx_aiohttp.transport")):
        raise ConfigurationError(
            f"transport: {name} belongs to httpx 0.x; this client runs on httpx2, whose "
            "transports have the same names: build it from httpx2"
        )
    raise ConfigurationError(f"transport: {name} given; it is an httpx2.AsyncBaseTransport")

"""The one seam to HTTP: an exchange with the API, and whether its request was ever sent.

Requests are handed to the transport itself and not to an `httpx2.AsyncClient`, so there are no
cookies, no redirects and no log lines but ours, and the key lives in one request at a time.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

from apixo_async._config import Secret, Timeouts
from apixo_async._hosts import is_loopback
from apixo_async._http.exchange import (
    Incoming,
    Outgoing,
    Phase,
    UntrustedError,
    exchange_over,
    untrusted,
)
from apixo_async._http.wire import MOST_WORDS, Answer, parse_retry_after
from apixo_async._sync import bound_after
from apixo_async._text import one_line
from apixo_async.errors import ConfigurationError

_PROXY_SCHEMES: Final = ("http://", "https://", "socks5://", "socks5h://")

#: These say at DEBUG what HTTP/2 packs: every header, and the key among them.
_LOGS_OF_HEADERS: Final = ("hpack.hpack", "hpack.table")


@dataclass(frozen=True, slots=True)
class Unanswered(Exception):
    """An exchange ended without an answer. Never leaves the package.

    Attributes:
        reason: What happened, in words that hold no key.
        maybe_sent: False only where a transport that tells such things wrote no byte.
        timed_out: Whether time ran out.
        untrusted: Whether the server's certificate is not trusted, which no repeat changes.
    """

    reason: str
    maybe_sent: bool
    timed_out: bool
    untrusted: bool = False


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
        for name in _LOGS_OF_HEADERS:
            logging.getLogger(name).addFilter(_above_debug)
        self.transport = transport
        self.user_agent = user_agent
        self._key = key
        self._timeouts = timeouts
        self._common = [
            (b"Accept", b"application/json"),
            (b"Accept-Encoding", b"identity"),
            (b"User-Agent", user_agent.encode("ascii")),
        ]
        self._believed = tells_phase(transport)
        self._exchange = exchange_over(transport, base_url, timeouts)

    async def get(self, path: str) -> Answer:
        """Send a GET to a path below the base URL.

        Raises:
            Unanswered: No answer came.
        """
        return await self._answered(path, None, Phase(believed=False))

    async def post(
        self, path: str, body: bytes, when_sending: Callable[[], None] | None = None
    ) -> Answer:
        """Send a POST with a JSON body to a path below the base URL.

        Args:
            path: The path.
            body: The body.
            when_sending: Called just before the first byte is written, or before that; what it
                raises prevents it.

        Raises:
            Unanswered: No answer came; `maybe_sent` says whether the server may have the request.
        """
        phase = Phase(believed=self._believed, when_sending=when_sending)
        answer = await self._answered(path, body, phase)
        # It was sent, and the transport did not tell: what it does not tell proves nothing.
        self._believed = self._believed and phase.maybe_sent
        return answer

    async def _answered(self, path: str, body: bytes | None, phase: Phase) -> Answer:
        answer = Incoming()
        failure: BaseException | None = None
        try:
            async with bound_after(self._timeouts.exchange):
                # Headers are no local of a frame that raises: they hold the key.
                await self._exchange(Outgoing(path, self._headers(body), body, phase), answer)
        except Exception as exc:
            failure = self._described(exc, phase)
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit) as exc:
            # The same once more, but for the frames of the HTTP stack: its locals hold the key.
            answer.status, failure = None, type(exc)(*exc.args)
        # A broken body still has a status, and may hold what was asked for.
        if answer.status is not None:
            body = self._key.hidden_in(answer.body)
            return Answer(answer.status, body, _pause(answer), answer.date, answer.cut)
        assert failure is not None  # Without a status something was raised.
        # Raised outside of the handlers: the foreign exception, its request and its frames stay
        # out of the context of ours.
        raise failure

    def _described(self, exc: Exception, phase: Phase) -> Unanswered:
        exc = untrusted(exc) or exc
        timed_out = isinstance(exc, TimeoutError | httpx2.TimeoutException)
        # The text of an exception of a foreign transport could hold anything, a header even; that
        # of a known one may quote the line that it could not read.
        own = isinstance(exc, httpx2.HTTPError | OSError)
        said = self._key.hidden_in(str(exc).encode(errors="replace")).decode() if own else ""
        reason = ": ".join(part for part in (type(exc).__name__, said) if part)
        final = isinstance(exc, UntrustedError)
        return Unanswered(one_line(reason, MOST_WORDS), phase.maybe_sent, timed_out, final)

    def _headers(self, body: bytes | None) -> list[tuple[bytes, bytes]]:
        content = [] if body is None else [(b"Content-Type", b"application/json")]
        return [*self._common, self._key.authorization(), *content]


def _above_debug(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG


def _pause(answer: Incoming) -> float | None:
    if answer.retry_after is None:
        return None
    return parse_retry_after(answer.retry_after, datetime.now(UTC))


def tells_phase(transport: httpx2.AsyncBaseTransport) -> bool:
    """Return True if a transport can be believed when it tells that nothing was sent."""
    # A subclass might send on its own account, so only the class itself is known to tell.
    plain = type(transport) is httpx2.AsyncHTTPTransport
    return plain or getattr(transport, "phase_aware", False) is True


def tells_peer(transport: httpx2.AsyncBaseTransport) -> bool:
    """Return True if a transport tells which addresses it connects to, before it sends anything."""
    is_httpx = isinstance(transport, httpx2.AsyncHTTPTransport)
    return is_httpx or getattr(transport, "tells_peer", False) is True


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
    if proxy:
        _check_proxy(proxy, base_url)
    try:
        # Only now: like httpx2 itself, that imports httpcore2, which takes its time.
        from apixo_async._http.pooled import PooledTransport

        return PooledTransport(verify=verify, proxy=proxy or None)
    except ConfigurationError:
        raise
    except (ValueError, TypeError, ImportError, httpx2.InvalidURL) as exc:
        # What these say of a proxy may hold its password.
        wrong = type(exc).__name__ if proxy and not isinstance(exc, ImportError) else str(exc)
    # Outside of the handler: the frames of httpx2 hold a half-made proxy that cannot be shown.
    raise ConfigurationError(f"proxy or verify: {wrong}")


def _check_proxy(proxy: object, base_url: str) -> None:
    text = proxy.lower() if isinstance(proxy, str) else ""
    try:
        found = urlsplit(text)
        host, _ = found.hostname, found.port
    except ValueError:
        host = None
    if not host or not text.startswith(_PROXY_SCHEMES):
        # The value is never shown: a password may be in it.
        raise ConfigurationError(
            f"proxy: it begins with one of {', '.join(_PROXY_SCHEMES)}, and names a host; in a "
            "password, every character but letters and digits is written as %XX"
        )
    if urlsplit(base_url).scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            "proxy: it would get the key in the clear, as the base URL is plain http; give "
            'proxy="", or an https base URL'
        )


def _environment_proxy(base_url: str) -> str | None:
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    proxies = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    # What goes to this machine goes to no other one: plain http has the key in the clear.
    if not found or is_loopback(host) or proxy_bypass(host):
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

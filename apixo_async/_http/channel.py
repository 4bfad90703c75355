"""The only way to the API: an exchange over a transport, and whether its request was ever sent.

Requests are handed to the transport itself and not to an `httpx2.AsyncClient`. So there are no
cookies, no redirects and no foreign log lines, and only a request in flight holds the key.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import httpx2

from apixo_async._config import Secret, Timeouts
from apixo_async._http.environment import check_proxy, environment_proxy, with_proxy
from apixo_async._http.exchange import (
    Incoming,
    Outgoing,
    Phase,
    UntrustedError,
    exchange_over,
    untrusted,
)
from apixo_async._http.wire import MOST_WORDS, Answer, parse_retry_after
from apixo_async._sync import Bound, SharedBounds, bound_after
from apixo_async._text import one_line
from apixo_async.errors import ConfigurationError

#: These log at DEBUG what HTTP/2 compresses: every header, and the key among them (invariant 7).
_LOGS_OF_HEADERS: Final = ("hpack.hpack", "hpack.table")


@dataclass(frozen=True, slots=True)
class Unanswered(Exception):
    """An exchange ended without an answer. It is caught within the package.

    Attributes:
        reason: What happened, in words that hold no key.
        maybe_sent: False only where a transport that reports it wrote no byte (invariant 1).
        timed_out: Whether time ran out.
        untrusted: Whether the server's certificate is not trusted, which no repeat changes.
        prevented: What the caller's `when_sending` raised before the first byte, or None.
    """

    reason: str
    maybe_sent: bool
    timed_out: bool
    untrusted: bool = False
    prevented: Exception | None = None


class Channel:
    """Exchanges with the API through one transport.

    Args:
        transport: Sends the requests; its owner closes it.
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
        self._phase_aware = is_phase_aware(transport)
        self._exchange = exchange_over(transport, base_url, timeouts)
        self._bounds_of_gets = SharedBounds(timeouts.get)

    async def get(self, path: str, when_sending: Callable[[], None] | None = None) -> Answer:
        """Send a GET to a path below the base URL.

        Args:
            path: The path.
            when_sending: As of `post`.

        Raises:
            Unanswered: No answer came.
        """
        # Whether it was sent does not matter, unless something may prevent it.
        aware = self._phase_aware and when_sending is not None
        phase = Phase(phase_aware=aware, when_sending=when_sending)
        return await self._answered(path, None, phase, self._bounds_of_gets.begin())

    async def post(
        self, path: str, body: bytes, when_sending: Callable[[], None] | None = None
    ) -> Answer:
        """Send a POST with a JSON body to a path below the base URL.

        Args:
            path: The path.
            body: The body.
            when_sending: Called before the first byte is written; what it raises prevents that.

        Raises:
            Unanswered: No answer came; `maybe_sent` says whether the server may have the request.
        """
        phase = Phase(phase_aware=self._phase_aware, when_sending=when_sending)
        answer = await self._answered(path, body, phase, bound_after(self._timeouts.exchange))
        # An answer came to a request whose sending was not reported. So the silence of this
        # transport proves nothing, now or later (invariant 1).
        self._phase_aware = self._phase_aware and phase.maybe_sent
        return answer

    async def _answered(self, path: str, body: bytes | None, phase: Phase, bound: Bound) -> Answer:
        answer = Incoming()
        failure: BaseException | None = None
        try:
            with bound:
                if not phase.phase_aware:
                    phase.begin_sending()
                # The headers hold the key, and tracebacks show locals: so they are none of this
                # frame (invariant 7).
                await self._exchange(Outgoing(path, self._headers(body), body, phase), answer)
        except Exception as exc:
            failure = self._described(exc, phase)
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit) as exc:
            # Built anew, without the frames of the HTTP stack, whose locals hold the key.
            answer.status, failure = None, type(exc)(*exc.args)
        # An answer that broke off has a status, and its body may hold the id of a paid task.
        if answer.status is not None:
            body = self._key.hidden_in(answer.body)
            after = answer.retry_after
            pause = None if after is None else parse_retry_after(after, datetime.now(UTC))
            return Answer(answer.status, body, pause, answer.date, answer.cut, answer.speed)
        assert failure is not None  # Without a status something was raised.
        # Raised outside of the handlers, so that the foreign exception, its request and its frames
        # are not in the context of this one.
        raise failure

    def _described(self, exc: Exception, phase: Phase) -> Unanswered:
        exc = untrusted(exc) or exc
        timed_out = isinstance(exc, TimeoutError | httpx2.TimeoutException)
        # The text of a foreign transport's exception may hold anything, a header too. That of a
        # known one may quote the line that it could not read, so the key is hidden in it.
        own = isinstance(exc, httpx2.HTTPError | OSError)
        said = self._key.hidden_in(str(exc).encode(errors="replace")).decode() if own else ""
        reason = ": ".join(part for part in (type(exc).__name__, said) if part)
        final = isinstance(exc, UntrustedError)
        reason = one_line(reason, MOST_WORDS)
        return Unanswered(reason, phase.maybe_sent, timed_out, final, phase.prevented)

    def _headers(self, body: bytes | None) -> list[tuple[bytes, bytes]]:
        content = [] if body is None else [(b"Content-Type", b"application/json")]
        return [*self._common, self._key.authorization(), *content]


def _above_debug(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG


def is_phase_aware(transport: httpx2.AsyncBaseTransport) -> bool:
    """Return True if a transport reports each request just before it sends the first byte."""
    # A subclass might send by itself without a report, so of httpx2's only the class itself counts.
    plain = type(transport) is httpx2.AsyncHTTPTransport
    return plain or getattr(transport, "phase_aware", False) is True


def tells_peer(transport: httpx2.AsyncBaseTransport) -> bool:
    """Return True if a transport reports the addresses that it connects to before it sends."""
    is_httpx = isinstance(transport, httpx2.AsyncHTTPTransport)
    return is_httpx or getattr(transport, "tells_peer", False) is True


def build_transport(
    base_url: str, *, proxy: str | None, verify: ssl.SSLContext | bool
) -> httpx2.AsyncHTTPTransport:
    """Build the default transport, whose connections are kept alive.

    Args:
        base_url: Decides which of the environment's proxies applies to the API.
        proxy: A proxy's URL; None for that of the environment, "" for none at all.
        verify: Whether to check certificates, or the context that does.
    """
    route = None
    if proxy is None:
        proxy, route = environment_proxy(base_url), environment_proxy
    if proxy:
        check_proxy(proxy, base_url)

    def make(proxy: str | None) -> httpx2.AsyncHTTPTransport:
        # Imported late: it imports httpcore2, which takes time that most imports of the package
        # need not spend.
        from apixo_async._http.pooled import PooledTransport

        return PooledTransport(verify=verify, proxy=proxy, route=route)

    return with_proxy(make, proxy)


def check_transport(transport: object) -> httpx2.AsyncBaseTransport:
    """Return the transport if it is one of httpx2.

    Raises:
        ConfigurationError: It is anything else. httpx 0.x has classes of the same names, so the
            error says where it is one of those.
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

"""One URL of a result: the request for it, the redirects, and the hosts that may be asked.

A result's URLs are what the service says, so they are hostile: the checks here keep them, and what
they redirect to, from reaching into the network of this machine.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import urlsplit

import anyio
import httpx2

from apixo_async._hosts import Reach, reach
from apixo_async._http.exchange import CONNECTING, untrusted
from apixo_async.errors import DownloadError

MAX_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_CLOSING: Final = 5.0  # seconds after which a response that cannot be closed is left

#: Errors that come again with every repeat: a wrong request, or a defect in a transport.
_HOPELESS: Final = (
    httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,
    httpx2.InvalidURL,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class Reachable:
    """Which addresses results may be fetched from: no answer of the service leads into a network.

    Attributes:
        own: The host of the base URL: its name may stand for any address but a link-local one.
        reaches: Where other hosts may lie.
    """

    own: str = ""
    reaches: frozenset[Reach] = frozenset({"public"})

    @classmethod
    def beside(cls, base_url: str, *, in_process: bool) -> Self:
        """Return what the service at a base URL may lead to: public hosts, and those like its own.

        Args:
            base_url: Where the service is.
            in_process: Whether a transport of the caller's own answers. It may open no sockets,
                as the simulator's does: a URL on loopback is a name like any other then.
        """
        own = urlsplit(base_url).hostname or ""
        reaches: set[Reach] = {"public", reach(own), "loopback" if in_process else "public"}
        # Clouds serve credentials at link-local addresses, and no service serves results there.
        return cls(own, frozenset(reaches - {"link-local"}))

    def refusal(self, host: str, peer: str | None = None) -> str | None:
        """Return why a host is not asked, or None if it is.

        Args:
            host: The host of a URL.
            peer: The address that it was resolved to, once that is known.
        """
        found = reach(host if peer is None else peer)
        trusted = host == self.own and found != "link-local"
        if trusted or found in self.reaches:
            return None
        verb = "is" if peer is None else "stands for"
        return (
            f"{verb} a {found} address, and is not asked: files come from public hosts, or from "
            "hosts like the base URL's"
        )


PUBLIC: Final = Reachable()


class Again(Exception):
    """A try failed, and a later one may succeed.

    Attributes:
        after: Seconds that the server asked to wait.
    """

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class Source:
    """Ask for files without key, cookies or referrer (invariant 7).

    Redirects are followed here, and not by the transport: each hop is checked before it is asked.

    Args:
        transport: What carries the requests; it stays the caller's.
        user_agent: The `User-Agent`.
        timeouts: Seconds to `connect`, `read`, `write` and wait for the `pool`.
        reachable: Which addresses are asked.
    """

    def __init__(
        self,
        transport: httpx2.AsyncBaseTransport,
        *,
        user_agent: str,
        timeouts: dict[str, float],
        reachable: Reachable,
    ) -> None:
        self._transport = transport
        # Uncompressed, as a compressed body cannot be resumed: see `Transfer.encoded`.
        self._headers = {
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "User-Agent": user_agent,
        }
        self._timeouts = timeouts
        self._reachable = reachable

    @contextlib.asynccontextmanager
    async def ask(self, url: str, conditions: dict[str, str]) -> AsyncGenerator[httpx2.Response]:
        """Yield the first answer that is no redirect, and close it afterwards.

        Raises:
            Again: A later try may succeed.
            DownloadError: None will.
        """
        here = first = read_url(url)
        self._check(first)
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._send(here, conditions)
            try:
                if response.status_code not in _REDIRECTS:
                    yield response
                    return
            finally:
                with anyio.move_on_after(_CLOSING), contextlib.suppress(Exception):
                    await response.aclose()
            here = _next(here, response.headers.get("location"))
            self._check(here)
        raise DownloadError(f"{shown(first)} redirects more than {MAX_REDIRECTS} times")

    async def _send(self, url: httpx2.URL, conditions: dict[str, str]) -> httpx2.Response:
        watch = _Watch(url, self._reachable)
        try:
            request = httpx2.Request(
                "GET",
                url,
                headers={**self._headers, **conditions},
                extensions={
                    "timeout": dict(self._timeouts),
                    "trace": watch.trace,
                    CONNECTING: watch.check,
                },
            )
            return await self._transport.handle_async_request(request)
        except Exception as exc:
            if watch.refusal is None:
                raise failure(exc) from exc
        raise DownloadError(f"{shown(url)} {watch.refusal}")

    def _check(self, url: httpx2.URL) -> None:
        if (refusal := self._reachable.refusal(url.host)) is not None:
            raise DownloadError(f"{shown(url)} {refusal}")


class _Watch:
    """Check the address that a connection is made to, before anything is sent there.

    The name of a public host may stand for a private address, and for another one at each lookup:
    only the peer of the connection itself says where the request goes.

    Attributes:
        refusal: Why the last address was refused, or None.
    """

    def __init__(self, url: httpx2.URL, reachable: Reachable) -> None:
        self.refusal: str | None = None
        self._url = url
        self._reachable = reachable
        self._is_direct = False

    def check(self, address: str) -> None:
        """Raise an OSError, as a transport expects it here, if the address must not be asked."""
        self.refusal = self._reachable.refusal(self._url.host, address)
        if self.refusal is not None:
            raise PermissionError(self.refusal)

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Check the peer of each connection of httpcore2, except one to a proxy."""
        if event == "connection.connect_tcp.started":
            self._is_direct = info["host"] == self._url.raw_host.decode("ascii")
        elif event == "connection.connect_tcp.complete" and self._is_direct:
            stream = info["return_value"]
            try:
                self.check(stream.get_extra_info("server_addr")[0])
            except BaseException:
                await stream.aclose()
                raise


def read_url(text: str) -> httpx2.URL:
    """Read an http or https URL.

    Raises:
        DownloadError: It is none.
    """
    try:
        url = httpx2.URL(text)
        host = url.host
    except (httpx2.InvalidURL, TypeError, ValueError) as exc:
        # A ValueError comes from half of a surrogate pair, and from a host that IDNA refuses.
        raise DownloadError("its URL cannot be read") from exc
    if url.scheme not in ("http", "https") or not host:
        raise DownloadError(f"{url.scheme or 'no'}: URL with host {host!r}; http or https only")
    return url


def shown(url: httpx2.URL) -> str:
    """Return a URL for error texts, without user and query: a signed one is enough to download."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))


def _next(here: httpx2.URL, location: str | None) -> httpx2.URL:
    if not location:
        raise DownloadError(f"{shown(here)} redirects to nowhere")
    try:
        url = read_url(str(here.join(location)))
    except (httpx2.InvalidURL, ValueError) as exc:  # A ValueError: brackets without an address.
        raise DownloadError(f"{shown(here)} redirects to a text that is no URL") from exc
    # RFC 9110, 15.4 leaves this to the client: over plain http the network could replace the file.
    if here.scheme == "https" and url.scheme == "http":
        raise DownloadError(f"{shown(here)} redirects to plain http")
    return url


def failure(exc: Exception) -> Again | DownloadError:
    """Map an exception of any HTTP stack to one that says whether a repeat may help."""
    if (fault := untrusted(exc)) is not None:
        return DownloadError(str(fault))
    text = re.sub(r"\?\S+", "?...", str(exc))  # It may quote a signed URL.
    words = f"{type(exc).__name__}: {text}" if text else type(exc).__name__
    # An OSError may come from the network, even one that is a ValueError as well.
    hopeless = isinstance(exc, _HOPELESS) and not isinstance(exc, OSError)
    return DownloadError(words) if hopeless else Again(words)

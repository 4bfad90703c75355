"""One URL of a result: how it is asked for, and where its redirects may lead."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from collections.abc import AsyncGenerator
from typing import Final

import anyio
import httpx2

from apixo_async._core.task_errors import DownloadError

MAX_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_CLOSING: Final = 5.0  # seconds in which a response must be closed

#: What no repeat can mend: a wrong request, or a defect in a transport.
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


class Again(Exception):
    """Say that a try failed in a way that a later one may not.

    Attributes:
        after: Seconds that the server asked to wait.
    """

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class Source:
    """Ask for files, following redirects by hand, without key, cookies or referrer.

    Args:
        transport: What carries the requests; it stays the caller's.
        user_agent: The `User-Agent`.
        timeouts: Seconds to `connect`, `read`, `write` and wait for the `pool`.
        allow_private: Whether a redirect may lead to any address.
    """

    def __init__(
        self,
        transport: httpx2.AsyncBaseTransport,
        *,
        user_agent: str,
        timeouts: dict[str, float],
        allow_private: bool,
    ) -> None:
        self._transport = transport
        self._headers = {
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "User-Agent": user_agent,
        }
        self._timeouts = timeouts
        self._allow_private = allow_private

    @contextlib.asynccontextmanager
    async def ask(self, url: str, conditions: dict[str, str]) -> AsyncGenerator[httpx2.Response]:
        """Give the first answer that is no redirect, and close it afterwards."""
        here = first = read_url(url)
        self._check(first, first)
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._send(here, conditions)
            try:
                if response.status_code not in _REDIRECTS:
                    yield response
                    return
            finally:
                await _close(response)
            here = _next(here, response.headers.get("location"))
            self._check(first, here)
        raise DownloadError(f"{shown(first)} redirects more than {MAX_REDIRECTS} times")

    async def _send(self, url: httpx2.URL, conditions: dict[str, str]) -> httpx2.Response:
        request = httpx2.Request(
            "GET",
            url,
            headers={**self._headers, **conditions},
            extensions={"timeout": dict(self._timeouts)},
        )
        try:
            return await self._transport.handle_async_request(request)
        except Exception as exc:
            raise failure(exc) from exc

    def _check(self, first: httpx2.URL, here: httpx2.URL) -> None:
        found = reach(here.host)
        # A simulator on loopback, or a server of one's own network, may redirect to its like.
        # No result is served from a link-local address, where clouds keep their credentials.
        usual = reach(first.host) if reach(first.host) != "link-local" else "public"
        if not self._allow_private and found not in ("public", usual):
            raise DownloadError(f"{shown(here)} is a {found} address, and is not asked")


def read_url(text: str) -> httpx2.URL:
    """Return the URL in a text; only http and https with a host are served."""
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, TypeError, ValueError) as exc:
        raise DownloadError("its URL cannot be read") from exc
    if url.scheme not in ("http", "https") or not url.host:
        raise DownloadError(f"{url.scheme or 'no'}: URL with host {url.host!r}; http or https only")
    return url


def shown(url: httpx2.URL) -> str:
    """Return a URL for people, without its user and query, which may be signed."""
    return str(url.copy_with(userinfo=b"", query=None, fragment=None))


def reach(host: str) -> str:
    """Say what a host is: "public", "private", "loopback" or "link-local".

    Names other than localhost are taken for public: nothing is looked up.
    """
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return "loopback"
    address = _address(name)
    if address is None:
        return "public"
    if address.is_loopback or address.is_unspecified:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    return "public" if address.is_global else "private"


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        # The odd spellings which resolvers take as well: 127.1, 0x7f000001, 2130706433.
        try:
            return ipaddress.IPv4Address(socket.inet_aton(name))
        except (OSError, ValueError):
            return None
    return getattr(address, "ipv4_mapped", None) or address


def _next(here: httpx2.URL, location: str | None) -> httpx2.URL:
    if not location:
        raise DownloadError(f"{shown(here)} redirects to nowhere")
    try:
        url = read_url(str(here.join(location)))
    except (httpx2.InvalidURL, ValueError) as exc:  # The latter from brackets that hold no address.
        raise DownloadError(f"{shown(here)} redirects to what is no URL") from exc
    if here.scheme == "https" and url.scheme == "http":
        raise DownloadError(f"{shown(here)} redirects to plain http")
    return url


def failure(exc: Exception) -> Again | DownloadError:
    """Map an exception of any HTTP stack."""
    text = re.sub(r"\?\S+", "?...", str(exc))
    words = f"{type(exc).__name__}: {text}" if text else type(exc).__name__
    hopeless = isinstance(exc, _HOPELESS) and not isinstance(exc, OSError)
    return DownloadError(words) if hopeless else Again(words)


async def _close(response: httpx2.Response) -> None:
    with anyio.move_on_after(_CLOSING), contextlib.suppress(Exception):
        await response.aclose()

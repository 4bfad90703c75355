"""The settings of a client, checked before anything is sent.

The key goes to the origin of the API only, and is shown nowhere (invariant 7).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from apixo_async._hosts import is_loopback
from apixo_async._types import as_seconds
from apixo_async.errors import ConfigurationError

DEFAULT_BASE_URL: Final = "https://api.apixo.ai/api/v1"
PREFIX: Final = "/api/v1"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each part of the client's work may take, in seconds, each above 0.

    The defaults are this package's own: the documents bound none of these.

    Attributes:
        connect: Opening a connection.
        read: From one received piece of an answer to the next.
        write: From one sent piece of a request to the next.
        exchange: One whole exchange, from the connection on to the last byte of its answer; a poll,
            or a question for the balance, gets at most `connect` and `read` together.
        retry: The time in which a failed request may be repeated: a refused submit, a balance.
        throttled: The longest time under 429, until `RateLimitError` (invariant 4).
    """

    connect: float = 10.0
    read: float = 60.0
    write: float = 30.0
    exchange: float = 90.0
    retry: float = 120.0
    throttled: float = 300.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value: object = getattr(self, name)
            seconds = as_seconds(value)
            if seconds is None or seconds <= 0:
                raise ConfigurationError(f"timeout: {name}={value!r}; seconds above 0")

    @property
    def get(self) -> float:
        """The bound of one whole GET, whose answer comes in one piece."""
        return min(self.exchange, self.connect + self.read)

    @property
    def extension(self) -> dict[str, float]:
        """The timeouts of one request, by the names that httpx2 gives them."""
        return {
            "connect": self.connect,
            "read": self.read,
            "write": self.write,
            "pool": self.exchange,
        }


#: Characters; a shorter key could be a part of any word, which would be hidden with it.
_SHORTEST_HIDDEN: Final = 8

#: First bytes of another spelling of a character: in JSON, in a URL, in HTML.
_ESCAPES: Final = (b"\\", b"%", b"&")


class Secret:
    """An API key that appears nowhere: in no repr, attribute, pickle or copy (invariant 7)."""

    __slots__ = ("__reveal", "__spellings")

    def __init__(self, value: str) -> None:
        # In closures: crash reporters and debuggers show the attributes of objects.
        self.__reveal: Callable[[], bytes] = lambda: value.encode("ascii")
        self.__spellings = lru_cache(1)(lambda: _spellings(value))

    def fingerprint(self) -> str:
        """Return what names the key's account without showing the key."""
        return hashlib.sha256(b"account of " + self.__reveal()).hexdigest()[:32]

    def authorization(self) -> tuple[bytes, bytes]:
        """Return the header that goes to the API, and nowhere else."""
        return b"Authorization", b"Bearer " + self.__reveal()

    def hidden_in(self, body: bytes) -> bytes:
        """Return an answer of the service without the key, which one may repeat ("wrong key: ...").

        Answers become error texts and log lines, and are hidden here only. So every spelling is
        found that decodes to the key: an answer may quote it as JSON within JSON.
        """
        key = self.__reveal()
        if len(key) < _SHORTEST_HIDDEN:
            return body
        # Most answers hold no escape, and this is far faster than the expression below.
        if not any(mark in body for mark in _ESCAPES):
            return body.replace(key, b"***")
        return self.__spellings().sub(b"***", body)

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("an API key is neither pickled nor copied: give each client its own")


def _spellings(key: str) -> re.Pattern[bytes]:
    """Match a key as itself and as escaped in JSON of any depth, HTML or a URL."""
    # A run of backslashes is tried only from its beginning: an answer of nothing else would take
    # quadratic time. The whole run is replaced, as half an escape would not be JSON.
    return re.compile(rb"(?<!\\)" + b"".join(rb"\\*(?:%s)" % _spelled(char) for char in key))


def _spelled(char: str) -> bytes:
    """Match one character in every spelling, without the backslashes before it."""
    ways = [re.escape(char), f"u00(?i:{ord(char):02x})"]
    if not char.isalnum():
        import html  # Rarely needed.

        code = ord(char)
        ways += [re.escape(html.escape(char)), f"%(?i:{code:02x})", f"&#0*{code};"]
        ways.append(f"&#[xX]0*(?i:{code:x});")
    return "|".join(ways).encode("ascii")


def resolve_key(api_key: object) -> Secret:
    """Return the key given, or that of the environment variable APIXO_API_KEY."""
    key = os.environ.get("APIXO_API_KEY") if api_key is None else api_key
    if isinstance(key, Secret):
        return key
    if key is not None and not isinstance(key, str):
        raise ConfigurationError(f"api_key: a {type(key).__name__} given; it is a str")
    stripped = (key or "").strip()
    if not stripped:
        raise ConfigurationError(
            "no API key: set APIXO_API_KEY, or give `api_key=`; without one, try `apixo simulate`"
        )
    if not re.fullmatch(r"[\x21-\x7e]+", stripped):
        # The value is not shown even here: most wrong keys are a right one with a slip.
        raise ConfigurationError(
            "api_key: it holds a space or a character beyond ASCII; give the bare key, "
            "without the word Bearer"
        )
    return Secret(stripped)


def resolve_base_url(base_url: object) -> str:
    """Return the URL up to and including `/api/v1`, from the argument or APIXO_BASE_URL.

    `/api/v1` and a trailing slash may each be there or not: the documents give both forms.
    """
    given = (os.environ.get("APIXO_BASE_URL") or None) if base_url is None else base_url
    if given is None:
        return DEFAULT_BASE_URL
    if not isinstance(given, str):
        raise ConfigurationError(f"base_url: {given!r} given; it is a str")
    _check_base_url(given)
    trimmed = given.strip().rstrip("/")
    return trimmed if trimmed.endswith(PREFIX) else trimmed + PREFIX


def _check_base_url(given: str) -> None:
    try:
        parts = urlsplit(given.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError("base_url: it is no URL; check its host and port") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError("base_url: it begins with https:// and a host")
    if re.search(r"[\s\x00-\x1f\\]", given.strip()):
        raise ConfigurationError("base_url: no space, control character or backslash belongs in it")
    # Each mark alone does harm, too: the paths of the API would follow it as a query or fragment.
    if any(mark in given for mark in "@?#"):
        raise ConfigurationError("base_url: no user, password, query or fragment belongs in it")
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            f"base_url: http://{host} would send the key in the clear; use https "
            "(plain http is for loopback hosts only)"
        )


def resolve_timeouts(timeout: object) -> Timeouts:
    """Return the timeouts given; a bare number bounds each exchange as a whole."""
    if timeout is None:
        return Timeouts()
    if isinstance(timeout, Timeouts):
        return timeout
    if isinstance(timeout, int | float) and not isinstance(timeout, bool):
        seconds = Timeouts(exchange=timeout).exchange
        part = {name: min(seconds, getattr(Timeouts(), name)) for name in ("connect", "write")}
        return Timeouts(exchange=seconds, read=seconds, **part)
    raise ConfigurationError(f"timeout: {timeout!r} given; seconds, or a Timeouts(...)")

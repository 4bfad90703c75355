"""The public URL of a receiver, checked."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from apixo_async._core.errors import ConfigurationError
from apixo_async._hosts import is_loopback, is_public

#: No user, query or fragment, and nothing that a URL cannot hold.
_PLAIN: Final = re.compile(r"https?://[A-Za-z0-9._~%!$&'()*+,;=:/\[\]-]+")


def checked_public_url(given: object) -> str:
    """Return the URL without a slash at its end.

    Raises:
        ConfigurationError: The service could not post to it.
    """
    if not isinstance(given, str) or not _may_be_called(given.strip()):
        raise ConfigurationError(
            "public_url: the https:// URL under which the service reaches the receiver, without "
            "user, query and fragment (loopback hosts, for the simulator, may have http://)"
        )
    return given.strip().rstrip("/")


def _may_be_called(url: str) -> bool:
    if not _PLAIN.fullmatch(url):
        return False
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    return is_loopback(host) or (parts.scheme == "https" and is_public(host))

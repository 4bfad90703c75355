"""The names under which a served simulator may be asked.

A page of the web can have its own name lead to this machine, and then read what is served here as
if it were its own (DNS rebinding). It cannot do so under an address, or a name of this network.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

#: No page of the web has a name that ends so: RFC 6761, RFC 6762, and ICANN of "internal", by
#: which containers know their host.
_OF_NO_WEB: Final = (".localhost", ".internal", ".local", ".test")

_REFUSED: Final = b"this simulator answers under an address, a name without a dot, or its --host"


def may_be_asked(header: str, own: str) -> bool:
    """Return True if no stranger's page sends this ``Host`` header to a server on ``own``."""
    try:
        name = (urlsplit(f"//{header}").hostname or "").rstrip(".")
    except ValueError:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." not in name or name.endswith(_OF_NO_WEB) or name == own.lower()
    return True


class OwnHosts:
    """An ASGI app that answers 421 to requests for anybody else's host.

    Args:
        app: Answers the others.
        own: The host that it listens on, as it was given.
    """

    def __init__(self, app: ASGIApp, own: str) -> None:
        self._app = app
        self._own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        header = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        if may_be_asked(header, self._own):
            await self._app(scope, receive, send)
            return
        length = str(len(_REFUSED)).encode()
        headers = [(b"content-type", b"text/plain"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 421, "headers": headers})
        await send({"type": "http.response.body", "body": _REFUSED})

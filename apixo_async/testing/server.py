"""The service on a port of this process, in the running event loop."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import anyio

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from apixo_async.testing.simulator import Simulator
    from apixo_async.testing.uvicorn_server import SimulatorServer

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


#: Where a server is reached from this machine that listens on all its addresses.
_REACHED = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # it listens there only if told to
_CLOSING = 10.0  # seconds that an orderly end may take


@contextlib.asynccontextmanager
async def serve(
    simulator: Simulator, host: str = "127.0.0.1", port: int = 0
) -> AsyncGenerator[str, None]:
    """Serve ``simulator`` for as long as the context lasts; yield its base URL.

    Port 0 takes a free one. Callbacks are posted over real sockets, unless `Simulator.deliver_to`
    named another way. At the end every connection is cut, hanging ones too, and callbacks that are
    still due are dropped. Requests for the host of anybody else, as a page of the web may send
    them, are answered 421. Needs a loop that really waits, not a `VirtualTimeLoop`.

    Raises:
        OSError: The port cannot be taken.
        RuntimeError: Starlette or uvicorn is missing; the message names the extra.
    """
    server = _server(simulator, host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family)
    # asyncio does it for sockets of its own only. Without it, heads and bodies that go out apart
    # wait for the client's delayed acknowledgement: 40 ms in every second answer.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    running = asyncio.create_task(server.serve([listening]))
    try:
        await server.ready.wait()
        async with simulator.deliveries.on_sockets():
            yield _url(listening)
    finally:
        server.should_exit = True
        with anyio.move_on_after(_CLOSING, shield=True):
            await running


def _server(simulator: Simulator, host: str) -> SimulatorServer:
    try:
        from apixo_async.testing.uvicorn_server import SimulatorServer
    except ImportError as exc:
        message = "the served simulator needs uvicorn: pip install 'apixo-async[simulator]'"
        raise RuntimeError(message) from exc
    return SimulatorServer(OwnHosts(simulator.app(), host))


def _url(listening: socket.socket) -> str:
    bound, port = listening.getsockname()[:2]
    host = str(_REACHED.get(bound, bound))
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

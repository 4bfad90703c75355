"""uvicorn without signals, lifespan and logs, whose connections the app can reach and end."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import sys
from collections.abc import Generator
from typing import Final

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from apixo_async.testing.exchanges import Refusal
from apixo_async.testing.server import CONNECTION

_KEEP_ALIVE: Final = 75  # seconds; clients should be the first to close an idle connection
_CLOSING: Final = 5  # seconds for exchanges whose connection was cut
#: What h11's errors quote of a request at their end: it may be a key.
_QUOTED: Final = re.compile(r":?\s*(bytearray\()?b['\"].*", re.DOTALL)


class _Protocol(H11Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self.app_state = {**self.app_state, CONNECTION: transport}

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP request in an envelope that says why."""
        # uvicorn calls this where it catches h11's error, which says more than `msg`.
        why = _QUOTED.sub("", str(sys.exception() or msg))
        reply = Refusal(400, f"Invalid HTTP request: {why}").reply()
        headers = [(name.encode(), value.encode()) for name, value in reply.headers.items()]
        headers += [(b"content-length", b"%d" % len(reply.body)), (b"connection", b"close")]
        for event in (
            h11.Response(status_code=reply.status, headers=headers, reason=b"Bad Request"),
            h11.Data(data=reply.body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class SimulatorServer(uvicorn.Server):
    """Serve an app in the running loop until ``should_exit``; then cut all connections."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=_CLOSING,
            )
        )
        self.ready = asyncio.Event()  # set once it answers, or has ended

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve on these sockets."""
        try:
            await super().serve(sockets)
        finally:
            self.ready.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and set ``ready``."""
        # An older uvicorn that is asked to exit before this is over leaves its socket open.
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals of the process to the program that serves the simulator."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the port and cut every connection: some may wait for an answer that never comes."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)

"""A receiver of callbacks on a port of this machine, under a URL that only the service is given."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Final

from apixo_async.testing.contract.evidence import ReceivedCallback
from apixo_async.testing.server import serve_app

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

#: Bytes of a body that are kept.
_LONGEST: Final = 65_536


class Listener:
    """Keep what is posted to one path, and answer 404 elsewhere.

    Attributes:
        url: Where the service posts to.
        received: The callbacks so far.
        answers: What to answer the next ones with; 200 when it is empty.
    """

    def __init__(self, base_url: str, clock: Callable[[], float] = time.time) -> None:
        self._path = f"/{secrets.token_urlsafe(16)}"
        self._clock = clock
        self.url = base_url.rstrip("/") + self._path
        self.received: list[ReceivedCallback] = []
        self.answers: deque[int] = deque()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")[: _LONGEST - len(body)]
            if not message.get("more_body"):
                break
        status = 404
        # What stands before it depends on the proxy under whose URL this is reached.
        if scope["method"] == "POST" and scope["path"].endswith(self._path):
            status = self.answers.popleft() if self.answers else 200
            pairs = scope["headers"]
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}
            self.received.append(ReceivedCallback(self._clock(), status, headers, body))
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@contextlib.asynccontextmanager
async def listening(
    public_url: str | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncGenerator[Listener, None]:
    """Listen for as long as the context lasts.

    Args:
        public_url: Where the service reaches this port; None for a service on this machine.
        host: The address to listen on.
        port: 0 takes a free one.

    Raises:
        OSError: The port cannot be taken.
        RuntimeError: uvicorn is missing; the message names the extra.
    """
    listener = Listener("")
    async with serve_app(listener, host, port) as url:
        listener.url = (public_url or url).rstrip("/") + listener.url
        yield listener

"""The receiver as an ASGI application, without a framework."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final, TypeAlias

from apixo_async.webhooks._body import Chunk, Disconnected

#: Method, token and body of a request make the status to answer it with.
AnswerCallback: TypeAlias = Callable[[str, str, Chunk], Awaitable[int]]

Scope: TypeAlias = Mapping[str, object]
Receive: TypeAlias = Callable[[], Awaitable[Mapping[str, object]]]
Send: TypeAlias = Callable[[dict[str, object]], Awaitable[None]]


class CallbackApp:
    """Answer callbacks. It may be mounted anywhere: the last part of the path is the token."""

    def __init__(self, answer: AnswerCallback) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        serve = _SERVED.get(str(scope["type"]))
        if serve is None:
            raise RuntimeError(f"ASGI: a scope of type {scope['type']!r} is not served here")
        await serve(self._answer, scope, receive, send)


async def _http(answer: AnswerCallback, scope: Scope, receive: Receive, send: Send) -> None:
    token = str(scope["path"]).rpartition("/")[2]
    status = await answer(str(scope["method"]), token, _body_of(receive))
    with suppress(OSError):  # The sender left; it sends again, or a scheduled poll finds out.
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


async def _lifespan(_answer: AnswerCallback, _scope: Scope, receive: Receive, send: Send) -> None:
    while True:
        phase = str((await receive())["type"])  # lifespan.startup, then lifespan.shutdown
        await send({"type": f"{phase}.complete"})
        if phase == "lifespan.shutdown":
            return


async def _websocket(_answer: AnswerCallback, _scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.close", "code": 1000})


_SERVED: Final = {"http": _http, "lifespan": _lifespan, "websocket": _websocket}


def _body_of(receive: Receive) -> Chunk:
    more = True

    async def chunk() -> bytes:
        nonlocal more
        while more:
            message = await receive()
            if message["type"] != "http.request":
                raise Disconnected
            more = bool(message.get("more_body"))
            part = message.get("body")
            if isinstance(part, bytes) and part:
                return part
        return b""

    return chunk

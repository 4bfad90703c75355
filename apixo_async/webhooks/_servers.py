"""The receiver under web servers: as an ASGI application, and as routes of aiohttp."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from apixo_async.errors import ConfigurationError
from apixo_async.webhooks._body import Chunk, Disconnected

if TYPE_CHECKING:
    from aiohttp import web

#: Takes method, token and body of a request, and returns the status of its answer.
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
        match scope["type"]:
            case "http":
                # What stands before the token depends on the mount, and on what a proxy removes.
                token = str(scope["path"]).rpartition("/")[2]
                status = await self._answer(str(scope["method"]), token, _body_of(receive))
                headers = [(b"content-length", b"0")]
                with suppress(OSError):  # The sender left: it sends again, or a poll finds out.
                    await send(
                        {"type": "http.response.start", "status": status, "headers": headers}
                    )
                    await send({"type": "http.response.body", "body": b""})
            case "lifespan":
                for phase in ("startup", "shutdown"):
                    await receive()
                    await send({"type": f"lifespan.{phase}.complete"})
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1000})
            case other:
                raise RuntimeError(f"ASGI: a scope of type {other!r} is not served here")


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


def aiohttp_routes(path: str, answer: AnswerCallback) -> list[web.RouteDef]:
    """Return the route of the callbacks below a path.

    Raises:
        ConfigurationError: aiohttp is not installed.
    """
    try:
        from aiohttp import web
    except ImportError as exc:
        raise ConfigurationError(
            "the routes for aiohttp need an extra: python -m pip install 'apixo-async[aiohttp]'"
        ) from exc

    async def handle(request: web.Request) -> web.Response:
        async def chunk() -> bytes:
            try:
                return await request.content.readany()
            # A body that ends too early, or is not what its Content-Encoding says.
            except (web.RequestPayloadError, web.PayloadAccessError, OSError) as exc:
                raise Disconnected from exc

        return web.Response(status=await answer(request.method, request.match_info["token"], chunk))

    # Every method, so that requests that are no callbacks are all answered alike, with 404.
    return [web.route("*", path + "/{token}", handle)]

"""The receiver under web servers: as an ASGI application, and as routes of aiohttp."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from apixo_async.errors import ConfigurationError
from apixo_async.webhooks._body import Chunk, Disconnected
from apixo_async.webhooks._shared_files import SharedFiles

if TYPE_CHECKING:
    from aiohttp import web

#: Takes method, token and body of a request, and returns the status of its answer.
AnswerCallback: TypeAlias = Callable[[str, str, Chunk], Awaitable[int]]

Scope: TypeAlias = Mapping[str, object]
Receive: TypeAlias = Callable[[], Awaitable[Mapping[str, object]]]
Send: TypeAlias = Callable[[dict[str, object]], Awaitable[None]]

#: Of requests for shared files.
_READING: Final = ("GET", "HEAD")


class CallbackApp:
    """Answer callbacks, and requests for shared files.

    It may be mounted anywhere: the last part of the path is the token.
    """

    def __init__(self, answer: AnswerCallback, files: SharedFiles) -> None:
        self._answer = answer
        self._files = files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        match scope["type"]:
            case "http":
                # What stands before the token depends on the mount, and on what a proxy removes.
                token = str(scope["path"]).rpartition("/")[2]
                if scope["method"] in _READING and await self._has_sent(scope, token, send):
                    return
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

    async def _has_sent(self, scope: Scope, name: str, send: Send) -> bool:
        """Send a shared file; return False if there is none of that name."""
        from apixo_async.webhooks._served_files import FileAnswer  # Here, as it is slow to import.

        given = cast("Iterable[tuple[bytes, bytes]]", scope.get("headers", ()))
        asked = {key.lower(): value.decode("latin-1") for key, value in given}
        answer = await FileAnswer.to(
            self._files, name, wanted=asked.get(b"range"), if_range=asked.get(b"if-range")
        )
        if answer is None:
            return False
        with answer:
            headers = [(key.encode(), value.encode()) for key, value in answer.headers.items()]
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            if scope["method"] == "GET":
                async for chunk in answer.chunks():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        return True


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


def aiohttp_routes(path: str, answer: AnswerCallback, files: SharedFiles) -> list[web.RouteDef]:
    """Return the route of callbacks and shared files below a path.

    Raises:
        ConfigurationError: aiohttp is not installed.
    """
    try:
        from aiohttp import web
    except ImportError as exc:
        raise ConfigurationError(
            "the routes for aiohttp need an extra: python -m pip install 'apixo-async[aiohttp]'"
        ) from exc
    from apixo_async.webhooks._served_files import FileAnswer  # Here, as above.

    async def send(request: web.Request, name: str) -> web.StreamResponse | None:
        found = await FileAnswer.to(
            files,
            name,
            wanted=request.headers.get("range"),
            if_range=request.headers.get("if-range"),
        )
        if found is None:
            return None
        response = web.StreamResponse(status=found.status, headers=found.headers)
        with found, suppress(ConnectionError):  # The reader left: aiohttp would log a traceback.
            await response.prepare(request)
            if request.method == "GET":
                async for part in found.chunks():
                    await response.write(part)
            await response.write_eof()
        return response

    async def handle(request: web.Request) -> web.StreamResponse:
        token = request.match_info["token"]
        if request.method in _READING and (sent := await send(request, token)) is not None:
            return sent

        async def chunk() -> bytes:
            try:
                return await request.content.readany()
            # A body that ends too early, or is not what its Content-Encoding says.
            except (web.RequestPayloadError, web.PayloadAccessError, OSError) as exc:
                raise Disconnected from exc

        return web.Response(status=await answer(request.method, token, chunk))

    # Every method, so that requests that are no callbacks are all answered alike, with 404.
    return [web.route("*", path + "/{token}", handle)]

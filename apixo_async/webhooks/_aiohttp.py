"""The receiver as routes of an aiohttp application."""

from __future__ import annotations

from apixo_async.errors import ConfigurationError
from apixo_async.webhooks._asgi import AnswerCallback
from apixo_async.webhooks._body import Disconnected

try:
    from aiohttp import web
except ImportError as exc:  # pragma: no cover - seen only where the extra is missing
    raise ConfigurationError(
        "the routes for aiohttp need an extra: python -m pip install 'apixo-async[aiohttp]'"
    ) from exc


def routes(path: str, answer: AnswerCallback) -> list[web.RouteDef]:
    """Return the route of the callbacks below a path."""

    async def handle(request: web.Request) -> web.Response:
        async def chunk() -> bytes:
            try:
                return await request.content.readany()
            # A body that ends too early, or is not what its Content-Encoding says.
            except (web.RequestPayloadError, web.PayloadAccessError, OSError) as exc:
                raise Disconnected from exc

        return web.Response(status=await answer(request.method, request.match_info["token"], chunk))

    # Every method, so that what is no callback meets the same 404.
    return [web.route("*", path + "/{token}", handle)]

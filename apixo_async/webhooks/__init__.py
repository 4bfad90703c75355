"""Webhooks that complete the awaited task: a receiver for ASGI and aiohttp applications.

    from apixo_async.webhooks import WebhookReceiver

    receiver = WebhookReceiver("https://app.example.com/apixo", secret=...)
    client = AsyncClient(webhooks=receiver)
    app.mount("/apixo", receiver.asgi())            # FastAPI, Starlette, any ASGI application
    web_app.add_routes(receiver.aiohttp_routes())   # aiohttp

Nothing that a callback says is believed: it only makes the client poll its task.
"""

from apixo_async.errors import CallbackError
from apixo_async.webhooks._receiver import WebhookReceiver

__all__ = ["CallbackError", "WebhookReceiver"]

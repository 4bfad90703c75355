"""A service that answers at once and only counts: for questions of what many tasks keep."""

from __future__ import annotations

import asyncio
import json
from typing import Final

import httpx2

from apixo_async import AsyncClient, Limits, Polling

KEY: Final = "benchmark-key"


class CountingService(httpx2.AsyncBaseTransport):
    """Take every submit, and say of each task that it works for so many seconds.

    Args:
        duration: Those seconds.
    """

    phase_aware = True

    def __init__(self, duration: float) -> None:
        self._duration = duration
        self._made = 0
        self._over: dict[str, float] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer at once."""
        mark_sent(request)
        now = asyncio.get_running_loop().time()
        data = self._bought(now) if request.method == "POST" else self._polled_at(request, now)
        body = json.dumps({"code": 200, "message": "success", "data": data})
        return httpx2.Response(200, content=body.encode())

    def _bought(self, now: float) -> dict[str, object]:
        self._made += 1
        task_id = f"task_{self._made:08}"
        self._over[task_id] = now + self._duration
        return {"taskId": task_id}

    def _polled_at(self, request: httpx2.Request, now: float) -> dict[str, object]:
        task_id = request.url.query.rpartition(b"=")[2].decode()
        if now < self._over[task_id]:
            return {"taskId": task_id, "state": "processing", "createTime": 1_800_000_000_000}
        del self._over[task_id]
        urls = json.dumps({"resultUrls": [f"https://files.example/{task_id}.png"]})
        return {"taskId": task_id, "state": "success", "resultJson": urls}


def mark_sent(request: httpx2.Request) -> None:
    """Say, as a phase-aware transport has to, that the first byte of a submit goes out."""
    mark = request.extensions.get("apixo_async.sending")
    if callable(mark):
        mark()


def client_of(slots: int, duration: float, polling: Polling | None = None) -> AsyncClient:
    """Return a client whose requests are limited by nothing that matters here."""
    limits = Limits(concurrent_tasks=slots, requests_per_minute=10_000_000)
    return AsyncClient(KEY, transport=CountingService(duration), limits=limits, polling=polling)

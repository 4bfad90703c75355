"""What the service fetches: the reference images of tasks, from servers of this machine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from typing import Final, cast
from urllib.parse import urlsplit

import httpx2

from apixo_async._hosts import is_loopback
from apixo_async._media import HEAD, identify
from apixo_async.testing.tasks import SimulatedTask

#: Seconds for one image, and its most bytes: the documents say 10 MB.
_LIMIT: Final = 10.0
_LONGEST: Final = 10_000_000

_TAKEN: Final = ("jpg", "png", "webp")


class ImageFetches:
    """Fetch the images of each task in the middle of its duration, as long as sockets are open.

    Other hosts than those of this machine are asked for nothing: their images count as good.

    Args:
        fail: Called with the task whose images are not what they have to be.
    """

    def __init__(self, fail: Callable[[str], None]) -> None:
        self._fail = fail
        self._transport: httpx2.AsyncHTTPTransport | None = None
        self._fetches: dict[str, asyncio.Task[None]] = {}

    @contextlib.asynccontextmanager
    async def on_sockets(self) -> AsyncGenerator[None, None]:
        """Fetch over real sockets."""
        limits = httpx2.Limits(max_connections=None, keepalive_expiry=2.0)
        self._transport = httpx2.AsyncHTTPTransport(limits=limits)
        try:
            yield
        finally:
            transport, self._transport = self._transport, None
            left = [*self._fetches.values()]
            for fetch in left:
                fetch.cancel()
            if left:
                await asyncio.wait(left)
            await transport.aclose()

    def start(self, task: SimulatedTask, now: float) -> None:
        """Fetch the images of a task that is created now."""
        found = task.input.get("image_urls")
        given = cast("list[object]", found) if isinstance(found, list) else []
        urls = [url for url in given if isinstance(url, str) and _is_here(url)]
        if urls and self._transport is not None:
            delay = (task.started + task.ends) / 2 - now
            fetching = self._fetch(self._transport, task.id, urls, delay)
            fetch = asyncio.get_running_loop().create_task(fetching)
            self._fetches[task.id] = fetch
            fetch.add_done_callback(lambda _: self._fetches.pop(task.id, None))

    def is_busy(self, task_id: str) -> bool:
        """Return True while the images of a task are fetched."""
        return task_id in self._fetches

    async def done(self, task_id: str) -> None:
        """Wait until the images of a task have been fetched."""
        if (fetch := self._fetches.get(task_id)) is not None:
            await asyncio.wait([fetch])

    async def _fetch(
        self, transport: httpx2.AsyncHTTPTransport, task_id: str, urls: list[str], delay: float
    ) -> None:
        await asyncio.sleep(delay)
        for url in urls:
            is_good = False
            with contextlib.suppress(Exception):  # Whatever a server under test does.
                async with asyncio.timeout(_LIMIT):
                    is_good = await _is_image(transport, url)
            if not is_good:
                self._fail(task_id)


def _is_here(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and is_loopback(parts.hostname or "")
    except ValueError:
        return False


async def _is_image(transport: httpx2.AsyncHTTPTransport, url: str) -> bool:
    request = httpx2.Request("GET", url, headers={"user-agent": "apixo-simulator"})
    response = await transport.handle_async_request(request)
    content = bytearray()
    try:
        async for chunk in cast("AsyncIterable[bytes]", response.stream):
            content += chunk
            if len(content) > _LONGEST:
                return False
    finally:
        await response.aclose()
    return response.status_code == 200 and identify(bytes(content[:HEAD])).extension in _TAKEN

"""The way of one client to the service, watched: no submit goes out after the end."""

from __future__ import annotations

import httpx2

from apixo_async import AsyncClient


class Watched(httpx2.AsyncBaseTransport):
    """Pass requests on, and note what must not be sent any more.

    Args:
        inner: The way to the service.
        problems: The rules that were broken.

    Attributes:
        closed: Whether `aclose` of the client has returned.
        posts: The submits so far.
        most_posts: How many there may be in all, or None.
    """

    phase_aware = True

    def __init__(self, inner: httpx2.AsyncBaseTransport, problems: list[str]) -> None:
        self._inner = inner
        self._problems = problems
        self.closed = False
        self.posts = 0
        self.most_posts: int | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            self.posts += 1
            if self.closed:
                self._problems.append(f"a submit after the close: {request.url}")
            if self.most_posts is not None and self.posts > self.most_posts:
                self._problems.append("a submit was begun after the stop")
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def watched_by(client: AsyncClient) -> Watched:
    """Return what watches a client's requests."""
    transport = client._settings.transport
    assert isinstance(transport, Watched)
    return transport

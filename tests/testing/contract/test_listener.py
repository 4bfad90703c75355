"""The listener of a contract: it keeps what comes to its path, and nothing else."""

from __future__ import annotations

import httpx2
import pytest

from apixo_async.testing.contract import Listener


@pytest.fixture
def listener() -> Listener:
    """Listen at a fixed time."""
    return Listener("https://app.example.com/hooks/", clock=lambda: 7.0)


async def posted(listener: Listener, url: str, method: str = "POST") -> int:
    transport = httpx2.ASGITransport(listener)
    async with httpx2.AsyncClient(transport=transport) as client:
        return (await client.request(method, url, content=b"x" * 100_000)).status_code


async def test_kept(listener: Listener) -> None:
    """A callback is kept with its time, its headers and the first 64 kB of its body."""
    listener.answers.extend([500, 204])
    assert [await posted(listener, listener.url) for _ in range(3)] == [500, 204, 200]
    assert [one.answered for one in listener.received] == [500, 204, 200]
    assert listener.received[0].at == 7.0
    assert listener.received[0].headers["content-length"] == "100000"
    assert len(listener.received[0].content) == 65_536


async def test_strangers(listener: Listener) -> None:
    """Other paths and methods are answered 404, and nothing of them is kept."""
    assert await posted(listener, "https://app.example.com/hooks/guessed") == 404
    assert await posted(listener, listener.url, "GET") == 404
    assert listener.received == []


def test_urls_are_secret() -> None:
    """Each listener has a path that cannot be guessed, under the URL that it was given."""
    urls = {Listener("https://app.example.com/hooks/").url for _ in range(3)}
    assert len(urls) == 3
    assert all(url.startswith("https://app.example.com/hooks/") for url in urls)
    assert min(map(len, urls)) > 50

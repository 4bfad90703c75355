"""The routes for aiohttp: where they stand, and what they make of a request in process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest.mock import Mock

import pytest
from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from apixo_async.webhooks import WebhookReceiver
from apixo_async.webhooks._body import PATIENCE

from ..support.requests import BODY, METHODS, SECRET, Watched


@pytest.fixture
async def watched() -> Watched:
    """Open a subscription on a receiver that is watched."""
    made = Watched()
    made.open()
    return made


async def call(watched: Watched, content: StreamReader, method: str = "POST") -> int:
    """Return the status of what the route answers."""
    (route,) = watched.receiver.aiohttp_routes()
    handler = route.handler
    request = make_mocked_request(
        method, "/x", match_info={"token": watched.token}, payload=content
    )
    response = await handler(request)
    assert isinstance(response, web.Response)
    assert not response.body
    return response.status


def content(*parts: bytes, ended: bool = True) -> StreamReader:
    """Return the body of a request."""
    loop = asyncio.get_running_loop()
    protocol = BaseProtocol(loop)
    protocol.transport = Mock()
    reader = StreamReader(protocol, 2**16, loop=loop)
    for part in parts:
        reader.feed_data(part)
    if ended:
        reader.feed_eof()
    return reader


async def test_a_callback(watched: Watched) -> None:
    """A right token and a readable body: 200, and one poll told at once."""
    assert await call(watched, content(BODY[:9], BODY[9:])) == 200
    assert watched.polls == ["task_1"]


@pytest.mark.parametrize("method", [one for one in METHODS if one != "POST"])
async def test_other_methods(watched: Watched, method: str) -> None:
    """What is no POST meets the same 404 as a wrong token."""
    assert await call(watched, content(BODY), method) == 404
    assert not watched.told


async def test_a_body_that_stops(watched: Watched) -> None:
    """A body that stops half-way is answered when its time is over, and looked at."""
    start = asyncio.get_running_loop().time()
    assert await call(watched, content(BODY[:5], ended=False)) == 200
    assert asyncio.get_running_loop().time() - start == PATIENCE
    assert watched.polls == [None]


@pytest.mark.parametrize(
    "failure",
    [web.RequestPayloadError("cut"), ConnectionResetError("gone"), web.PayloadAccessError()],
)
async def test_a_body_that_breaks(watched: Watched, failure: Exception) -> None:
    """A body that breaks off, or is not encoded as it says, is polled all the same."""
    body = content(BODY[:5], ended=False)
    body.set_exception(failure)
    assert await call(watched, body) == 200
    assert watched.polls == [None]


@pytest.mark.parametrize(
    ("url", "path", "expected"),
    [
        ("https://app.example.com/apixo", None, "/apixo/{token}"),
        ("https://app.example.com/a/b/", None, "/a/b/{token}"),
        ("https://app.example.com", None, "/{token}"),
        ("https://app.example.com/apixo", "/inner", "/inner/{token}"),
        ("https://app.example.com/apixo", "/inner/", "/inner/{token}"),
        ("https://app.example.com/apixo", "", "/{token}"),
    ],
)
def test_where_they_stand(url: str, path: str | None, expected: str) -> None:
    """The routes stand at the path of the public URL, unless a proxy makes another of it."""
    (route,) = WebhookReceiver(url, SECRET).aiohttp_routes(path)
    assert (route.method, route.path) == ("*", expected)
    web.Application().add_routes([route])


@pytest.mark.parametrize("failing", ["prepare", "write", "write_eof"])
async def test_a_reader_who_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """A shared file that nobody reads to its end is no error of the handler: none is logged."""

    async def lost(*_: object) -> None:
        raise ConnectionResetError("lost")

    receiver = WebhookReceiver("https://app.example.com/apixo", SECRET, files=tmp_path)
    name = receiver.share(b"content").rpartition("/")[2]
    (route,) = receiver.aiohttp_routes()
    monkeypatch.setattr(web.StreamResponse, failing, lost)
    request = make_mocked_request("GET", f"/{name}", match_info={"token": name})
    assert (await route.handler(request)).status == 200

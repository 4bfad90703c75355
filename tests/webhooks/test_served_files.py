"""What is sent of a shared file: the whole, a range, or nothing; under every kind of path."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount

from apixo_async import WebhookReceiver
from apixo_async.webhooks._served_files import part_of

from ..support.pictures import png
from ..support.requests import METHODS, SECRET, URL, Watched, call, parts_of, scope_of

CONTENT = png(64, 64, 1) + bytes(600_000)


@pytest.fixture
def receiver(tmp_path: Path) -> WebhookReceiver:
    """Share files."""
    return WebhookReceiver(URL, SECRET, files=tmp_path / "files")


def name_of(url: str) -> str:
    """Return the last part of a URL."""
    return url.rpartition("/")[2]


async def get(
    app: Any, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of an answer."""
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    start, *bodies = await call(app, scope_of(path, method, given), parts_of())
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], found, b"".join(body.get("body", b"") for body in bodies)


async def test_the_whole(receiver: WebhookReceiver) -> None:
    """A GET gets the bytes, with size, type, digest and what keeps browsers from guessing."""
    name = name_of(receiver.share(CONTENT))
    status, headers, body = await get(receiver.asgi(), f"/{name}")
    assert (status, body) == (200, CONTENT)
    assert headers == {
        "content-type": "image/png",
        "content-length": str(len(CONTENT)),
        "accept-ranges": "bytes",
        "etag": f'"{name.split("-")[2]}"',
        "cache-control": "private",
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
    }
    assert await get(receiver.asgi(), f"/{name}", "HEAD") == (200, headers, b"")


async def test_in_chunks(receiver: WebhookReceiver) -> None:
    """No more than 256 KiB of a file are in memory at once."""
    scope = scope_of(f"/{name_of(receiver.share(CONTENT))}", "GET")
    _, *bodies = await call(receiver.asgi(), scope, parts_of())
    assert [len(body["body"]) for body in bodies] == [262_144, 262_144, len(CONTENT) - 524_288, 0]


async def test_a_range(receiver: WebhookReceiver) -> None:
    """One range is sent as 206, one beyond the end is a 416, and HEAD has no body."""
    path, size = f"/{name_of(receiver.share(CONTENT))}", len(CONTENT)
    status, headers, body = await get(receiver.asgi(), path, range="bytes=1-9")
    assert (status, body) == (206, CONTENT[1:10])
    assert headers["content-range"] == f"bytes 1-9/{size}"
    assert headers["content-length"] == "9"
    assert (await get(receiver.asgi(), path, range="bytes=-5"))[2] == CONTENT[-5:]
    status, headers, body = await get(receiver.asgi(), path, range=f"bytes={size}-")
    assert (status, headers["content-range"], body) == (416, f"bytes */{size}", b"")
    assert (await get(receiver.asgi(), path, "HEAD", range="bytes=1-9"))[::2] == (206, b"")


async def test_if_range(receiver: WebhookReceiver) -> None:
    """A range counts only of the content that the asker knows."""
    path = f"/{name_of(receiver.share(CONTENT))}"
    etag = (await get(receiver.asgi(), path))[1]["etag"]
    part = await get(receiver.asgi(), path, range="bytes=0-0", if_range=etag)
    assert part[0] == 206
    whole = await get(receiver.asgi(), path, range="bytes=0-0", if_range='"other"')
    assert (whole[0], len(whole[2])) == (200, len(CONTENT))


@given(st.integers(1, 50), st.integers(0, 60) | st.none(), st.integers(0, 60) | st.none())
def test_ranges(size: int, first: int | None, last: int | None) -> None:
    """What is sent of a range is what a slice has of it, and never more than there is."""
    asked = part_of(size, f"bytes={'' if first is None else first}-{'' if last is None else last}")
    content = range(size)
    if (first is None and last is None) or (
        first is not None and last is not None and last < first
    ):
        assert (asked.status, asked.length) == (200, size)
        return
    if first is None:
        expected = content[-last:] if last else content[:0]
    else:
        expected = content[first : None if last is None else last + 1]
    assert asked.length == len(expected)
    assert asked.status == (206 if expected else 416)
    if expected:
        assert asked.start == expected[0]
        assert asked.content_range == f"bytes {expected[0]}-{expected[-1]}/{size}"


@pytest.mark.parametrize(
    "header",
    [
        "bytes=0-0,5-9",
        "bytes=a-b",
        "bytes=--1",
        "bytes=" + "9" * 400 + "-",
        "bytes=0-" + "9" * 400,
        "items=0-1",
        "bytes 0-1",
        "bytes=0-1" * 10_000,
        "",
    ],
    ids=lambda header: header[:12],
)
def test_what_is_no_single_range(header: str) -> None:
    """Several ranges, and nonsense of any length, are answered with the whole."""
    assert part_of(10, header).status == 200


@pytest.mark.parametrize("mount", [None, "/apixo", "/a/b"])
async def test_wherever_it_is_mounted(receiver: WebhookReceiver, mount: str | None) -> None:
    """The last part of the path names the file, under any mount."""
    app: Any = receiver.asgi()
    if mount is not None:
        app = Starlette(routes=[Mount(mount, app)])
        outer = FastAPI()
        outer.mount("/outer", app)
        app, mount = outer, f"/outer{mount}"
    path = f"{mount or ''}/{name_of(receiver.share(CONTENT))}"
    assert (await get(app, path))[::2] == (200, CONTENT)


async def test_other_methods(receiver: WebhookReceiver) -> None:
    """Nothing but GET and HEAD finds a file; nothing but POST finds a callback."""
    path = f"/{name_of(receiver.share(CONTENT))}"
    for method in {*METHODS} - {"GET", "HEAD"}:
        assert (await get(receiver.asgi(), path, method))[::2] == (404, b""), method
    watched = Watched()
    watched.open()
    assert (await get(watched.receiver.asgi(), f"/{watched.token}"))[0] == 404


async def test_what_is_not_there(receiver: WebhookReceiver, tmp_path: Path) -> None:
    """Forged, cut, foreign, expired and forgotten names are all answered alike: 404, empty."""
    other = WebhookReceiver(URL, "another-secret-0123456789", files=tmp_path / "files")
    name = name_of(receiver.share(CONTENT))
    forgotten = name_of(receiver.share(b"forgotten"))
    receiver.shared_files.begin(forgotten)
    receiver.shared_files.end(forgotten)
    copy = receiver.shared_files.path_of(name)
    assert copy is not None
    paths = [
        "",
        name[:-1],
        name.replace(".png", ".jpg"),
        f"{name}/",
        f"{name}\0",
        f"{name}?",
        name_of(other.share(CONTENT)),
        forgotten,
        copy.name,
        f"../{copy.name}",
        "../../../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        f"apixo-file-{'0' * 64}-{'A' * 60}.png",
        "A" * 1_000_000,
        f"apixo-file-{'../' * 40}",
        name.replace("apixo", "a\u0440ixo"),
        "\ud800",
    ]
    for path in paths:
        status, headers, body = await get(receiver.asgi(), f"/{path}")
        assert (status, headers, body) == (404, {"content-length": "0"}, b""), path


async def test_what_lies_in_the_place_of_a_copy(receiver: WebhookReceiver, tmp_path: Path) -> None:
    """A link is not followed, a pipe not waited for, a folder not read."""
    name = name_of(receiver.share(CONTENT))
    copy = receiver.shared_files.path_of(name)
    assert copy is not None
    copy.unlink()
    (tmp_path / "secret").write_bytes(b"secret")
    copy.symlink_to(tmp_path / "secret")
    assert (await get(receiver.asgi(), f"/{name}"))[0] == 404
    copy.unlink()
    os.mkfifo(copy)
    assert (await get(receiver.asgi(), f"/{name}"))[0] == 404
    copy.unlink()
    copy.mkdir()
    assert (await get(receiver.asgi(), f"/{name}"))[0] == 404


async def test_a_file_that_is_cut_while_it_is_sent(receiver: WebhookReceiver) -> None:
    """A body that would be too short ends its connection: nobody takes it for the whole."""
    name = name_of(receiver.share(CONTENT))
    copy = receiver.shared_files.path_of(name)
    assert copy is not None
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        os.truncate(copy, 300_000)

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    with pytest.raises(OSError, match="was cut while it was sent"):
        await receiver.asgi()(scope_of(f"/{name}", "GET"), receive, send)
    assert len(sent) < 5

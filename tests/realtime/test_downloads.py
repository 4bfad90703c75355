"""Downloads over real sockets, from a server that breaks in every way that servers do."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import random
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import httpx2
import pytest

from apixo_async import DownloadError, Result
from apixo_async._downloads import DEFAULT_MAX_BYTES
from apixo_async._downloads.downloader import Downloader, DownloadTimeouts
from apixo_async._downloads.source import Reachable

PNG = b"\x89PNG\r\n\x1a\n" + random.Random(1).randbytes(300_000) + b"\0\0\0\0IEND\xaeB`\x82"
TIMEOUTS = DownloadTimeouts(connect=2, read=0.4, write=2, pool=2, retry=5, transfer=5)

Request = dict[str, str]
Turn = Callable[[asyncio.StreamWriter, Request], Awaitable[None]]


class Server:
    """Take one turn of a script a connection, the last one again and again."""

    def __init__(self, *turns: Turn) -> None:
        self.turns = list(turns)
        self.requests: list[Request] = []
        self.asked = asyncio.Event()
        self.answering: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer in a task of one's own."""
        self.answering.add(asyncio.create_task(self.answer(reader, writer)))

    async def aclose(self) -> None:
        """End the turns that are still going on."""
        for task in self.answering:
            task.cancel()
        await asyncio.gather(*self.answering, return_exceptions=True)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one request, answer it and close the connection."""
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            pairs = (line.partition(": ") for line in lines[1:] if line)
            self.requests.append({name.lower(): value for name, _, value in pairs})
            self.asked.set()
            turn = self.turns.pop(0) if len(self.turns) > 1 else self.turns[0]
            await turn(writer, self.requests[-1])
            await writer.drain()


def head(status: int = 200, **headers: object) -> bytes:
    """Return the head of an answer."""
    named = {"connection": "close", **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in named.items()]
    return "\r\n".join([f"HTTP/1.1 {status} Word", *lines, "", ""]).encode()


def says(*parts: bytes) -> Turn:
    """Return a turn that sends some bytes and ends well."""

    async def turn(writer: asyncio.StreamWriter, _: Request) -> None:
        writer.writelines(parts)
        await writer.drain()

    return turn


def serves(content: bytes, tag: str = '"v1"') -> Turn:
    """Return a turn that serves a file, or the range of it that is asked for."""

    async def turn(writer: asyncio.StreamWriter, request: Request) -> None:
        start = int(request.get("range", "bytes=0-")[6:-1])
        if start == 0 or request.get("if-range", tag) != tag:
            writer.write(head(content_length=len(content), etag=tag) + content)
            return
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        length = len(content) - start
        writer.write(head(206, content_length=length, etag=tag, content_range=span))
        writer.write(content[start:])

    return turn


def resets(*parts: bytes) -> Turn:
    """Return a turn that sends some bytes and resets the connection."""

    async def turn(writer: asyncio.StreamWriter, _: Request) -> None:
        writer.writelines(parts)
        await writer.drain()
        await asyncio.sleep(0.1)  # a reset overtakes what the client has not read yet
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return turn


def stalls(*parts: bytes) -> Turn:
    """Return a turn that sends some bytes and then nothing for longer than anybody waits."""

    async def turn(writer: asyncio.StreamWriter, _: Request) -> None:
        writer.writelines(parts)
        await writer.drain()
        await asyncio.sleep(1.5)

    return turn


@contextlib.asynccontextmanager
async def serving(*turns: Turn) -> AsyncGenerator[tuple[Server, str]]:
    """Serve a script on a free port of this machine."""
    server = Server(*turns)
    listener = await asyncio.start_server(server.accept, "127.0.0.1", 0)
    async with listener, contextlib.aclosing(server):
        yield server, f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/a.jpg"


def listed(directory: Path) -> list[str]:
    """Return the names of all files of a directory, hidden ones too."""
    return sorted(path.name for path in directory.iterdir())


def loader_over(transport: httpx2.AsyncBaseTransport) -> Downloader:
    """Return a downloader that may ask this machine."""
    return Downloader(
        transport,
        user_agent="ua/1",
        rng=random.Random(7),
        timeouts=TIMEOUTS,
        reachable=Reachable.beside("http://127.0.0.1", in_process=False),
    )


async def load(url: str, target: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> list[Path]:
    """Download one file over a transport of its own, in bounded time."""
    async with asyncio.timeout(20), httpx2.AsyncHTTPTransport() as transport:
        result = Result("t", "gpt-image-1", (url,))
        return await loader_over(transport).download(result, target, max_bytes=max_bytes)


async def test_a_stream_of_a_connection_that_breaks() -> None:
    """What is streamed is whole: the rest is asked for before the first byte is passed on."""
    first = resets(head(content_length=len(PNG), etag='"v1"') + PNG[:200_000])
    async with (
        serving(first, serves(PNG)) as (server, url),
        asyncio.timeout(20),
        httpx2.AsyncHTTPTransport() as transport,
    ):
        loader = loader_over(transport)
        with loader.spool() as spool:
            file = await loader.receive(Result("t", "gpt-image-1", (url,)), 0, spool)
            assert (file.name, file.media_type, file.size) == ("t-1.png", "image/png", len(PNG))
            assert b"".join([chunk async for chunk in file]) == PNG
    assert [request.get("range") for request in server.requests] == [None, "bytes=200000-"]


async def test_a_file_comes_whole(tmp_path: Path) -> None:
    """A file is saved byte for byte, and no more is sent than must be."""
    async with serving(serves(PNG)) as (server, url):
        (path,) = await load(url, tmp_path)
    assert path == tmp_path / "t-1.png"
    assert path.read_bytes() == PNG
    assert sorted(server.requests[0]) == ["accept", "accept-encoding", "host", "user-agent"]


@pytest.mark.parametrize(
    "first",
    [
        says(head(content_length=len(PNG), etag='"v1"'), PNG[:200_000]),
        resets(head(content_length=len(PNG), etag='"v1"'), PNG[:200_000]),
        stalls(head(content_length=len(PNG), etag='"v1"'), PNG[:200_000]),
        says(head(etag='"v1"'), PNG[:200_000]),
        says(head(etag='"v1"', transfer_encoding="chunked"), b"30d40\r\n", PNG[:200_000]),
    ],
    ids=["cut", "reset", "stall", "cut without length", "cut in a chunk"],
)
async def test_a_broken_body_is_resumed(first: Turn, tmp_path: Path) -> None:
    """However a transfer breaks, the next one goes on behind the last byte that came."""
    async with serving(first, serves(PNG)) as (server, url):
        (path,) = await load(url, tmp_path)
    assert path.read_bytes() == PNG
    assert server.requests[1]["range"] == "bytes=200000-"
    assert server.requests[1]["if-range"] == '"v1"'
    assert listed(tmp_path) == ["t-1.png"]


async def test_a_cut_body_without_length_and_tag_is_fetched_again(tmp_path: Path) -> None:
    """What looks like success to every client is seen to lack its end."""
    async with serving(says(head(), PNG[:200_000]), serves(PNG)) as (server, url):
        (path,) = await load(url, tmp_path)
    assert path.read_bytes() == PNG
    assert [request.get("range") for request in server.requests] == [None, None]


async def test_a_file_that_changed_is_fetched_anew(tmp_path: Path) -> None:
    """The rest of another file is never added."""
    cut = says(head(content_length=9_999, etag='"v0"'), bytes(5_000))
    async with serving(cut, serves(PNG)) as (server, url):
        (path,) = await load(url, tmp_path)
    assert path.read_bytes() == PNG
    assert server.requests[1]["if-range"] == '"v0"'


@pytest.mark.parametrize(
    "first",
    [
        resets(),
        says(b"this is not HTTP\r\n\r\n"),
        says(head(502), b"<html>Bad Gateway</html>"),
        says(head(content_type="text/html"), b"<html>Bad Gateway</html>"),
        stalls(),
    ],
    ids=["reset", "garbage", "502", "html", "silence"],
)
async def test_a_failed_answer_is_asked_for_again(first: Turn, tmp_path: Path) -> None:
    """What is no file is not saved, and the file is asked for again."""
    async with serving(first, serves(PNG)) as (server, url):
        (path,) = await load(url, tmp_path)
    assert path.read_bytes() == PNG
    assert len(server.requests) == 2


async def test_a_dead_port_is_a_clear_error(tmp_path: Path) -> None:
    """A server that is not there is given up when the budget is spent."""
    async with serving(serves(PNG)) as (_, url):
        pass
    with pytest.raises(DownloadError, match=r"ConnectError.*given up after 5 s") as caught:
        await load(url, tmp_path)
    assert isinstance(caught.value.__cause__, httpx2.ConnectError)
    assert listed(tmp_path) == []


async def test_a_slow_body_is_bounded_as_a_whole(tmp_path: Path) -> None:
    """A body that drips, never silent for long, is left after the time of one transfer."""

    async def drips(writer: asyncio.StreamWriter, _: Request) -> None:
        writer.write(head(content_length=len(PNG)))
        for byte in PNG[:40]:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.2)

    began = asyncio.get_running_loop().time()
    async with serving(drips) as (_, url):
        with pytest.raises(DownloadError, match="within 5 s"):
            await load(url, tmp_path)
    assert asyncio.get_running_loop().time() - began > 4.9
    assert listed(tmp_path) == []


async def test_a_redirect_on_loopback_is_followed(tmp_path: Path) -> None:
    """A simulator may redirect to itself."""
    async with serving(says(head(302, location="/b?sig=1")), serves(PNG)) as (_, url):
        (path,) = await load(url, tmp_path)
    assert path.read_bytes() == PNG


@pytest.mark.parametrize("location", ["http://10.0.0.1/", "http://169.254.169.254/latest"])
async def test_a_redirect_to_another_network_is_refused(location: str, tmp_path: Path) -> None:
    """Addresses of other private networks are not asked."""
    async with serving(says(head(302, location=location))) as (server, url):
        with pytest.raises(DownloadError, match="is not asked"):
            await load(url, tmp_path)
    assert len(server.requests) == 1


async def test_a_packed_file_is_unpacked(tmp_path: Path) -> None:
    """A server that compresses unasked is put up with."""
    packed = gzip.compress(PNG)
    turn = says(head(content_length=len(packed), content_encoding="gzip"), packed)
    async with serving(turn) as (_, url):
        (path,) = await load(url, tmp_path)
    assert path.read_bytes() == PNG


async def test_a_bomb_is_defused(tmp_path: Path) -> None:
    """290 kB that would become 290 MB are refused at the cap."""
    bomb = gzip.compress(bytes(290_000_000), 9)
    assert len(bomb) < 300_000
    turn = says(head(content_length=len(bomb), content_encoding="gzip"), bomb)
    async with serving(turn) as (server, url):
        with pytest.raises(DownloadError, match="larger than"):
            await load(url, tmp_path, max_bytes=50_000_000)
    assert len(server.requests) == 1
    assert listed(tmp_path) == []


@pytest.mark.parametrize(
    "turn",
    [
        says(head(content_length=10**12), PNG),
        says(head(), PNG * 40),
        says(head(transfer_encoding="chunked"), b"b71b00\r\n", PNG * 40),
    ],
    ids=["announced", "without length", "chunked"],
)
async def test_a_file_that_is_too_large_is_refused(turn: Turn, tmp_path: Path) -> None:
    """The cap holds by announcement and by count."""
    async with serving(turn) as (_, url):
        with pytest.raises(DownloadError, match="max_bytes=1000000"):
            await load(url, tmp_path, max_bytes=1_000_000)
    assert listed(tmp_path) == []


async def test_a_cancelled_download_leaves_no_file_and_no_connection(tmp_path: Path) -> None:
    """The temporary file is gone and the server sees the end of the connection."""
    gone = asyncio.Event()

    async def waits(writer: asyncio.StreamWriter, _: Request) -> None:
        writer.write(head(content_length=len(PNG)) + PNG[:1_000])
        await writer.drain()
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        gone.set()

    async with serving(waits) as (server, url):
        task = asyncio.create_task(load(url, tmp_path))
        async with asyncio.timeout(5):
            await server.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert listed(tmp_path) == []
        async with asyncio.timeout(5):
            await gone.wait()

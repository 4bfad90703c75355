"""Results on private addresses: what each transport connects to, and what it does not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from apixo_async import AsyncClient, DownloadError, Result
from apixo_async._http.channel import build_transport
from apixo_async.aiohttp import AiohttpTransport

BOUND = 30.0
ELSEWHERE = "https://api.example"
TRANSPORTS: dict[str, Callable[[], httpx2.AsyncBaseTransport]] = {
    "plain": httpx2.AsyncHTTPTransport,
    "default": lambda: build_transport(ELSEWHERE, proxy="", verify=True),
    "aiohttp": AiohttpTransport,
}


@asynccontextmanager
async def serving(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Serve on loopback, under any name; yield the port, and the requests that came."""
    came: list[bytes] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            came.append(line)
            if line == b"\r\n":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nadmin")
        writer.close()

    def resolve(_: object, port: int, *__: object, **___: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    try:
        async with asyncio.timeout(BOUND):
            yield server.sockets[0].getsockname()[1], came
    finally:
        server.close()


def result(host: str, port: int) -> Result:
    """Return a result with one file on a host."""
    return Result("task_1", "m", (f"http://{host}:{port}/admin",))


@pytest.mark.parametrize("host", ["cdn.example", "127.0.0.1", "[::ffff:127.0.0.1]"])
@pytest.mark.parametrize("kind", TRANSPORTS)
async def test_a_service_elsewhere_reaches_nothing_here(
    kind: str, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a byte goes to an address of this machine, be it by a name that stands for it."""
    async with serving(monkeypatch) as (port, came):
        async with AsyncClient(
            "canary", base_url=ELSEWHERE, transport=TRANSPORTS[kind]()
        ) as client:
            with pytest.raises(DownloadError, match="loopback address, and is not asked"):
                await client.download(result(host, port), tmp_path)
        assert came == []


@pytest.mark.parametrize(
    ("base", "host"),
    [("http://127.0.0.1", "cdn.example"), ("https://api.example", "api.example")],
)
@pytest.mark.parametrize("kind", TRANSPORTS)
async def test_a_service_reaches_its_own_addresses(
    kind: str, base: str, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A base URL on loopback may lead to loopback, and any to its own host."""
    async with serving(monkeypatch) as (port, _):
        async with AsyncClient("canary", base_url=base, transport=TRANSPORTS[kind]()) as client:
            [path] = await client.download(result(host, port), tmp_path / "out.txt")
        assert path.read_bytes() == b"admin"


async def test_a_transport_of_the_callers_own_may_name_loopback(tmp_path: Path) -> None:
    """What answers in process opens no sockets."""
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=b"here"))
    async with AsyncClient("canary", base_url=ELSEWHERE, transport=transport) as client:
        [path] = await client.download(result("127.0.0.1", 9), tmp_path / "out.txt")
    assert path.read_bytes() == b"here"


async def test_a_proxy_on_loopback_is_no_peer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection to a proxy says nothing of the address behind it."""
    async with serving(monkeypatch) as (port, came):
        proxy = f"http://127.0.0.1:{port}"
        transport = httpx2.AsyncHTTPTransport(proxy=proxy)
        async with AsyncClient("canary", base_url=ELSEWHERE, transport=transport) as client:
            [path] = await client.download(result("cdn.example", 80), tmp_path / "out.txt")
        assert path.read_bytes() == b"admin"
        assert came[0].startswith(b"GET http://cdn.example")

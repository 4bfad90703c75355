"""Certificates: one that is not trusted ends a call at once, and the error says what to do."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from apixo_async import APIConnectionError, AsyncClient, DownloadError, FluxKontext, Result
from apixo_async._http.channel import build_transport
from apixo_async.aiohttp import AiohttpTransport

BOUND = 30.0
CASTLE = FluxKontext(mode="pro", prompt="a castle")
#: Signed by itself, for localhost and 127.0.0.1, until the year 2109; used in this file only.
CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQglDDtn5b2Y8G0hYZ/
DP5RP/m7iucDYngXAquO5qI0DBihRANCAASH5JdULoMGcv2U3cA7OgzfMWyV6XiV
tu9HulXBVIs0noy8/Zk3BtKwN5ZTj7PuShSLyfSgHyzrMYxfinLiIwdL
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUCuuIKZ6jK+3U3xev2LsC+2/uhTIwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNzAyNDYyMloYDzIxMDkwMTE2
MDI0NjIyWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASH5JdULoMGcv2U3cA7OgzfMWyV6XiVtu9HulXBVIs0noy8/Zk3BtKw
N5ZTj7PuShSLyfSgHyzrMYxfinLiIwdLo28wbTAdBgNVHQ4EFgQUBcN9uaQsxYx/
dUa/qKJ3lyQdPYgwHwYDVR0jBBgwFoAUBcN9uaQsxYx/dUa/qKJ3lyQdPYgwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIhAJQiLdhKv8usLri4xfE/Wc+I4v6xVy8WgRYdeIsB/DBoAiAu
aPb/h9tGg4vB7gDbqUhzJ6CrgVhijQQoU1HRQDA1mA==
-----END CERTIFICATE-----
"""
ANSWER = b'{"code": 200, "message": "success", "data": {"taskId": "task_1"}}'

TRANSPORTS: dict[str, Callable[[ssl.SSLContext | bool], httpx2.AsyncBaseTransport]] = {
    "plain": lambda verify: httpx2.AsyncHTTPTransport(verify=verify),
    "default": lambda verify: build_transport("https://127.0.0.1", proxy="", verify=verify),
    "aiohttp": lambda verify: AiohttpTransport(verify=verify),
}


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    """Return the path of the certificate."""
    path = tmp_path / "server.pem"
    path.write_text(CERTIFICATE, "ascii")
    return path


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[tuple[str, asyncio.Queue[str]]]:
    """Serve over TLS; yield the URL, and how far each connection came."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    came: asyncio.Queue[str] = asyncio.Queue()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await writer.start_tls(context, ssl_handshake_timeout=BOUND)
            await reader.readuntil(b"\r\n\r\n")
        except (OSError, asyncio.IncompleteReadError):
            came.put_nowait("handshake")
        else:
            came.put_nowait("request")
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + ANSWER)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        async with asyncio.timeout(BOUND):
            yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", came
    finally:
        server.close()


async def submit(client: AsyncClient, _: str, __: Path) -> None:
    await client.submit(CASTLE)


async def balance(client: AsyncClient, _: str, __: Path) -> None:
    await client.balance()


async def download(client: AsyncClient, url: str, path: Path) -> None:
    await client.download(Result("task_1", "m", (f"{url}/a.png",)), path)


@pytest.mark.parametrize("call", [submit, balance, download])
@pytest.mark.parametrize("kind", TRANSPORTS)
async def test_a_certificate_that_is_not_trusted(
    kind: str, call: Callable[..., asyncio.Future[None]], pem: Path
) -> None:
    """It is tried once, nothing is sent, and the error names SSL_CERT_FILE and `verify`."""
    async with serving(pem) as (url, came):
        async with AsyncClient("canary", base_url=url, transport=TRANSPORTS[kind](True)) as client:
            with pytest.raises((APIConnectionError, DownloadError)) as caught:
                await call(client, url, pem.parent / "out")
            assert client.statistics().uncertain == 0
        assert await came.get() == "handshake"
        assert came.empty()
    for part in ("certificate", "SSL_CERT_FILE", "verify="):
        assert part in str(caught.value)
    if call is submit:
        assert getattr(caught.value, "bought", None) is False


@pytest.mark.parametrize("kind", TRANSPORTS)
async def test_what_the_error_advises_helps(kind: str, pem: Path) -> None:
    """With a context that has loaded the authority, the same server is trusted."""
    async with serving(pem) as (url, came):
        verify = ssl.create_default_context(cafile=str(pem))
        transport = TRANSPORTS[kind](verify)
        async with AsyncClient("canary", base_url=url, transport=transport) as client:
            assert (await client.submit(CASTLE)).id == "task_1"
        assert await came.get() == "request"

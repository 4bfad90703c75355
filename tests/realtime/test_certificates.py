"""Certificates: one that is not trusted ends a call at once, and the error says what to do."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from apixo_async import (
    APIConnectionError,
    AsyncClient,
    ConfigurationError,
    DownloadError,
    FluxKontext,
    Result,
)
from apixo_async._http.channel import build_transport
from apixo_async.aiohttp import AiohttpTransport

from ..support.tls import CERTIFICATE, serving, write_certificate

CASTLE = FluxKontext(mode="pro", prompt="a castle")
SUBJECT_HASH = "ce275665"
ANSWER = b'{"code": 200, "message": "success", "data": {"taskId": "task_1"}}'

TRANSPORTS: dict[str, Callable[[ssl.SSLContext | bool], httpx2.AsyncBaseTransport]] = {
    "plain": lambda verify: httpx2.AsyncHTTPTransport(verify=verify),
    "default": lambda verify: build_transport("https://127.0.0.1", proxy="", verify=verify),
    "aiohttp": lambda verify: AiohttpTransport(verify=verify),
}


def answer(_: str) -> bytes:
    """Answer with the id of a task."""
    return ANSWER


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    """Return the path of the certificate."""
    return write_certificate(tmp_path)


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
    async with serving(pem, answer) as (port, came):
        url = f"https://127.0.0.1:{port}"
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
    async with serving(pem, answer) as (port, came):
        url = f"https://127.0.0.1:{port}"
        verify = ssl.create_default_context(cafile=str(pem))
        transport = TRANSPORTS[kind](verify)
        async with AsyncClient("canary", base_url=url, transport=transport) as client:
            assert (await client.submit(CASTLE)).id == "task_1"
        assert await came.get() == "request"


@pytest.mark.parametrize("kind", TRANSPORTS)
@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
async def test_the_authorities_of_the_environment(
    name: str, kind: str, pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE, or a folder in SSL_CERT_DIR, has the authorities that are trusted."""
    if name == "SSL_CERT_DIR":
        # OpenSSL finds a certificate by the hash of its subject, which is CN=localhost here.
        (pem.parent / f"{SUBJECT_HASH}.0").write_text(CERTIFICATE, "ascii")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv(name, str(pem if name == "SSL_CERT_FILE" else pem.parent))
    async with serving(pem, answer) as (port, came):
        url, transport = f"https://127.0.0.1:{port}", TRANSPORTS[kind](True)
        async with AsyncClient("canary", base_url=url, transport=transport) as client:
            assert (await client.submit(CASTLE)).id == "task_1"
        assert await came.get() == "request"


@pytest.mark.parametrize("kind", ["default", "aiohttp"])
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_of_authorities_that_is_none(
    content: str | None, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is missing, or holds none, is a wrong setting that names SSL_CERT_FILE."""
    path = tmp_path / "missing.pem"
    if content is not None:
        path.write_text(content, "ascii")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with pytest.raises(ConfigurationError, match="SSL_CERT_FILE"):
        TRANSPORTS[kind](True)

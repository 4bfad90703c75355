"""Proxies: which requests go through one, by the argument and by the environment."""

from __future__ import annotations

import gc
import json
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from apixo_async import (
    APIConnectionError,
    AsyncClient,
    ConfigurationError,
    DownloadError,
    FluxKontext,
    Polling,
    Result,
    Timeouts,
)

from ..support.proxies import connect_proxy, socks_proxy
from ..support.tls import serving, write_certificate

API, FILES = "api.apixo.test", "files.apixo.test"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(3_000) + b"\0\0\0\0IEND\xaeB`\x82"
CASTLE = FluxKontext(mode="pro", prompt="a castle")
SOON = Polling.fixed(0.01, 0.01)


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the server's certificate, begin without proxies, and lead *.apixo.test to loopback."""
    monkeypatch.setenv("SSL_CERT_FILE", str(write_certificate(tmp_path)))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    plain = socket.getaddrinfo

    def resolved(host: Any, *more: Any, **named: Any) -> Any:
        is_ours = host in (API, FILES, API.encode(), FILES.encode())
        return plain("127.0.0.1" if is_ours else host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    """Serve a service whose tasks are over at once, and the files of their results."""
    here: list[int] = []

    def answer(line: str) -> bytes:
        if ".png" in line:
            return PNG
        urls = [f"https://{FILES}:{here[0]}/a.png"]
        status = {"state": "success", "resultJson": json.dumps({"resultUrls": urls})}
        return json.dumps(
            {"code": 200, "message": "success", "data": {"taskId": "task_1", **status}}
        ).encode()

    async with serving(tmp_path / "server.pem", answer) as (port, _):
        here.append(port)
        yield port


async def main_job(port: int, folder: Path, **settings: Any) -> bytes:
    """Buy a task, and return the bytes of its result."""
    url = f"https://{API}:{port}"
    async with AsyncClient("canary", base_url=url, polling=SOON, **settings) as client:
        result = await client.generate(CASTLE, timeout=20)
        (path,) = await client.download(result, folder)
        return path.read_bytes()


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", None])
async def test_a_connect_proxy(
    name: str | None, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy of the environment, or of the argument, gets all requests, with its password."""
    async with connect_proxy(port) as proxy:
        url = f"http://user:p%40ss@127.0.0.1:{proxy.port}"
        if name is not None:
            monkeypatch.setenv(name, url)
        settings = {"proxy": url} if name is None else {}
        assert await main_job(port, tmp_path / "out", **settings) == PNG
    assert set(proxy.hosts) == {API, FILES}
    assert proxy.authorization == "basic dxnlcjpwqhnz"  # "user:p@ss", in lower case


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
@pytest.mark.parametrize("user", ["", "user:secret@"])
async def test_a_socks_proxy(
    user: str, scheme: str, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that speaks SOCKS5 gets all requests, and the names of the hosts."""
    pytest.importorskip("socksio", reason="the extra [socks] is not installed")
    async with socks_proxy(port) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://{user}127.0.0.1:{proxy.port}")
        assert await main_job(port, tmp_path / "out") == PNG
    assert set(proxy.hosts) == {API, FILES}
    assert proxy.authorization == ("secret" if user else None)


async def test_a_socks_proxy_without_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where socksio is missing, the error says what to install."""
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("ALL_PROXY", "socks5://user:hunter22@127.0.0.1:1")
    with pytest.raises(ConfigurationError, match=r"install httpx2\[socks\]") as caught:
        async with AsyncClient("canary", base_url=f"https://{API}"):
            pass
    assert "hunter22" not in str(caught.value)


async def test_no_proxy_for_the_api(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the API's host in NO_PROXY, results still go through the proxy."""
    async with connect_proxy(port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", f"{API}:{port}")
        assert await main_job(port, tmp_path / "out") == PNG
    assert proxy.hosts == [FILES]


async def test_no_proxy_for_results(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a result's host in NO_PROXY, it is asked directly: its address is known and checked."""
    async with connect_proxy(port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", FILES)
        with pytest.raises(DownloadError, match="stands for a loopback address"):
            await main_job(port, tmp_path / "out")
        assert set(proxy.hosts) == {API}
        # The base URL's own host may stand for loopback.
        async with AsyncClient("canary", base_url=f"https://{FILES}:{port}") as client:
            result = Result("task_1", "m", (f"https://{FILES}:{port}/a.png",))
            (path,) = await client.download(result, tmp_path / "out")
    assert path.read_bytes() == PNG
    assert set(proxy.hosts) == {API}


async def test_a_proxy_of_the_argument_gets_all(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_PROXY is the environment's: it changes nothing of a `proxy=`."""
    async with connect_proxy(port) as proxy:
        monkeypatch.setenv("NO_PROXY", "*")
        settings = {"proxy": f"http://127.0.0.1:{proxy.port}"}
        assert await main_job(port, tmp_path / "out", **settings) == PNG
    assert set(proxy.hosts) == {API, FILES}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["connect", "socks"])
async def test_a_proxy_that_refuses(kind: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a proxy refuses to pass on was not bought."""
    if kind == "socks":
        pytest.importorskip("socksio", reason="the extra [socks] is not installed")
    scheme, serve = {"connect": ("http", connect_proxy), "socks": ("socks5", socks_proxy)}[kind]
    async with serve(port, refuses=True) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://127.0.0.1:{proxy.port}")
        url, timeouts = f"https://{API}:{port}", Timeouts(retry=0.1)
        async with AsyncClient("canary", base_url=url, timeout=timeouts) as client:
            with pytest.raises(APIConnectionError) as caught:
                await client.submit(CASTLE)
            assert client.statistics().uncertain == 0
    assert caught.value.bought is False
    assert set(proxy.hosts) == {API}
    gc.collect()  # httpcore2 leaves the socket of a SOCKS tunnel that was refused to it.

"""The store behind the real PgBouncer in transaction mode, where it is installed."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from apixo_async import AsyncClient, FluxKontext
from apixo_async.stores import PostgresStore
from apixo_async.testing import Simulator
from apixo_async.testing.store_contract import CHECKS, StoreCheck

from ...support.postgres import PostgresServer, postgres_server

pytestmark = pytest.mark.long

_STARTING = 30.0  # seconds


@pytest.fixture(scope="module")
def pooled() -> Iterator[tuple[PostgresServer, int]]:
    """Have a server, and the port of a pooler before it."""
    bouncer = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if bouncer is None:
        pytest.skip("needs PgBouncer: apt-get install pgbouncer")
    user = "postgres" if os.getuid() == 0 else None  # It refuses to run as root.
    with (
        postgres_server() as server,
        tempfile.TemporaryDirectory(dir="/tmp" if user else None) as folder,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        port = int(listener.getsockname()[1])
        settings = Path(folder, "pgbouncer.ini")
        settings.write_text(
            "[databases]\n"
            f"* = host=127.0.0.1 port={server.port} user=postgres\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            "pool_mode = transaction\nauth_type = any\ndefault_pool_size = 5\n",
            "utf-8",
        )
        Path(folder).chmod(0o755)
        listener.close()
        process = subprocess.Popen([bouncer, "-q", str(settings)], cwd="/", user=user)
        try:
            _until_listening(process, port)
            yield server, port
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def _until_listening(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + _STARTING
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)


@pytest.fixture
def dsn(pooled: tuple[PostgresServer, int]) -> str:
    """Have an empty database behind the pooler."""
    server, port = pooled
    name = f"pooled_{time.monotonic_ns()}"
    server.ask(f"CREATE DATABASE {name}")
    return f"postgresql://postgres@127.0.0.1:{port}/{name}"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_what_every_store_must_do(check: StoreCheck, dsn: str) -> None:
    """News included, which are looked for in turns."""
    await check(PostgresStore(dsn))


async def test_two_clients(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    """Keys, limits and followed tasks as without it; that notifications are missing is said."""
    simulator = Simulator(seed=1, durations=1.0)
    one, two = (
        AsyncClient("test-key", transport=simulator.transport(), store=dsn) for _ in range(2)
    )
    castle = FluxKontext(mode="pro", prompt="a castle")
    async with one, two:
        task = await one.submit(castle, key="k")
        followed = await two.submit(castle, key="k")
        assert followed.id == task.id
        await task.refresh()
        await asyncio.sleep(1.5)
        await task.refresh()
        async with asyncio.timeout(30):
            assert (await followed).urls == (await task).urls
    assert simulator.created == 1
    assert caplog.text.count("notifications do not come") == 1

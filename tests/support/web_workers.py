"""The app of a guide under uvicorn, in a process of its own that can be started again."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Final

import apixo_async

from ..test_readme import blocks

PACKAGE: Final = Path(apixo_async.__file__).parents[1]
#: Seconds until a worker must answer, or have ended.
BOUND: Final = 90.0


def free_port() -> int:
    """Return a port of the loopback that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.asynccontextmanager
async def round_robin(ports: Sequence[int]) -> AsyncGenerator[int]:
    """Listen on a port, and lead each connection to the next of others; yield the port."""
    turns = itertools.cycle(ports)
    under_way: set[asyncio.Task[None]] = set()

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while part := await source.read(65_536):
                sink.write(part)
                await sink.drain()
        sink.close()

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        with contextlib.suppress(OSError):  # One that has ended.
            inner, sink = await asyncio.open_connection("127.0.0.1", next(turns))
            await asyncio.gather(copy(reader, sink), copy(inner, writer))
        writer.close()

    server = await asyncio.start_server(lead, "127.0.0.1", 0, backlog=1_024)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in under_way:
            task.cancel()


class WebWorker:
    """One worker.

    Args:
        folder: Where it lives.
        page: The guide that shows its app.
        word: What is in that block of the guide only.
        url: The service.
        store: Its `APIXO_STORE`.
        port: Where it listens; None for a free one.
        environment: More variables.
    """

    def __init__(
        self,
        folder: Path,
        page: Path,
        word: str,
        url: str,
        store: str,
        *,
        port: int | None = None,
        **environment: str,
    ) -> None:
        [block] = [block for block in blocks(page.read_text("utf-8")) if word in block.text]
        (folder / "app.py").write_text(block.text, "utf-8")
        self.folder = folder
        self.port = port or free_port()
        self.log = folder / f"worker-{self.port}.log"
        self._environment = environment | {
            "PYTHONPATH": str(PACKAGE),
            "APIXO_API_KEY": "test-key",
            "APIXO_BASE_URL": url,
            "APIXO_STORE": store,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        words = ("-m", "uvicorn", "app:app", "--port", str(self.port))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *words, "--timeout-graceful-shutdown", "10"],
                cwd=self.folder,
                env=os.environ | self._environment,
                stdout=log,
                stderr=log,
            )

    async def until_ready(self) -> None:
        """Wait until it answers."""
        async with asyncio.timeout(BOUND):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    return
                assert self._process is not None
                assert self._process.poll() is None, self.log.read_text("utf-8")
                await asyncio.sleep(0.1)

    async def end(self, number: signal.Signals) -> None:
        """End it if it runs, and wait until it has ended."""
        if self._process is not None:
            self._process.send_signal(number)
            await asyncio.to_thread(self._process.wait, BOUND)
            self._process = None

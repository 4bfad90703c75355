"""Downloads under SIGKILL: the simulator in one process, in others those that are killed.

Result files are pictures of noise, up to about two megabytes, which come in slow pieces: most
kills land in the middle of transfers. APIXO_KILLS=200 is the long form.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio
import pytest

import apixo_async
from apixo_async import AsyncClient, FluxKontext, GptImage1, OtherModel, Polling, Result

KILLS: Final = int(os.environ.get("APIXO_KILLS", "4"))
BOUND: Final = 60.0  # seconds that any process may take
LONGEST_LIFE: Final = 1.0  # seconds from a process's first request to its kill, at most
PACKAGE: Final = Path(apixo_async.__file__).parents[1]

LOG: Final = logging.getLogger(__name__)

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL"),
]

SERVER: Final = """
import asyncio, io, random
from PIL import Image
from apixo_async.testing import Simulator, results, serve

def noise(seed, text, size, file_type):
    source = random.Random(seed)
    side = source.choice((60, 200, 500, 850))
    image = Image.frombytes("RGB", (side, side), source.randbytes(3 * side * side))
    target = io.BytesIO()
    image.save(target, file_type, compress_level=1, method=0)
    return target.getvalue()

class Slow:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def drip(message):
            body = message.get("body", b"")
            for at in range(0, max(1, len(body)), 49_152):
                more = at + 49_152 < len(body)
                await send({**message, "body": body[at : at + 49_152], "more_body": more})
                await asyncio.sleep(0.01)

        paced = dict(scope.get("headers", ())).get(b"user-agent", b"").startswith(b"apixo")
        async def picked(message):
            await (drip if message["type"] == "http.response.body" else send)(message)

        await self.app(scope, receive, picked if paced else send)

class SlowSimulator(Simulator):
    def app(self):
        return Slow(super().app())

async def main():
    results.draw = noise
    async with serve(SlowSimulator(seed=3, speed=1_000)) as url:
        print(url, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""

CLIENT: Final = """
import asyncio, json, sys
from apixo_async import *

async def main(out, refs):
    async with AsyncClient(polling=Polling.fixed(0.01, 0.01)) as client:
        async def fetch(ref):
            await client.download(await client.attach(*ref), out)

        print("begun", flush=True)
        await asyncio.gather(*map(fetch, refs))

asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
"""


AT_RENAME: Final = """
import os, signal
from pathlib import Path

rename = Path.replace

def replace(path, target):
    if {after}:
        rename(path, target)
    os.kill(os.getpid(), signal.SIGKILL)

Path.replace = replace
"""


def started(script: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start a script in a process of its own and wait for its first line, which is `said`."""
    extra = {"PYTHONPATH": str(PACKAGE), "APIXO_API_KEY": "test-key", **environment}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        env=os.environ | extra,
        stdout=subprocess.PIPE,
        text=True,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    """Return what a process says first, in bounded time."""
    watchdog = threading.Timer(BOUND, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        return process.stdout.readline().strip()
    finally:
        watchdog.cancel()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Have the simulator in a process of its own."""
    with started(SERVER) as process:
        try:
            yield first_line(process)
        finally:
            process.kill()


@dataclass
class Shelf:
    """What was bought, and what its files must be."""

    url: str
    results: list[Result]
    hashes: dict[str, str] = field(default_factory=dict[str, str])
    decoded: set[tuple[str, int, int]] = field(default_factory=set[tuple[str, int, int]])

    def load_cleanly(self) -> int:
        """Fetch all files without this package; return their bytes."""
        sizes = 0
        for result in self.results:
            for number, url in enumerate(result.urls, 1):
                with urllib.request.urlopen(url, timeout=BOUND) as response:  # http only
                    body = response.read()
                assert_decodes(body)
                suffix = url.rpartition(".")[2]
                self.hashes[f"{result.task_id}-{number}.{suffix}"] = digest(body)
                sizes += len(body)
        return sizes

    def downloading(self, out: Path, prelude: str = "") -> subprocess.Popen[str]:
        """Start a process that downloads everything into a directory."""
        refs = json.dumps([[result.model, result.task_id] for result in self.results])
        process = started(prelude + CLIENT, str(out), refs, APIXO_BASE_URL=self.url)
        assert first_line(process) == "begun"
        return process

    def check(self, out: Path) -> int:
        """Assert that each file under a final name is right and decodes; return their number."""
        files = [path for path in out.glob("*") if not is_part(path)]
        for path in files:
            facts = path.stat()
            body = path.read_bytes()
            assert digest(body) == self.hashes[path.name], path.name
            identity = (path.name, facts.st_ino, facts.st_mtime_ns)
            if identity not in self.decoded:
                assert_decodes(body)
                self.decoded.add(identity)
        return len(files)

    def check_complete(self, out: Path) -> None:
        """Assert that everything is there, and nothing else."""
        self.check(out)
        assert sorted(path.name for path in out.iterdir()) == sorted(self.hashes)


def is_part(path: Path) -> bool:
    """Say whether a file is an unfinished one."""
    return path.name.startswith(".") and path.suffix == ".part"


def digest(body: bytes) -> str:
    """Return the hash of a file."""
    return hashlib.sha256(body).hexdigest()


def assert_decodes(body: bytes) -> None:
    """Decode every pixel of a picture."""
    from PIL import Image

    with Image.open(io.BytesIO(body)) as image:
        image.load()


async def buy(url: str) -> list[Result]:
    """Buy pictures of three formats, two of them in some tasks."""
    inputs: list[FluxKontext | OtherModel | GptImage1] = [
        *(FluxKontext(mode="pro", prompt=f"p{n}", output_format="png") for n in range(6)),
        *(FluxKontext(mode="pro", prompt=f"j{n}", output_format="jpeg") for n in range(6)),
        *(OtherModel("seedream-4-5", prompt=f"w{n}") for n in range(6)),
        *(GptImage1(prompt=f"g{n}", aspect_ratio="1:1", num_images=2) for n in range(6)),
    ]
    polling = Polling.fixed(0.05, 0.05)
    async with AsyncClient("test-key", base_url=url, polling=polling) as client:
        tasks = [await client.submit(picture) for picture in inputs]
        return [await task for task in tasks]


@pytest.fixture(scope="module")
def shelf(url: str) -> Shelf:
    """Have results on the simulator whose files are known."""
    shelf = Shelf(url, anyio.run(buy, url))
    assert shelf.load_cleanly() > 10_000_000
    assert {Path(name).suffix for name in shelf.hashes} == {".png", ".jpg", ".webp"}
    return shelf


def end(process: subprocess.Popen[str], after: float) -> int:
    """Kill a process in a while unless it ends before; return its exit status."""
    with process:
        try:
            return process.wait(after)
        except subprocess.TimeoutExpired:
            process.kill()
        return process.wait(BOUND)


def test_a_kill_leaves_no_broken_file(shelf: Shelf, tmp_path: Path) -> None:
    """Whenever a process is killed, each file under its name is whole; the next one goes on."""
    source = random.Random(KILLS)
    outs = [tmp_path / "0"]
    kills = in_transfer = most_parts = seen = 0
    began = time.monotonic()
    # On a slow machine many kills come before a transfer.
    while kills < KILLS or (in_transfer < KILLS / 4 and kills < 10 * KILLS):
        status = end(shelf.downloading(outs[-1]), source.uniform(0, LONGEST_LIFE))
        seen += shelf.check(outs[-1])
        if status == 0:
            shelf.check_complete(outs[-1])
            outs.append(tmp_path / str(len(outs)))
            continue
        assert status == -signal.SIGKILL
        kills += 1
        parts = sum(map(is_part, outs[-1].glob("*")))
        in_transfer += parts > 0
        most_parts = max(most_parts, parts)
    assert end(shelf.downloading(outs[-1]), BOUND) == 0
    shelf.check_complete(outs[-1])
    LOG.info(
        "%d kills in %.0f s, %d of them in transfers, at most %d unfinished files after one; "
        "%d files checked, %d directories filled",
        *(kills, time.monotonic() - began, in_transfer, most_parts, seen, len(outs)),
    )
    assert in_transfer
    # Sixteen that one process has open, and as many of the one before, if a kill meets the sweep.
    assert most_parts <= 32


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_the_rename_leaves_no_broken_file(
    after: bool, shelf: Shelf, tmp_path: Path
) -> None:
    """In the very moment in which a file gets its name it is whole, or not there."""
    dying = shelf.downloading(tmp_path, AT_RENAME.format(after=after))
    assert end(dying, BOUND) == -signal.SIGKILL
    assert (shelf.check(tmp_path) > 0) == after
    assert any(map(is_part, tmp_path.iterdir()))
    assert end(shelf.downloading(tmp_path), BOUND) == 0
    shelf.check_complete(tmp_path)


def test_two_processes_share_a_directory(shelf: Shelf, tmp_path: Path) -> None:
    """Both save the same results at once, beside what a killed one left, and all ends well."""
    end(shelf.downloading(tmp_path), 0.4)
    first = shelf.downloading(tmp_path)
    second = shelf.downloading(tmp_path)
    assert [end(first, BOUND), end(second, BOUND)] == [0, 0]
    shelf.check_complete(tmp_path)


def test_a_kill_spares_the_neighbour(shelf: Shelf, tmp_path: Path) -> None:
    """A process goes on beside others that come, sweep and are killed."""
    living = shelf.downloading(tmp_path)
    for delay in (0.2, 0.3):
        end(shelf.downloading(tmp_path), delay)
    assert end(living, BOUND) == 0
    shelf.check(tmp_path)
    assert end(shelf.downloading(tmp_path), BOUND) == 0
    shelf.check_complete(tmp_path)

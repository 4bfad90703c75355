"""A disk of one MiB that is really full, or really read-only: a tmpfs of the test's own.

It is mounted in a namespace that ends with the process which the test starts; nothing of the
machine changes, and where namespaces are allowed no privilege is needed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

import apixo_async

BOUND: Final = 60.0
PACKAGE: Final = Path(apixo_async.__file__).parents[1]
UNSHARE: Final = ("unshare", "--mount", "--map-root-user")

Program = Callable[..., Any]

PRELUDE: Final = """
import asyncio, hashlib, io, json, random, sys
from pathlib import Path
import httpx2
from PIL import Image
from apixo_async import *

out = Path(sys.argv[1])

def picture(side):
    pixels = random.Random(side).randbytes(3 * side * side)
    image, target = Image.frombytes("RGB", (side, side), pixels), io.BytesIO()
    image.save(target, "png")
    return target.getvalue()

# 31 kB, 271 kB and 751 kB
PICTURES = {f"/{side}": picture(side) for side in (100, 300, 500)}
asked = []
others = 0  # files that are saved before the largest is sent, which fills the disk for them all

async def answer(request):
    asked.append(request.url.path)
    while request.url.path == "/500" and len(list(out.glob("*.png"))) < others:
        await asyncio.sleep(0.01)
    return httpx2.Response(200, content=PICTURES[request.url.path])

def result(name, *sides):
    return Result(name, "gpt-image-1", tuple(f"https://cdn.example/{side}" for side in sides))

def sizes(directory=out):
    found = {}
    for path in sorted(directory.iterdir()):
        if path.suffix == ".png":
            with Image.open(path) as image:
                image.load()
                found[path.name] = image.width
        else:
            found[path.name] = path.stat().st_size
    return found

async def tried(client, result, target):
    try:
        return [path.name for path in await client.download(result, target)]
    except DownloadError as exc:
        return [str(exc), type(exc.__cause__).__name__, [path.name for path in exc.saved]]

def run(main):
    async def running():
        async with AsyncClient("test-key", transport=httpx2.MockTransport(answer)) as client:
            return await main(client)
    print(json.dumps(asyncio.run(running())))

"""


def in_namespace(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command where it is root, with mounts of its own."""
    return subprocess.run(
        [*UNSHARE, *command],
        env=os.environ | {"PYTHONPATH": str(PACKAGE)},
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )


@pytest.fixture
def on_small_disk(tmp_path: Path) -> Program:
    """Run programs with a directory that is a disk of one MiB, with options of mount."""
    out = tmp_path / "out"
    out.mkdir()
    mount = f"mount -t tmpfs -o size=1m,%s tmpfs '{out}'"
    if shutil.which(UNSHARE[0]) is None:
        pytest.skip("only Linux has mounts for one process alone")
    tried = in_namespace("sh", "-c", mount % "rw")
    if tried.returncode != 0:
        pytest.skip(f"this system allows no mounts of one's own: {tried.stderr.strip()}")

    def run(program: str, options: str = "rw") -> Any:
        script = f'{mount % options} && exec "$@"'
        python = (sys.executable, "-W", "error", "-c", PRELUDE + program, str(out))
        ran = in_namespace("sh", "-c", script, "sh", *python)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert list(out.iterdir()) == []  # it was not the machine's own disk
        return json.loads(ran.stdout)

    return run


def test_a_full_disk_is_named_and_the_download_can_be_repeated(on_small_disk: Program) -> None:
    """The error names the file and what to do; nothing broken stays; with room the call works."""
    told = on_small_disk("""
async def main(client):
    (out / "ballast").write_bytes(bytes(500_000))
    steps = [await tried(client, result("a", 300), out)]
    steps += [await tried(client, result("b", 500), out), sizes(), len(asked)]
    (out / "ballast").unlink()
    return [*steps, await tried(client, result("b", 500), out), sizes()]

run(main)
""")
    first, (message, cause, saved), left, asked, second, at_last = told
    assert first == ["a-1.png"]
    assert message.startswith("gpt-image-1/b: 1 of 1 files not saved: file 1: cannot write to '")
    assert message.endswith("/out/b-1': the disk is full; make room and download again")
    assert (cause, saved) == ("OSError", [])
    assert left == {"a-1.png": 300, "ballast": 500_000}
    assert asked == 2
    assert second == ["b-1.png"]
    assert at_last == {"a-1.png": 300, "b-1.png": 500}


def test_a_full_disk_costs_only_what_does_not_fit(on_small_disk: Program) -> None:
    """What was saved stays and is kept by the repeated call, which asks for the rest alone."""
    told = on_small_disk("""
async def main(client):
    global others
    others = 2
    (out / "ballast").write_bytes(bytes(700_000))
    steps = [await tried(client, result("a", 100, 500, 100), out), sizes()]
    (out / "ballast").unlink()
    asked.clear()
    return [*steps, await tried(client, result("a", 100, 500, 100), out), sizes(), asked]

run(main)
""")
    (message, cause, saved), left, second, at_last, asked = told
    assert "1 of 3 files not saved: file 2: cannot write to" in message
    assert (cause, saved) == ("OSError", ["a-1.png", "a-3.png"])
    assert left == {"a-1.png": 100, "a-3.png": 100, "ballast": 700_000}
    assert second == ["a-1.png", "a-2.png", "a-3.png"]
    assert at_last == {"a-1.png": 100, "a-2.png": 500, "a-3.png": 100}
    assert asked == ["/500"]


def test_a_full_disk_spares_the_file_that_was_there(on_small_disk: Program) -> None:
    """A file that is to be replaced stays as it was until the new one is whole."""
    told = on_small_disk("""
async def main(client):
    steps = [await tried(client, result("a", 500), out / "cat.png")]
    return [*steps, await tried(client, result("b", 300), out / "cat.png"), sizes(),
            await tried(client, result("c", 500), out / "cat.png"),
            await tried(client, result("d", 500), out / "dog.png"), sizes()]

run(main)
""")
    assert told[:3] == [["cat.png"], ["cat.png"], {"cat.png": 300}]
    assert told[3] == ["cat.png"]
    assert told[4][0].endswith("/out/dog.png': the disk is full; make room and download again")
    assert told[5] == {"cat.png": 500}


def test_a_disk_without_room_for_a_name_is_named(on_small_disk: Program) -> None:
    """A file system that has no inodes left is full too, and nothing is asked for."""
    told = on_small_disk(
        """
async def main(client):
    (out / "last").touch()
    return [*await tried(client, result("a", 100), out), sizes(), asked]

run(main)
""",
        "nr_inodes=2",
    )
    assert told[0].endswith("/out/a-1': the disk is full; make room and download again")
    assert told[1:] == ["OSError", [], {"last": 0}, []]


@pytest.mark.parametrize("target", ["", "/new", "/cat.png"])
def test_a_read_only_disk_is_named(target: str, on_small_disk: Program) -> None:
    """Nothing is asked for where nothing can be written, and the error says so."""
    told = on_small_disk(
        f"""
async def main(client):
    return [*await tried(client, result("a", 100), f"{{out}}{target}"), sizes(), asked]

run(main)
""",
        "ro",
    )
    assert "/out" in told[0]
    assert told[0].endswith("': the file system is read-only; choose another target")
    assert told[1:] == ["OSError", [], {}, []]

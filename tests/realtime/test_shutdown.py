"""Shutdown: signals, loops that end, forks and exits, each in a process of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

import apixo_async
from apixo_async.testing import serve_process

BOUND: Final = 60.0
PACKAGE: Final = Path(apixo_async.__file__).parents[1]
DEBUGGING: Final = ("-X", "dev", "-W", "error")

#: Whatever says that something was left behind.
REMAINS: Final = re.compile(
    r"was destroyed|never retrieved|never awaited|ResourceWarning|Exception ignored|Unclosed|"
    r"unclosed|Fatal|poller died|DeprecationWarning"
)

PRELUDE: Final = """
import asyncio, logging, os, signal, sys
from apixo_async import *
from apixo_async.aiohttp import AiohttpTransport

logging.basicConfig(level=logging.INFO, format="%(message)s")
runs_on, sends_by = os.environ["RUNS_ON"].split()
castle = FluxKontext(mode="pro", prompt="a castle")

def orphaned(orphan):
    print("orphan", type(orphan).__name__, orphan.ref or orphan.model, flush=True)

client = AsyncClient(
    transport=AiohttpTransport() if sends_by == "aiohttp" else None,
    polling=Polling.fixed(0.1, 0.1),
    on_orphan=orphaned,
)

def run(main):
    factory = None
    if runs_on == "uvloop":
        import uvloop
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        if runs_on == "eager":
            runner.get_loop().set_task_factory(asyncio.eager_task_factory)
        return runner.run(main)
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Have a simulator whose tasks take their real time, and whose answers take a second."""
    with serve_process(latency=1.0, concurrent_tasks=10_000) as url:
        yield url


@pytest.fixture(scope="module")
def quick_url() -> Iterator[str]:
    """Have a simulator that answers at once, and whose tasks take half a second."""
    with serve_process(speed=60) as url:
        yield url


class Script:
    """A script in a process of its own: started, watched and ended by the test."""

    def __init__(self, text: str, url: str, where: Path, runs_on: str, flags: tuple[str, ...]):
        path = where / "script.py"
        path.write_text(PRELUDE + text, "utf-8")
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("APIXO_") and "proxy" not in name.lower()
        }
        extra = {"PYTHONPATH": str(PACKAGE), "APIXO_API_KEY": "test-key", "APIXO_BASE_URL": url}
        self.process = subprocess.Popen(
            [sys.executable, *flags, str(path)],
            env=kept | extra | {"RUNS_ON": runs_on},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=where,
        )
        self.out = self.err = ""

    def told(self, beginning: str) -> str:
        """Wait for a line of output that begins so, and return its rest."""
        assert self.process.stdout is not None
        watchdog = threading.Timer(BOUND, self.process.kill)
        watchdog.start()
        try:
            for line in self.process.stdout:
                if line.startswith(beginning):
                    return line.removeprefix(beginning).strip()
        finally:
            watchdog.cancel()
        pytest.fail(f"no line {beginning!r}: {self.process.communicate()[1]}")

    def end(self, within: float = BOUND) -> int:
        """Wait for the end of the process, and return its status."""
        try:
            self.out, self.err = self.process.communicate(timeout=within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            pytest.fail(f"not over after {within} s: {self.process.communicate()}")
        return self.process.returncode


Start = Callable[..., Script]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start scripts, none of which outlives the test."""
    started: list[Script] = []

    def begin(
        text: str, url: str, runs_on: str = "asyncio plain", flags: tuple[str, ...] = DEBUGGING
    ) -> Script:
        started.append(Script(text, url, tmp_path, runs_on, flags))
        return started[-1]

    yield begin
    for script in started:
        script.process.kill()
        script.process.communicate()


#: Why a loop is not to be had here.
NEEDS: Final = {
    "asyncio": [],
    "uvloop": [
        pytest.mark.skipif(
            importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed"
        )
    ],
    "eager": [
        pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
    ],
}


def needs(*values: str, usual: int = 1) -> list[object]:
    """Parametrise over loops, with the reasons why one is not to be had here.

    Those behind the usual ones are for long runs.
    """
    return [
        pytest.param(
            value, marks=NEEDS[value.split()[0]] + [pytest.mark.long] * (position >= usual)
        )
        for position, value in enumerate(values)
    ]


ALL_LOOPS: Final = ("asyncio plain", "uvloop aiohttp", "asyncio aiohttp", "eager plain")
LOOPS: Final = needs(*ALL_LOOPS)


# --- signals ---------------------------------------------------------------------------------

SIGNALLED: Final = """
place, ending, target = {place!r}, {ending!r}, {target!r}

async def post():
    print("ready", flush=True)
    await client.submit(castle)

async def wait():
    task = await client.submit(castle)
    print("ready", task.ref, flush=True)
    await task

async def download():
    print("ready", flush=True)
    await client.download(Result("task_1", "flux-kontext", (target,)), ".")

async def main():
    if ending == "handler":
        cancel = asyncio.current_task().cancel
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, cancel)
    async with client:
        await globals()[place]()

try:
    run(main())
except asyncio.CancelledError:
    sys.exit(143)
finally:
    print("unfinished", *client.unfinished, flush=True)
"""

ENDINGS: Final = {"interrupt": signal.SIGINT, "handler": signal.SIGTERM}
#: Each on one loop; the long form takes every pair.
endings = pytest.mark.parametrize(
    ("runs_on", "ending"),
    [
        pytest.param(
            *(loop, ending),
            marks=NEEDS[loop.split()[0]]
            + [pytest.mark.long]
            * (
                (loop, ending)
                not in {("asyncio plain", "interrupt"), ("uvloop aiohttp", "handler")}
            ),
        )
        for loop in ALL_LOOPS
        for ending in ENDINGS
    ],
)


def log_of(url: str) -> list[dict[str, object]]:
    with urllib.request.urlopen(f"{url}/_simulator/log", timeout=BOUND) as response:
        return list(json.load(response))


def submits_of(url: str) -> list[str]:
    return [str(record["task_id"]) for record in log_of(url) if record["kind"] == "submit"]


def until(holds: Callable[[], bool]) -> None:
    """Wait for what another process does."""
    deadline = time.monotonic() + BOUND
    while not holds():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)


@contextlib.contextmanager
def endless_file() -> Iterator[tuple[str, threading.Event]]:
    """Serve the beginning of a file whose end never comes; the event says that it was sent."""
    begun, done = threading.Event(), threading.Event()

    def answer() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"
                    b"Content-Length: 1000000\r\n\r\n\x89PNG\r\n\x1a\n" + bytes(20_000)
                )
                begun.set()
                done.wait(BOUND)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=answer, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/a.png", begun
        done.set()


def assert_nothing_remains(script: Script, ending: str) -> None:
    """Check that a process said no more than that it was interrupted."""
    assert not REMAINS.search(script.err), script.err
    tracebacks = script.err.count("Traceback (most recent call last)")
    if ending == "interrupt":
        # The interrupt, and the cancellation that it was carried out with.
        assert script.err.rstrip().endswith("KeyboardInterrupt"), script.err
        names = re.findall(r"^([A-Za-z_.]+(?:Error|Exception|Interrupt))\b", script.err, re.M)
        assert set(names) <= {"KeyboardInterrupt", "asyncio.exceptions.CancelledError"}
        assert tracebacks == len(names)
    else:
        assert tracebacks == 0, script.err


@endings
def test_ended_during_a_post(start: Start, url: str, runs_on: str, ending: str) -> None:
    """A POST under way at a signal ends by itself; its task is an orphan whose id is kept."""
    before = set(submits_of(url))
    script = start(SIGNALLED.format(place="post", ending=ending, target=""), url, runs_on)
    script.told("ready")
    until(lambda: set(submits_of(url)) > before)
    script.process.send_signal(ENDINGS[ending])
    status = script.end(BOUND)
    (task_id,) = set(submits_of(url)) - before
    assert f"orphan Task flux-kontext/{task_id}" in script.out
    assert f"unfinished flux-kontext/{task_id}" in script.out
    assert f"client closed with unfinished tasks: flux-kontext/{task_id}" in script.err
    assert status == (143 if ending == "handler" else -signal.SIGINT)
    assert_nothing_remains(script, ending)


@endings
def test_ended_while_waiting(start: Start, url: str, runs_on: str, ending: str) -> None:
    """A signal during a wait ends the process at once, polls and all, and the id is kept."""
    script = start(SIGNALLED.format(place="wait", ending=ending, target=""), url, runs_on)
    ref = script.told("ready")
    task_id = ref.partition("/")[2]
    until(lambda: any(r["kind"] == "poll" and r["task_id"] == task_id for r in log_of(url)))
    script.process.send_signal(ENDINGS[ending])
    status = script.end(BOUND)
    assert f"unfinished {ref}" in script.out
    assert f"client closed with unfinished tasks: {ref}" in script.err
    assert "orphan" not in script.out
    assert status == (143 if ending == "handler" else -signal.SIGINT)
    assert_nothing_remains(script, ending)


@endings
def test_ended_during_a_download(
    start: Start, url: str, runs_on: str, ending: str, tmp_path: Path
) -> None:
    """A signal during a download leaves no file under its name, and nothing else behind."""
    with endless_file() as (target, begun):
        text = SIGNALLED.format(place="download", ending=ending, target=target)
        script = start(text, url, runs_on)
        script.told("ready")
        assert begun.wait(BOUND)
        script.process.send_signal(ENDINGS[ending])
        status = script.end(BOUND)
    assert script.out.strip() == "unfinished"
    assert "no task is unfinished" in script.err
    assert not list(tmp_path.glob("*.png"))
    assert status == (143 if ending == "handler" else -signal.SIGINT)
    assert_nothing_remains(script, ending)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_terminated_without_a_handler(start: Start, url: str) -> None:
    """SIGTERM that nobody handles ends the process at once, in silence."""
    script = start(SIGNALLED.format(place="wait", ending="default", target=""), url)
    script.told("ready")
    script.process.send_signal(signal.SIGTERM)
    assert script.end(BOUND) == -signal.SIGTERM
    assert "Traceback" not in script.err


def test_interrupted_twice(start: Start, url: str) -> None:
    """A second Ctrl-C does not wait for the POST: the submit is uncertain, and handed over."""
    before = len(submits_of(url))
    script = start(SIGNALLED.format(place="post", ending="interrupt", target=""), url)
    script.told("ready")
    until(lambda: len(submits_of(url)) > before)
    script.process.send_signal(signal.SIGINT)
    threading.Event().wait(0.2)
    script.process.send_signal(signal.SIGINT)
    assert script.end(BOUND) == -signal.SIGINT
    assert "orphan" in script.out
    assert "was destroyed" not in script.err


# --- loops that end --------------------------------------------------------------------------

TORN_DOWN: Final = """
async def main():
    buying = asyncio.create_task(client.submit(castle))
    await asyncio.sleep(0.3)
    print("bought", client.statistics().submits, flush=True)

run(main())
print("over", flush=True)
"""


@pytest.mark.parametrize("runs_on", LOOPS)
def test_a_loop_torn_down_under_a_post(start: Start, url: str, runs_on: str) -> None:
    """Where the loop ends under a POST, the submit is uncertain and goes to `on_orphan`."""
    script = start(TORN_DOWN, url, runs_on, flags=())
    assert script.end(BOUND) == 0
    assert script.out.splitlines() == [
        "bought 0",
        "orphan SubmitUncertainError flux-kontext",
        "over",
    ]
    assert "uncertain, a task may exist" in script.err
    assert "was destroyed" not in script.err
    assert "Traceback" not in script.err


NEVER_CLOSED: Final = """
async def main():
    task = await client.submit(castle)
    await client.balance()
    asyncio.create_task(client.generate(castle))
    await task.wait(0.2)

run(main())
print("unfinished", len(client.unfinished), flush=True)
"""


@pytest.mark.parametrize("runs_on", LOOPS)
def test_never_closed(start: Start, quick_url: str, runs_on: str) -> None:
    """A client that nobody closes keeps its ids, and the process from ending it does not."""
    script = start(NEVER_CLOSED, quick_url, runs_on, flags=())
    assert script.end(BOUND) == 0
    assert re.search(r"^unfinished [12]$", script.out, re.M)
    for word in ("was destroyed", "Fatal", "Traceback", "Exception ignored"):
        assert word not in script.err, script.err


NEVER_USED: Final = """
async def main():
    await asyncio.sleep(0)

run(main())
"""


@pytest.mark.parametrize("runs_on", LOOPS)
def test_never_used(start: Start, quick_url: str, runs_on: str) -> None:
    """A client that is only made leaves nothing behind, closed or not."""
    script = start(NEVER_USED, quick_url, runs_on)
    assert (script.end(BOUND), script.out, script.err) == (0, "", "")


CLOSED: Final = """
async def main():
    tasks = [await client.submit(castle) for _ in range(3)]
    await asyncio.gather(client.aclose(drain=30.0), client.aclose())
    print("done", sum(task.done() for task in tasks), *client.unfinished, flush=True)
    await client.aclose()

run(main())
run(client.aclose())
try:
    run(client.balance())
except ClientClosedError as error:
    print(error)
"""


@pytest.mark.parametrize("runs_on", LOOPS)
def test_closed_again_and_again(start: Start, quick_url: str, runs_on: str) -> None:
    """Closing with a drain, twice, together and from another loop leaves nothing behind."""
    script = start(CLOSED, quick_url, runs_on)
    assert script.end(BOUND) == 0, script.err
    assert script.out.splitlines() == ["done 3", "this client was closed: make a new one"]
    assert_nothing_remains(script, "itself")
    assert script.err.count("client closed") == 1


CLOSED_ELSEWHERE: Final = """
async def main():
    task = await client.submit(castle)
    print("bought", task.ref, flush=True)

run(main())
run(client.aclose())
print("left", *client.unfinished, flush=True)
"""


@pytest.mark.parametrize("runs_on", LOOPS)
def test_closed_from_another_loop(start: Start, url: str, runs_on: str) -> None:
    """Closing after the client's loop has ended returns at once, and keeps the ids."""
    script = start(CLOSED_ELSEWHERE, url, runs_on, flags=())
    assert script.end(BOUND) == 0, script.err
    bought, left = script.out.splitlines()
    assert bought.split()[1] == left.split()[1]
    assert f"unfinished tasks: {left.split()[1]}" in script.err
    assert "Traceback" not in script.err


# --- forks -----------------------------------------------------------------------------------

FORKED: Final = """
import multiprocessing

def in_child():
    for use in (client.balance, lambda: client.submit(castle), attach, client.aclose):
        try:
            run(use())
        except ConfigurationError as error:
            print("child", error, flush=True)

async def attach():
    client.attach("flux-kontext", "task_1")

async def main():
    task = await client.submit(castle)
    how = {how!r}
    if how == "os":
        number = os.fork()
        if number == 0:
            try:
                in_child()
            finally:
                os._exit(0)
        os.waitpid(number, 0)
    else:
        child = multiprocessing.get_context("fork").Process(target=in_child)
        child.start()
        while child.is_alive():
            await asyncio.sleep(0.01)
    print("parent", (await task).task_id == task.id, await client.balance() > 0, flush=True)
    await client.aclose()

run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.parametrize("how", ["os", "multiprocessing"])
@pytest.mark.parametrize("runs_on", needs("asyncio plain", "asyncio aiohttp", "eager plain"))
def test_forked(start: Start, quick_url: str, runs_on: str, how: str) -> None:
    """In a forked child every use is a clear error; the parent goes on."""
    script = start(FORKED.replace("{how!r}", repr(how)), quick_url, runs_on, flags=())
    assert script.end(BOUND) == 0, script.err
    *child, parent = script.out.splitlines()
    assert len(child) == 4
    assert all("before the process forked: make a new one in the child" in line for line in child)
    assert parent == "parent True True"
    assert "Traceback" not in script.err

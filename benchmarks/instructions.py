"""How many instructions does a poll take?

Where the CPU of a busy machine varies by a tenth, these repeat within 2 %. Each client runs in a
process of its own under valgrind's callgrind (Linux; `apt-get install valgrind`), which counts from
the first polls on. The kernel's part is not counted.

The floor is a timer and an asyncio task for each poll, and the engine is measured over a transport
that only waits: both in virtual time. The others are those of `cpu_per_poll`, over sockets and at
a rate that they reach although valgrind makes them fifty times as slow.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import httpx2

import benchmarks
from apixo_async._config import Timeouts
from apixo_async._http.exchange import Incoming, Outgoing, SendExchange
from apixo_async.testing import VirtualTimeLoop
from benchmarks import Options, Row
from benchmarks.cpu_per_poll import (
    LATENCY,
    MODEL,
    RATE,
    Polls,
    answer,
    engine,
    over_aiohttp,
    over_httpx2,
    plain_httpx2,
    raw_aiohttp,
    serve,
)
from benchmarks.measuring import received, serving

QUESTION: Final = "How many instructions does a poll take?"
ROUNDS: Final = 1  # each takes a minute, and repeats within 2 %
VIRTUAL_TASKS: Final = 100
TASKS: Final = 50
SLOW: Final = 20.0  # polls a second over sockets
SKIPPED: Final = 100
COUNTED: Final = 400
PATIENCE: Final = 600.0
VALGRIND: Final = ("valgrind", "--tool=callgrind", "--instr-atstart=no")


@asynccontextmanager
async def floor(url: str, tasks: int, rate: float) -> AsyncGenerator[Polls]:
    """Do for each poll what none can do without: set a timer, start a task, and wait."""
    del url, tasks
    loop, done, held = asyncio.get_running_loop(), 0, set[asyncio.Task[None]]()

    async def poll() -> None:
        nonlocal done
        await asyncio.sleep(LATENCY * random.uniform(0.8, 1.2))
        done += 1

    def begin(due: float) -> None:
        task = loop.create_task(poll())
        held.add(task)
        task.add_done_callback(held.discard)
        loop.call_at(due, begin, due + 1 / rate)

    begin(loop.time() + 1 / rate)
    yield lambda: done


class WaitingTransport(httpx2.AsyncBaseTransport):
    """Answer every poll after the latency, without any HTTP: the task is still processing."""

    phase_aware = True

    def exchange_with(self, base_url: str, timeouts: Timeouts) -> SendExchange:
        """Prepare such exchanges."""
        del base_url, timeouts
        body = answer(f"{MODEL}_1").partition(b"\r\n\r\n")[2]

        async def exchange(request: Outgoing, incoming: Incoming) -> None:
            del request
            await asyncio.sleep(LATENCY * random.uniform(0.8, 1.2))
            incoming.status = 200
            incoming.take(body)

        return exchange


class Case(NamedTuple):
    """A client, and how it is run.

    Attributes:
        client: Polls, at the rate that it is given.
        tasks: Its tasks in flight.
        rate: Polls a second.
        is_virtual: Whether waiting costs nothing.
    """

    client: Callable[[str, int, float], AbstractAsyncContextManager[Polls]]
    tasks: int
    rate: float
    is_virtual: bool = False


def _over_waiting(url: str) -> WaitingTransport:
    del url
    return WaitingTransport()


CASES: Final = {
    "floor": Case(floor, VIRTUAL_TASKS, RATE, is_virtual=True),
    "engine": Case(partial(engine, transport=_over_waiting), VIRTUAL_TASKS, RATE, is_virtual=True),
    "raw aiohttp": Case(raw_aiohttp, TASKS, SLOW),
    "ours [aiohttp]": Case(partial(engine, transport=over_aiohttp), TASKS, SLOW),
    "httpx2 loop": Case(plain_httpx2, TASKS, SLOW),
    "ours, httpx2": Case(partial(engine, transport=over_httpx2), TASKS, SLOW),
}

#: What is compared with what.
COMPARED: Final = (
    ("The engine alone, against a timer and a task", "engine", "floor"),
    ("With [aiohttp], against raw aiohttp", "ours [aiohttp]", "raw aiohttp"),
    ("Without it, against a loop of httpx2", "ours, httpx2", "httpx2 loop"),
)


def poll(name: str, url: str) -> None:
    """Have a client poll, and print how many polls were counted; this runs under valgrind."""
    random.seed(1)
    case = CASES[name]

    async def main() -> None:
        async with case.client(url, case.tasks, case.rate) as polled:

            async def more(polls: int) -> None:
                enough = polled() + polls
                while polled() < enough:  # noqa: ASYNC110 - a count, of which no event tells
                    await asyncio.sleep(0.05)

            await more(SKIPPED)
            _count("on")
            before = polled()
            await more(COUNTED)
            counted = polled() - before
            _count("off")
        print(counted)

    with asyncio.Runner(loop_factory=VirtualTimeLoop if case.is_virtual else None) as runner:
        runner.run(main())


def _count(switch: str) -> None:
    control = ["callgrind_control", f"--instr={switch}", str(os.getpid())]
    subprocess.run(control, capture_output=True, check=True, timeout=PATIENCE)


def instructions(name: str, url: str) -> float:
    """Return the instructions that a client takes for a poll, in thousands."""
    beside = str(Path(benchmarks.__path__[0]).parent)
    with tempfile.NamedTemporaryFile() as out:
        program = f"from benchmarks.instructions import poll; poll({name!r}, {url!r})"
        done = subprocess.run(
            [*VALGRIND, f"--callgrind-out-file={out.name}", sys.executable, "-c", program],
            env=os.environ | {"PYTHONPATH": beside, "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        )
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found is not None  # valgrind ends with it.
    return int(found[1]) / int(done.stdout) / 1_000


def run(_: Options) -> Iterator[Row]:
    """Count the instructions of every client, and compare."""
    if shutil.which("valgrind") is None:
        yield Row(QUESTION, "valgrind is not installed", "-", "apt-get install valgrind")
        return
    with serving(serve) as said, ThreadPoolExecutor(os.cpu_count()) as threads:
        counting = partial(instructions, url=received(said))
        took = dict(zip(CASES, threads.map(counting, CASES), strict=True))
    for what, ours, theirs in COMPARED:
        figures = f"{took[ours]:.0f}k against {took[theirs]:.0f}k instructions a poll"
        yield Row(QUESTION, what, f"{took[ours] / took[theirs]:.2f}x", figures)

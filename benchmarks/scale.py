"""What becomes of cost, freezes and memory with ten and a thousand times as much?

1,000 and 10,000 tasks at once, on an account that has ten times the documented limits: CPU of a
request, time in Python's garbage collection, and the worst freeze of the event loop. As installed,
with ``gc.collect(); gc.freeze()`` once the client is open, and with that and collections of the
youngest objects that are a hundred times as rare. The client goes over aiohttp; the service is a
bare protocol in another process, whose answers take 300 ms and whose tasks take 20 to 30 s.

20,000 and 100,000 inputs through `client.map`, with and without a journal, and resumed from it when
all are finished: CPU, seconds, peak of memory, size of the journal. The service costs nothing
there, and waiting for it neither (virtual time), so that seconds are those of the client alone.
With APIXO_LONG set there are a million inputs, too, which takes most of an hour.

``--tasks`` scales both parts, ``--seconds`` the tasks of the first.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, Literal, NamedTuple

from apixo_async import AsyncClient, Limits, Polling
from apixo_async.aiohttp import AiohttpTransport
from benchmarks import Options, Row
from benchmarks.counting_service import KEY, client_of
from benchmarks.cpu_per_poll import LATENCY, enveloped
from benchmarks.journal import CoarseTimeLoop, prompts
from benchmarks.measuring import (
    TurnSelector,
    in_child,
    interleaved,
    median,
    progress,
    received,
    serving,
)
from benchmarks.memory import FLAT, SLOTS

QUESTION: Final = "Ten times the scale, and more"
ROUNDS: Final = 1
DEADLINE: Final = 3_600.0  # real seconds for one process
SHARE: Final = 0.05  # of the CPU that collections may take
FREEZE: Final = {"as installed": 0.4, "frozen": 0.15, "frozen, rarely collected": 0.15}


# --- tasks at once ---------------------------------------------------------------------------

LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Working(asyncio.Protocol):
    """Answer every submit and every poll after the latency.

    Args:
        seconds: What a task takes at least; half as much again at most.
        over: The end of each task by the loop's clock, of all connections.
    """

    def __init__(self, seconds: float, over: list[float]) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._over = over
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what writes."""
        assert isinstance(transport, asyncio.Transport)
        self._write = transport.write

    def data_received(self, data: bytes) -> None:
        """Answer each whole request later."""
        self._unread += data
        while (end := self._unread.find(b"\r\n\r\n")) >= 0:
            head = self._unread[:end]
            length = LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._unread) < whole:
                return
            self._unread = self._unread[whole:]
            self._loop.call_later(LATENCY, self._write, enveloped(self._answer(head)))

    def _answer(self, head: bytes) -> Mapping[str, object]:
        now = self._loop.time()
        method, target, _ = head.split(b" ", 2)
        if method == b"POST":
            self._over.append(now + self._seconds * random.uniform(1.0, 1.5))
            return {"taskId": f"task_{len(self._over) - 1:08}"}
        task_id = target.rpartition(b"=")[2].decode()
        if now < self._over[int(task_id[5:])]:
            return {"taskId": task_id, "state": "processing"}
        urls = json.dumps({"resultUrls": [f"https://files.example/{task_id}.png"]})
        return {"taskId": task_id, "state": "success", "resultJson": urls}


def serve(said: Connection, seconds: float) -> None:
    """Say the URL, and answer for ever."""

    async def run() -> None:
        over: list[float] = []
        server = await asyncio.get_running_loop().create_server(
            lambda: Working(seconds, over), "127.0.0.1", 0, backlog=2_048
        )
        said.send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await server.serve_forever()

    asyncio.run(run())


class Crowd(NamedTuple):
    """What many tasks at once came to.

    Attributes:
        cpu: Seconds of CPU of the client's process, of those that it took to work.
        collecting: Seconds of these in the garbage collection.
        freeze: The longest time in seconds for which the event loop stood still.
        work: The most seconds of CPU for which it did.
        requests: Submits and polls.
        wall: Seconds until the last result.
    """

    cpu: float
    collecting: float
    freeze: float
    work: float
    requests: int
    wall: float


class Collections:
    """Count the seconds of CPU that garbage collections take from now on."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0
        gc.callbacks.append(self._note)

    def _note(self, phase: Literal["start", "stop"], _: Mapping[str, int]) -> None:
        if phase == "start":
            self._began = time.process_time()
        else:
            self.seconds += time.process_time() - self._began


def as_installed() -> None:
    """Change nothing."""


def frozen() -> None:
    """Leave all that is there already out of every collection, as the guide says."""
    gc.collect()
    gc.freeze()


def rarely_collected() -> None:
    """Let the youngest objects be a hundred times as many before they are looked at, too."""
    frozen()
    gc.set_threshold(70_000, 10, 10)


SETTINGS: Final[Mapping[str, Callable[[], None]]] = {
    "as installed": as_installed,
    "frozen": frozen,
    "frozen, rarely collected": rarely_collected,
}


def crowd(setting: str, tasks: int, url: str, limits: Limits, seconds: float) -> Crowd:
    """Be the process of a client that begins all tasks at once; ``seconds`` as for `Working`."""
    turns = TurnSelector()
    client = AsyncClient(
        KEY,
        base_url=url,
        transport=AiohttpTransport(),
        limits=limits,
        polling=Polling(speed=Options.seconds / seconds),
    )
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(turns)) as runner:
        return runner.run(_crowd(SETTINGS[setting], tasks, client, turns))


async def _crowd(
    collect: Callable[[], None], tasks: int, client: AsyncClient, turns: TurnSelector
) -> Crowd:
    wanted = list(prompts(iter(range(tasks))))
    async with client:
        collect()
        turns.forget()  # The start is none of the tasks'.
        await asyncio.sleep(0)
        collections, cpu, wall = Collections(), time.process_time(), time.monotonic()
        await asyncio.gather(*map(client.generate, wanted))
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        await asyncio.sleep(0)
        totals = client.statistics()
        return Crowd(
            cpu, collections.seconds, turns.freeze, turns.work, totals.submits + totals.polls, wall
        )


# --- many inputs -----------------------------------------------------------------------------


class Mapped(NamedTuple):
    """What many inputs through a map came to.

    Attributes:
        inputs: How many.
        cpu: Seconds of CPU.
        wall: Seconds.
        peak: The most resident bytes of the process; 0 where the system has no /proc.
        journal: Bytes of the journal, or 0.
    """

    inputs: int
    cpu: float
    wall: float
    peak: int
    journal: int


def mapped(inputs: int, journal: str | None, *, resuming: bool = False) -> Mapped:
    """Be the process of a map, in virtual time until all comes from the journal."""
    loop = asyncio.new_event_loop if resuming else CoarseTimeLoop
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(_mapped(inputs, journal, resuming=resuming))


async def _mapped(inputs: int, journal: str | None, *, resuming: bool) -> Mapped:
    client = client_of(SLOTS, duration=3.0, polling=Polling.fixed(4.0, 4.0))
    taken, cpu, wall = 0, time.process_time(), time.monotonic()
    async with client, client.map(prompts(iter(range(inputs))), journal=journal) as outcomes:
        async for outcome in outcomes:
            assert outcome.ok
            assert outcome.resumed is resuming
            taken += 1
    assert taken == inputs
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    return Mapped(inputs, cpu, wall, peak(), size(journal) if journal else 0)


def peak() -> int:
    """Return the most bytes that were resident since this program began; 0 without /proc."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) * 1024 if found else 0


def size(journal: str) -> int:
    """Return the bytes of all files of a journal."""
    path = Path(journal)
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))


# --- the answer ------------------------------------------------------------------------------


def run(options: Options) -> Iterator[Row]:
    """Answer: first the crowds, whose freezes need a machine that does nothing else."""
    options.out.mkdir(parents=True, exist_ok=True)
    crowds = _crowds(options)
    for setting in SETTINGS:
        yield from _crowd_rows(setting, options.tasks, crowds)
    sizes = [20 * options.tasks, 100 * options.tasks]
    if os.environ.get("APIXO_LONG"):
        sizes.append(1_000 * options.tasks)
    with (
        tempfile.TemporaryDirectory(dir=options.out) as where,
        ThreadPoolExecutor(1) as beside,
    ):
        plain = beside.submit(lambda: [in_child(DEADLINE, mapped, each, None) for each in sizes])
        kept: list[Mapped] = []
        again: list[Mapped] = []
        for each in sizes:
            progress(f"  {each:,} inputs through a map with a journal, and once more")
            journal = str(Path(where) / f"{each}.db")
            kept.append(in_child(DEADLINE, mapped, each, journal))
            again.append(in_child(DEADLINE, mapped, each, journal, resuming=True))
        yield from _map_rows("without a journal", plain.result())
        yield from _map_rows("with a journal", kept)
        yield from _map_rows("resumed from a finished journal", again)
        yield _journal_row(kept[-1], plain.result()[-1])
    _draw(options, crowds)


def _crowds(options: Options) -> dict[str, list[Crowd]]:
    """Measure each setting with few and with many tasks; by `name_of`."""
    many = 10 * options.tasks
    limits = Limits(many, 10 * many)
    with serving(serve, options.seconds) as said:
        url: str = received(said)

        def one(setting: str, tasks: int) -> Crowd:
            return in_child(DEADLINE, crowd, setting, tasks, url, limits, options.seconds)

        candidates = {
            name_of(setting, tasks): partial(one, setting, tasks)
            for setting in SETTINGS
            for tasks in (options.tasks, many)
        }
        return interleaved(options.rounds, candidates)


def name_of(setting: str, tasks: int) -> str:
    """Return the name of what is measured."""
    return f"{tasks:,} tasks, {setting}"


def _crowd_rows(setting: str, tasks: int, crowds: Mapping[str, Sequence[Crowd]]) -> Iterator[Row]:
    few, many = (crowds[name_of(setting, each)] for each in (tasks, 10 * tasks))

    def both(figure: Callable[[Crowd], float]) -> tuple[float, float]:
        return median(map(figure, many)), median(map(figure, few))

    what = f"{10 * tasks:,} tasks at once, {setting}"
    cpu = both(lambda one: one.cpu / one.requests * 1e6)
    requests, wall = both(lambda one: one.requests), both(lambda one: one.wall)
    yield Row(
        QUESTION,
        f"{what}: CPU of a request, against {tasks:,}",
        f"{cpu[0] / cpu[1]:.2f}x",
        f"{cpu[0]:.0f} against {cpu[1]:.0f} µs; {requests[0]:,.0f} against {requests[1]:,.0f} "
        f"requests, all results after {wall[0]:.0f} against {wall[1]:.0f} s",
        f"flat: at most {FLAT}x",
        cpu[0] / cpu[1] <= FLAT,
    )
    share = both(lambda one: one.collecting / one.cpu)
    seconds = both(lambda one: one.collecting)
    is_set = setting != "as installed"
    yield Row(
        QUESTION,
        f"{what}: garbage collection, as a share of the CPU",
        f"{share[0]:.3f}",
        f"{seconds[0]:.2f} s; {share[1]:.3f}, {seconds[1]:.2f} s with {tasks:,}",
        f"at most {SHARE}" if is_set else "",
        share[0] <= SHARE if is_set else None,
    )
    freeze, work = both(lambda one: one.freeze), both(lambda one: one.work)
    most = FREEZE[setting]
    yield Row(
        QUESTION,
        f"{what}: worst freeze of the event loop, against {tasks:,}",
        f"{freeze[0] / freeze[1]:.2f}x",
        f"{freeze[0] * 1e3:.0f} against {freeze[1] * 1e3:.0f} ms; "
        f"of CPU {work[0] * 1e3:.0f} against {work[1] * 1e3:.0f} ms",
        f"at most {most * 1e3:.0f} ms",
        freeze[0] <= most,
    )


def _map_rows(how: str, maps: Sequence[Mapped]) -> Iterator[Row]:
    """Compare each number of inputs with the smallest one."""
    least = maps[0]
    for one in maps[1:]:
        what = f"{one.inputs:,} inputs through `map` {how}, against {least.inputs:,}"
        ratio = one.cpu / one.inputs / (least.cpu / least.inputs)
        yield Row(
            QUESTION,
            f"{what}: CPU of an input",
            f"{ratio:.2f}x",
            f"{one.cpu / one.inputs * 1e6:.0f} against {least.cpu / least.inputs * 1e6:.0f} µs; "
            f"all in {one.wall:.1f} against {least.wall:.1f} s",
            f"flat: at most {FLAT}x",
            ratio <= FLAT,
        )
        sizes = f"; journal {one.journal / 2**20:.1f} against {least.journal / 2**20:.1f} MB"
        yield Row(
            QUESTION,
            f"{what}: peak of memory",
            f"{one.peak / least.peak:.2f}x",
            f"{one.peak / 2**20:.1f} against {least.peak / 2**20:.1f} MB"
            + (sizes if one.journal else ""),
            f"flat: at most {FLAT}x",
            one.peak / least.peak <= FLAT,
        )


def _journal_row(kept: Mapped, plain: Mapped) -> Row:
    return Row(
        QUESTION,
        f"{kept.inputs:,} inputs through `map`: CPU with a journal, against without",
        f"{kept.cpu / plain.cpu:.2f}x",
        f"{kept.cpu:.1f} against {plain.cpu:.1f} s; {kept.journal / kept.inputs:.0f} bytes of "
        "journal an input",
    )


def _draw(options: Options, crowds: Mapping[str, Sequence[Crowd]]) -> None:
    from benchmarks import plots

    figure, panels = plots.new("Tasks at once, with ten times the documented limits", 2)
    freezes = {key: median(one.freeze for one in found) * 1e3 for key, found in crowds.items()}
    plots.bars(panels[0], freezes, "ms of the worst freeze")
    shares = {
        key: median(one.collecting / one.cpu for one in found) * 100
        for key, found in crowds.items()
    }
    plots.bars(panels[1], shares, "% of the CPU in garbage collection")
    plots.save(figure, options, "scale")

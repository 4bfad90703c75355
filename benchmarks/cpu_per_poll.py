"""What does a poll cost? CPU per status request, at 167 a second with answers after 300 ms.

The server and every client have processes of their own. CPU, user and system, of a client between
two moments is divided by the polls in between, so that all but its start is included. Ours does
what it does with real tasks: they are planned, polled, judged and reported; the others send at
the same pace, whenever the answers come, and parse. The clients of a round run at the same time:
each asks for a few percent of a core, and meets the same machine as the others.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from multiprocessing.connection import Connection
from typing import Final, TypeAlias

import aiohttp
import httpx2

from apixo_async import AsyncClient, Limits, Polling
from apixo_async._http.channel import build_transport
from apixo_async.aiohttp import AiohttpTransport
from benchmarks import Options, Row
from benchmarks.measuring import in_child, median, progress, received, serving

QUESTION: Final = "What does a poll cost?"
RATE: Final = 10_000 / 60  # polls a second: the documents' limit
LATENCY: Final = 0.3
WARM: Final = 1.0  # seconds from the first poll of the last task until measuring begins
MEASURED: Final = 7.0
MODEL: Final = "gpt-image-1"
HEADERS: Final = {"Authorization": "Bearer benchmark-key", "Accept": "application/json"}

Fetch: TypeAlias = Callable[[str], Awaitable[object]]
Polls: TypeAlias = Callable[[], int]


# --- the server ------------------------------------------------------------------------------


class Answering(asyncio.Protocol):
    """Answer every GET after the latency: the task is still processing."""

    def __init__(self) -> None:
        self._call_later = asyncio.get_running_loop().call_later
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what writes."""
        assert isinstance(transport, asyncio.Transport)
        self._write = transport.write

    def data_received(self, data: bytes) -> None:
        """Answer each whole request later."""
        *requests, self._unread = (self._unread + data).split(b"\r\n\r\n")
        for request in requests:
            path = request.split(b" ", 2)[1].decode()
            # Were all alike, polls that fell together once would stay together.
            latency = LATENCY * random.uniform(0.8, 1.2)
            self._call_later(latency, self._write, answer(path.rpartition("=")[2]))


def answer(task_id: str) -> bytes:
    """Return the whole answer to a poll, as the documents show it."""
    created = int(time.time() * 1000)
    return enveloped({"taskId": task_id, "state": "processing", "createTime": created})


def enveloped(data: Mapping[str, object]) -> bytes:
    """Return a whole answer."""
    body = json.dumps({"code": 200, "message": "success", "data": data})
    head = (
        "HTTP/1.1 200 OK\r\nDate: {formatdate(usegmt=True)}\r\nServer: cloud\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()


def serve(said: Connection) -> None:
    """Say the URL, and answer for ever."""

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
        said.send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await server.serve_forever()

    asyncio.run(run())


# --- the clients -----------------------------------------------------------------------------


@asynccontextmanager
async def paced(fetch: Fetch, url: str, tasks: int, rate: float) -> AsyncGenerator[Polls]:
    """Fetch the status of one task after the other at the rate, whenever the answers come."""
    polls = 0

    async def poll(number: int) -> None:
        nonlocal polls
        await fetch(f"{url}/api/v1/statusTask/{MODEL}?taskId=task_{number % tasks:08}")
        polls += 1

    async def pace(group: asyncio.TaskGroup) -> None:
        loop, number = asyncio.get_running_loop(), 0
        started = loop.time()
        while True:
            await asyncio.sleep(started + number / rate - loop.time())
            group.create_task(poll(number))
            number += 1

    async with asyncio.TaskGroup() as group:
        pacing = group.create_task(pace(group))
        yield lambda: polls
        pacing.cancel()


@asynccontextmanager
async def raw_aiohttp(url: str, tasks: int, rate: float = RATE) -> AsyncGenerator[Polls]:
    """Fetch with aiohttp alone, and parse."""
    async with aiohttp.ClientSession(headers=HEADERS) as session:

        async def fetch(one: str) -> object:
            async with session.get(one) as response:
                return json.loads(await response.read())

        async with paced(fetch, url, tasks, rate) as polls:
            yield polls


@asynccontextmanager
async def plain_httpx2(url: str, tasks: int, rate: float = RATE) -> AsyncGenerator[Polls]:
    """Fetch with httpx2's client, which may keep every connection, and parse."""
    limits = httpx2.Limits(max_connections=256, max_keepalive_connections=256)
    async with httpx2.AsyncClient(headers=HEADERS, limits=limits, trust_env=False) as client:

        async def fetch(one: str) -> object:
            return (await client.get(one)).json()

        async with paced(fetch, url, tasks, rate) as polls:
            yield polls


@asynccontextmanager
async def engine(
    url: str,
    tasks: int,
    rate: float = RATE,
    *,
    transport: Callable[[str], httpx2.AsyncBaseTransport],
) -> AsyncGenerator[Polls]:
    """Poll tasks with the engine, each so long after its last answer that the rate is met."""
    interval = max(0.001, (tasks / rate - LATENCY) / 1.05)  # the jitter adds 5 % on average
    async with AsyncClient(
        "benchmark-key",
        base_url=url,
        transport=transport(url),
        polling=Polling.fixed(0.0, interval),
        limits=Limits(requests_per_minute=6_000_000),
    ) as client:
        for number in range(tasks):
            client.attach(MODEL, f"task_{number:08}")
            await asyncio.sleep((interval + LATENCY) / tasks)
        yield lambda: client.statistics().polls


def over_aiohttp(url: str) -> AiohttpTransport:
    """Return the transport of the extra."""
    del url
    return AiohttpTransport()


def over_httpx2(url: str) -> httpx2.AsyncBaseTransport:
    """Return the default transport."""
    return build_transport(url, proxy="", verify=True)


Client: TypeAlias = Callable[[str, int], AbstractAsyncContextManager[Polls]]

#: Each client, and its tasks in flight.
CLIENTS: Final[dict[str, tuple[Client, int]]] = {
    "raw aiohttp": (raw_aiohttp, 1_000),
    "httpx2 loop": (plain_httpx2, 1_000),
    "ours [aiohttp]": (partial(engine, transport=over_aiohttp), 1_000),
    "ours, httpx2": (partial(engine, transport=over_httpx2), 1_000),
    "ours [aiohttp], 50 tasks": (partial(engine, transport=over_aiohttp), 50),
    "ours, httpx2, 50 tasks": (partial(engine, transport=over_httpx2), 50),
}


def measured(name: str, url: str) -> tuple[float, float]:
    """Return what a client takes: µs of CPU per poll, and its polls a second."""
    client, tasks = CLIENTS[name]

    async def run() -> tuple[float, float]:
        async with client(url, tasks) as polls:
            await asyncio.sleep(WARM)
            cpu, wall, before = time.process_time(), time.monotonic(), polls()
            await asyncio.sleep(MEASURED)
            done = polls() - before
            cpu, wall = time.process_time() - cpu, time.monotonic() - wall
            return cpu / done * 1e6, done / wall

    return asyncio.run(run())


# --- the question ----------------------------------------------------------------------------

#: What is measured, against what, and the ratio to reach.
COMPARED: Final = (
    ("CPU per poll with [aiohttp], against raw aiohttp", "ours [aiohttp]", "raw aiohttp", 1.25),
    ("CPU per poll without it, against a loop of httpx2", "ours, httpx2", "httpx2 loop", 0.5),
    (
        "CPU per poll of 1,000 tasks, against 50, with [aiohttp]",
        "ours [aiohttp]",
        "ours [aiohttp], 50 tasks",
        1.4,
    ),
    (
        "CPU per poll of 1,000 tasks, against 50, without it",
        "ours, httpx2",
        "ours, httpx2, 50 tasks",
        1.4,
    ),
)


def run(options: Options) -> Iterator[Row]:
    """Measure all clients in each round, and compare."""
    costs: dict[str, list[float]] = {name: [] for name in CLIENTS}
    with serving(serve) as said, ThreadPoolExecutor(len(CLIENTS)) as threads:
        url: str = received(said)

        def in_process(name: str) -> tuple[float, float]:
            return in_child(60.0, measured, name, url)

        for number in range(options.rounds):
            progress(f"  round {number + 1} of {options.rounds}: {len(CLIENTS)} clients at once")
            found = threads.map(in_process, CLIENTS)
            for name, (cost, rate) in zip(CLIENTS, found, strict=True):
                costs[name].append(cost)
                if not 0.8 < rate / RATE < 1.2:
                    progress(f"  {name}: {rate:.0f} polls a second, not {RATE:.0f}")
    for what, ours, theirs, target in COMPARED:
        yield _row(what, costs[ours], costs[theirs], target)
    _draw(options, {name: median(cost) for name, cost in costs.items()})


def _row(what: str, ours: list[float], theirs: list[float], target: float) -> Row:
    # Of each round by itself: its clients ran at the same time.
    ratio = median(one / other for one, other in zip(ours, theirs, strict=True))
    return Row(
        QUESTION,
        what,
        f"{ratio:.2f}x",
        f"{median(ours):.0f} against {median(theirs):.0f} µs",
        f"at most {target:g}x",
        ratio <= target,
    )


def _draw(options: Options, costs: Mapping[str, float]) -> None:
    from benchmarks import plots

    figure, (panel,) = plots.new("CPU per poll, 167 polls a second")
    plots.bars(panel, costs, "µs of CPU, user and system")
    plots.save(figure, options, "cpu_per_poll")

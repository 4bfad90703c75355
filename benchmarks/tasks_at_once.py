"""Many tasks at once on real sockets: does every result come, how soon, and at what cost?

The simulator has a process of its own. Tasks take it, and the client's plan of looks gives them,
the documents' times, both divided by one speed. The ideal is a client that hears of each task at
the moment at which it is over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import httpx2

from apixo_async import AsyncClient, GptImage1, Polling, Result, Statistics
from apixo_async._core.documents import timing
from apixo_async._transport import build_transport
from apixo_async.aiohttp import AiohttpTransport
from apixo_async.testing import serve_process
from benchmarks import Answer, Options

KEY = "benchmark-key"
DOCUMENTED = 30.0  # seconds that a task of gpt-image-1 takes, about
PLAN = timing("gpt-image-1")  # first look and interval of such a task
TICK = 0.005  # seconds between two looks at the clock

#: What carries the requests to a URL, by name.
TRANSPORTS: dict[str, Callable[[str], httpx2.AsyncBaseTransport]] = {
    "httpx2": lambda url: build_transport(url, proxy="", verify=True),
    "aiohttp": lambda _: AiohttpTransport(),
}


class CountingTransport(httpx2.AsyncBaseTransport):
    """Pass requests on, and count how many wait for an answer at once."""

    phase_aware = True  # as both transports inside are

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner
        self._in_flight = 0
        self.most = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request."""
        self._in_flight += 1
        self.most = max(self.most, self._in_flight)
        try:
            return await self._inner.handle_async_request(request)
        finally:
            self._in_flight -= 1

    async def aclose(self) -> None:
        """Close the transport inside."""
        await self._inner.aclose()


@dataclass
class Meter:
    """The cost of what runs beside it.

    Attributes:
        cpu: Seconds of this process, the ticks' own included.
        freeze: The most seconds by which a tick came late.
    """

    cpu: float = 0.0
    freeze: float = 0.0

    async def tick(self) -> None:
        """Look at the clock again and again; whatever holds the loop makes a tick late."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TICK
            await asyncio.sleep(TICK)
            self.freeze = max(self.freeze, loop.time() - due)


@asynccontextmanager
async def metered() -> AsyncGenerator[Meter]:
    """Measure what happens inside of the context."""
    meter = Meter()
    started = time.process_time()
    async with asyncio.TaskGroup() as group:
        ticking = group.create_task(meter.tick())
        yield meter
        ticking.cancel()
    meter.cpu = time.process_time() - started


@dataclass(frozen=True)
class Run:
    """What one run gave.

    Attributes:
        results: Those that came.
        submitted: Seconds until the last task was created.
        wall: Seconds until the last result came.
        ideal: Seconds until the last task was over at the service.
        delay: Mean seconds from the end of a task to its result here.
    """

    results: list[Result]
    submitted: float
    wall: float
    ideal: float
    delay: float
    meter: Meter
    statistics: Statistics
    most: int


async def generate_all(url: str, inner: httpx2.AsyncBaseTransport, tasks: int, speed: float) -> Run:
    """Generate so many images at once."""
    transport = CountingTransport(inner)
    heard: list[float] = []
    polling = Polling.fixed(PLAN.first / speed, PLAN.interval / speed)
    async with AsyncClient(KEY, base_url=url, transport=transport, polling=polling) as client:

        async def generate(number: int) -> Result:
            wanted = GptImage1(prompt=f"cafe {number}", aspect_ratio="1:1", num_images=1)
            result = await client.generate(wanted)
            heard.append(time.time() - unix(result.completed_at))
            return result

        started = time.time()
        async with metered() as meter:
            results = await asyncio.gather(*map(generate, range(tasks)))
        return Run(
            results,
            submitted=max(unix(result.created_at) for result in results) - started,
            wall=time.time() - started,
            ideal=max(unix(result.completed_at) for result in results) - started,
            delay=sum(heard) / tasks,
            meter=meter,
            statistics=client.statistics(),
            most=transport.most,
        )


def unix(stamp: datetime | None) -> float:
    """Return a stamp of the service in Unix time; its clock is this machine's."""
    assert stamp is not None
    return stamp.timestamp()


def figures(run: Run, tasks: int, created: int) -> Iterator[tuple[str, str]]:
    """Yield the figures of one run, by name."""
    distinct = len({result.task_id for result in run.results})
    yield "results, of tasks created", f"{distinct:,} of {created:,}"
    yield "last task created", f"after {run.submitted:.1f} s"
    yield "wall, against the ideal", f"{run.wall:.1f} s, {run.ideal:.1f} s"
    yield "mean delay of the news", f"{run.delay:.2f} s"
    yield "looks a task", f"{run.statistics.looks / tasks:.2f}"
    yield "CPU of the client", f"{run.meter.cpu:.2f} s"
    yield "worst freeze of the loop", f"{run.meter.freeze * 1000:.0f} ms"
    yield "most requests in flight", f"{run.most}"


def run(options: Options) -> Iterator[Answer]:
    """Measure with each of the two transports."""
    speed = DOCUMENTED / options.seconds
    for name, make in TRANSPORTS.items():
        with serve_process(key=KEY, speed=speed) as url:
            done = asyncio.run(generate_all(url, make(url), options.tasks, speed))
            seen = httpx2.get(f"{url}/_simulator/statistics", trust_env=False)
            created: int = seen.json()["created"]
        question = f"{options.tasks:,} tasks at once, about {options.seconds:g} s each, {name}"
        yield Answer(question, dict(figures(done, options.tasks, created)))

"""Runs of many tasks in an application, the service in another process, and their worth.

`python -m tests.support.webhook_runs` has each application make 1,000 tasks, and once more without
webhooks, and prints how old the news is and what it costs. A number makes so many tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import httpx2

from apixo_async import AsyncClient, Limits, Polling
from apixo_async._polling.schedule import PollTimes
from apixo_async.testing import serve_process

from .webhook_apps import BOUND, App, AppOf, News, aiohttp_app, client_of, fastapi_app

SPEED: Final = 10.0  # the documents' 20 to 40 s become 2 to 4 s
#: The documented times at that speed, and polls that learn, beginning with it.
DOCUMENTED: Final = Polling.fixed(20 / SPEED, 3 / SPEED)
LEARNED: Final = Polling(PollTimes(20 / SPEED, 3 / SPEED), floor=0.5 / SPEED)
#: A tenth each of the tasks is told of twice, never, and before the answer to its submit.
TENTHS: Final = {"lost_callbacks": 0.1, "duplicate_callbacks": 0.1, "early_callbacks": 0.1}
_RATE: Final = 60.0  # tasks a second; two cores bear the documents' polls them

#: Asks the service for a list.
Question: TypeAlias = Callable[[], Awaitable[list[dict[str, Any]]]]


class Service:
    """The simulator in the other process, as it says itself what it saw.

    Args:
        url: Its base URL.
        http: Asks it.
    """

    def __init__(self, url: str, http: httpx2.AsyncClient) -> None:
        self.url = url
        self._http = http

    async def asked(self, question: str) -> Any:
        """Return what it answers one of its own questions."""
        return (await self._http.get(f"{self.url}/_simulator/{question}")).json()

    async def statistics(self) -> Any:
        """Return its totals."""
        return await self.asked("statistics")

    async def attempts(self) -> list[dict[str, Any]]:
        """Return its posts of callbacks that are over."""
        return list(await self.asked("callbacks"))

    async def submits(self) -> list[dict[str, Any]]:
        """Return the submits that arrived."""
        return [one for one in await self.asked("log") if one["kind"] == "submit"]

    async def polls(self) -> list[dict[str, Any]]:
        """Return the polls that arrived."""
        return [one for one in await self.asked("log") if one["kind"] == "poll"]

    async def until(self, question: Question, count: int) -> list[dict[str, Any]]:
        """Ask until there are so many: the other process tells nobody by itself."""

        async def answer() -> list[dict[str, Any]]:
            while len(said := await question()) < count:  # noqa: ASYNC110 # no event crosses processes
                await asyncio.sleep(0.02)
            return said

        return await asyncio.wait_for(answer(), BOUND)

    async def until_attempts(self, count: int) -> list[dict[str, Any]]:
        """Return the posts of callbacks that are over, once there are so many."""
        return await self.until(self.attempts, count)


@contextlib.asynccontextmanager
async def service_of(**options: Any) -> AsyncGenerator[tuple[Service, httpx2.AsyncClient]]:
    """Run the service in another process; with it comes who visits the applications."""
    # A visitor uses no connection that the server, after 5 s of rest, may be closing.
    limits = httpx2.Limits(max_connections=None, keepalive_expiry=2.0)
    async with httpx2.AsyncClient(limits=limits, timeout=2 * BOUND, trust_env=False) as http:
        # Starting a process takes a while, in which the loop goes on.
        with contextlib.ExitStack() as stack:
            enter = partial(stack.enter_context, serve_process(**options))
            yield Service(await asyncio.to_thread(enter), http), http


async def visit(http: httpx2.AsyncClient, app: App, number: int) -> News:
    """Have a handler of the application make images."""
    answer = await http.post(f"{app.url}/images/{number}")
    assert answer.status_code == 200, answer.text
    return News(**answer.json())


async def paced(app: App, http: httpx2.AsyncClient, tasks: int, rate: float) -> list[News]:
    """Have so many tasks a second made, half of them by visitors, and return them in order."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    running: list[asyncio.Task[News]] = []
    for number in range(tasks):
        await asyncio.sleep(max(0.0, start + number / rate - loop.time()))
        made = visit(http, app, number) if number % 2 else app.generate(number)
        running.append(asyncio.create_task(made))
    return await asyncio.gather(*running)


# --- figures ---------------------------------------------------------------------------------


class Figures(NamedTuple):
    """What a run was worth.

    Attributes:
        ages: How old the news of each delivered task was, in seconds, sorted.
        late: The same for tasks of which no callback told.
        polls: Polls a task.
        wall: Seconds of the whole run.
    """

    ages: list[float]
    late: list[float]
    polls: float
    wall: float

    def __str__(self) -> str:
        parts = [f"{self.polls:.2f} polls a task", f"{self.wall:.1f} s in all"]
        for name, ages in (("news", self.ages), ("news of lost ones", self.late)):
            if ages:
                mean, middle = statistics.mean(ages), ages[len(ages) // 2]
                last = ages[int(0.99 * len(ages))]
                figures = f"{1e3 * mean:.0f} / {1e3 * middle:.0f} / {1e3 * last:.0f} ms"
                parts.append(f"{name} {figures} (mean, median, p99; {len(ages)} tasks)")
        return "; ".join(parts)


async def measured(
    app: App, service: Service, made: list[News], wall: float, *, webhooks: bool = True
) -> Figures:
    """Return the figures of a run that is over."""
    told = {attempt["task_id"] for attempt in await service.attempts()}
    known_at = dict(app.settled)
    ages: dict[bool, list[float]] = {True: [], False: []}
    for news in made:
        delivered = news.task_id in told or not webhooks
        ages[delivered].append(known_at[news.task_id] - news.ended_at)
    polls = (await service.statistics())["requests"]["poll"] / len(made)
    return Figures(sorted(ages[True]), sorted(ages[False]), polls, wall)


@contextlib.asynccontextmanager
async def started(
    serve: AppOf, *, webhooks: bool = True, simulator: dict[str, Any] | None = None, **options: Any
) -> AsyncGenerator[tuple[App, Service, httpx2.AsyncClient]]:
    """Run an application against a service that has options of its own."""
    common = {"seed": 1, "speed": SPEED, "balance": 10_000.0}
    async with service_of(**common | (simulator or {})) as (service, http):

        def make(app: App, **given: Any) -> AsyncClient:
            return client_of(service.url, app, **options, **(given if webhooks else {}))

        async with serve(make) as app:
            yield app, service, http


async def _run(serve: AppOf, tasks: int, *, webhooks: bool, polling: Polling) -> Figures:
    # Sped up with the tasks, so that the documents' polls fit.
    per_minute = int(SPEED * 10_000)
    limits = Limits(requests_per_minute=per_minute)
    simulator = TENTHS | {"requests_per_minute": per_minute}
    run = started(serve, webhooks=webhooks, simulator=simulator, polling=polling, limits=limits)
    async with run as (app, service, http):
        start = time.monotonic()
        made = await paced(app, http, tasks, _RATE)
        wall = time.monotonic() - start
        return await measured(app, service, made, wall, webhooks=webhooks)


def main(tasks: int = 1_000) -> None:
    """Print what webhooks are worth."""
    runs = {
        "FastAPI under uvicorn": (fastapi_app, True, LEARNED),
        "aiohttp": (aiohttp_app, True, LEARNED),
        "no webhooks, the documented times": (aiohttp_app, False, DOCUMENTED),
        "no webhooks, learned polls": (aiohttp_app, False, LEARNED),
    }
    for name, (serve, webhooks, polling) in runs.items():
        figures = asyncio.run(_run(serve, tasks, webhooks=webhooks, polling=polling))
        sys.stdout.write(f"{name}: {figures}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))

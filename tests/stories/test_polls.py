"""Polls that follow what tasks take, through the whole client."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from apixo_async import (
    APITimeoutError,
    AsyncClient,
    Event,
    FluxKontext,
    Limits,
    OtherModel,
    Polling,
    Task,
    TaskSettled,
)
from apixo_async.testing import Simulator

ClientOf = Callable[..., AsyncClient]
EPOCH = 1_800_000_000.0  # the service's stamps are the same in each run
CASTLE = FluxKontext(mode="pro", prompt="a castle")
SLOW = OtherModel("slow-model", prompt="a castle")


@dataclass(frozen=True)
class News:
    """What the news of some tasks took, on the average."""

    polls: float
    delay: float


def lasting(mean: float, spread: float) -> Callable[..., float]:
    """Return what draws the durations of tasks."""

    def draw(_model: str, _given: object, source: random.Random) -> float:
        return mean * source.lognormvariate(0.0, spread)

    return draw


async def stream(client: AsyncClient, tasks: int, at_once: int) -> dict[str, float]:
    """Run so many tasks, so many at once; return how long each took the service."""
    numbers, took = iter(range(tasks)), {}

    async def generate_all(number: int) -> None:
        await asyncio.sleep(number)  # not all in step
        for _ in numbers:
            result = await client.generate(CASTLE)
            assert result.completed_at is not None
            assert result.created_at is not None
            took[result.task_id] = (result.completed_at - result.created_at).total_seconds()

    await asyncio.gather(*map(generate_all, range(at_once)))
    return took


def news(events: list[Event], took: dict[str, float], last: int) -> News:
    """Return what the news of the last tasks took."""
    settled = [event for event in events if isinstance(event, TaskSettled)][-last:]
    delays = [event.age - took[event.task_id] for event in settled]
    return News(sum(event.polls for event in settled) / last, sum(delays) / last)


@pytest.mark.heavy
async def test_news_comes_earlier_for_no_more_polls(
    client_of: ClientOf, events: list[Event]
) -> None:
    """News of tasks of 30 s and 12 % is half as late as by the plan, for no more polls."""
    heard: list[News] = []
    for polling in (Polling.documented(), Polling.adaptive()):
        simulator = Simulator(seed=1, durations=lasting(30.0, 0.12), epoch=EPOCH)
        took = await stream(client_of(simulator, latency=0.002, polling=polling), 500, 50)
        heard.append(news(events, took, last=300))
    by_plan, learned = heard
    assert learned.polls < 1.05 * by_plan.polls
    assert learned.delay < 0.65 * by_plan.delay


@pytest.mark.heavy
async def test_a_busy_account_wastes_nothing(client_of: ClientOf) -> None:
    """With an endless queue, requests and slots are used up and never exceeded."""
    simulator = Simulator(
        seed=1, durations=lasting(12.0, 0.3), concurrent_tasks=50, requests_per_minute=500
    )
    client = client_of(simulator, limits=Limits(50, 500))

    async def generate_for_ever() -> None:
        while True:
            await client.generate(CASTLE)

    busy = [asyncio.create_task(generate_for_ever()) for _ in range(70)]
    await asyncio.sleep(120.0)
    before, over = len(simulator.log), client.statistics().succeeded
    await asyncio.sleep(300.0)
    requests, done = len(simulator.log) - before, client.statistics().succeeded - over
    assert client.statistics().throttled == 0
    assert 0.95 * 2_500 <= requests <= 2_500
    # The plan would take 5.6 requests a task and get 890 of them done in this time.
    assert done > 950
    for one in busy:
        one.cancel()
    await asyncio.gather(*busy, return_exceptions=True)


@pytest.mark.heavy
async def test_a_service_that_becomes_slower(client_of: ClientOf, events: list[Event]) -> None:
    """After a hundred tasks that take twice as long, polls come when such tasks end."""
    slow = False

    def draw(_model: str, _given: object, source: random.Random) -> float:
        return (60.0 if slow else 30.0) * source.lognormvariate(0.0, 0.1)

    simulator = Simulator(seed=1, durations=draw, epoch=EPOCH)
    client = client_of(simulator)
    quick = news(events, await stream(client, 300, 30), last=150)
    slow = True
    await stream(client, 130, 30)
    later = news(events, await stream(client, 100, 30), last=100)
    assert quick.polls < 5.2
    # By the plan such a task takes 15 polls, and its news is 1.5 s late.
    assert later.polls < 17
    assert later.delay < 1.0


async def test_limits_that_change_while_running(client_of: ClientOf) -> None:
    """Tasks that wait for a slot go as soon as the limit is raised."""
    simulator = Simulator(seed=1)
    client = client_of(simulator, limits=Limits(2, 600))
    tasks = [asyncio.create_task(client.submit(CASTLE)) for _ in range(10)]
    await asyncio.sleep(1.0)
    assert simulator.created == 2
    client.limits = Limits(10, 600)
    await asyncio.sleep(1.0)
    assert simulator.created == 10
    assert (client.limits, client.statistics().slots_limit) == (Limits(10, 600), 10)
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("askers", ["balance", "refresh", "both"])
async def test_callers_who_ask_leave_scheduled_polls_their_share(
    client_of: ClientOf, askers: str
) -> None:
    """Tasks that nobody asks for are seen to their end, whoever asks for more than the limit."""

    # Of 60 requests a minute half are left to the polls of 16 tasks: each has one every 32 s.
    def draw(model: str, *_: object) -> float:
        return 40.0 if model == CASTLE.model else 600.0

    simulator = Simulator(seed=1, durations=draw, requests_per_minute=60)
    client = client_of(simulator, limits=Limits(30, 60), polling=Polling.documented())
    asked = [await client.submit(SLOW) for _ in range(4)]

    async def ask(one: Task) -> None:
        while True:
            with contextlib.suppress(APITimeoutError):
                await one.refresh()

    async def ask_for_balance() -> None:
        while True:
            with contextlib.suppress(APITimeoutError):
                await client.balance()

    crowd = []
    if askers != "refresh":
        crowd += [asyncio.create_task(ask_for_balance()) for _ in range(200)]
    if askers != "balance":
        crowd += [asyncio.create_task(ask(one)) for one in asked for _ in range(10)]
    start = asyncio.get_running_loop().time()
    tasks = [await client.submit(CASTLE) for _ in range(12)]
    assert [len((await task).urls) for task in tasks] == [1] * 12
    assert asyncio.get_running_loop().time() - start < 120.0
    for one in crowd:
        one.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)


async def test_refresh_among_callers_of_balance(client_of: ClientOf) -> None:
    """A poll that was asked for goes out within seconds, whoever asks for the balance before it."""
    simulator = Simulator(seed=1, requests_per_minute=60)
    client = client_of(simulator, limits=Limits(30, 60))
    task = await client.submit(SLOW)
    crowd = [asyncio.create_task(client.balance()) for _ in range(200)]
    await asyncio.sleep(5.0)
    async with asyncio.timeout(5.0):
        assert (await task.refresh()).state in ("pending", "processing")
    for one in crowd:
        one.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)


@pytest.mark.anyio
async def test_a_crowd_that_is_unknown(client_of: ClientOf, events: list[Event]) -> None:
    """Where all polls of a crowd exceed the limit, nearly all results come within two intervals."""
    limits = Limits(100, 1_000)
    client = client_of(Simulator(seed=1, durations=lasting(30.0, 0.12)), limits=limits)
    await asyncio.gather(*(client.generate(CASTLE) for _ in range(100)))
    delays = sorted(one.delay or 0.0 for one in events if isinstance(one, TaskSettled))
    assert len(delays) == 100
    assert delays[98] < 2 * 3.0

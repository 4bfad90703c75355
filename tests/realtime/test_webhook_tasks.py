"""Callbacks complete awaited tasks in real applications; the service runs in another process."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections import Counter
from typing import Any, Final

import pytest

from apixo_async import AsyncClient, Polling, Task, TaskOrphaned, TaskSettled, TaskSubmitted
from apixo_async.webhooks import WebhookReceiver

from ..support.webhook_apps import (
    BOUND,
    SECRET,
    App,
    AppOf,
    News,
    aiohttp_app,
    aiohttp_receiver,
    cancelling_app,
    fastapi_app,
    fastapi_receiver,
    image,
    listening_socket,
)
from ..support.webhook_runs import (
    LEARNED,
    TENTHS,
    Service,
    measured,
    paced,
    service_of,
    started,
    visit,
)

both_apps = pytest.mark.parametrize("serve", [fastapi_app, aiohttp_app], ids=["FastAPI", "aiohttp"])
#: What is slow is run in one; the long form (`nox -s soak`) takes both.
one_app = pytest.mark.parametrize(
    "serve",
    [
        pytest.param(fastapi_app, id="FastAPI"),
        pytest.param(aiohttp_app, id="aiohttp", marks=pytest.mark.long),
    ],
)
#: Tasks of 0.7 to 1.3 s, and a redelivery after 1 s.
FAST = {"speed": 30.0}
#: Past its first poll, which only makes up for a callback, when every such task is long over.
PATIENT = Polling.fixed(600.0, 10.0)


#: Tasks of each application; APIXO_WEBHOOK_TASKS=1000 is the long form.
TASKS: Final = int(os.environ.get("APIXO_WEBHOOK_TASKS", "60"))


def settled(app: App) -> list[TaskSettled]:
    """Return the tasks that are over, each time that one was."""
    return [event for event in app.events if isinstance(event, TaskSettled)]


def submitted(app: App) -> list[str]:
    """Return the ids of the tasks that were bought."""
    return [event.task_id for event in app.events if isinstance(event, TaskSubmitted)]


async def polls_of(service: Service, task_id: str) -> list[float]:
    """Return when the service was asked for a task."""
    return [poll["at"] for poll in await service.polls() if poll["task_id"] == task_id]


def assert_made(number: int, news: News) -> None:
    """Check that news are those of a task, and not of its neighbour."""
    paths = [url.partition("/results/")[2].rpartition(".")[0] for url in news.urls]
    assert paths == [f"{news.task_id}/{index}" for index in range(image(number).num_images)]


# --- many tasks ------------------------------------------------------------------------------


@one_app
async def test_many_tasks(serve: AppOf) -> None:
    """With tenths lost, doubled and early, each task completes once, for a poll or two."""
    async with started(serve, simulator=TENTHS, polling=LEARNED) as (app, service, http):
        async with asyncio.timeout(3 * BOUND):
            made = await paced(app, http, TASKS, rate=80.0)
        for number, news in enumerate(made):
            assert_made(number, news)
        told = (await service.statistics())["callbacks"]
        posts = TASKS - told["lost"] + told["duplicated"]
        attempts = await service.until_attempts(posts)
        seen = await service.statistics()
        figures = await measured(app, service, made, 0.0)
        counts = app.client.statistics()
    ids = sorted(news.task_id for news in made)
    assert len(set(ids)) == TASKS == seen["created"] == seen["requests"]["submit"]
    assert sorted(event.task_id for event in settled(app)) == ids
    assert {event.outcome for event in settled(app)} == {"success"}
    assert (counts.slots_used, counts.uncertain, counts.throttled) == (0, 0, 0)
    # On a busy machine some are not answered in time, which is shorter in a fast service: they are
    # posted again.
    statuses = Counter(attempt["status"] for attempt in attempts)
    assert statuses.keys() <= {200, None}
    assert statuses[200] >= 0.9 * posts
    assert seen["callbacks"] | {"delivered": 0, "failed": 0} == told | {"delivered": 0, "failed": 0}
    assert min(told["lost"], told["early"], told["duplicated"]) >= 0.05 * TASKS
    assert len(figures.late) == told["lost"]
    assert figures.polls <= 2.0  # 1.02 where nothing else runs; a late callback costs a poll.
    assert app.orphans == []


# --- handlers that are cancelled -------------------------------------------------------------


async def assert_completed(app: App, service: Service) -> None:
    """Check that the one task was paid once, went on, and was completed by its callback."""
    await app.until(lambda: settled(app))
    [event] = settled(app)
    assert (event.outcome, event.polls) == ("success", 1)
    assert [event.task_id] == submitted(app)
    [attempt] = await service.until_attempts(1)
    assert (attempt["task_id"], attempt["status"]) == (event.task_id, 200)
    assert (await service.statistics())["created"] == 1
    assert app.client.unfinished == ()
    assert app.client.statistics().slots_used == 0


@pytest.mark.parametrize(
    ("serve", "cancels"),
    [(fastapi_app, False), (aiohttp_app, False), (cancelling_app, True)],
    ids=["FastAPI", "aiohttp", "aiohttp that cancels"],
)
async def test_visitor_who_leaves(serve: AppOf, cancels: bool) -> None:
    """Whatever the server does to the handler of a visitor who left, the paid task completes."""
    async with started(serve, simulator=FAST, polling=PATIENT) as (app, service, http):
        visitor = asyncio.create_task(visit(http, app, 0))
        await app.until(lambda: submitted(app))
        [handler] = app.handlers
        visitor.cancel()
        await asyncio.wait([visitor])
        if cancels:
            await app.until(lambda: app.orphans)
            [orphan] = app.orphans
            assert isinstance(orphan, Task)
            assert not orphan.done()
            assert app.client.unfinished == (orphan.ref,)
            assert (await orphan).urls
        await assert_completed(app, service)
        await asyncio.wait([handler], timeout=BOUND)
        assert handler.done()
        assert len(app.orphans) == cancels


@one_app
@pytest.mark.parametrize("during", ["the POST", "the wait"])
async def test_cancelled_handler(serve: AppOf, during: str) -> None:
    """A handler that is cancelled leaves its paid task to `on_orphan`, and it completes."""
    options: dict[str, Any] = FAST | ({"latency": 0.5} if during == "the POST" else {})
    async with started(serve, simulator=options, polling=PATIENT) as (app, service, http):
        visitor = asyncio.create_task(visit(http, app, 0))
        if during == "the POST":
            await service.until(service.submits, 1)
            assert submitted(app) == []
        else:
            await app.until(lambda: submitted(app))
            # An exchange with another process is longer than the handler's way to its next await.
            assert (await service.statistics())["created"] == 1
        [handler] = app.handlers
        handler.cancel()
        await asyncio.wait([visitor], timeout=BOUND)
        assert visitor.exception() is not None
        await app.until(lambda: app.orphans)
        [orphan] = app.orphans
        assert isinstance(orphan, Task)
        assert app.client.unfinished == (orphan.ref,)
        named = [event.task_id for event in app.events if isinstance(event, TaskOrphaned)]
        assert named == ([orphan.id] if during == "the POST" else [])
        assert (await orphan).task_id == orphan.id
        await assert_completed(app, service)


# --- crowds ----------------------------------------------------------------------------------


@one_app
async def test_a_hundred_deliveries_at_once(serve: AppOf) -> None:
    """Hundreds of deliveries of a task complete it once, and cause a poll a second at most."""
    simulator = {"processing_callbacks": 1.0}
    async with started(serve, simulator=simulator, polling=PATIENT) as (app, service, http):
        visitor = asyncio.create_task(visit(http, app, 0))
        [attempt, *_] = await service.until_attempts(1)
        task_id = attempt["task_id"]
        data = {"taskId": task_id, "state": "success", "resultJson": '{"resultUrls": ["x"]}'}
        body = json.dumps({"code": 200, "message": "success", "data": data}).encode()

        async def crowd() -> set[int]:
            answers = (http.post(attempt["url"], content=body) for _ in range(100))
            return {answer.status_code for answer in await asyncio.gather(*answers)}

        async with asyncio.timeout(BOUND):
            while not visitor.done():
                assert await crowd() == {200}
            news = await visitor
        polls = await polls_of(service, task_id)
        assert_made(0, news)
        assert await crowd() == {200}
        assert await polls_of(service, task_id) == polls
        assert [event.task_id for event in settled(app)] == [task_id]
        assert app.orphans == []
    # A task of 4 s at most: one poll each second, and one after its end. On a busy machine the
    # first crowd alone may take as long.
    assert 1 <= len(polls) <= 6


# --- receivers that are away -----------------------------------------------------------------


@pytest.mark.parametrize(
    "receive", [fastapi_receiver, aiohttp_receiver], ids=["FastAPI", "aiohttp"]
)
async def test_restarted_server(receive: Any) -> None:
    """A callback that met a server which was down is delivered again, and completes its task."""
    listening, url = listening_socket()
    port = listening.getsockname()[1]
    receiver = WebhookReceiver(f"{url}/apixo", SECRET)
    async with service_of(**FAST, seed=1) as (service, _):
        options: dict[str, Any] = {"base_url": service.url, "polling": PATIENT}
        async with AsyncClient("test-key", webhooks=receiver, **options) as client:
            async with receive(receiver, listening):
                before = await asyncio.wait_for(client.generate(image(0)), BOUND)
            task = await client.submit(image(1))
            await service.until_attempts(2)
            assert not task.done()
            async with receive(receiver, listening_socket(port)[0]):
                assert (await asyncio.wait_for(task, BOUND)).urls
                delivered = await service.until_attempts(3)
        attempts = [(one["task_id"], one["number"], one["status"]) for one in delivered]
        assert attempts == [(before.task_id, 1, 200), (task.id, 1, None), (task.id, 2, 200)]
        assert (await service.statistics())["requests"]["poll"] == 2


async def test_receiver_that_nobody_reaches() -> None:
    """A client that never hears of its task completes it by its late poll, and by no other."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # It does not listen: whoever calls is refused.
        receiver = WebhookReceiver(f"http://127.0.0.1:{deaf.getsockname()[1]}/apixo", SECRET)
        async with service_of(**FAST, seed=1) as (service, _):
            # A callback counts as lost ten intervals after the plan's first poll: after 2 s.
            options: dict[str, Any] = {"base_url": service.url, "polling": Polling.fixed(1.0, 0.1)}
            async with AsyncClient("test-key", webhooks=receiver, **options) as client:
                result = await asyncio.wait_for(client.generate(image(0)), BOUND)
                assert client.statistics().slots_used == 0
            assert result.urls
            assert len(await polls_of(service, result.task_id)) == 1
            assert {one["status"] for one in await service.attempts()} == {None}

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import Callable

import pytest

from apixo_async import (
    APIConnectionError,
    AsyncClient,
    FluxKontext,
    Limits,
    PollerDied,
    PollerDiedError,
    PollFailed,
    Task,
    TaskRef,
)
from apixo_async._http import verdicts
from apixo_async._http.api import Api
from apixo_async._http.wire import Answer
from apixo_async._limits.limiter import Permit
from apixo_async._polling.registry import TaskRegistry
from apixo_async.testing import Fault, Simulator

ClientOf = Callable[..., AsyncClient]
CASTLE = FluxKontext(mode="pro", prompt="a castle")


def broken(*_: object, **__: object) -> None:
    """Stand in for a part that has a defect."""
    raise RuntimeError("a defect")


PLACES = [
    (TaskRegistry, "next_due"),
    (TaskRegistry, "apply"),
    (Api, "get"),
    (Api, "try_admit"),
]


@pytest.mark.parametrize(("cls", "name"), PLACES, ids=[name for _, name in PLACES])
async def test_death_is_told_to_everybody(
    simulator: Simulator,
    client_of: ClientOf,
    monkeypatch: pytest.MonkeyPatch,
    events: list[object],
    cls: type,
    name: str,
) -> None:
    """Wherever the poller dies, every waiter and the next submit get the cause at once."""
    client = client_of(simulator)
    tasks = [await client.submit(CASTLE) for _ in range(3)]
    waiters = [asyncio.ensure_future(task) for task in tasks]
    updates = tasks[0].updates()
    await anext(updates)
    watcher = asyncio.ensure_future(anext(updates))
    await asyncio.sleep(1)
    monkeypatch.setattr(cls, name, broken)
    async with asyncio.timeout(30):
        ends = await asyncio.gather(*waiters, watcher, return_exceptions=True)
    for error in ends:
        assert isinstance(error, PollerDiedError)
        assert isinstance(error.__cause__, RuntimeError)
    for ask in (client.submit(CASTLE), tasks[0].refresh()):
        with pytest.raises(PollerDiedError, match="attach to them with a new one"):
            await ask
    assert [event for event in events if isinstance(event, PollerDied)] == [
        PollerDied("RuntimeError: a defect")
    ]
    assert client.unfinished == tuple(task.ref for task in tasks)
    monkeypatch.undo()
    rescued = client_of(simulator)
    assert len(await asyncio.gather(*(rescued.attach(task.ref) for task in tasks))) == 3


async def test_runner_cancelled_from_outside(simulator: Simulator, client_of: ClientOf) -> None:
    """A poller that somebody else cancels is dead, and says so instead of hanging."""
    client = client_of(simulator)
    task = await client.submit(CASTLE)
    waiter = asyncio.ensure_future(task)
    await asyncio.sleep(1)
    [runner] = [one for one in asyncio.all_tasks() if one.get_name() == "apixo_async poller"]
    runner.cancel()
    with pytest.raises(PollerDiedError, match="cancelled from outside"):
        await waiter


async def test_bought_while_the_poller_died(
    simulator: Simulator, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task whose answer comes after the poller's death has an id, and its waiters are told."""
    client = client_of(simulator, latency=2.0)
    first = await client.submit(CASTLE)
    submit = asyncio.create_task(client.submit(CASTLE))
    await asyncio.sleep(1)
    monkeypatch.setattr(TaskRegistry, "next_due", broken)
    refresh = asyncio.create_task(first.refresh())
    task = await submit
    with pytest.raises(PollerDiedError):
        await task
    assert task.id in simulator.tasks
    with pytest.raises(PollerDiedError):
        await refresh


async def test_no_context_leaks_into_polls(simulator: Simulator) -> None:
    """Context variables of the caller that starts the poller are not seen by its polls."""
    request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id")
    seen: list[str] = []
    transport = simulator.transport()
    handle = transport.handle_async_request

    async def spy(request: object) -> object:
        if "statusTask" in str(getattr(request, "url", "")):
            seen.append(request_id.get("none"))
        return await handle(request)  # type: ignore[arg-type]  # the spy is blind to types

    transport.handle_async_request = spy  # type: ignore[assignment,method-assign]
    request_id.set("caller")
    async with AsyncClient("test-key", transport=transport) as client:
        await client.generate(CASTLE)
    assert seen
    assert set(seen) == {"none"}


async def test_one_poller_for_all(simulator: Simulator, client_of: ClientOf) -> None:
    """A hundred waiting tasks need one poller and no further asyncio.Task."""
    client = client_of(simulator)
    before = asyncio.all_tasks()
    for _ in range(100):
        await client.submit(CASTLE)
    started = asyncio.all_tasks() - before
    assert [task.get_name() for task in started] == ["apixo_async poller"]


async def test_asked_poll_overtakes_scheduled_ones(client_of: ClientOf) -> None:
    """When permits are scarce, a poll that somebody asked for is the next one."""
    simulator = Simulator(seed=1, durations=300.0)
    client = client_of(simulator, limits=Limits(requests_per_minute=30))
    tasks: list[Task] = [await client.submit(CASTLE) for _ in range(20)]
    await asyncio.sleep(60)
    asked_at = asyncio.get_running_loop().time()
    await tasks[-1].refresh()
    since = [e.task_id for e in simulator.log if e.kind == "poll" and e.at > asked_at]
    assert tasks[-1].id in since[:2]


async def test_expiry_while_everything_is_closed(client_of: ClientOf) -> None:
    """A task gives its slot back although 429s keep its polls from telling, and ends later."""
    simulator = Simulator(seed=1)
    client = client_of(simulator)
    task = await client.submit(CASTLE)
    simulator.faults.during(0, 1e9, Fault.status(429, retry_after=60.0), "poll")
    assert not await task.wait(1_820)
    assert client.statistics().slots_used == 1
    assert not await task.wait(20)
    assert client.statistics().slots_used == 0
    async with asyncio.timeout(1_900):
        await task.wait()
    assert "abandoned" in type(task.exception()).__name__.lower()


@pytest.mark.parametrize(
    "fault", [Fault.status(429, retry_after=60.0), Fault.status(500), Fault.hang(), Fault.refused()]
)
async def test_an_outage_longer_than_the_age_limit(client_of: ClientOf, fault: Fault) -> None:
    """Results of tasks that no poll could see for 35 minutes are not lost."""
    simulator = Simulator(seed=1)
    client = client_of(simulator)
    tasks = [await client.submit(CASTLE) for _ in range(3)]
    now = asyncio.get_running_loop().time()
    simulator.faults.during(now, now + 2_100, fault, "poll")
    assert len(await asyncio.gather(*tasks)) == 3
    assert asyncio.get_running_loop().time() < now + 2_100 + 70


async def test_an_answer_that_cannot_be_judged(
    simulator: Simulator, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch, events: list[object]
) -> None:
    """A defect in judging one task's answers is no news of that task, and harms no other."""
    client = client_of(simulator)
    odd, *others = [await client.submit(CASTLE) for _ in range(3)]
    working = verdicts.judge_poll

    def broken(answer: Answer, ref: TaskRef) -> verdicts.PollVerdict:
        if ref == odd.ref:
            raise RuntimeError("a defect")
        return working(answer, ref)

    with monkeypatch.context() as patch:
        patch.setattr(verdicts, "judge_poll", broken)
        assert len(await asyncio.gather(*others)) == 2
        with pytest.raises(APIConnectionError, match=f"{odd.id}: .* raised RuntimeError") as caught:
            await odd.refresh()
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert {event.task_id for event in events if isinstance(event, PollFailed)} == {odd.id}
    await odd


async def test_half_an_emoji(simulator: Simulator, client_of: ClientOf) -> None:
    """A result whose text was cut within an emoji is read, by this client and by later ones."""
    inner = json.dumps({"resultUrls": ["https://r2.apixo.ai/a.png"], "caption": "\ud83d"})
    for text in (inner, inner.replace(r"\ud83d", "\ud83d")):
        status = {"state": "success", "resultJson": text}
        answer = Fault.raw(200, json.dumps({"code": 200, "data": status}).encode())
        simulator.faults.poll(Fault.repeat(2, answer))
        result = await client_of(simulator).generate(CASTLE)
        assert result.urls == ("https://r2.apixo.ai/a.png",)
        assert result.raw["caption"] == "\ufffd"
        assert (await client_of(simulator).attach(result.ref)).urls == result.urls


async def test_a_cancellation_that_a_transport_raises(
    simulator: Simulator, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A poll that is cancelled by its own transport is repeated, and the poller goes on."""
    client = client_of(simulator)
    task, get = await client.submit(CASTLE), Api.get
    left = [asyncio.CancelledError()]

    async def cancelled(api: Api, permit: Permit, path: str) -> Answer:
        answer = await get(api, permit, path)
        if left:
            raise left.pop()
        return answer

    monkeypatch.setattr(Api, "get", cancelled)
    assert (await task).urls
    assert not left

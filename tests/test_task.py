from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable

import pytest

from apixo_async import (
    ApixoError,
    AsyncClient,
    AuthenticationError,
    FluxKontext,
    InternalServerError,
    RateLimitError,
    Snapshot,
    Task,
    TaskAbandonedError,
    TaskFailedError,
    TaskNotFoundError,
)
from apixo_async.testing import Fault, Simulator

ClientOf = Callable[..., AsyncClient]
CASTLE = FluxKontext(mode="pro", prompt="a castle")


@pytest.fixture
async def task(simulator: Simulator, client_of: ClientOf) -> Task:
    """Return a task that lasts 30 s."""
    simulator.faults.submit(Fault.task_lasts(30.0))
    return await client_of(simulator).submit(CASTLE)


async def test_await_again_and_again(task: Task) -> None:
    """Every await of a task, at any time and from anywhere, gives the same result."""
    first, second = await asyncio.gather(task, task)
    assert first is second is await task
    assert task.result() is first
    assert task.exception() is None
    assert task.done()
    assert task.state == "success"


async def test_standard_tools(simulator: Simulator, client_of: ClientOf) -> None:
    """A task works in gather, wait_for, as_completed, TaskGroup and wait."""
    client = client_of(simulator)
    tasks = [await client.submit(CASTLE) for _ in range(4)]
    ids = {(await next_done).task_id for next_done in asyncio.as_completed(tasks)}
    assert ids == {task.id for task in tasks}
    assert (await asyncio.wait_for(tasks[0], 1)).task_id == tasks[0].id
    done, pending = await asyncio.wait([task.as_future() for task in tasks])
    assert (len(done), len(pending)) == (4, 0)


async def test_failed_task_raises_a_fresh_exception_each_time(
    simulator: Simulator, client_of: ClientOf
) -> None:
    """Waiters of a failed task never share an exception or its traceback."""
    simulator.faults.submit(Fault.task_fails("CONTENT_VIOLATION", "no"))
    task = await client_of(simulator).submit(CASTLE)
    errors = await asyncio.gather(task.as_future(), task.as_future(), return_exceptions=True)
    errors.append(task.exception())
    with pytest.raises(TaskFailedError) as caught:
        task.result()
    errors.append(caught.value)
    assert {type(error) for error in errors} == {TaskFailedError}
    assert len({id(error) for error in errors}) == 4


async def test_before_its_end(task: Task) -> None:
    """Asking a running task for its result is an error that says what to do."""
    assert not task.done()
    for ask in (task.result, task.exception):
        with pytest.raises(asyncio.InvalidStateError, match="await it first"):
            ask()


async def test_cancelled_waiter(task: Task) -> None:
    """A waiter that is cancelled or times out takes nothing from the task or other waiters."""
    other = asyncio.ensure_future(task)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(task, 5.0)
    future = task.as_future()
    await asyncio.sleep(0)
    future.cancel()
    assert (await other).task_id == task.id


async def test_wait(task: Task) -> None:
    """`wait` says whether the task is over, within its time."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    assert await task.wait(timeout=7.0) is False
    assert loop.time() - start == pytest.approx(7.0)
    assert await task.wait() is True
    assert await task.wait(timeout=0) is True


async def test_wait_raises_nothing_of_a_failure(simulator: Simulator, client_of: ClientOf) -> None:
    """`wait` returns True for a task that failed, and raises why nobody polls any more."""
    simulator.faults.submit(Fault.task_fails("TIMEOUT", "slow"))
    client = client_of(simulator)
    assert await (await client.submit(CASTLE)).wait() is True
    simulator.faults.poll(Fault.status(403))
    denied = await client.submit(CASTLE)
    with pytest.raises(Exception, match="answered 403"):
        await denied.wait()


async def test_updates(task: Task) -> None:
    """A watcher is shown each state once, up to the end, and a late watcher the end alone."""
    states = [snapshot.state async for snapshot in task.updates()]
    assert states == ["processing", "success"]
    assert [snapshot.state async for snapshot in task.updates()] == ["success"]


async def test_updates_of_a_task_nobody_polls_of(task: Task, simulator: Simulator) -> None:
    """A watcher is told when polls pause, instead of hanging."""
    simulator.faults.poll(None, Fault.status(401))
    states: list[str] = []

    async def watch() -> None:
        async for snapshot in task.updates():
            states.append(snapshot.state)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(AuthenticationError):
        await watch()
    assert states == ["processing"]


async def test_refresh(task: Task, simulator: Simulator) -> None:
    """`refresh` polls now, once for all who ask together, and the plan goes on from there."""
    await asyncio.sleep(1)
    start = asyncio.get_running_loop().time()
    first, second = await asyncio.gather(task.refresh(), task.refresh())
    assert first == second
    assert isinstance(first, Snapshot)
    assert asyncio.get_running_loop().time() - start < 0.1
    assert simulator.count("poll") == 1
    await task
    polls = [exchange.at for exchange in simulator.log if exchange.kind == "poll"]
    assert polls[1] - polls[0] > 18
    assert (await task.refresh()).state == "success"
    assert simulator.count("poll") == len(polls)


async def test_refresh_during_a_poll(task: Task, simulator: Simulator) -> None:
    """Who asks while a poll is under way is told what that poll says."""
    simulator.faults.poll(Fault.delay(5.0))
    first = asyncio.create_task(task.refresh())
    await asyncio.sleep(1)
    assert await task.refresh() == await first
    assert simulator.count("poll") == 1


async def test_refresh_that_fails(task: Task, simulator: Simulator) -> None:
    """A refresh raises what kept its poll from telling, and the task goes on."""
    simulator.faults.poll(Fault.status(500))
    with pytest.raises(InternalServerError):
        await task.refresh()
    assert (await task).urls


async def test_refresh_while_everything_is_closed(simulator: Simulator, task: Task) -> None:
    """A refresh that gets no look through, since 429s close everything, ends in bounded time."""
    simulator.faults.during(0, 1e9, Fault.status(429, retry_after=60.0), "poll")
    with pytest.raises(RateLimitError):
        await task.refresh()
    start = asyncio.get_running_loop().time()
    simulator.faults.poll(Fault.repeat(9, Fault.hang()))
    with pytest.raises(ApixoError) as caught:
        await task.refresh()
    assert caught.value.task_id == task.id
    assert asyncio.get_running_loop().time() - start <= 390.0


async def test_cancelled_refresh(task: Task) -> None:
    """A cancelled refresh leaves nothing behind, and the task goes on."""
    refresh = asyncio.create_task(task.refresh())
    await asyncio.sleep(0)
    refresh.cancel()
    assert (await task).urls


async def test_refresh_of_what_was_never_found(simulator: Simulator, client_of: ClientOf) -> None:
    """A task of which no poll ever told anything raises how it ended."""
    task = client_of(simulator).attach("flux-kontext", "task_none")
    await task.wait()
    with pytest.raises(TaskNotFoundError):
        await task.refresh()


async def test_age_limit(simulator: Simulator, client_of: ClientOf) -> None:
    """A task that never ends is abandoned at its age limit, 30 min, and its slot is free."""
    simulator.faults.submit(Fault.task_lasts(1e9))
    client = client_of(simulator)
    start = asyncio.get_running_loop().time()
    task = await client.submit(CASTLE)
    with pytest.raises(TaskAbandonedError, match="attach"):
        await task
    assert asyncio.get_running_loop().time() - start == pytest.approx(1_830, abs=1)
    assert client.statistics().slots_used == 0


async def test_dropped_handle(
    simulator: Simulator, client_of: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    """A handle that nobody keeps is collected, and its task is polled to the end."""
    simulator.faults.submit(Fault.task_fails("TIMEOUT", "slow"))
    client = client_of(simulator)
    task = await client.submit(CASTLE)
    dead = weakref.ref(task)
    del task
    gc.collect()
    assert dead() is None
    with caplog.at_level(logging.ERROR):
        await asyncio.sleep(60)
        gc.collect()
    assert client.statistics().failed == 1
    assert caplog.records == []


async def test_repr(task: Task) -> None:
    """The repr shows the task, its state and its polls, and no prompt."""
    assert repr(task) == f"<Task flux-kontext/{task.id} pending, 0 polls>"

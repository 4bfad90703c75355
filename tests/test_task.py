from __future__ import annotations

import asyncio
import copy
import gc
import logging
import pickle
import weakref
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from apixo_async import (
    ApixoError,
    AsyncClient,
    AuthenticationError,
    ConfigurationError,
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
    assert states == ["pending", "processing", "success"]
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
    assert states == ["pending", "processing"]


async def test_updates_at_an_interval(task: Task) -> None:
    """A watcher that gives an interval is shown the task as often, though nothing has changed."""
    start, shown = asyncio.get_running_loop().time(), list[tuple[float, str]]()
    async for snapshot in task.updates(every=10):
        shown.append((asyncio.get_running_loop().time() - start, snapshot.state))
    times = [at for at, _ in shown]
    assert [state for _, state in shown][:2] == ["pending", "pending"]
    assert shown[-1][1] == "success"
    assert times[:2] == pytest.approx([0.0, 10.0])
    assert all(later - earlier <= 10.0 + 1e-6 for earlier, later in pairwise(times))


@pytest.mark.parametrize("every", [0, -1, True, "10"])
async def test_updates_at_no_interval(task: Task, every: Any) -> None:
    """An interval that is none is refused before anything is shown."""
    with pytest.raises(ConfigurationError, match="every"):
        await anext(task.updates(every=every))


async def test_age_and_expected(simulator: Simulator, client_of: ClientOf) -> None:
    """A task says how old it is and how long such tasks take, by then known durations."""
    client = client_of(simulator)
    simulator.faults.submit(*[Fault.task_lasts(25.0)] * 21)
    first = await client.submit(CASTLE)
    assert first.age == pytest.approx(0.0)
    assert first.expected == 30.0  # "About 30 seconds", by the documents.
    await asyncio.sleep(5)
    assert first.age == pytest.approx(5.0)
    await first
    took = first.age
    await asyncio.gather(*[await client.submit(CASTLE) for _ in range(20)])
    assert first.age == took
    assert first.expected == pytest.approx(25.0, abs=1.0)
    attached = client_of(simulator).attach(first.ref)
    assert attached.age is None
    await attached


async def test_detached(simulator: Simulator, client_of: ClientOf, task: Task) -> None:
    """A detached task is polled no more, its waiters hear so, and anyone may go on with it."""
    client = client_of(simulator)
    waiter = task.as_future()
    await asyncio.sleep(1)
    assert task.detach() == task.ref
    with pytest.raises(ApixoError, match="was detached and goes on"):
        await waiter
    for ask in (task, task.refresh()):
        with pytest.raises(ApixoError, match="was detached") as raised:
            await ask
        assert (raised.value.bought, raised.value.ref) == (True, task.ref)
    assert task.detach() == task.ref
    polls = simulator.count("poll")
    await asyncio.sleep(100)
    assert simulator.count("poll") == polls
    assert not task.done()
    assert (await client.attach(task.ref)).task_id == task.id


async def test_detached_while_it_is_polled(simulator: Simulator, client_of: ClientOf) -> None:
    """The answer to a poll that is under way changes nothing, and no other poll follows."""
    client = client_of(simulator, latency=4.0)
    task = await client.submit(CASTLE)
    asking = asyncio.create_task(task.refresh())
    await asyncio.sleep(1)
    task.detach()
    with pytest.raises(ApixoError, match="was detached"):
        await asking
    await asyncio.sleep(100)
    assert simulator.count("poll") == 1
    assert client.unfinished == ()


async def test_the_slot_of_a_detached_task(simulator: Simulator, client_of: ClientOf) -> None:
    """It stays taken while the task may run, until this client sees the task over."""
    client = client_of(simulator)
    simulator.faults.submit(Fault.task_lasts(30.0), Fault.task_lasts(30.0))
    seen, unseen = [(await client.submit(CASTLE)).detach() for _ in range(2)]
    assert (await client.poll(seen)).state == "pending"
    assert client.statistics().slots_used == 2
    await asyncio.sleep(60)
    assert client.statistics().slots_used == 2
    assert (await client.poll(seen)).is_over
    assert client.statistics().slots_used == 1
    again = client.attach(unseen)
    assert client.statistics().slots_used == 1
    await again
    assert client.statistics().slots_used == 0


async def test_a_task_that_is_over_is_not_detached(task: Task) -> None:
    """Of a task that is over the outcome stays."""
    result = await task
    assert task.detach() == task.ref
    assert await task is result


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


async def test_it_is_not_pickled(task: Task) -> None:
    """A handle goes to no other process: the error says what does. A copy is the handle itself."""
    with pytest.raises(TypeError, match=r"send `task\.ref`, and `attach` to it there"):
        pickle.dumps(task)
    assert copy.copy(task) is copy.deepcopy(task) is task


async def test_in_a_notebook(task: Task, simulator: Simulator, client_of: ClientOf) -> None:
    """A task shows its state, then its files or its error."""
    assert task._repr_html_() == (f'<div>{task.ref}</div><div style="opacity: 0.7">pending</div>')
    result = await task
    shown = task._repr_html_()
    assert f'<img src="{result.urls[0]}"' in shown
    assert "success" in shown
    simulator.faults.submit(Fault.task_fails("NSFW", "<b>"))
    failed = await client_of(simulator).submit(CASTLE)
    await failed.wait()
    assert "&lt;b&gt;" in failed._repr_html_()

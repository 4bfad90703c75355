from __future__ import annotations

import asyncio
import gc
import itertools
import random
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import httpx2
import pytest

from apixo_async import (
    ApixoError,
    AsyncClient,
    Event,
    FluxKontext,
    Limits,
    SubmitUncertain,
    SubmitUncertainError,
    Task,
    TaskOrphaned,
    TaskSubmitted,
)
from apixo_async._submit import requests
from apixo_async.testing import Fault, Simulator, VirtualTimeLoop

ClientOf = Callable[..., AsyncClient]
CASTLE = FluxKontext(mode="pro", prompt="a castle")


async def cancelled_after(delay: float, client: AsyncClient) -> float:
    """Cancel a submit after a delay; return how long its caller had to wait then."""
    loop = asyncio.get_running_loop()
    submit = asyncio.create_task(client.submit(CASTLE))
    await asyncio.sleep(delay)
    submit.cancel()
    start = loop.time()
    with pytest.raises(asyncio.CancelledError):
        await submit
    return loop.time() - start


async def test_cancelled_caller(
    simulator: Simulator, client_of: ClientOf, events: list[object]
) -> None:
    """A caller cancelled during the POST leaves at once, and its task is tracked and handed on."""
    orphans: list[object] = []
    client = client_of(simulator, latency=4.0, on_orphan=orphans.append)
    assert await cancelled_after(1.0, client) == 0.0
    await asyncio.sleep(4)
    [orphan] = orphans
    assert isinstance(orphan, Task)
    assert (await orphan).task_id == orphan.id
    assert simulator.created == 1
    assert [e.task_id for e in events if isinstance(e, TaskOrphaned)] == [orphan.id]


async def test_cancelled_caller_of_an_uncertain_submit(
    simulator: Simulator, client_of: ClientOf
) -> None:
    """An uncertain submit of a cancelled caller is handed on, and holds its slot."""
    orphans: list[object] = []
    simulator.faults.submit(Fault.delay(4.0, Fault.lost_answer()))
    client = client_of(simulator, on_orphan=orphans.append)
    await cancelled_after(1.0, client)
    await asyncio.sleep(4)
    assert [type(orphan) for orphan in orphans] == [SubmitUncertainError]
    assert client.statistics().slots_used == 1


async def test_cancelled_caller_of_a_refused_submit(
    simulator: Simulator, client_of: ClientOf
) -> None:
    """A refused submit of a cancelled caller is not repeated, and its slot is free."""
    orphans: list[object] = []
    simulator.faults.submit(Fault.delay(4.0, Fault.status(503)))
    client = client_of(simulator, on_orphan=orphans.append)
    await cancelled_after(1.0, client)
    await asyncio.sleep(60)
    assert orphans == []
    assert simulator.count("submit") == 1
    assert client.statistics().slots_used == 0


async def test_cancelled_generate_hands_its_task_on(
    simulator: Simulator, client_of: ClientOf
) -> None:
    """A `generate` cancelled while its task runs hands the paid task to `on_orphan`."""
    orphans: list[Task] = []
    client = client_of(simulator, on_orphan=orphans.append)
    generate = asyncio.create_task(client.generate(CASTLE))
    await asyncio.sleep(10)
    generate.cancel()
    with pytest.raises(asyncio.CancelledError):
        await generate
    assert (await orphans[0]).urls


async def test_hundreds_cancelled_at_random_moments(client_of: ClientOf) -> None:
    """Of 300 submits cancelled at random moments, every task that was made is known."""
    simulator, rng, orphans = Simulator(seed=4), random.Random(4), list[Task]()
    client = client_of(
        simulator, latency=1.0, on_orphan=orphans.append, limits=Limits(concurrent_tasks=200)
    )

    async def submit() -> Task | None:
        try:
            async with asyncio.timeout(rng.uniform(0.0, 2.0)):
                return await client.submit(CASTLE)
        except TimeoutError:
            return None

    kept = [task for task in await asyncio.gather(*(submit() for _ in range(300))) if task]
    await asyncio.sleep(2)
    known = {task.id for task in (*kept, *orphans)}
    assert known == set(simulator.tasks)
    assert len(kept) + len(orphans) == simulator.created
    assert kept
    assert orphans
    await asyncio.gather(*kept, *orphans)
    assert client.statistics().slots_used == 0


async def test_close_during_the_post(simulator: Simulator, client_of: ClientOf) -> None:
    """`aclose` lets a POST under way end, and the task's id is kept."""
    client = client_of(simulator, latency=4.0)
    submit = asyncio.create_task(client.submit(CASTLE))
    await asyncio.sleep(1)
    await client.aclose()
    task = await submit
    assert client.unfinished == (task.ref,)


async def test_close_during_a_post_that_hangs(simulator: Simulator, client_of: ClientOf) -> None:
    """A POST that does not end in time when the client closes is uncertain, not cancelled."""
    simulator.faults.submit(Fault.hang())
    client = client_of(simulator, timeout=20.0)
    submit = asyncio.create_task(client.submit(CASTLE))
    await asyncio.sleep(1)
    start = asyncio.get_running_loop().time()
    await client.aclose()
    assert asyncio.get_running_loop().time() - start <= 25.0
    with pytest.raises(SubmitUncertainError):
        await submit


def test_loop_torn_down_under_the_post() -> None:
    """Where `asyncio.run` ends under a POST, it is given to `on_orphan` as uncertain."""
    orphans: list[object] = []
    simulator = Simulator(seed=1)

    async def main() -> None:
        client = AsyncClient(
            "test-key", transport=simulator.transport(4.0), on_orphan=orphans.append
        )
        submit = asyncio.create_task(client.submit(CASTLE))
        await asyncio.sleep(1)
        assert not submit.done()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())
    assert [type(orphan) for orphan in orphans] == [SubmitUncertainError]


async def test_raising_hook(
    simulator: Simulator, client_of: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    """What `on_orphan` raises is logged, and the task is tracked all the same."""

    def hook(_: object) -> None:
        raise ValueError("the hook's own")

    client = client_of(simulator, latency=4.0, on_orphan=hook)
    await cancelled_after(1.0, client)
    await asyncio.sleep(4)
    assert "on_orphan raised" in caplog.text
    assert client.statistics().tasks_tracked == 1


# --- whatever is raised after the first byte -----------------------------------------------------


def broken(*_: object, **__: object) -> None:
    """Be a defect."""
    raise LookupError("a defect")


async def test_a_defect_in_reading_the_answer(
    simulator: Simulator, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where reading the answer raises, the submit is uncertain and holds its slot."""
    client = client_of(simulator)
    monkeypatch.setattr("apixo_async._submit.requests.judge_submit", broken)
    with pytest.raises(SubmitUncertainError, match="LookupError") as caught:
        await client.submit(CASTLE)
    assert next(iter(simulator.tasks)).encode() in (caught.value.body_head or b"")
    assert client.statistics().slots_used == 1


async def test_a_defect_in_counting_the_answer(
    simulator: Simulator, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where counting the answer for the limits raises, the task is tracked all the same."""
    client = client_of(simulator)
    with monkeypatch.context() as patch:
        patch.setattr("apixo_async._http.api.says_throttled", broken)
        task = await client.submit(CASTLE)
    assert (await task).task_id == task.id


async def test_a_defect_once_the_id_is_known(
    simulator: Simulator, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be tracked was bought all the same: the error says so, and has the id."""
    client = client_of(simulator)
    with monkeypatch.context() as patch:
        patch.setattr("apixo_async._polling.poller.Poller.track", broken)
        with pytest.raises(ApixoError, match="attach") as caught:
            await client.submit(CASTLE)
    assert caught.value.bought is True
    assert list(simulator.tasks) == [caught.value.task_id]
    assert client.statistics().slots_used == 1


@pytest.mark.parametrize("event", [TaskSubmitted, SubmitUncertain])
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_interrupted_by_a_hook(event: type[Event], interrupt: type[BaseException]) -> None:
    """Where `on_event` ends the program, what was bought is tracked and handed on first."""
    simulator, orphans = Simulator(seed=1), list[object]()
    if event is SubmitUncertain:
        simulator.faults.submit(Fault.lost_answer())

    def hook(reported: Event) -> None:
        if isinstance(reported, event):
            raise interrupt

    client = AsyncClient(
        "test-key", transport=simulator.transport(), on_event=hook, on_orphan=orphans.append
    )
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        with pytest.raises(interrupt):
            runner.run(client.submit(CASTLE))
        [orphan] = orphans
        assert isinstance(orphan, SubmitUncertainError | Task)
        assert [ref.task_id for ref in client.unfinished] == (
            list(simulator.tasks) if isinstance(orphan, Task) else []
        )
        assert client._settings.limiter.slots_used == 1


class Stop(BaseException):
    """Be no Exception, and none that asyncio knows."""


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, Stop])
def test_interrupted_during_the_post(interrupt: type[BaseException]) -> None:
    """Where a transport is interrupted, the submit is handed on as uncertain and holds its slot."""
    orphans: list[object] = []

    class Interrupted(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, _: httpx2.Request) -> httpx2.Response:
            raise interrupt

    client = AsyncClient("test-key", transport=Interrupted(), on_orphan=orphans.append)
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        with pytest.raises(interrupt):
            runner.run(client.submit(CASTLE))
        assert [type(orphan) for orphan in orphans] == [SubmitUncertainError]
        assert client._settings.limiter.slots_used == 1


class Raising:
    """Raise in a line of `_requests`, once: the one after so many lines that ran in it."""

    def __init__(self, error: type[BaseException], after: int) -> None:
        self._error, self._left = error, after
        self.raised = False

    def __call__(self, frame: FrameType, event: str, _: object) -> Any:
        """Trace a frame."""
        if frame.f_code.co_filename != requests.__file__:
            return None
        if event == "line" and not self.raised:
            self._left -= 1
            if self._left < 0:
                self.raised = True
                raise self._error
        return self


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_raised_in_every_line(error: type[BaseException]) -> None:
    """In whatever line something is raised, what was bought is known, or said to be uncertain."""
    for after in itertools.count():
        simulator, orphans, told = Simulator(seed=1), list[object](), list[object]()
        client = AsyncClient("test-key", transport=simulator.transport(), on_orphan=orphans.append)
        raising, before = Raising(error, after), sys.gettrace()
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(client.__aenter__())
            sys.settrace(raising)
            try:
                told.append(runner.run(client.submit(CASTLE)))
            except (error, ApixoError) as raised:
                told.append(raised)
            finally:
                sys.settrace(before)
            unfinished = {ref.task_id for ref in client.unfinished}
        known = unfinished | {getattr(one, "id", None) for one in (*told, *orphans)}
        known |= {getattr(one, "task_id", None) for one in told}
        is_uncertain = any(isinstance(one, SubmitUncertainError) for one in (*told, *orphans))
        assert simulator.tasks.keys() <= known or is_uncertain, f"after {after} lines"
        if not raising.raised:
            break
    assert after > 40


async def test_closed_in_a_hurry(simulator: Simulator, client_of: ClientOf) -> None:
    """A close that is cancelled twice still ends POSTs, polls and connections, and at once."""
    simulator.faults.submit(Fault.hang())
    client = client_of(simulator)
    submit = asyncio.create_task(client.submit(CASTLE))
    await asyncio.sleep(1)
    close = asyncio.create_task(client.aclose())
    for _ in range(2):
        await asyncio.sleep(0.1)
        close.cancel()
    start = asyncio.get_running_loop().time()
    with pytest.raises(asyncio.CancelledError):
        await close
    with pytest.raises(SubmitUncertainError):
        await submit
    assert asyncio.get_running_loop().time() == start


async def test_a_submit_that_is_closed(simulator: Simulator, client_of: ClientOf) -> None:
    """A submit whose coroutine is closed is like a cancelled one: its POST goes on."""
    orphans: list[object] = []
    client = client_of(simulator, latency=4.0, on_orphan=orphans.append)
    submit = client.submit(CASTLE)
    submit.send(None)
    await asyncio.sleep(1.0)
    submit.close()
    await asyncio.sleep(4.0)
    [orphan] = orphans
    assert isinstance(orphan, Task)
    assert client.statistics().slots_used == simulator.created == 1


def test_a_loop_that_is_closed_under_a_post() -> None:
    """Where a loop is closed without cancelling anything, the POST is handed on as uncertain."""
    orphans: list[object] = []
    simulator, loop = Simulator(seed=1), VirtualTimeLoop()

    async def main(client: AsyncClient) -> None:
        asyncio.create_task(client.submit(CASTLE))  # noqa: RUF006
        await asyncio.sleep(1.0)

    def live() -> None:
        client = AsyncClient(
            "test-key", transport=simulator.transport(4.0), on_orphan=orphans.append
        )
        loop.set_exception_handler(lambda *_: None)  # It tells of the tasks that are destroyed.
        loop.run_until_complete(main(client))
        loop.close()

    live()
    gc.collect()
    assert [type(orphan) for orphan in orphans] == [SubmitUncertainError]


async def test_a_drain_with_a_post_that_nobody_took_off(
    simulator: Simulator, client_of: ClientOf
) -> None:
    """A POST that has ended and still stands among those under way is not waited for."""
    client = client_of(simulator)
    await client.submit(CASTLE)
    requests = client._life.engine().requests
    ended = asyncio.create_task(asyncio.sleep(0))
    await ended
    requests._under_way.add(ended)  # As an interrupt between two lines leaves it.
    await client.aclose()

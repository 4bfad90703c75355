"""A process that ends at any point of a submit: what the next one finds under its key."""

from __future__ import annotations

import asyncio
import logging

import pytest

from apixo_async import APIStatusError, FluxKontext, StoreError, SubmitUncertainError, Task
from apixo_async._limits.leased import LEASE
from apixo_async.stores import State, StoreEntry
from apixo_async.testing import Fault, Simulator
from apixo_async.testing.memory_store import MemoryStore, OpenMemoryStore

from ..support.processes import Process, processes

CASTLE = FluxKontext(mode="pro", prompt="a castle")
KEY = "order-123"


async def entry_of(store: MemoryStore) -> StoreEntry | None:
    return await (await store.open("any")).find(KEY)


async def stopped(process: Process) -> asyncio.Task[Task]:
    """Let it buy until it stops by itself."""

    async def buy() -> Task:
        task = await process.client.submit(CASTLE, key=KEY)
        await task.wait()
        return task

    buying = asyncio.ensure_future(buy())
    async with asyncio.timeout(600):
        while not process.is_stopped:  # noqa: ASYNC110  # the time is virtual
            await asyncio.sleep(0.01)
    return buying


#: Where a process ends, what its entry is then, how many tasks were made, and what another one
#: gets that asks once the lease is over: a task, or a doubt.
ENDS = [
    ("before intend", None, 0, "buys"),
    ("after intend", State.INTENT, 0, "doubt"),
    ("connecting", State.INTENT, 0, "doubt"),
    ("answered", State.INTENT, 1, "doubt"),
    ("before bought", State.INTENT, 1, "doubt"),
    ("after bought", State.SUBMITTED, 1, "follows"),
    ("poll connecting", State.SUBMITTED, 1, "follows"),
    ("poll answered", State.SUBMITTED, 1, "follows"),
    ("before over", State.SUBMITTED, 1, "follows"),
    ("after over", State.SUCCESS, 1, "follows"),
]


@pytest.mark.parametrize(("point", "state", "made", "then"), ENDS, ids=[end[0] for end in ENDS])
async def test_it_dies(point: str, state: State | None, made: int, then: str) -> None:
    """Nothing is bought twice, and no paid task is without an entry."""
    simulator, store = Simulator(seed=1), MemoryStore()
    dead, other = Process(simulator, store, stops_at=point), Process(simulator, store)
    buying = await stopped(dead)
    entry = await entry_of(store)
    assert (None if entry is None else entry.state) is state
    assert simulator.created == made
    async with processes(other):
        if then == "doubt":
            with pytest.raises(SubmitUncertainError, match=KEY):
                await other.client.submit(CASTLE, key=KEY)
            assert simulator.created == made
            entry = await entry_of(store)
            assert entry is not None
            assert entry.state is State.UNCERTAIN
        else:
            task = await other.client.submit(CASTLE, key=KEY)
            assert (await task).urls
            assert [*simulator.tasks] == [task.id]
    buying.cancel()


async def test_it_dies_before_a_refusal_is_noted() -> None:
    """That looks like a doubt; afterwards the key is free."""
    for point, is_free in (("before refused", False), ("after refused", True)):
        simulator, store = Simulator(seed=1), MemoryStore()
        simulator.faults.submit(Fault.status(400))
        dead, other = Process(simulator, store, stops_at=point), Process(simulator, store)
        buying = await stopped(dead)
        async with processes(other):
            if is_free:
                await other.client.submit(CASTLE, key=KEY)
                assert simulator.created == 1
            else:
                with pytest.raises(SubmitUncertainError):
                    await other.client.submit(CASTLE, key=KEY)
                assert simulator.created == 0
        buying.cancel()


@pytest.mark.parametrize("point", ["before intend", "after intend", "connecting"])
async def test_it_goes_on_after_its_lease(point: str) -> None:
    """Between its permit and the first byte: nothing is sent by that permit; it begins anew."""
    simulator, store = Simulator(seed=1), MemoryStore()
    process, other = Process(simulator, store, stops_at=point), Process(simulator, store)
    async with processes(process, other):
        await other.client.find("another")  # It lives, and notices.
        buying = await stopped(process)
        await asyncio.sleep(3 * LEASE)
        assert simulator.count("submit") == 0
        process.go_on()
        task = await buying
        assert [*simulator.tasks] == [task.id]
        assert simulator.count("submit") == 1
        await asyncio.sleep(1)
        entry = await entry_of(store)
        assert entry is not None
        assert (entry.state, entry.task_id, entry.also) == (State.SUCCESS, task.id, ())


async def test_somebody_gives_the_word_for_one_that_is_stopped_before_its_post() -> None:
    """It goes on, sends nothing, and gets the task that was bought meanwhile."""
    simulator, store = Simulator(seed=1), MemoryStore()
    process, other = Process(simulator, store, stops_at="after intend"), Process(simulator, store)
    async with processes(process, other):
        buying = await stopped(process)
        with pytest.raises(SubmitUncertainError) as doubt:
            await other.client.submit(CASTLE, key=KEY)
        task = await other.client.resubmit(doubt.value)
        process.go_on()
        assert (await buying).id == task.id
        assert simulator.count("submit") == 1


async def test_somebody_gives_the_word_for_one_that_is_stopped_after_its_post(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Both tasks are in the entry, and it is said that there are two."""
    simulator, store = Simulator(seed=1), MemoryStore()
    process, other = Process(simulator, store, stops_at="answered"), Process(simulator, store)
    async with processes(process, other):
        buying = await stopped(process)
        with pytest.raises(SubmitUncertainError) as doubt:
            await other.client.submit(CASTLE, key=KEY)
        second = await other.client.resubmit(doubt.value)
        with caplog.at_level(logging.ERROR, "apixo_async"):
            process.go_on()
            first = await buying
        assert {first.id, second.id} == {*simulator.tasks}
        entry = await entry_of(store)
        assert entry is not None
        assert (entry.task_id, entry.also) == (second.id, (first.id,))
        assert "was bought twice" in caplog.text


async def test_a_doubt_that_was_answered_late() -> None:
    """Its process was taken for dead; its own word is better."""
    simulator, store = Simulator(seed=1), MemoryStore()
    process, other = Process(simulator, store, stops_at="answered"), Process(simulator, store)
    async with processes(process, other):
        buying = await stopped(process)
        with pytest.raises(SubmitUncertainError):
            await other.client.submit(CASTLE, key=KEY)
        process.go_on()
        task = await buying
        assert (await other.client.submit(CASTLE, key=KEY)).id == task.id
        assert simulator.count("submit") == 1


async def test_a_task_is_in_the_store_before_it_is_returned() -> None:
    """However long that takes, within a bound; a store that stays away does not keep the task."""
    simulator, store = Simulator(seed=1), MemoryStore()
    process = Process(simulator, store, stops_at="before bought")
    submitting = asyncio.ensure_future(process.client.submit(CASTLE, key=KEY))
    await asyncio.sleep(5)
    assert not submitting.done()
    process.go_on()
    async with processes(process):
        task = await submitting
        entry = await entry_of(store)
        assert entry is not None
        assert (entry.state, entry.task_id) == (State.SUBMITTED, task.id)
        process.stops_at = "before bought"
        submitting = asyncio.ensure_future(process.client.submit(CASTLE, key="another"))
        await asyncio.sleep(11)
        assert (await submitting).id in simulator.tasks
        process.go_on()


async def test_a_cancelled_caller() -> None:
    """Before the first byte nothing is bought; after it, the entry has the task."""
    simulator, store = Simulator(seed=1), MemoryStore()
    process = Process(simulator, store)
    async with processes(process):
        for point, state in (("after intend", None), ("answered", State.SUBMITTED)):
            process.stops_at = point
            buying = await stopped(process)
            buying.cancel()
            await asyncio.sleep(0.1)
            process.go_on()
            await asyncio.sleep(1)
            entry = await entry_of(store)
            assert (None if entry is None else entry.state) is state


def failing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let two calls of a method fail."""
    really = getattr(OpenMemoryStore, name)
    failures = [StoreError("away"), RuntimeError("broken")]

    async def fails(*args: object, **options: object) -> object:
        if failures:
            raise failures.pop()
        return await really(*args, **options)

    monkeypatch.setattr(OpenMemoryStore, name, fails)


async def test_a_store_that_fails_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What became of a submit is written when the store is back; an intent is taken back."""
    simulator, store = Simulator(seed=1), MemoryStore()
    process = Process(simulator, store)
    async with processes(process):
        for name in ("bought", "over"):
            failing(monkeypatch, name)
        task = await process.client.submit(CASTLE, key=KEY)
        await task
        await asyncio.sleep(2)
        entry = await entry_of(store)
        assert entry is not None
        assert entry.state is State.SUCCESS


async def test_an_intent_of_which_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be in the store though that said it is not: it is taken back, and nothing is sent."""
    simulator, store = Simulator(seed=1), MemoryStore()
    process = Process(simulator, store)
    really = OpenMemoryStore.intend

    async def unanswered(*args: object, **options: object) -> object:
        await really(*args, **options)  # type: ignore[arg-type]  # as given
        raise StoreError("the answer was lost")

    async with processes(process):
        monkeypatch.setattr(OpenMemoryStore, "intend", unanswered)
        with pytest.raises(StoreError, match="was lost") as failed:
            await process.client.submit(CASTLE, key=KEY)
        assert failed.value.bought is False
        monkeypatch.setattr(OpenMemoryStore, "intend", really)
        assert (await process.client.generate(CASTLE, key=KEY)).urls
        assert simulator.count("submit") == 1


async def test_a_close_writes_what_is_known(caplog: pytest.LogCaptureFixture) -> None:
    """And says how much it could not write."""
    simulator, store = Simulator(seed=1), MemoryStore()
    process = Process(simulator, store, stops_at="before bought")
    buying = await stopped(process)
    with caplog.at_level(logging.ERROR, "apixo_async"):
        await process.client.aclose()
    assert "1 changes could not be written" in caplog.text
    assert (await asyncio.gather(buying, return_exceptions=True))[0] is not None


async def test_a_refusal_is_raised_as_without_a_store() -> None:
    """With its own class and what became of the money."""
    simulator, store = Simulator(seed=1), MemoryStore()
    process = Process(simulator, store)
    async with processes(process):
        simulator.faults.submit(Fault.status(401))
        with pytest.raises(APIStatusError) as refused:
            await process.client.submit(CASTLE, key=KEY)
        assert (refused.value.status, refused.value.bought) == (401, False)


async def test_an_intent_that_gets_there_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """After it was taken back: it is taken back once more, and its key is free."""
    simulator, store = Simulator(seed=1), MemoryStore()
    process, other = Process(simulator, store), Process(simulator, store)
    really = OpenMemoryStore.intend

    async def late(*args: object, **options: object) -> object:
        loop = asyncio.get_running_loop()
        coming = really(*args, **options)  # type: ignore[arg-type]  # as given
        loop.call_later(5.0, loop.create_task, coming)
        raise StoreError("the connection was lost")

    async with processes(process, other):
        await process.client.find("nothing")
        monkeypatch.setattr(OpenMemoryStore, "intend", late)
        with pytest.raises(StoreError, match="was lost"):
            await process.client.submit(CASTLE, key=KEY)
        monkeypatch.setattr(OpenMemoryStore, "intend", really)
        await asyncio.sleep(6)
        entry = await entry_of(store)
        assert entry is not None
        assert entry.state is State.INTENT
        assert (await other.client.generate(CASTLE, key=KEY)).urls
        assert simulator.count("submit") == 1

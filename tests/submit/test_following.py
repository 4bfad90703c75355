"""Tasks of other processes: followed while those live, taken over once they are gone."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest

from apixo_async import (
    FluxKontext,
    Limits,
    StoreError,
    SubmitUncertainError,
    Task,
    TaskAdopted,
)
from apixo_async._limits.leased import LEASE
from apixo_async.stores import State
from apixo_async.testing import Fault, Simulator
from apixo_async.testing.memory_store import MemoryStore, OpenMemoryStore

from ..support.processes import Process, processes

#: Nested deeper than any reader goes.
DEEP = f'{{"urls": ["x"], "raw": {"[" * 100_000}{"]" * 100_000}}}'


def castle(number: int) -> FluxKontext:
    return FluxKontext(mode="pro", prompt=f"castle {number}")


async def bought(process: Process, count: int) -> list[Task]:
    return [await process.client.submit(castle(n), key=f"k{n}") for n in range(count)]


async def test_a_followed_task_costs_no_poll() -> None:
    """Its owner polls it; who follows it has the outcome at the same time."""
    simulator, store = Simulator(seed=1, durations=20.0), MemoryStore()
    owner, other = Process(simulator, store), Process(simulator, store)
    loop = asyncio.get_running_loop()
    async with processes(owner, other):
        [task] = await bought(owner, 1)
        followed = await other.client.submit(castle(0), key="k0")
        assert followed.id == task.id
        assert other.client.statistics().slots_used == 0
        await task
        ended = loop.time()
        assert (await followed).urls == (await task).urls
        assert loop.time() - ended <= 0.2
        assert "poll connecting" not in other.passed


async def test_a_failure_is_heard_of() -> None:
    """As the same failure."""
    simulator, store = Simulator(seed=1), MemoryStore()
    owner, other = Process(simulator, store), Process(simulator, store)
    async with processes(owner, other):
        simulator.faults.submit(Fault.task_fails("IMAGE_FORMAT_ERROR", "no such format"))
        [task] = await bought(owner, 1)
        followed = await other.client.submit(castle(0), key="k0")
        await followed.wait()
        assert str(followed.exception()) == str(task.exception())


async def test_what_a_dead_process_left() -> None:
    """Polled by those that live, by its age and not at once; the slots are right all the time."""
    simulator = Simulator(seed=1, durations=60.0, concurrent_tasks=8)
    store, limits = MemoryStore(), Limits(concurrent_tasks=8)
    dead = Process(simulator, store, limits=limits)
    other = Process(simulator, store, limits=limits, seed=2)
    async with processes(other):
        await other.client.find("nothing")
        tasks = await bought(dead, 5)
        dead.stop()
        followed = await other.client.submit(castle(0), key="k0")
        assert (await followed).task_id == tasks[0].id
        assert sum(isinstance(event, TaskAdopted) for event in other.events) == 5
        for number, task in enumerate(tasks):
            found = await other.client.find(f"k{number}")
            assert found is not None
            assert (await found).task_id == task.id
        assert simulator.count("poll") <= 5 * 16  # As one process needs.
        more = [other.client.generate(castle(n), key=f"k{n}") for n in range(5, 25)]
        await asyncio.gather(*more)
        assert simulator.statistics().refused == 0
        assert simulator.most_concurrent <= 8


async def test_it_is_taken_over_soon() -> None:
    """Within the lease and a few seconds, also by a process that has nothing else to do."""
    simulator, store = Simulator(seed=1, durations=5.0), MemoryStore()
    dead, other = Process(simulator, store), Process(simulator, store)
    async with processes(other):
        await other.client.find("nothing")
        await bought(dead, 3)
        dead.stop()
        await asyncio.sleep(LEASE + 9)
        adopted = [event for event in other.events if isinstance(event, TaskAdopted)]
        assert len(adopted) == 3


async def test_a_closing_process_hands_over_at_once() -> None:
    """No lease has to end."""
    simulator, store = Simulator(seed=1, durations=60.0), MemoryStore()
    owner, other = Process(simulator, store), Process(simulator, store)
    async with processes(other):
        kept = await other.client.submit(castle(100))
        await asyncio.sleep(LEASE + 3)  # It takes that long until it is known who lives.
        tasks = await bought(owner, 3)
        followed = await other.client.submit(castle(0), key="k0")
        await owner.client.aclose()
        await asyncio.sleep(1.5)
        adopted = {event.task_id for event in other.events if isinstance(event, TaskAdopted)}
        assert adopted == {task.id for task in tasks}
        assert (await followed).task_id == tasks[0].id
        await kept


async def test_recover() -> None:
    """All that dead processes left, and nothing of those that live."""
    simulator, store = Simulator(seed=1, durations=90.0), MemoryStore()
    dead, living = Process(simulator, store), Process(simulator, store)
    tasks = await bought(dead, 4)
    dead.stop()
    late = Process(simulator, store)
    async with processes(living, late):
        other = await living.client.submit(castle(100), key="another")
        start = asyncio.get_running_loop().time()
        recovered = await asyncio.gather(living.client.recover(), late.client.recover(timeout=60))
        assert asyncio.get_running_loop().time() - start <= LEASE + 3
        ids = sorted(task.id for part in recovered for task in part)
        assert ids == sorted(task.id for task in tasks)
        assert other.id not in ids
        for part in recovered:
            for task in part:
                assert (await task).urls
        assert await late.client.recover(timeout=0.5) == []


async def test_one_that_was_taken_for_dead() -> None:
    """It follows what others have taken over, and buys again by another name."""
    simulator, store = Simulator(seed=1, durations=200.0), MemoryStore()
    process, other = Process(simulator, store), Process(simulator, store)
    async with processes(process, other):
        await other.client.find("nothing")
        tasks = await bought(process, 3)
        process.stop()
        await asyncio.sleep(3 * LEASE)
        process.go_on()
        await asyncio.sleep(5)
        assert await process.client.submit(castle(100), key="another")
        process.passed.clear()
        results = await asyncio.gather(*tasks)
        assert len({result.task_id for result in results}) == 3
        # Of the one task that it has bought since, in 200 s.
        assert process.passed.count("poll connecting") <= 70
        states = {entry.purchase.key: entry.state async for entry in process.client.entries()}
        assert {states[f"k{n}"] for n in range(3)} == {State.SUCCESS}


async def test_an_entry_that_is_removed_under_a_follower() -> None:
    """It polls the task itself."""
    simulator, store = Simulator(seed=1, durations=30.0), MemoryStore()
    owner, other = Process(simulator, store), Process(simulator, store)
    async with processes(owner, other):
        await bought(owner, 1)
        followed = await other.client.submit(castle(0), key="k0")
        store._tables.entries.clear()
        assert (await followed).urls
        assert "poll connecting" in other.passed


async def test_an_outcome_that_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    """The task is polled again, and nothing else is touched."""
    simulator, store = Simulator(seed=1), MemoryStore()
    process, other = Process(simulator, store), Process(simulator, store)
    async with processes(process, other):
        [task] = await bought(process, 1)
        await task
        await asyncio.sleep(1)
        kept = store._tables.entries["k0"]
        object.__setattr__(kept.entry, "outcome", "[]")
        with caplog.at_level(logging.ERROR, "apixo_async"):
            again = await other.client.submit(castle(0), key="k0")
            assert (await again).urls == (await task).urls
        assert "key 'k0': how its task ended cannot be read" in caplog.text


@pytest.mark.parametrize("outcome", [DEEP, 5, '{"urls": 5}'], ids=["deep", "int", "urls"])
async def test_an_outcome_that_breaks_no_other_task(outcome: Any) -> None:
    """While a task is followed whose entry is anybody's, those of dead processes are taken over."""
    simulator, store = Simulator(seed=1, durations=15.0), MemoryStore()
    process, other = Process(simulator, store), Process(simulator, store, seed=2)
    async with processes(process, other):
        simulator.faults.submit(Fault.task_lasts(500.0))
        await bought(process, 3)
        await other.client.submit(castle(0), key="k0")
        await asyncio.sleep(2)
        entry = store._tables.entries["k0"].entry
        for name, value in (("state", State.SUCCESS), ("outcome", outcome), ("owner", None)):
            object.__setattr__(entry, name, value)
        process.stop()
        await asyncio.sleep(LEASE + 30)
        for key in ("k1", "k2"):
            assert store._tables.entries[key].entry.state is State.SUCCESS


async def test_old_entries_are_swept() -> None:
    """As long as the service keeps results; then the key buys again."""
    simulator, store = Simulator(seed=1), MemoryStore(keep=timedelta(minutes=15))
    process = Process(simulator, store)
    async with processes(process):
        [task] = await bought(process, 1)
        await task
        await asyncio.sleep(600)
        assert await process.client.find("k0") is not None
        await asyncio.sleep(1_000)
        assert await process.client.find("k0") is None


async def test_different_limits_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    """Once; the lowest hold."""
    simulator, store = Simulator(seed=1, concurrent_tasks=3), MemoryStore()
    one = Process(simulator, store, limits=Limits(concurrent_tasks=3))
    two = Process(simulator, store, limits=Limits(concurrent_tasks=500))
    with caplog.at_level(logging.WARNING, "apixo_async"):
        async with processes(one, two):
            await one.client.find("nothing")
            await asyncio.sleep(3)
            made = [two.client.generate(castle(n)) for n in range(12)]
            await asyncio.gather(*made)
    assert simulator.statistics().refused == 0
    assert caplog.text.count("were given different limits") == 1


async def test_a_key_that_is_rotated() -> None:
    """In a rolling deploy: by its account, tasks and limits are those of both keys together."""
    simulator, store = Simulator(seed=1, concurrent_tasks=4, durations=30.0), MemoryStore()
    options: dict[str, Any] = {"account": "shop", "limits": Limits(concurrent_tasks=4)}
    old = Process(simulator, store, key="old-key-1234", **options)
    new = Process(simulator, store, key="new-key-1234", **options)
    async with processes(new):
        left = await bought(old, 3)
        waiting = [asyncio.ensure_future(new.client.generate(castle(n))) for n in range(10, 16)]
        await asyncio.sleep(5)
        await old.client.aclose()
        await asyncio.gather(*waiting)
        for number, task in enumerate(left):
            found = await new.client.submit(castle(number), key=f"k{number}")
            assert (await found).task_id == task.id
        assert simulator.count("submit") == 9
        assert simulator.statistics().refused == 0
        assert simulator.most_concurrent <= 4


async def test_a_key_that_is_rotated_without_an_account() -> None:
    """What was bought by the old key is found all the same, and polled late."""
    simulator, store = Simulator(seed=1), MemoryStore()
    old = Process(simulator, store, key="old-key-1234")
    new = Process(simulator, store, key="new-key-1234")
    async with processes(new):
        [task] = await bought(old, 1)
        old.stop()
        found = await new.client.submit(castle(0), key="k0")
        assert (await found).task_id == task.id
        assert simulator.count("submit") == 1


async def test_a_take_over_whose_answer_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has taken is known to the store only: it is found, and polled."""
    simulator, store = Simulator(seed=1, durations=60.0), MemoryStore()
    dead, other = Process(simulator, store), Process(simulator, store)
    async with processes(other):
        await other.client.find("nothing")
        tasks = await bought(dead, 3)
        dead.stop()
        really, lost = OpenMemoryStore.take_over, []

        async def unanswered(*args: Any, **options: Any) -> Any:
            taken = await really(*args, **options)
            if taken and not lost:
                lost.extend(taken)
                raise StoreError("the answer was lost")
            return taken

        monkeypatch.setattr(OpenMemoryStore, "take_over", unanswered)
        await asyncio.sleep(LEASE + 10)
        assert len(lost) == 3
        adopted = {event.task_id for event in other.events if isinstance(event, TaskAdopted)}
        assert adopted == {task.id for task in tasks}


async def test_a_store_that_raises_what_it_should_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its words are in no log and no error: they may have a password."""
    simulator, store = Simulator(seed=1), MemoryStore()
    process = Process(simulator, store)

    async def raises(*_: Any, **__: Any) -> Any:
        raise OSError("postgresql://user:canary@host")

    async with processes(process):
        await process.client.find("nothing")
        for name in ("take_over", "find", "intend", "owned"):
            monkeypatch.setattr(OpenMemoryStore, name, raises)
        with pytest.raises(StoreError, match="raised OSError") as failed:
            await process.client.submit(castle(0), key="k0")
        assert failed.value.bought is False
        with pytest.raises(StoreError, match="raised OSError"):
            await process.client.submit(castle(0))
        await asyncio.sleep(40)
        assert "canary" not in caplog.text + repr(failed.value)


async def test_a_row_that_makes_no_sense(caplog: pytest.LogCaptureFixture) -> None:
    """It harms its own key only."""
    simulator, store = Simulator(seed=1, durations=60.0), MemoryStore()
    dead, other = Process(simulator, store), Process(simulator, store)
    async with processes(other):
        await other.client.find("nothing")
        tasks = await bought(dead, 3)
        dead.stop()
        for name, value in (("task_id", None), ("submitted_at", None)):
            object.__setattr__(store._tables.entries["k1"].entry, name, value)
        await asyncio.sleep(LEASE + 10)
        adopted = {event.task_id for event in other.events if isinstance(event, TaskAdopted)}
        assert adopted == {tasks[0].id, tasks[2].id}
        assert "key 'k1': its task cannot be polled" in caplog.text
        with pytest.raises(StoreError, match="cannot be read") as failed:
            await other.client.submit(castle(1), key="k1")
        assert failed.value.bought is False


async def test_news_that_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who follows looks by itself as well."""
    simulator, store = Simulator(seed=1, durations=20.0), MemoryStore()
    monkeypatch.setattr(OpenMemoryStore, "listen", lambda *_: None)
    owner, other = Process(simulator, store), Process(simulator, store)
    loop = asyncio.get_running_loop()
    async with processes(owner, other):
        [task] = await bought(owner, 1)
        followed = await other.client.submit(castle(0), key="k0")
        await task
        ended = loop.time()
        await followed
        assert loop.time() - ended <= 2.1
        assert "poll connecting" not in other.passed


async def test_nothing_is_heard_where_nothing_is_followed() -> None:
    """Listening begins with the first follower, and ends a while after the last."""
    simulator, store = Simulator(seed=1, durations=20.0), MemoryStore()
    owner, other = Process(simulator, store), Process(simulator, store)
    async with processes(owner, other):
        await bought(owner, 1)
        assert not store._tables.listeners
        followed = await other.client.submit(castle(0), key="k0")
        assert len(store._tables.listeners) == 1
        await followed
        await asyncio.sleep(10)
        assert not store._tables.listeners


async def test_doubts_are_shown_where_an_operator_looks(caplog: pytest.LogCaptureFixture) -> None:
    """At the start of each process in the log, and in the statistics of all."""
    simulator, store = Simulator(seed=1), MemoryStore()
    owner, other = Process(simulator, store), Process(simulator, store)
    async with processes(owner, other):
        assert owner.client.statistics().uncertain_entries is None
        for number in range(2):
            simulator.faults.submit(Fault.lost_answer())
            with pytest.raises(SubmitUncertainError):
                await owner.client.submit(castle(number), key=f"k{number}")
        assert "uncertain submits" not in caplog.text
        await other.client.find("nothing")
        await asyncio.sleep(5)
        assert owner.client.statistics().uncertain_entries == 2
        assert other.client.statistics().uncertain_entries == 2
        assert "the store has 2 uncertain submits" in caplog.text
        await other.client.resolve("k0", bought=False)
        await asyncio.sleep(5)
        assert other.client.statistics().uncertain_entries == 1


async def test_a_close_holds_no_slot() -> None:
    """What a client leaves at its close is another one's at once, and so are its slots."""
    simulator = Simulator(seed=1, durations=60.0, concurrent_tasks=8)
    store, limits = MemoryStore(), Limits(concurrent_tasks=8)
    leaving = Process(simulator, store, limits=limits)
    other = Process(simulator, store, limits=limits, seed=2)
    loop = asyncio.get_running_loop()
    async with processes(other):
        waiting = await other.client.submit(castle(9), key="k9")
        await asyncio.sleep(LEASE + 5)  # Until it is known who lives.
        tasks = await bought(leaving, 5)
        followed = await other.client.submit(castle(0), key="k0")  # So it listens.
        await leaving.client.aclose()
        closed = loop.time()
        while sum(isinstance(event, TaskAdopted) for event in other.events) < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        assert loop.time() - closed <= 1.0
        assert other.client.statistics().slots_used == 6
        assert (await followed).task_id == tasks[0].id
        assert (await waiting).urls
        ended = [await other.client.submit(castle(n), key=f"k{n}") for n in range(1, 5)]
        assert [(await task).task_id for task in ended] == [task.id for task in tasks[1:]]
        assert simulator.statistics().refused == 0

"""Submits with a key: in each state, by each process, and whatever became of its owner."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from apixo_async import (
    APIConnectionError,
    AsyncClient,
    ConfigurationError,
    FluxKontext,
    Limits,
    StoreError,
    SubmitUncertainError,
    Task,
    TaskFailedError,
)
from apixo_async.errors import KeyConflictError
from apixo_async.stores import State
from apixo_async.testing import Fault, Simulator
from apixo_async.testing.memory_store import MemoryStore, OpenMemoryStore

from ..support.processes import Process, processes

CASTLE = FluxKontext(mode="pro", prompt="a castle")
HARBOUR = FluxKontext(mode="pro", prompt="a harbour")
KEY = "order-123"


async def nothing(_simulator: Simulator, _owner: Process) -> None:
    """The key has no entry."""


async def intended(simulator: Simulator, owner: Process) -> None:
    """Its POST is under way for another 10 s."""
    simulator.faults.submit(Fault.delay(10.0))
    posting = asyncio.ensure_future(owner.client.submit(CASTLE, key=KEY))
    posting.add_done_callback(lambda done: done.cancelled() or done.exception())
    while "connecting" not in owner.passed:  # noqa: ASYNC110  # the time is virtual
        await asyncio.sleep(0.1)


async def submitted(simulator: Simulator, owner: Process) -> None:
    """Its task runs."""
    simulator.faults.submit(Fault.task_lasts(60.0))
    await owner.client.submit(CASTLE, key=KEY)


async def uncertain(simulator: Simulator, owner: Process) -> None:
    """The answer to its POST was lost."""
    simulator.faults.submit(Fault.lost_answer())
    with pytest.raises(SubmitUncertainError):
        await owner.client.submit(CASTLE, key=KEY)


async def succeeded(_simulator: Simulator, owner: Process) -> None:
    """Its task is over."""
    await (await owner.client.submit(CASTLE, key=KEY))
    await asyncio.sleep(1.0)


async def failed(simulator: Simulator, owner: Process) -> None:
    """Its task has failed."""
    simulator.faults.submit(Fault.task_fails("CONTENT_VIOLATION", "no castles"))
    task = await owner.client.submit(CASTLE, key=KEY)
    with pytest.raises(TaskFailedError):
        await task
    await asyncio.sleep(1.0)


async def lost(simulator: Simulator, owner: Process) -> None:
    """The service did not know it for a while."""
    task = await owner.client.submit(CASTLE, key=KEY)
    simulator.faults.poll(Fault.repeat(100, Fault.status(404)))
    await task.wait()
    assert task.done()
    simulator.faults.clear()
    await asyncio.sleep(1.0)


STATES = {
    nothing: None,
    intended: State.INTENT,
    submitted: State.SUBMITTED,
    uncertain: State.UNCERTAIN,
    succeeded: State.SUCCESS,
    failed: State.FAILED,
    lost: State.LOST,
}


async def expect_task(task: Task, simulator: Simulator) -> None:
    """It is the one task there is, and ends as that does."""
    assert [*simulator.tasks] == [task.id]
    assert (await task).task_id == task.id
    assert task.state == "success"


@pytest.mark.parametrize("owner_is", ["alive", "dead", "itself"])
@pytest.mark.parametrize("asked_for", ["the same", "another input", "another provider"])
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
async def test_whoever_asks(
    state: Callable[[Simulator, Process], Any], asked_for: str, owner_is: str
) -> None:
    """The same input gets what the key has; any other one is refused, and nothing is sent."""
    simulator, store = Simulator(seed=1, durations=20.0), MemoryStore()
    owner, other = Process(simulator, store), Process(simulator, store)
    asker = owner if owner_is == "itself" else other
    async with processes(owner, other):
        await state(simulator, owner)
        entry = await (await store.open("any")).find(KEY)
        assert (None if entry is None else entry.state) is STATES[state]
        if owner_is == "dead":
            owner.stop()
        posts = simulator.count("submit")
        arguments: dict[str, Any] = {"input": CASTLE} | {
            "the same": {},
            "another input": {"input": HARBOUR},
            "another provider": {"provider": "official"},
        }[asked_for]

        async def asked() -> Task:
            given = dict(arguments)
            return await asker.client.submit(given.pop("input"), key=KEY, **given)

        if state is nothing:
            await expect_task(await asked(), simulator)
        elif asked_for != "the same":
            with pytest.raises(KeyConflictError, match="stands for another input") as conflict:
                await asked()
            assert conflict.value.bought is False
            assert conflict.value.key == KEY
            assert simulator.count("submit") <= max(posts, 1)
        elif state is uncertain or (state is intended and owner_is == "dead"):
            with pytest.raises(SubmitUncertainError, match=KEY) as doubt:
                await asked()
            assert (doubt.value.bought, doubt.value.key) == (None, KEY)
            assert doubt.value.input == CASTLE
        elif state is failed:
            task = await asked()
            assert task.done()
            with pytest.raises(TaskFailedError, match="no castles") as failure:
                await task
            assert failure.value.fail_code == "CONTENT_VIOLATION"
        else:
            if state is succeeded:
                polls = simulator.count("poll")
                assert (await asked()).done()
                assert simulator.count("poll") == polls
            await expect_task(await asked(), simulator)
        assert simulator.count("submit") <= 1
        assert simulator.statistics().refused == 0


async def test_many_at_the_same_time() -> None:
    """Two processes, twenty coroutines: one POST, and the same task for all."""
    simulator, store = Simulator(seed=1), MemoryStore()
    one, two = Process(simulator, store), Process(simulator, store)
    async with processes(one, two):
        asked = [each.client.generate(CASTLE, key=KEY) for each in (one, two) for _ in range(10)]
        results = await asyncio.gather(*asked)
        assert len({result.task_id for result in results}) == 1
        assert simulator.count("submit") == 1


async def test_a_refused_submit_leaves_its_key_free() -> None:
    """Nothing was bought, so the same key buys."""
    simulator, store = Simulator(seed=1), MemoryStore()
    process = Process(simulator, store)
    async with processes(process):
        simulator.faults.submit(Fault.status(400))
        with pytest.raises(Exception, match="400"):
            await process.client.submit(CASTLE, key=KEY)
        assert await process.client.find(KEY) is None
        assert (await process.client.generate(CASTLE, key=KEY)).urls


async def test_a_repeat_after_a_refusal() -> None:
    """A service that is down for a moment: one entry, one task."""
    simulator, store = Simulator(seed=1), MemoryStore()
    process = Process(simulator, store)
    async with processes(process):
        simulator.faults.submit(Fault.repeat(2, Fault.refused()))
        task = await process.client.submit(CASTLE, key=KEY)
        [entry] = [entry async for entry in process.client.entries()]
        assert (entry.task_id, entry.state) == (task.id, State.SUBMITTED)
        assert entry.purchases == 1


async def test_no_store_no_keys(client_of: Callable[..., AsyncClient]) -> None:
    """A key that nothing remembers is refused, and nothing is sent."""
    simulator = Simulator(seed=1)
    client = client_of(simulator)
    with pytest.raises(ConfigurationError, match="needs a client with a store"):
        await client.submit(CASTLE, key=KEY)
    with pytest.raises(ConfigurationError, match="needs a client with a store"):
        await client.find(KEY)
    with pytest.raises(ConfigurationError, match="needs a client with a store"):
        await client.recover()
    assert simulator.count() == 0


@pytest.mark.parametrize("key", ["", "k" * 201, "a\0b", "\ud800", 7])
async def test_what_is_no_key(key: Any) -> None:
    """Refused before anything is sent."""
    simulator = Simulator(seed=1)
    process = Process(simulator, MemoryStore())
    async with processes(process):
        with pytest.raises(ConfigurationError, match="key: "):
            await process.client.submit(CASTLE, key=key)
        assert simulator.count() == 0


async def test_find_never_buys() -> None:
    """And waits for a POST that is under way."""
    simulator, store = Simulator(seed=1), MemoryStore()
    owner, other = Process(simulator, store), Process(simulator, store)
    async with processes(owner, other):
        assert await other.client.find(KEY) is None
        await intended(simulator, owner)
        found = await other.client.find(KEY)
        assert found is not None
        await expect_task(found, simulator)


async def test_a_timeout_bounds_the_wait_for_the_post_of_another() -> None:
    """What it waits for goes on."""
    simulator, store = Simulator(seed=1), MemoryStore()
    owner, other = Process(simulator, store), Process(simulator, store)
    async with processes(owner, other):
        await intended(simulator, owner)
        with pytest.raises(APIConnectionError, match="is being bought") as waited:
            await other.client.submit(CASTLE, key=KEY, timeout=1.0)
        assert waited.value.bought is False
        await expect_task(await other.client.submit(CASTLE, key=KEY), simulator)


async def test_an_intent_of_an_account_that_nobody_uses_any_more() -> None:
    """Its key was rotated in the middle of a POST: once that is over for sure, it is a doubt."""
    simulator, store = Simulator(seed=1), MemoryStore()
    old = Process(simulator, store, key="old-key-1234", stops_at="connecting")
    new = Process(simulator, store, key="new-key-1234")
    posting = asyncio.ensure_future(old.client.submit(CASTLE, key=KEY))
    async with processes(new):
        await asyncio.sleep(1)
        assert old.is_stopped
        with pytest.raises(SubmitUncertainError, match=KEY):
            await new.client.submit(CASTLE, key=KEY)
        assert simulator.count("submit") == 0
    posting.cancel()


async def test_a_refusal_that_is_written_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A map goes on with other keys; a key waits until its own is written."""
    simulator, store = Simulator(seed=1, durations=3.0), MemoryStore()
    process = Process(simulator, store)
    really, until = OpenMemoryStore.refused, asyncio.get_running_loop().time() + 22

    async def away(*args: Any, **options: Any) -> None:
        if asyncio.get_running_loop().time() < until:
            raise StoreError("away")
        await really(*args, **options)

    monkeypatch.setattr(OpenMemoryStore, "refused", away)
    simulator.faults.submit(Fault.status(429))
    async with processes(process):
        outcomes = process.client.map([FluxKontext(mode="pro", prompt=f"{n}") for n in range(3)])
        assert [outcome.ok async for outcome in outcomes] == [True] * 3
        until = asyncio.get_running_loop().time() + 22
        simulator.faults.submit(Fault.status(429))
        assert (await process.client.generate(CASTLE, key=KEY)).urls
        assert simulator.created == 4


# --- doubts --------------------------------------------------------------------------------------


async def test_the_word_of_an_operator_that_it_was_bought() -> None:
    """The task is polled, and is the key's from then on."""
    simulator, store = Simulator(seed=1), MemoryStore()
    owner, other = Process(simulator, store), Process(simulator, store)
    async with processes(owner, other):
        await uncertain(simulator, owner)
        [made] = simulator.tasks
        [entry] = [entry async for entry in other.client.entries(state="uncertain")]
        assert entry.purchase.key == KEY
        task = await other.client.resolve(KEY, task_id=made)
        await expect_task(task, simulator)
        assert (await owner.client.submit(CASTLE, key=KEY)).id == made
        with pytest.raises(ConfigurationError, match="is not uncertain"):
            await other.client.resolve(KEY, bought=False)


async def test_the_word_of_an_operator_that_it_was_not() -> None:
    """The key buys again."""
    simulator, store = Simulator(seed=1), MemoryStore()
    process = Process(simulator, store)
    async with processes(process):
        simulator.faults.submit(Fault.reset_before())
        with pytest.raises(SubmitUncertainError):
            await process.client.submit(CASTLE, key=KEY)
        await process.client.resolve(KEY, bought=False)
        await expect_task(await process.client.submit(CASTLE, key=KEY), simulator)


async def test_words_that_cannot_be_right() -> None:
    """A task of another key, a key that is not there, both or none."""
    simulator, store = Simulator(seed=1), MemoryStore()
    process = Process(simulator, store)
    async with processes(process):
        task = await process.client.submit(HARBOUR, key="another")
        await uncertain(simulator, process)
        with pytest.raises(ConfigurationError, match="is that of key 'another'"):
            await process.client.resolve(KEY, task_id=task.id)
        with pytest.raises(ConfigurationError, match="has no entry"):
            await process.client.resolve("no such key", bought=False)
        with pytest.raises(ConfigurationError, match="give the task_id"):
            await process.client.resolve(KEY)  # type: ignore[call-overload]  # what is tried


async def test_two_words_are_one_purchase() -> None:
    """Two operators who resubmit the same doubt buy once."""
    simulator, store = Simulator(seed=1), MemoryStore()
    one, two = Process(simulator, store), Process(simulator, store)
    async with processes(one, two):
        await uncertain(simulator, one)
        doubts = []
        for process in (one, two):
            with pytest.raises(SubmitUncertainError) as doubt:
                await process.client.submit(CASTLE, key=KEY)
            doubts.append(doubt.value)
        tasks = await asyncio.gather(one.client.resubmit(doubts[0]), two.client.resubmit(doubts[1]))
        assert tasks[0].id == tasks[1].id
        assert simulator.count("submit") == 2
        # A word on what is known by now buys nothing.
        assert (await one.client.resubmit(doubts[0])).id == tasks[0].id
        assert simulator.count("submit") == 2


async def test_a_word_after_another_that_nothing_was_bought() -> None:
    """The doubt is gone, so the word is a plain submit."""
    simulator, store = Simulator(seed=1), MemoryStore()
    process = Process(simulator, store)
    async with processes(process):
        simulator.faults.submit(Fault.reset_before())
        with pytest.raises(SubmitUncertainError) as doubt:
            await process.client.submit(CASTLE, key=KEY)
        await process.client.resolve(KEY, bought=False)
        await expect_task(await process.client.resubmit(doubt.value), simulator)


async def test_a_doubt_without_a_key_has_one() -> None:
    """By which an operator can resolve it, and its resubmit is noted."""
    simulator, store = Simulator(seed=1), MemoryStore()
    process = Process(simulator, store)
    async with processes(process):
        simulator.faults.submit(Fault.lost_answer())
        with pytest.raises(SubmitUncertainError) as doubt:
            await process.client.submit(CASTLE)
        assert doubt.value.key is not None
        assert doubt.value.key.startswith("unkeyed-")
        [made] = simulator.tasks
        assert (await process.client.resolve(doubt.value.key, task_id=made)).id == made
        simulator.faults.submit(Fault.lost_answer())
        with pytest.raises(SubmitUncertainError) as doubt:
            await process.client.submit(HARBOUR)
        task = await process.client.resubmit(doubt.value)
        assert (await process.client.resubmit(doubt.value)).id == task.id
        assert simulator.count("submit") == 3
        states = [entry.state async for entry in process.client.entries()]
        assert State.UNCERTAIN not in states


# --- limits --------------------------------------------------------------------------------------


async def test_the_slots_of_all_together() -> None:
    """Three processes with 30 inputs each, and 10 slots in all: never more, and none wasted."""
    simulator = Simulator(seed=1, durations=20.0, concurrent_tasks=10)
    store, limits = MemoryStore(), Limits(concurrent_tasks=10)
    made = [Process(simulator, store, limits=limits, seed=seed) for seed in range(3)]
    numbers = itertools.count()

    async def buy(process: Process) -> None:
        for _ in range(10):
            prompt = FluxKontext(mode="pro", prompt=f"castle {next(numbers)}")
            await process.client.generate(prompt, key=prompt.prompt)

    async with processes(*made):
        start = asyncio.get_running_loop().time()
        await asyncio.gather(*(buy(process) for process in made for _ in range(3)))
        took = asyncio.get_running_loop().time() - start
        assert simulator.count("submit") == 90
        assert simulator.statistics().refused == 0
        assert simulator.most_concurrent <= 10
        # Nine rounds of ten tasks, of 20 s each and the time until their ends are noticed.
        assert took <= 9 * (20 + 6) + 10


async def test_a_map_takes_slots_of_the_store(tmp_path: Any) -> None:
    """Its items are in its journal, its tasks in the store."""
    simulator = Simulator(seed=1, durations=20.0, concurrent_tasks=4)
    store, limits = MemoryStore(), Limits(concurrent_tasks=4)
    one = Process(simulator, store, limits=limits)
    two = Process(simulator, store, limits=limits, seed=2)
    prompts = [FluxKontext(mode="pro", prompt=f"castle {number}") for number in range(12)]

    async def bought(process: Process, journal: str) -> int:
        outcomes = process.client.map(prompts, journal=tmp_path / journal)
        return sum([outcome.ok async for outcome in outcomes])

    async with processes(one, two):
        assert await asyncio.gather(bought(one, "1.db"), bought(two, "2.db")) == [12, 12]
        assert simulator.statistics().refused == 0
        assert simulator.most_concurrent <= 4
        states = [entry.state async for entry in one.client.entries()]
        assert states == [State.SUCCESS] * 24


# --- the store is away ---------------------------------------------------------------------------


async def test_a_store_that_cannot_be_opened() -> None:
    """One sentence, and nothing is sent."""
    simulator = Simulator(seed=1)

    class Away(MemoryStore):
        async def open(self, account: str) -> Any:
            raise StoreError(f"the store of {len(account)} letters is away")

    client = AsyncClient("test-key", transport=simulator.transport(), store=Away())
    async with client:
        for asked in (client.submit(CASTLE), client.submit(CASTLE, key=KEY), client.find(KEY)):
            with pytest.raises(StoreError, match="is away"):
                await asked
    assert simulator.count() == 0


async def test_a_store_that_goes_away() -> None:
    """Submits fail closed; what is bought goes on, and its end is written when it is back."""
    simulator, store = Simulator(seed=1, durations=40.0), MemoryStore()
    process, other = Process(simulator, store), Process(simulator, store)
    async with processes(process, other):
        task = await process.client.submit(CASTLE, key=KEY)
        really = store.open

        async def away(*_: Any, **__: Any) -> Any:
            raise StoreError("the store is away")

        account = process.client._settings.store
        assert account is not None
        inner = await account.opened()
        account._store = None
        account.backend.open = away  # type: ignore[method-assign]
        with pytest.raises(StoreError, match="is away") as failed:
            await process.client.submit(HARBOUR)
        assert failed.value.bought is False
        await asyncio.sleep(60)
        assert not task.done()  # Polls need the limits as well.
        account._store = inner
        assert really is not None
        assert (await task).urls
        await asyncio.sleep(6)
        found = await other.client.find(KEY)
        assert found is not None
        assert found.done()

"""Many inputs through one client: order, pace, limits, attempts, memory."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from apixo_async import (
    AsyncClient,
    BadRequestError,
    ConfigurationError,
    FluxKontext,
    Limits,
    Outcome,
    Polling,
    SubmitUncertainError,
    TaskFailedError,
)
from apixo_async.testing import Fault, Simulator

from ..support.maps import Swift, castle, castles, mapped

ClientOf = Callable[..., AsyncClient]


def small(tasks: int, requests: int = 10_000, **options: Any) -> tuple[Simulator, dict[str, Any]]:
    """Return a service with these limits, and the option that tells a client of them."""
    simulator = Simulator(seed=1, concurrent_tasks=tasks, requests_per_minute=requests, **options)
    return simulator, {"limits": Limits(tasks, requests)}


async def all_of(outcomes: Any) -> list[Outcome]:
    return [outcome async for outcome in outcomes]


async def test_every_input_has_its_outcome(simulator: Simulator, client_of: ClientOf) -> None:
    """Each input has one outcome, with its key, its task and its result."""
    inputs = {f"row {n}": castle(n) for n in range(50)}
    outcomes = await all_of(mapped(client_of(simulator), inputs.items()))
    assert {one.key: one.input for one in outcomes} == inputs
    for one in outcomes:
        assert one.ok
        assert one.task is not None
        assert one.result == one.task.result()
        assert one.input is not None
        assert one.input.payload() == simulator.tasks[one.task.id].input
        assert (one.error, one.purchases) == (None, 1)
    assert simulator.created == len(outcomes) == 50


async def test_as_they_finish(client_of: ClientOf) -> None:
    """Outcomes come as tasks finish, whatever the order of the inputs."""
    simulator = Simulator(seed=1)
    simulator.faults.submit(*(Fault.task_lasts(seconds) for seconds in (60.0, 20.0, 40.0)))
    outcomes = await all_of(mapped(client_of(simulator), castles(3)))
    assert [one.key for one in outcomes] == ["1", "2", "0"]


async def test_in_order(client_of: ClientOf) -> None:
    """In order, outcomes come in the order of the inputs, failed and bad ones among them."""
    simulator = Simulator(seed=1, failure_rate=0.3)
    rows: list[Any] = [*castles(30), None, castle(31)]
    outcomes = await all_of(mapped(client_of(simulator), rows, ordered=True))
    assert [one.key for one in outcomes] == [str(n) for n in range(32)]
    assert {one.ok for one in outcomes} == {True, False}
    assert isinstance(outcomes[30].error, ConfigurationError)


async def test_no_inputs(simulator: Simulator, client_of: ClientOf) -> None:
    """No inputs have no outcomes, and the end stays the end."""
    outcomes = mapped(client_of(simulator), [])
    assert await all_of(outcomes) == []
    assert await all_of(outcomes) == []


async def test_async_inputs_as_they_come(client_of: ClientOf) -> None:
    """An input of a slow async iterable is bought when it comes, and its outcome is not kept."""
    simulator, loop = Simulator(seed=1, durations=10.0), asyncio.get_running_loop()
    start = loop.time()

    async def rows() -> AsyncIterator[tuple[str, FluxKontext]]:
        for number in range(3):
            yield f"row {number}", castle(number)
            await asyncio.sleep(600)

    client = client_of(simulator, polling=Polling.fixed(10.5, 1))
    taken = {one.key: loop.time() - start async for one in mapped(client, rows())}
    assert list(taken) == ["row 0", "row 1", "row 2"]
    for number, at in enumerate(taken.values()):
        assert 600 * number + 10.5 < at < 600 * number + 12


@pytest.mark.heavy
@pytest.mark.parametrize(("ordered", "count"), [(False, 1_000), (True, 400)])
async def test_thousands_within_small_limits(
    client_of: ClientOf, ordered: bool, count: int
) -> None:
    """Thousands of inputs exceed neither limit, and hardly a slot is idle."""
    simulator, limits = small(40, 600, durations=10.0, keep_log=1_000)
    client = client_of(simulator, polling=Polling.fixed(10.5, 3), **limits)
    start, turns = asyncio.get_running_loop().time(), count / 40
    outcomes = await all_of(mapped(client, castles(count), ordered=ordered))
    took = asyncio.get_running_loop().time() - start
    assert len(outcomes) == simulator.created == count
    assert all(one.ok for one in outcomes)
    seen = simulator.statistics()
    assert seen.most_tasks == 40
    assert seen.most_requests <= 600
    assert seen.refused == 0
    assert took < 1.15 * turns * 10.7


async def test_one_slot(client_of: ClientOf) -> None:
    """An account with one slot is used without a pause between tasks."""
    simulator, limits = small(1, durations=10.0)
    client = client_of(simulator, polling=Polling.fixed(10.2, 1), **limits)
    assert len(await all_of(mapped(client, castles(5)))) == 5
    submits = [one.at for one in simulator.log if one.kind == "submit"]
    assert max(b - a for a, b in itertools.pairwise(submits)) < 11.5


async def test_poll_ahead_is_bounded(client_of: ClientOf) -> None:
    """No more is read than the slots and a few inputs, so that one stands ready for each slot."""
    simulator, limits = small(5, durations=10.0)
    most = 0

    def rows() -> Iterator[FluxKontext]:
        nonlocal most
        for number in range(100):
            assert outcomes.progress.read == number
            most = max(most, outcomes.progress.in_progress + 1)
            yield castle(number)

    outcomes = mapped(client_of(simulator, **limits), rows())
    assert len(await all_of(outcomes)) == 100
    assert most == 10


async def test_slow_consumer(client_of: ClientOf) -> None:
    """Who takes no outcomes stops the buying, and loses none of them later."""
    simulator, limits = small(5, durations=10.0)
    async with mapped(client_of(simulator, **limits), castles(100)) as outcomes:
        await asyncio.sleep(10_000)
        held = simulator.created
        assert 10 <= held <= 15
        seen = 0
        async for one in outcomes:
            assert one.ok
            seen += 1
            assert simulator.created <= seen + 15
            await asyncio.sleep(30)
    assert seen == simulator.created == 100


async def test_slow_head_of_an_order(client_of: ClientOf) -> None:
    """In order, one slow task holds back what comes after it, in bounded number."""
    simulator, limits = small(5, durations=10.0)
    simulator.faults.submit(Fault.task_lasts(1_000.0))
    outcomes = mapped(client_of(simulator, **limits), castles(60), ordered=True)
    first = await anext(outcomes)
    assert first.key == "0"
    assert outcomes.progress.read <= 16  # twice the slots, five ahead, and room for one is back
    assert len(await all_of(outcomes)) == 59


async def test_others_are_served_meanwhile(client_of: ClientOf) -> None:
    """A submit beside a long map waits behind a few inputs, not behind all of them."""
    simulator, limits = small(40, durations=10.0)
    client = client_of(simulator, polling=Polling.fixed(10.2, 1), **limits)
    async with mapped(client, castles(500)) as outcomes:
        await asyncio.sleep(5)
        assert client.statistics().slots_waiting <= 32
        start = asyncio.get_running_loop().time()
        await client.submit(castle(1_000))
        assert asyncio.get_running_loop().time() - start < 12
        assert len(await all_of(outcomes)) == 500


async def test_inputs_crowd_nobody_out_of_few_requests(client_of: ClientOf) -> None:
    """Where requests are scarce, inputs do not queue up for them by the hundred."""
    simulator, limits = small(1_000, 60, durations=10.0)
    client = client_of(simulator, **limits)
    async with mapped(client, castles(60)) as outcomes:
        await asyncio.sleep(5)
        assert client.statistics().requests_waiting <= 33
        assert len(await all_of(outcomes)) == 60
    assert simulator.most_in_window() <= 60


async def test_several_takers(simulator: Simulator, client_of: ClientOf) -> None:
    """Several coroutines share the outcomes of one map: each outcome is taken once."""
    outcomes = mapped(client_of(simulator), castles(40))

    async def taker() -> list[Outcome]:
        share: list[Outcome] = []
        async for one in outcomes:
            share.append(one)
            await asyncio.sleep(1)
        return share

    shares = await asyncio.gather(*(taker() for _ in range(4)))
    keys = [one.key for share in shares for one in share]
    assert sorted(keys, key=int) == [str(n) for n in range(40)]
    assert all(shares)


async def test_taker_that_is_cancelled(simulator: Simulator, client_of: ClientOf) -> None:
    """A taker who gives up waiting takes nothing with it."""
    outcomes, keys = mapped(client_of(simulator), castles(20)), list[str]()
    for seconds in itertools.cycle((0.0, 0.3, 1.1)):
        try:
            async with asyncio.timeout(seconds):
                keys.append((await anext(outcomes)).key)
        except TimeoutError:
            continue
        except StopAsyncIteration:
            break
    assert sorted(keys, key=int) == [str(n) for n in range(20)]


# --- what one input's trouble means for the others -------------------------------------------


async def test_one_refusal_touches_no_other_input(
    simulator: Simulator, client_of: ClientOf
) -> None:
    """What the service refuses for one input is that input's outcome; nothing was bought for it."""
    simulator.faults.submit(None, Fault.status(400), None, Fault.status(422), Fault.status(403))
    outcomes = await all_of(mapped(client_of(simulator), castles(10), ordered=True))
    assert [one.key for one in outcomes if not one.ok] == ["1", "3", "4"]
    for one in outcomes:
        if one.error is not None:
            assert (one.task, one.purchases, one.error.bought) == (None, 0, False)
    assert isinstance(outcomes[1].error, BadRequestError)
    assert simulator.created == 7


async def test_uncertain_is_never_bought_again(simulator: Simulator, client_of: ClientOf) -> None:
    """An uncertain submit is its input's outcome, whatever the attempts."""
    simulator.faults.submit(Fault.lost_answer(), Fault.html(502))
    outcomes = mapped(client_of(simulator), castles(4), attempts=5, ordered=True)
    found = await all_of(outcomes)
    assert [type(one.error) for one in found[:2]] == [SubmitUncertainError] * 2
    assert all(one.ok for one in found[2:])
    assert (outcomes.progress.uncertain, outcomes.progress.bought) == (2, 2)
    assert max(Counter(task.prompt for task in simulator.tasks.values()).values()) == 1
    assert simulator.count("submit") == 4


async def test_attempts(simulator: Simulator, client_of: ClientOf) -> None:
    """A retryable failure is bought again up to the attempts, and each purchase is counted."""
    upstream = Fault.task_fails("UPSTREAM_ERROR")
    simulator.faults.submit(upstream, Fault.repeat(3, Fault.task_fails("TIMEOUT")))
    outcomes = mapped(client_of(simulator), [castle(0)], attempts=5)
    (one,) = await all_of(outcomes)
    assert one.ok
    assert one.purchases == simulator.created == outcomes.progress.bought == 5
    assert one.task is not None
    assert one.task.id == list(simulator.tasks)[-1]


async def test_attempts_are_used_up(simulator: Simulator, client_of: ClientOf) -> None:
    """After the last attempt the failure is the outcome; by default the first is the last."""
    simulator.faults.submit(Fault.repeat(4, Fault.task_fails("TIMEOUT")))
    client = client_of(simulator)
    (once,) = await all_of(mapped(client, [castle(0)]))
    (thrice,) = await all_of(mapped(client, [castle(1)], attempts=3))
    assert (once.purchases, thrice.purchases) == (1, 3)
    for one in (once, thrice):
        assert isinstance(one.error, TaskFailedError)
        assert one.error.family == "timeout"


async def test_content_is_not_tried_again(simulator: Simulator, client_of: ClientOf) -> None:
    """What would fail again is not bought again."""
    simulator.faults.submit(Fault.task_fails("CONTENT_VIOLATION"))
    (one,) = await all_of(mapped(client_of(simulator), [castle(0)], attempts=5))
    assert isinstance(one.error, TaskFailedError)
    assert one.purchases == simulator.created == 1


async def test_pause_after_a_limit(client_of: ClientOf) -> None:
    """A task that failed for a limit is bought again after a pause that grows."""
    simulator = Simulator(seed=1, durations=10.0)
    simulator.faults.submit(Fault.repeat(3, Fault.task_fails("RateLimited")))
    client = client_of(simulator, polling=Polling.fixed(10.2, 1))
    (one,) = await all_of(mapped(client, [castle(0)], attempts=9))
    assert one.purchases == 4
    submits = [exchange.at for exchange in simulator.log if exchange.kind == "submit"]
    pauses = [b - a - 10.3 for a, b in itertools.pairwise(submits)]
    for pause, longest in zip(pauses, (5, 10, 20), strict=True):
        assert longest / 2 <= pause < longest + 1.1


@pytest.mark.parametrize("fault", [Fault.status(400), Fault.lost_answer()])
async def test_repetition_that_is_not_bought(
    simulator: Simulator, client_of: ClientOf, fault: Fault
) -> None:
    """A refused repetition leaves the failure as the outcome, an uncertain one is the outcome."""
    simulator.faults.submit(Fault.task_fails("TIMEOUT"), fault)
    outcomes = mapped(client_of(simulator), [castle(0)], attempts=5)
    (one,) = await all_of(outcomes)
    uncertain = fault.end != "answer"
    assert isinstance(one.error, SubmitUncertainError if uncertain else TaskFailedError)
    assert one.task is not None
    assert one.task.id == next(iter(simulator.tasks))
    assert one.purchases == 1
    progress = outcomes.progress
    assert (progress.failed, progress.uncertain) == (not uncertain, uncertain)


async def test_counts_add_up(client_of: ClientOf) -> None:
    """At any time every input that was read is in one count, whatever goes wrong."""
    simulator = Simulator(seed=3, failure_rate=0.3)
    rng = random.Random(3)
    faults = (None, None, Fault.status(400), Fault.lost_answer(), Fault.task_fails("TIMEOUT"))
    simulator.faults.submit(*(rng.choice(faults) for _ in range(150)))
    rows: list[Any] = [*castles(100), None]
    rng.shuffle(rows)
    outcomes = mapped(client_of(simulator), rows, attempts=3)
    kinds: Counter[str] = Counter()
    async for one in outcomes:
        now = outcomes.progress
        ended = now.succeeded + now.failed + now.uncertain + now.unbought
        assert now.read == now.in_progress + ended
        uncertain = isinstance(one.error, SubmitUncertainError)
        kinds["uncertain" if uncertain else "failed" if one.purchases else "unbought"] += not one.ok
        kinds["bought"] += one.purchases
    assert min(kinds.values()) > 0
    assert outcomes.progress.read == 101
    assert outcomes.progress.in_progress == 0
    assert outcomes.progress.succeeded == 101 - kinds.total() + kinds["bought"]
    assert {name: getattr(outcomes.progress, name) for name in kinds} == kinds


# --- memory ----------------------------------------------------------------------------------


@pytest.mark.heavy
async def test_memory_is_flat() -> None:
    """Two thousand inputs take no more memory than five hundred."""
    # New ids would fill the bounded cache of strings that the JSON parser keeps.
    service, blocks, tasks = Swift(lambda _: 10.0, latency=0.3, ids=500), list[int](), 0

    async def rows() -> AsyncIterator[FluxKontext]:
        nonlocal tasks
        for number in range(2_000):
            yield castle(number)
            tasks = max(tasks, len(asyncio.all_tasks()))
            if number % 500 == 499:
                await asyncio.sleep(600)  # until nothing is in progress
                gc.collect()
                blocks.append(sys.getallocatedblocks())

    async with AsyncClient(
        "test-key",
        limits=Limits(concurrent_tasks=100),
        polling=Polling.fixed(10.5, 3),
        transport=service,
        seed=1,
    ) as client:
        taken = 0
        async for one in mapped(client, rows()):
            assert one.ok
            taken += 1
    assert taken == service.made == 2_000
    assert service.most_at_once == 100
    assert tasks < 2 * 100 + 32 + 10
    assert max(blocks) < blocks[0] + 150  # A single block for each input would be 1,500.

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable

import pytest

from apixo_async import (
    APIConnectionError,
    APITimeoutError,
    AsyncClient,
    ClientClosedError,
    FluxKontext,
    InternalServerError,
    Limiter,
    Limits,
    RateLimitError,
    SubmitRefused,
    Timeouts,
)
from apixo_async.testing import Fault, Simulator

ClientOf = Callable[..., AsyncClient]
CASTLE = FluxKontext(mode="pro", prompt="a castle")


def now() -> float:
    """Return the time of the loop."""
    return asyncio.get_running_loop().time()


async def test_timeout_for_a_slot(simulator: Simulator, client_of: ClientOf) -> None:
    """`timeout` bounds the wait for a slot; nothing was sent, and nothing is held."""
    client = client_of(simulator, limits=Limits(concurrent_tasks=1))
    await client.submit(CASTLE)
    start = now()
    with pytest.raises(APITimeoutError, match="1 of 1 slots taken") as caught:
        await client.submit(CASTLE, timeout=5.0)
    assert now() - start == pytest.approx(5.0)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.bought is False
    assert simulator.created == 1
    assert client.statistics().slots_waiting == 0


async def test_timeout_for_a_permit(simulator: Simulator, client_of: ClientOf) -> None:
    """`timeout` bounds the wait for a permit, and the slot is free again."""
    client = client_of(simulator, limits=Limits(requests_per_minute=1))
    await client.submit(CASTLE)
    with pytest.raises(APITimeoutError):
        await client.submit(CASTLE, timeout=5.0)
    assert client.statistics().slots_used == 1


async def test_timeout_never_bounds_the_post(simulator: Simulator, client_of: ClientOf) -> None:
    """A submit that has slot and permit at once waits for its answer beyond `timeout`."""
    simulator.faults.submit(Fault.delay(30.0))
    start = now()
    task = await client_of(simulator).submit(CASTLE, timeout=0.5)
    assert now() - start >= 30.0
    assert task.id in simulator.tasks


async def test_503_within_the_budget(
    simulator: Simulator, client_of: ClientOf, events: list[object]
) -> None:
    """A 503 is repeated with growing pauses until the budget of time is spent."""
    simulator.faults.submit(Fault.repeat(1_000, Fault.status(503)))
    client = client_of(simulator, timeout=Timeouts(retry=10.0))
    start = now()
    with pytest.raises(InternalServerError) as caught:
        await client.submit(CASTLE)
    assert caught.value.bought is False
    assert 3 <= now() - start <= 10.2
    refusals = [event for event in events if isinstance(event, SubmitRefused)]
    assert len(refusals) == simulator.count("submit") >= 3
    assert [event.again_in is None for event in refusals].index(True) == len(refusals) - 1
    assert client.statistics().slots_used == 0


async def test_quota_of_repeats(simulator: Simulator, client_of: ClientOf) -> None:
    """A client whose submits all fail repeats ten times, and then once in ten seconds."""
    simulator.faults.submit(Fault.repeat(10_000, Fault.status(503)))
    client = client_of(simulator, timeout=Timeouts(retry=1e6))
    start = now()
    with pytest.raises(InternalServerError):
        await client.submit(CASTLE)
    assert 11 <= simulator.count("submit") <= 11 + (now() - start) / 10


async def test_short_outage_costs_one_repeat_each(
    simulator: Simulator, client_of: ClientOf
) -> None:
    """A hundred submits that meet two seconds of refused connections are all bought after it."""
    simulator.faults.during(1_000, 1_002, Fault.refused(), "submit")
    client = client_of(simulator)
    tasks = await asyncio.gather(*(client.submit(CASTLE) for _ in range(100)))
    assert len({task.id for task in tasks}) == simulator.created == 100
    assert len([e for e in simulator.log if e.kind == "submit"]) <= 210
    assert now() < 1_010


async def test_timeout_during_a_pause_names_the_refusal(
    simulator: Simulator, client_of: ClientOf
) -> None:
    """Out of time between two repeats, the error has the last refusal as its cause."""
    simulator.faults.submit(Fault.repeat(100, Fault.status(503, retry_after=60.0)))
    with pytest.raises(APITimeoutError, match="the last one with HTTP 503") as caught:
        await client_of(simulator).submit(CASTLE, timeout=5.0)
    assert isinstance(caught.value.__cause__, InternalServerError)


async def test_queue_under_429s_is_bounded(client_of: ClientOf) -> None:
    """Whoever waits while the service answers 429 gives up after 300 s, first or last in line."""
    simulator = Simulator(seed=1)
    simulator.faults.during(0, 1e9, Fault.status(429), "submit")
    client = client_of(simulator, limits=Limits(requests_per_minute=60))
    start = now()
    ends = await asyncio.gather(*(client.submit(CASTLE) for _ in range(50)), return_exceptions=True)
    assert {type(end) for end in ends} == {RateLimitError}
    assert now() - start == pytest.approx(300, abs=61)


async def test_dead_network(simulator: Simulator, client_of: ClientOf) -> None:
    """Where no connection can be made, the error says that nothing was sent."""
    simulator.faults.during(0, 1e9, Fault.refused())
    client = client_of(simulator, timeout=Timeouts(retry=10.0))
    with pytest.raises(APIConnectionError, match="never sent") as caught:
        await client.submit(CASTLE)
    assert caught.value.bought is False


async def test_429_for_too_long(simulator: Simulator, client_of: ClientOf) -> None:
    """Time under 429 spends no retry budget, and ends after 300 s with `RateLimitError`."""
    simulator.faults.during(0, 1e9, Fault.status(429), "submit")
    client = client_of(simulator)
    start = now()
    with pytest.raises(RateLimitError) as caught:
        await client.submit(CASTLE)
    assert now() - start == pytest.approx(300, abs=1)
    assert caught.value.bought is False
    # Probed, not hammered: pauses double up to a minute.
    assert simulator.count("submit") <= 15
    assert client.statistics().slots_used == 0


async def test_429_that_passes(simulator: Simulator, client_of: ClientOf) -> None:
    """Forty submits under 30 s of 429s send few requests meanwhile, and all are bought after."""
    simulator.faults.during(1_000, 1_030, Fault.status(429), "submit")
    client = client_of(simulator)
    await asyncio.gather(*(client.submit(CASTLE) for _ in range(40)))
    assert simulator.created == 40
    assert simulator.count("submit") <= 40 + 40 + 8


async def test_close_sends_waiters_away(simulator: Simulator, client_of: ClientOf) -> None:
    """Who waits for a slot, a permit or a repeat when the client closes is told at once."""
    simulator.faults.submit(None, Fault.status(503, retry_after=60.0))
    client = client_of(simulator, limits=Limits(concurrent_tasks=2))
    await client.submit(CASTLE)
    waiting = [asyncio.create_task(client.submit(CASTLE)) for _ in range(3)]
    await asyncio.sleep(1)
    start = now()
    await client.aclose()
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(end) for end in ends] == [ClientClosedError] * 3
    assert all(end.bought is False for end in ends if isinstance(end, ClientClosedError))
    assert len({id(end) for end in ends}) == 3
    assert now() - start < 1


async def test_close_while_a_thousand_wait_for_a_slot(client_of: ClientOf) -> None:
    """All who wait for a slot leave at once; those of another client stay, and are served."""
    simulator, limiter = Simulator(seed=1), Limiter(Limits(concurrent_tasks=1))
    client, other = (client_of(simulator, limiter=limiter) for _ in range(2))
    held, start = await limiter.slot(), now()
    waiting = [asyncio.create_task(client.submit(CASTLE)) for _ in range(1_000)]
    for _ in range(20):  # They begin in several turns of the loop.
        await asyncio.sleep(0)
    behind = asyncio.create_task(other.submit(CASTLE))
    await asyncio.sleep(0)
    assert client.statistics().slots_waiting == 1_001
    await client.aclose()
    assert all(waiter.done() for waiter in waiting)
    assert (now(), limiter.slots_waiting) == (start, 1)
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    told = [end for end in ends if isinstance(end, ClientClosedError)]
    assert len({id(end) for end in told}) == 1_000
    assert {end.bought for end in told} == {False}
    held.release()
    assert [(await behind).id] == [*simulator.tasks]


async def test_close_in_the_instant_of_a_hand_over(client_of: ClientOf) -> None:
    """A slot that was handed to a submit in the instant of the close is free again."""
    simulator, limiter = Simulator(seed=1), Limiter(Limits(concurrent_tasks=1))
    client, held = client_of(simulator, limiter=limiter), await limiter.slot()
    waiting = [asyncio.create_task(client.submit(CASTLE)) for _ in range(2)]
    await asyncio.sleep(1)
    held.release()
    assert limiter.slots_used == 1
    await client.aclose()
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(end) for end in ends] == [ClientClosedError] * 2
    assert (limiter.slots_used, limiter.slots_waiting, simulator.created) == (0, 0, 0)


@pytest.mark.parametrize("handed", [True, False], ids=["handed over", "still waiting"])
async def test_cancelled_in_the_instant_of_the_close(client_of: ClientOf, handed: bool) -> None:
    """A submit that is cancelled in the instant of the close is cancelled, and holds no slot."""
    simulator, limiter = Simulator(seed=1), Limiter(Limits(concurrent_tasks=1))
    client, held = client_of(simulator, limiter=limiter), await limiter.slot()
    before, after = (asyncio.create_task(client.submit(CASTLE)) for _ in range(2))
    await asyncio.sleep(1)
    if handed:
        held.release()
    before.cancel()
    closing = asyncio.create_task(client.aclose())
    await asyncio.sleep(0)
    after.cancel()
    await closing
    ends = await asyncio.gather(before, after, return_exceptions=True)
    assert isinstance(ends[0], asyncio.CancelledError)
    assert isinstance(ends[1], asyncio.CancelledError)
    held.release()
    assert (limiter.slots_used, limiter.slots_waiting, simulator.created) == (0, 0, 0)


async def test_error_of_a_close_is_free_of_cycles(client_of: ClientOf) -> None:
    """Who is sent away leaves nothing to the garbage collector, however many there are."""
    limiter = Limiter(Limits(concurrent_tasks=1))
    client, _held = client_of(Simulator(seed=1), limiter=limiter), await limiter.slot()
    waiting = asyncio.create_task(client.submit(CASTLE))
    await asyncio.sleep(1)
    gc.disable()
    try:
        await client.aclose()
        with pytest.raises(ClientClosedError) as caught:
            await waiting
        error = weakref.ref(caught.value)
        del caught, waiting
        await asyncio.sleep(1)
        assert error() is None
    finally:
        gc.enable()


async def test_body_that_cannot_be_built(
    simulator: Simulator, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An input whose body cannot be built leaves its slot free."""

    def payload(_: FluxKontext) -> dict[str, object]:
        return {"prompt": object()}

    client = client_of(simulator, limits=Limits(concurrent_tasks=1))
    with monkeypatch.context() as patch:
        patch.setattr(FluxKontext, "payload", payload)
        with pytest.raises(TypeError, match="JSON"):
            await client.submit(CASTLE)
    assert client.statistics().slots_used == 0
    assert (await client.submit(CASTLE, timeout=1.0)).id in simulator.tasks


async def test_cancelled_waiter_leaves_nothing(simulator: Simulator, client_of: ClientOf) -> None:
    """Submits cancelled while they wait hold no slot, and the next one gets its turn."""
    client = client_of(simulator, limits=Limits(concurrent_tasks=1))
    task = await client.submit(CASTLE)
    waiting = [asyncio.create_task(client.submit(CASTLE)) for _ in range(3)]
    await asyncio.sleep(1)
    for waiter in waiting[:2]:
        waiter.cancel()
    await task
    assert (await waiting[2]).id != task.id
    assert client.statistics().slots_used == 1

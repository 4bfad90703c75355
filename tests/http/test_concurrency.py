from __future__ import annotations

import asyncio

from apixo_async._http.concurrency import FEWEST, ConcurrencyLimiter

POLLS = FEWEST * 3 // 4


async def full(limiter: ConcurrencyLimiter) -> None:
    """Take all places, as many as possible by polls."""
    for _ in range(POLLS):
        await limiter.enter(for_submit=False)
    for _ in range(FEWEST - POLLS):
        await limiter.enter(for_submit=True)


async def test_polls_leave_places_to_submits() -> None:
    """A quarter of the places is out of reach for polls."""
    limiter = ConcurrencyLimiter(lambda: 10)
    for _ in range(POLLS):
        await limiter.enter(for_submit=False)
    poll = asyncio.create_task(limiter.enter(for_submit=False))
    await asyncio.sleep(1)
    assert not poll.done()
    await asyncio.wait_for(limiter.enter(for_submit=True), 0.001)
    poll.cancel()


async def test_submits_enter_first() -> None:
    """A free place goes to the submit that waits, not to the poll that waits longer."""
    limiter = ConcurrencyLimiter(lambda: 10)
    await full(limiter)
    order: list[str] = []

    async def enter(name: str) -> None:
        await limiter.enter(for_submit=name == "submit")
        order.append(name)

    waiting = [asyncio.create_task(enter(name)) for name in ("poll", "submit")]
    await asyncio.sleep(0)
    for _ in range(FEWEST):
        limiter.leave(None)
    await asyncio.gather(*waiting)
    assert order == ["submit", "poll"]


async def test_cancelled_waiter_gives_its_place_back() -> None:
    """Waiters cancelled before and after their turn has come hold no place."""
    limiter = ConcurrencyLimiter(lambda: 10)
    await full(limiter)
    waiting = [asyncio.create_task(limiter.enter(for_submit=True)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    limiter.leave(None)
    waiting[0].cancel()
    await asyncio.wait_for(waiting[2], 0.001)
    await asyncio.gather(*waiting, return_exceptions=True)
    assert limiter.limit.used == FEWEST


async def test_gate_grows_with_latency() -> None:
    """At 10,000 requests a minute and answers of 0.6 s there are 200 places."""
    limiter = ConcurrencyLimiter(lambda: 10_000 / 60)
    assert limiter.limit.size == FEWEST
    for _ in range(400):
        await limiter.enter(for_submit=True)
        limiter.leave(0.6)
    assert limiter.limit.size == 200


async def test_the_gate_follows_a_changed_limit() -> None:
    """Where the limit is raised while running, more requests are let in at once."""
    rate, sizes = 10.0, []
    limiter = ConcurrencyLimiter(lambda: rate)
    for _ in range(2):
        await limiter.enter(for_submit=True)
        limiter.leave(1.0)
        sizes.append(limiter.limit.size)
        rate = 1_000.0
    assert sizes == [32, 256]

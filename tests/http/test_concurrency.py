from __future__ import annotations

import asyncio

from apixo_async._http.concurrency import FEWEST, ConcurrencyLimiter

POLLS = FEWEST * 3 // 4


async def full(gate: ConcurrencyLimiter) -> None:
    """Fill a gate, with as many polls as it lets in."""
    for _ in range(POLLS):
        await gate.enter(for_submit=False)
    for _ in range(FEWEST - POLLS):
        await gate.enter(for_submit=True)


async def test_polls_leave_places_to_submits() -> None:
    """A quarter of the gate is out of reach for polls."""
    gate = ConcurrencyLimiter(lambda: 10)
    for _ in range(POLLS):
        await gate.enter(for_submit=False)
    poll = asyncio.create_task(gate.enter(for_submit=False))
    await asyncio.sleep(1)
    assert not poll.done()
    await asyncio.wait_for(gate.enter(for_submit=True), 0.001)
    poll.cancel()


async def test_submits_enter_first() -> None:
    """A free place goes to the submit that waits, not to the poll that waits longer."""
    gate = ConcurrencyLimiter(lambda: 10)
    await full(gate)
    order: list[str] = []

    async def enter(name: str) -> None:
        await gate.enter(for_submit=name == "submit")
        order.append(name)

    waiting = [asyncio.create_task(enter(name)) for name in ("poll", "submit")]
    await asyncio.sleep(0)
    for _ in range(FEWEST):
        gate.leave(None)
    await asyncio.gather(*waiting)
    assert order == ["submit", "poll"]


async def test_cancelled_waiter_gives_its_place_back() -> None:
    """Waiters cancelled before and after their turn has come hold no place."""
    gate = ConcurrencyLimiter(lambda: 10)
    await full(gate)
    waiting = [asyncio.create_task(gate.enter(for_submit=True)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    gate.leave(None)
    waiting[0].cancel()
    await asyncio.wait_for(waiting[2], 0.001)
    await asyncio.gather(*waiting, return_exceptions=True)
    assert gate.limit.used == FEWEST


async def test_gate_grows_with_latency() -> None:
    """At 10,000 requests a minute and answers of 0.6 s the gate lets in 200 at once."""
    gate = ConcurrencyLimiter(lambda: 10_000 / 60)
    assert gate.limit.size == FEWEST
    for _ in range(400):
        await gate.enter(for_submit=True)
        gate.leave(0.6)
    assert gate.limit.size == 200


async def test_the_gate_follows_a_changed_limit() -> None:
    """Where the limit is raised while running, more requests are let in at once."""
    rate, sizes = 10.0, []
    gate = ConcurrencyLimiter(lambda: rate)
    for _ in range(2):
        await gate.enter(for_submit=True)
        gate.leave(1.0)
        sizes.append(gate.limit.size)
        rate = 1_000.0
    assert sizes == [32, 256]

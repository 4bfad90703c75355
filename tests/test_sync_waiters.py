from __future__ import annotations

import asyncio

import pytest

from apixo_async._sync import Waiters


async def stand(line: Waiters[int], back: list[int]) -> asyncio.Task[int]:
    """Stand in line."""
    waiter = asyncio.create_task(line.join(lambda: None, back.append))
    await asyncio.sleep(0)
    return waiter


async def test_in_order() -> None:
    """The waiter that waits longest is served first."""
    line, back = Waiters[int](), list[int]()
    waiters = [await stand(line, back) for _ in range(3)]
    assert (len(line), bool(line)) == (3, True)
    for n in range(3):
        line.hand(n)
    assert await asyncio.gather(*waiters) == [0, 1, 2]
    assert (len(line), bool(line)) == (0, False)


async def test_arranged_at_once() -> None:
    """What is there already is handed over without waiting."""
    line = Waiters[int]()
    assert await line.join(lambda: line.hand(7), lambda _: None) == 7


async def test_cancelled_before_its_coroutine_ran() -> None:
    """A waiter that was cancelled in this very instant is skipped, and gets nothing."""
    line, back = Waiters[int](), list[int]()
    first, second = await stand(line, back), await stand(line, back)
    first.cancel()
    assert line
    line.hand(1)
    assert await second == 1
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (len(line), back) == (0, [])


async def test_cancelled_after_it_was_served() -> None:
    """What was handed to a waiter that is cancelled before it ran is given back."""
    line, back = Waiters[int](), list[int]()
    waiter = await stand(line, back)
    line.hand(5)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert back == [5]


async def test_only_cancelled_ones_left() -> None:
    """A line of cancelled waiters is empty."""
    line, back = Waiters[int](), list[int]()
    waiters = [await stand(line, back) for _ in range(3)]
    for waiter in waiters:
        waiter.cancel()
    assert not line
    await asyncio.gather(*waiters, return_exceptions=True)


async def test_served_by_what_fails_then() -> None:
    """What was handed over while serving the queue failed is given back; no waiter is left."""
    line, back = Waiters[int](), list[int]()

    def arrange() -> None:
        line.hand(7)
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        await line.join(arrange, back.append)
    assert (len(line), back) == (0, [7])

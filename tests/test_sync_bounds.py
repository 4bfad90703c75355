from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from apixo_async._sync import Bound, bound_after


async def hang() -> None:
    """Wait for what never comes."""
    await asyncio.get_running_loop().create_future()


async def test_time_runs_out() -> None:
    """What is not over in time ends with a TimeoutError, at that time."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    for bound in (bound_after(5.0), Bound(start + 7.0)):
        with pytest.raises(TimeoutError), bound:
            await hang()
        assert bound.expired()
    assert loop.time() - start == pytest.approx(7.0)


async def test_no_time_at_all() -> None:
    """Without a time nothing ends, until one is set."""
    bound = bound_after(None)
    asyncio.get_running_loop().call_later(3.0, bound.expire)
    with pytest.raises(TimeoutError), bound:
        await hang()


async def test_a_time_that_moves() -> None:
    """A callable is asked again when its time has come; what it says then counts."""
    loop, times = asyncio.get_running_loop(), [5.0, 8.0, 8.0]
    start, asked = loop.time(), list[float]()

    def when() -> float:
        asked.append(loop.time() - start)
        return start + times[len(asked) - 1]

    with pytest.raises(TimeoutError), Bound(when):
        await hang()
    assert loop.time() - start == pytest.approx(8.0)
    assert asked == pytest.approx([0.0, 5.0, 8.0])


async def test_a_time_that_never_comes() -> None:
    """A callable that says infinity, or one that is asked in vain, ends nothing."""
    for when in (lambda: float("inf"), lambda: asyncio.get_running_loop().time() + 5.0):
        with Bound(when) as bound:
            await asyncio.sleep(12.0)
        assert not bound.expired()
        await asyncio.sleep(12.0)


async def test_over_in_time() -> None:
    """What is over in time is not touched, nor what it raises."""
    with bound_after(5.0) as bound:
        await asyncio.sleep(1.0)
    assert not bound.expired()
    with pytest.raises(ValueError, match="its own"), bound_after(5.0):
        raise ValueError("its own")


async def test_after_a_former_cancellation() -> None:
    """In a task that was cancelled before and went on, time runs out all the same."""

    async def resilient() -> str:
        with suppress(asyncio.CancelledError):
            await hang()
        # And on it goes, without `uncancel`, as after a TaskGroup that failed.
        try:
            with Bound(asyncio.get_running_loop().time() + 5.0):
                await hang()
        except TimeoutError:
            return "timed out"
        return "not reached"

    task = asyncio.create_task(resilient())
    await asyncio.sleep(1.0)
    task.cancel()
    assert await task == "timed out"


async def test_cancellation_from_outside() -> None:
    """A cancellation that comes from outside stays one, even in the instant in which time is up."""

    async def bounded() -> None:
        with bound_after(5.0):
            await hang()

    for moment in (2.0, 5.0):
        task = asyncio.create_task(bounded())
        await asyncio.sleep(moment)
        task.cancel()
        [end] = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(end, asyncio.CancelledError | TimeoutError)
        assert moment == 5.0 or isinstance(end, asyncio.CancelledError)

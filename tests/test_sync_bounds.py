from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from apixo_async._sync import Bound, SharedBounds, bound_after


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


async def test_bounds_with_one_timer() -> None:
    """Bounds that share a timer each end at their own time; one that was left ends nothing."""
    loop, shared, ended = asyncio.get_running_loop(), SharedBounds(5.0), list[float]()
    start = loop.time()

    async def wait(seconds: float) -> None:
        await asyncio.sleep(seconds)
        try:
            with shared.begin():
                await asyncio.sleep(2.0 if seconds == 1.0 else 60.0)
        except TimeoutError:
            ended.append(loop.time() - start)

    await asyncio.gather(*(wait(seconds) for seconds in (0.0, 1.0, 2.0, 2.0)))
    assert ended == pytest.approx([5.0, 7.0, 7.0])
    with shared.begin():
        await asyncio.sleep(4.0)
    assert loop.time() - start == pytest.approx(11.0)


async def test_cancelled_in_a_bound_with_one_timer() -> None:
    """A cancellation stays one, and the bounds that follow end at their times."""
    shared = SharedBounds(5.0)

    async def hang_within() -> None:
        with shared.begin():
            await hang()

    task = asyncio.create_task(hang_within())
    await asyncio.sleep(1.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    start = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        await hang_within()
    assert asyncio.get_running_loop().time() - start == pytest.approx(5.0)

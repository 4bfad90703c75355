from __future__ import annotations

import asyncio
import math

import pytest

from apixo_async._sync import Alarm


async def slept(alarm: Alarm, until: float) -> float:
    """Sleep, and return for how long."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    await alarm.sleep(start + until)
    return loop.time() - start


async def test_it_wakes_in_time() -> None:
    """A sleeper wakes at the time that it named."""
    assert await slept(Alarm(), 5.0) == pytest.approx(5.0)


@pytest.mark.parametrize(("needed", "wakes"), [(3.0, 1.0), (5.0, 5.0), (7.0, 5.0)])
async def test_it_is_woken_for_what_is_due_earlier(needed: float, wakes: float) -> None:
    """What is due before the sleeper wakes wakes it at once; what is due later does not."""
    alarm, loop = Alarm(), asyncio.get_running_loop()
    loop.call_later(1.0, alarm.need, loop.time() + needed)
    assert await slept(alarm, 5.0) == pytest.approx(wakes)


async def test_it_sleeps_for_ever() -> None:
    """Without a time, only a wake ends the sleep, and two of them do no harm."""
    alarm, loop = Alarm(), asyncio.get_running_loop()
    loop.call_later(9.0, alarm.wake)
    loop.call_later(9.0, alarm.wake)
    assert await slept(alarm, math.inf) == pytest.approx(9.0)
    alarm.wake()
    assert await slept(alarm, 2.0) == pytest.approx(2.0)


async def test_a_cancelled_sleeper_leaves_no_timer() -> None:
    """A sleep that is cancelled leaves nothing behind that could wake the next one."""
    alarm = Alarm()
    sleeping = asyncio.create_task(slept(alarm, 1.0))
    await asyncio.sleep(0.5)
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping
    assert await slept(alarm, 2.0) == pytest.approx(2.0)

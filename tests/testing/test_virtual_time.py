"""VirtualTimeLoop: waiting costs nothing, being stuck fails at once, threads are waited for."""

from __future__ import annotations

import asyncio
import functools
import math
import threading
import time

import anyio
import anyio.to_thread
import pytest

from apixo_async.testing.virtual_time import START, StuckError, VirtualTimeLoop


def now() -> float:
    """Return the time of the running loop."""
    return asyncio.get_running_loop().time()


async def test_a_sleep_ends_at_its_exact_time() -> None:
    """A sleep moves the clock by its whole length, and takes no real time."""
    before = time.monotonic()
    began = now()
    await asyncio.sleep(86_400)
    assert now() == began + 86_400
    assert time.monotonic() - before < 1


async def test_the_plugin_starts_each_test_at_the_start() -> None:
    """Each test has a clock of its own, which begins at 1000."""
    assert now() == START


async def test_many_sleepers_wake_in_the_order_of_their_times() -> None:
    """Timers fire in the order of their times, whatever the order of their making."""
    woken: list[tuple[float, float]] = []

    async def sleeper(delay: float) -> None:
        await asyncio.sleep(delay)
        woken.append((delay, now() - START))

    await asyncio.gather(*(sleeper(delay) for delay in (3.0, 0.5, 7.25, 0.5)))
    assert woken == [(delay, delay) for delay in (0.5, 0.5, 3.0, 7.25)]


async def test_a_timeout_ends_a_wait_for_nothing() -> None:
    """A deadline is a timer: a wait with one is not stuck."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(12.5):
            await asyncio.Event().wait()
    assert now() == START + 12.5


def test_a_stuck_run_fails_at_once() -> None:
    """A run in which nothing can ever happen raises StuckError, and closes cleanly."""

    async def stuck() -> None:
        await asyncio.sleep(5)
        await asyncio.Event().wait()

    with (
        asyncio.Runner(loop_factory=VirtualTimeLoop) as runner,
        pytest.raises(StuckError, match=r"1005\.000") as caught,
    ):
        runner.run(stuck())
    assert caught.value.now == START + 5


def test_a_worker_of_the_loop_is_waited_for() -> None:
    """The clock stands still while the loop's executor works, with and without a timer set."""

    async def main() -> tuple[float, float]:
        release = threading.Event()
        timer = asyncio.create_task(asyncio.sleep(60))
        thread = asyncio.create_task(asyncio.to_thread(release.wait, 5))
        await asyncio.sleep(0)
        threading.Timer(0.05, release.set).start()
        assert await thread
        after_thread = now()
        await timer
        await asyncio.to_thread(time.sleep, 0.02)
        return after_thread, now()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(main()) == (START, START + 60)


async def test_a_worker_of_anyio_is_waited_for() -> None:
    """The clock stands still while a worker thread of anyio works."""
    sleeper = asyncio.create_task(asyncio.sleep(60))
    await anyio.to_thread.run_sync(time.sleep, 0.05)
    assert now() == START
    await sleeper
    assert now() == START + 60


def test_closing_waits_for_the_executor() -> None:
    """A runner that closes while a thread still works waits for it instead of failing."""
    finished = threading.Event()

    def work() -> None:
        time.sleep(0.1)
        finished.set()

    async def main() -> None:
        asyncio.get_running_loop().run_in_executor(None, work)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())
        assert not finished.is_set()
    assert finished.is_set()


def test_a_call_from_another_thread_is_noticed_while_a_timer_is_set() -> None:
    """A call that arrives from a worker thread runs before the clock moves."""

    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        seen: list[float] = []
        call = functools.partial(loop.call_soon_threadsafe, lambda: seen.append(now()))
        await asyncio.gather(asyncio.to_thread(call), asyncio.sleep(1))
        return seen

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(main()) == [START]


async def test_no_timer_is_early_by_a_hair() -> None:
    """A timer fires at its own time, however close to it another one is."""
    loop, fired = asyncio.get_running_loop(), list[tuple[float, float]]()
    first = loop.time() + 1.0
    for due in (first, math.nextafter(first, math.inf), first + 1e-10):
        loop.call_at(due, lambda due=due: fired.append((due, loop.time())))
    await asyncio.sleep(2.0)
    assert len(fired) == 3
    assert all(due == at for due, at in fired)

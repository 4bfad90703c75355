from __future__ import annotations

import asyncio

import pytest

from apixo_async._submit.retries import RetryProbes

KEY = "flux-kontext"


def until(seconds: float) -> float:
    """Return a time of the loop's clock."""
    return asyncio.get_running_loop().time() + seconds


async def waiting(probes: RetryProbes, count: int) -> list[asyncio.Task[bool]]:
    """Let so many wait for whoever probes."""
    tasks = [asyncio.create_task(probes.wait(KEY, until(100))) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_good_news_goes_to_all_step_by_step() -> None:
    """Each one that gets through lets two more go; when all have, nobody probes any more."""
    probes = RetryProbes()
    probes.take(KEY)
    tasks = await waiting(probes, 5)
    for gone in (2, 4, 5, 5, 5, 5):
        assert probes.is_taken(KEY)
        probes.works(KEY)
        await asyncio.sleep(0)
        assert sum(task.done() for task in tasks) == gone
    assert await asyncio.gather(*tasks) == [True] * 5
    assert not probes.is_taken(KEY)


async def test_bad_news_after_good_news() -> None:
    """Of those who were let go and failed one goes on probing; the others wait again."""
    probes = RetryProbes()
    probes.take(KEY)
    tasks = await waiting(probes, 4)
    probes.works(KEY)
    await asyncio.gather(*tasks[:2])
    assert probes.is_shared(KEY)
    probes.pass_on(KEY)  # The first one that failed.
    assert not probes.is_shared(KEY)
    probes.pass_on(KEY)  # The second one gives up: the next in line takes over.
    assert await tasks[2] is False
    assert not tasks[3].done()
    probes.works(KEY)
    assert await tasks[3] is True
    probes.works(KEY)
    assert not probes.is_taken(KEY)


async def test_giving_up_makes_one_other_probe() -> None:
    """When whoever probes gives up, the next in line takes over, and the others wait on."""
    probes = RetryProbes()
    probes.take(KEY)
    tasks = await waiting(probes, 3)
    probes.pass_on(KEY)
    assert await tasks[0] is False
    assert probes.is_taken(KEY)
    assert not tasks[1].done()
    probes.works(KEY)
    assert await asyncio.gather(*tasks[1:]) == [True, True]


async def test_the_last_one_leaves_nothing() -> None:
    """When nobody waits, giving up ends the probing."""
    probes = RetryProbes()
    probes.take(KEY)
    probes.pass_on(KEY)
    assert not probes.is_taken(KEY)


async def test_cancelled_heir_passes_it_on() -> None:
    """A waiter that is cancelled in the instant in which it takes over hands on to the next."""
    probes = RetryProbes()
    probes.take(KEY)
    tasks = await waiting(probes, 2)
    probes.pass_on(KEY)
    tasks[0].cancel()
    assert await tasks[1] is False
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]


async def test_no_word_in_time() -> None:
    """Whoever waits in vain is told by a TimeoutError at its own time."""
    probes = RetryProbes()
    probes.take(KEY)
    with pytest.raises(TimeoutError):
        await probes.wait(KEY, until(7))
    assert probes.is_taken(KEY)

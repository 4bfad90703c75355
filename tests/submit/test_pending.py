from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from apixo_async import ClientClosedError, Limiter, Limits
from apixo_async._limits.limiter import Slot
from apixo_async._submit.pending import PATIENCE, PendingCalls

CLOSED, STOPPED = ClientClosedError("closed"), ClientClosedError("stopped")


async def hang(calls: PendingCalls, deadline: float | None = None) -> None:
    """Wait in an open call for what never comes."""
    with calls.open(deadline):
        await asyncio.get_running_loop().create_future()


async def test_close_ends_what_is_open() -> None:
    """Every open call ends with an error of its own when the client closes."""
    calls = PendingCalls()
    waiting = [asyncio.create_task(hang(calls)) for _ in range(3)]
    await asyncio.sleep(1)
    await calls.aclose(CLOSED)
    assert all(task.done() for task in waiting)
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in errors] == [ClientClosedError] * 3
    assert len({id(error) for error in errors} | {id(CLOSED)}) == 4


async def test_nothing_opens_after_the_close() -> None:
    """A call that begins after the close is refused."""
    calls = PendingCalls()
    await calls.aclose(CLOSED)
    with pytest.raises(ClientClosedError):
        await hang(calls)


async def test_deadline() -> None:
    """A deadline ends a call with a TimeoutError, and leaves the others open."""
    calls = PendingCalls()
    other = asyncio.create_task(hang(calls))
    with pytest.raises(TimeoutError):
        await hang(calls, asyncio.get_running_loop().time() + 5)
    assert not other.done()
    await calls.aclose(CLOSED)
    await asyncio.gather(other, return_exceptions=True)


async def test_close_in_the_instant_of_the_deadline() -> None:
    """A deadline that passes in the instant of the close breaks neither."""
    calls, loop = PendingCalls(), asyncio.get_running_loop()
    waiting = asyncio.create_task(hang(calls, loop.time() + 5))
    await asyncio.sleep(5)
    await calls.aclose(CLOSED)
    error = (await asyncio.gather(waiting, return_exceptions=True))[0]
    assert isinstance(error, TimeoutError | ClientClosedError)


async def test_cancellation_stays_one() -> None:
    """A caller that is cancelled gets its CancelledError, closed client or not."""
    calls = PendingCalls()
    waiting = asyncio.create_task(hang(calls))
    await asyncio.sleep(1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await calls.aclose(CLOSED)


async def test_close_waits_for_the_clean_up() -> None:
    """The close is over only when what it ended has cleaned up."""
    calls, cleaned = PendingCalls(), list[bool]()

    async def call() -> None:
        with calls.open():
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await asyncio.sleep(3)
                cleaned.append(True)

    waiting = asyncio.create_task(call())
    await asyncio.sleep(1)
    await calls.aclose(CLOSED)
    assert cleaned == [True]
    with pytest.raises(ClientClosedError):
        await waiting


async def test_cancelled_in_the_instant_of_the_close() -> None:
    """A caller that is cancelled in the instant of the close gets its CancelledError."""
    calls = PendingCalls()
    waiting = [asyncio.create_task(hang(calls)) for _ in range(2)]
    await asyncio.sleep(1)
    waiting[0].cancel()
    calls.end(CLOSED)
    waiting[1].cancel()
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(end) for end in ends] == [asyncio.CancelledError] * 2


async def test_close_in_the_instant_of_a_hand_over() -> None:
    """A slot that is handed over in the instant of the close is kept, and not lost."""
    calls, limiter = PendingCalls(), Limiter(Limits(concurrent_tasks=1))

    async def call() -> Slot:
        with calls.open():
            return await limiter.slot()

    taken = await limiter.slot()
    waiting = asyncio.create_task(call())
    await asyncio.sleep(1)
    taken.release()
    calls.end(CLOSED)
    (await waiting).release()
    assert limiter.slots_used == 0


# --- parts -----------------------------------------------------------------------------------


async def test_end_of_a_part() -> None:
    """The end of a part ends what is open in it, and refuses what comes; the whole goes on."""
    whole = PendingCalls()
    part, other = PendingCalls(whole), PendingCalls(whole)
    waiting = [asyncio.create_task(hang(part)) for _ in range(2)]
    going_on = [asyncio.create_task(hang(calls)) for calls in (whole, other) for _ in range(2)]
    await asyncio.sleep(1)
    part.end(STOPPED)
    ends = await asyncio.gather(*waiting, hang(part), hang(part), return_exceptions=True)
    assert [str(end) for end in ends] == ["stopped"] * 4
    await asyncio.sleep(1)
    assert not any(task.done() for task in going_on)
    await whole.aclose(CLOSED)
    assert all(task.done() for task in going_on)
    ends = await asyncio.gather(*going_on, return_exceptions=True)
    assert [str(end) for end in ends] == ["closed"] * 4


async def test_first_reason_stays() -> None:
    """A part keeps the reason of its own end; one that is made later has that of the whole."""
    whole = PendingCalls()
    part = PendingCalls(whole)
    waiting = [asyncio.create_task(hang(part)) for _ in range(2)]
    await asyncio.sleep(1)
    part.end(STOPPED)
    await whole.aclose(CLOSED)
    assert all(task.done() for task in waiting)
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(end) for end in ends] == ["stopped"] * 2
    with pytest.raises(ClientClosedError, match="closed"):
        PendingCalls(whole).check()


async def test_part_that_is_gone() -> None:
    """The whole does not keep its parts."""
    whole = PendingCalls()
    part = weakref.ref(PendingCalls(whole))
    gc.collect()
    assert part() is None
    await whole.aclose(CLOSED)


async def test_close_does_not_wait_for_ever() -> None:
    """A call that does not end, as after an interrupt between two lines, is left after a while."""
    calls, loop = PendingCalls(), asyncio.get_running_loop()

    async def interrupted() -> None:
        calls.open().__enter__()

    await loop.create_task(interrupted())
    start = loop.time()
    await calls.aclose(CLOSED)
    assert loop.time() - start == PATIENCE

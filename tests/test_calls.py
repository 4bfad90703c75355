from __future__ import annotations

import asyncio

import pytest

from apixo_async import ClientClosedError
from apixo_async._calls import Calls

pytestmark = pytest.mark.anyio
CLOSED = ClientClosedError("closed")


async def hang(calls: Calls, deadline: float | None = None) -> None:
    """Wait in an open call for what never comes."""
    async with calls.open(deadline):
        await asyncio.get_running_loop().create_future()


async def test_close_ends_what_is_open() -> None:
    """Every open call ends with an error of its own when the client closes."""
    calls = Calls()
    waiting = [asyncio.create_task(hang(calls)) for _ in range(3)]
    await asyncio.sleep(1)
    await calls.aclose(CLOSED)
    assert all(task.done() for task in waiting)
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in errors] == [ClientClosedError] * 3
    assert len({id(error) for error in errors} | {id(CLOSED)}) == 4


async def test_nothing_opens_after_the_close() -> None:
    """A call that begins after the close is refused."""
    calls = Calls()
    await calls.aclose(CLOSED)
    with pytest.raises(ClientClosedError):
        await hang(calls)


async def test_deadline() -> None:
    """A deadline ends a call with a TimeoutError, and leaves the others open."""
    calls = Calls()
    other = asyncio.create_task(hang(calls))
    with pytest.raises(TimeoutError):
        await hang(calls, asyncio.get_running_loop().time() + 5)
    assert not other.done()
    await calls.aclose(CLOSED)
    await asyncio.gather(other, return_exceptions=True)


async def test_close_in_the_instant_of_the_deadline() -> None:
    """A deadline that passes in the instant of the close breaks neither."""
    calls, loop = Calls(), asyncio.get_running_loop()
    waiting = asyncio.create_task(hang(calls, loop.time() + 5))
    await asyncio.sleep(5)
    await calls.aclose(CLOSED)
    error = (await asyncio.gather(waiting, return_exceptions=True))[0]
    assert isinstance(error, TimeoutError | ClientClosedError)


async def test_cancellation_stays_one() -> None:
    """A caller that is cancelled gets its CancelledError, closed client or not."""
    calls = Calls()
    waiting = asyncio.create_task(hang(calls))
    await asyncio.sleep(1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await calls.aclose(CLOSED)


async def test_close_waits_for_the_clean_up() -> None:
    """The close is over only when what it ended has cleaned up."""
    calls, cleaned = Calls(), list[bool]()

    async def call() -> None:
        async with calls.open():
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

from __future__ import annotations

import asyncio

from apixo_async import ApixoError, BadRequestError
from apixo_async._map.errors import ended_by, error_of, not_bought
from apixo_async._map.progress import Progress


async def ended(work: Exception | int) -> asyncio.Future[int]:
    async def run() -> int:
        if isinstance(work, Exception):
            raise work
        return work

    task = asyncio.create_task(run())
    await asyncio.wait((task,))
    return task


async def test_no_error() -> None:
    """What went well has no error."""
    assert error_of(await ended(7)) is None


async def test_error_is_kept_without_its_frames() -> None:
    """An error of the package's is the one that was raised, and keeps no frame alive."""
    error = BadRequestError("no", status=400)
    assert error_of(await ended(error)) is error
    assert error.__traceback__ is None


async def test_defect() -> None:
    """What nobody expected becomes an error of the package's that has it as its cause."""
    error = error_of(await ended(ZeroDivisionError("oh")))
    assert isinstance(error, ApixoError)
    assert str(error) == "a defect: ZeroDivisionError: oh"
    assert isinstance(error.__cause__, ZeroDivisionError)


async def test_cancelled() -> None:
    """What was cancelled says so, and raises nothing."""
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    future.cancel()
    assert "cut off" in str(error_of(future))


def test_not_bought() -> None:
    """An input without a turn was not bought, and names what stopped the map."""
    reason = BadRequestError("no", status=400)
    error = not_bought(reason)
    assert (error.bought, error.__cause__) == (False, reason)
    assert not_bought(None).__cause__ is None


def test_ended_by() -> None:
    """A map raises a copy of what ended it, with its counts."""
    reason = BadRequestError("no", status=400)
    error = ended_by(reason, Progress(read=9, unbought=4))
    assert (type(error), str(error)) == (BadRequestError, "no")
    (note,) = error.__notes__
    assert "of the 9 inputs that were read, nothing was bought for 4" in note
    assert not hasattr(reason, "__notes__")

"""Bounds in time that work alike on every Python: `asyncio.timeout` with one mend.

Up to Python 3.11.2 it raises CancelledError in place of TimeoutError in a task which was cancelled
before and went on, as one does in which a TaskGroup has failed.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class Bound:
    """End what runs inside at a time of the loop's clock, with a TimeoutError.

    Args:
        when: That time; None for none so far.
    """

    __slots__ = ("_before", "_timeout")

    def __init__(self, when: float | None) -> None:
        self._timeout = asyncio.timeout_at(when)
        self._before = 0

    def expired(self) -> bool:
        """Say whether the time has come while it ran."""
        return self._timeout.expired()

    def reschedule(self, when: float) -> None:
        """Set another time."""
        self._timeout.reschedule(when)

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._before = _cancellations()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        expired = self._timeout.expired()
        await self._timeout.__aexit__(exc_type, exc, traceback)
        if expired and exc_type is asyncio.CancelledError and _cancellations() <= self._before:
            raise TimeoutError from exc


def _cancellations() -> int:
    task = asyncio.current_task()
    assert task is not None  # Who awaits is in one.
    return task.cancelling()


def bound_at(when: float | None) -> Bound:
    """End what runs inside at a time of the loop's clock."""
    return Bound(when)


def bound_after(seconds: float | None) -> Bound:
    """End what runs inside after so many seconds."""
    return Bound(None if seconds is None else asyncio.get_running_loop().time() + seconds)

"""Cancel a coroutine at a chosen one of its suspensions."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Stepped(Generic[T]):
    """Await a coroutine, count its suspensions, and cancel somebody at one of them.

    Args:
        work: What to await.
        at: At which suspension, from 1 up.
        late: Cancel only when that which it waits for there has come, before it can go on: the
            moment in which what was handed to it can be lost.
        victim: Who is cancelled; the asyncio.Task that awaits this, unless given.
    """

    def __init__(
        self,
        work: Coroutine[Any, Any, T],
        *,
        at: int,
        late: bool,
        victim: asyncio.Task[Any] | None = None,
    ) -> None:
        self._work = work
        self._at = at
        self._late = late
        self._victim = victim
        self.points = 0

    def __await__(self) -> Generator[Any, Any, T]:
        steps, victim = self._work.__await__(), self._victim or asyncio.current_task()
        assert victim is not None
        send, value = steps.send, None
        while True:
            try:
                awaited = send(value)
            except StopIteration as end:
                return end.value
            self.points += 1
            if self.points == self._at:
                if self._late and isinstance(awaited, asyncio.Future):
                    awaited.add_done_callback(lambda _: victim.cancel())
                else:
                    victim.cancel()
            try:
                value = yield awaited
                send = steps.send
            except BaseException as thrown:  # it goes on to the one who is stepped
                value, send = thrown, steps.throw

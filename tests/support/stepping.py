"""Cancel something at each of its suspensions in turn."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Generator, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Stepped(Generic[T]):
    """Await a coroutine, count its suspensions, and cancel somebody at one of them.

    Args:
        work: What to await.
        cut: At which of them, and when there.
        victim: Who is cancelled; the asyncio.Task that awaits this, unless given.
    """

    def __init__(
        self, work: Coroutine[Any, Any, T], cut: Cut, victim: asyncio.Task[Any] | None = None
    ) -> None:
        self._work = work
        self._cut = cut
        self._victim = victim

    def __await__(self) -> Generator[Any, Any, T]:
        steps, victim = self._work.__await__(), self._victim or asyncio.current_task()
        assert victim is not None
        go_on, value = steps.send, None
        while True:
            try:
                awaited = go_on(value)
            except StopIteration as end:
                return end.value
            self._cut.reached(awaited, victim)
            try:
                value = yield awaited
                go_on = steps.send
            except BaseException as thrown:  # it goes on to what is stepped
                value, go_on = thrown, steps.throw


class Cut:
    """One cancellation.

    Args:
        at: At which suspension, from 1 up.
        late: Cancel only when what is waited for there has come, and before the waiter runs: the
            instant in which that which was handed to it can be lost.

    Attributes:
        points: Suspensions so far.
        ended: The asyncio.Task that was cut, or came to its end.
    """

    def __init__(self, at: int, *, late: bool) -> None:
        self.points = 0
        self.ended: asyncio.Task[Any] | None = None
        self._at = at
        self._late = late

    def reached(self, awaited: object, victim: asyncio.Task[Any]) -> None:
        """Note a suspension, and cancel the victim if it is the one."""
        self.points += 1
        if self.points != self._at:
            return
        if self._late and isinstance(awaited, asyncio.Future):
            awaited.add_done_callback(lambda _: victim.cancel())
        else:
            victim.cancel()

    @property
    def is_past_the_end(self) -> bool:
        """Whether the work had fewer suspensions, so that it was not cut."""
        return self.points < self._at

    async def __call__(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something until it is cut or ends."""

        async def stepped() -> T:
            return await Stepped(work, self)

        return await self.run(stepped())

    async def run(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something that is stepped elsewhere until it is cut or ends."""
        ended = asyncio.create_task(work)
        self.ended = ended
        await asyncio.wait((ended,))
        assert ended.cancelled() is not self.is_past_the_end
        return ended


def cuts() -> Iterator[Cut]:
    """Yield a cut for each suspension, early and late, as many as the work turns out to have."""
    for late in (False, True):
        for at in itertools.count(1):
            cut = Cut(at, late=late)
            yield cut
            if cut.is_past_the_end:
                break

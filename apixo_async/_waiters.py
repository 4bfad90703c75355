"""Those who wait in line for something to be handed to them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Waiters(Generic[T]):
    """A line, served in order, from which anybody may be cancelled at any moment."""

    __slots__ = ("_futures",)

    def __init__(self) -> None:
        self._futures: OrderedDict[asyncio.Future[T], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._futures)

    def __bool__(self) -> bool:
        # A cancelled waiter stands in line until its coroutine runs again.
        while self._futures and next(iter(self._futures)).done():
            self._futures.popitem(last=False)
        return bool(self._futures)

    async def join(self, arrange: Callable[[], None], give_back: Callable[[T], None]) -> T:
        """Wait in line.

        Args:
            arrange: Serves the line; called once this waiter stands in it, unless somebody stands
                before: what can be handed to nobody else cannot be handed to the last one either.
            give_back: Takes what was handed over in the instant in which the waiter was cancelled.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        is_first = not self
        self._futures[future] = None
        if is_first:
            arrange()
        try:
            return await future
        except asyncio.CancelledError:
            self._futures.pop(future, None)
            if future.done() and not future.cancelled():
                give_back(future.result())
            raise

    def hand(self, value: T) -> None:
        """Hand something to the first in line. Only when there is one: when this is true."""
        self._futures.popitem(last=False)[0].set_result(value)

    def fail(self, error: Exception) -> None:
        """Raise an error for everybody in line: nothing will be handed to them."""
        while self:
            self._futures.popitem(last=False)[0].set_exception(error)

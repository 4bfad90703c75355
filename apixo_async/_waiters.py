"""Those who wait in line for something to be handed to them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Waiters(Generic[T]):
    """A line, served in order, from which anybody may be cancelled at any moment."""

    __slots__ = ("_places",)

    def __init__(self) -> None:
        self._places: OrderedDict[asyncio.Future[T], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._places)

    def __bool__(self) -> bool:
        # Who was cancelled or sent away stands in line until its coroutine runs again.
        while self._places and next(iter(self._places)).done():
            self._places.popitem(last=False)
        return bool(self._places)

    async def join(
        self,
        arrange: Callable[[], None],
        give_back: Callable[[T], None],
        place: asyncio.Future[T] | None = None,
    ) -> T:
        """Wait in line.

        Args:
            arrange: Serves the line; called once this waiter stands in it, unless somebody stands
                before: what can be handed to nobody else cannot be handed to the last one either.
            give_back: Takes what was handed over in the instant in which the waiter was cancelled.
            place: A new future to wait with; its maker may send the waiter away with an error.
        """
        if place is None:
            place = asyncio.get_running_loop().create_future()
        is_first = not self
        self._places[place] = None
        try:
            if is_first:
                arrange()
            return await place
        except BaseException:
            if place.done() and not place.cancelled() and place.exception() is None:
                give_back(place.result())
            raise
        finally:
            self._places.pop(place, None)
            # An error that was set on it holds this frame, which must not hold the error.
            del place

    def hand(self, value: T) -> None:
        """Hand something to the first in line. Only when there is one: when this is true."""
        self._places.popitem(last=False)[0].set_result(value)

    def fail(self, error: Exception) -> None:
        """Raise an error for everybody in line: nothing will be handed to them."""
        while self:
            self._places.popitem(last=False)[0].set_exception(error)

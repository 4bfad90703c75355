"""Which task may be submitted now: a slot belongs to the remote task, not to its waiters."""

from __future__ import annotations

import heapq
import math


class SlotTable:
    """The count of tasks that the service works on, as far as this client knows.

    Args:
        limit: Tasks at once, at least 1.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._holds: list[float] = []

    def try_take(self) -> bool:
        """Take a slot if there is one."""
        if self.used >= self.limit:
            return False
        self.used += 1
        return True

    def take_above(self) -> None:
        """Take a slot even above the limit: for a task that exists already."""
        self.used += 1

    def release(self) -> None:
        """Give a slot back."""
        self.used -= 1

    def hold(self, until: float) -> None:
        """Keep a taken slot until a time: that of a task which may or may not exist."""
        heapq.heappush(self._holds, until)

    def expire(self, now: float) -> None:
        """Give back the slots whose hold is over."""
        while self._holds and self._holds[0] <= now:
            heapq.heappop(self._holds)
            self.used -= 1

    def next_expiry(self) -> float:
        """Return when the next hold is over, or infinity."""
        return self._holds[0] if self._holds else math.inf

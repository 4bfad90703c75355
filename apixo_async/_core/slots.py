"""Which task may be submitted now: a slot belongs to the remote task, not to its waiters."""

from __future__ import annotations

import heapq
import math


class SlotTable:
    """The count of tasks that the service works on, as far as this client knows.

    Args:
        limit: Tasks at once, at least 1; it may be changed at any time.

    Attributes:
        used: Slots that were handed out and not given back.
        confirmed: Those of them whose task is known to exist.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.confirmed = 0
        self._holds: list[float] = []

    @property
    def existing(self) -> int:
        """Tasks that exist, or may exist because nobody can know."""
        return self.confirmed + len(self._holds)

    def try_take(self) -> bool:
        """Take a slot if there is one."""
        if self.used >= self.limit:
            return False
        self.used += 1
        return True

    def take_above(self) -> None:
        """Take a slot even above the limit: for a task that exists already."""
        self.used += 1
        self.confirmed += 1

    def confirm(self) -> None:
        """Note that the task of a taken slot exists."""
        self.confirmed += 1

    def release(self, *, confirmed: bool = False) -> None:
        """Give a slot back; say whether its task was known to exist."""
        self.used -= 1
        self.confirmed -= confirmed

    def hold(self, until: float, *, confirmed: bool = False) -> None:
        """Keep a taken slot until a time: that of a task which may or may not exist."""
        self.confirmed -= confirmed
        heapq.heappush(self._holds, until)

    def expire(self, now: float) -> None:
        """Give back the slots whose hold is over."""
        while self._holds and self._holds[0] <= now:
            heapq.heappop(self._holds)
            self.used -= 1

    def next_expiry(self) -> float:
        """Return when the next hold is over, or infinity."""
        return self._holds[0] if self._holds else math.inf

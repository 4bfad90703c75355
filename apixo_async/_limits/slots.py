"""The count of tasks at the service: a slot belongs to the remote task, not to its waiters."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Hashable
from typing import TypeAlias

#: When it ends, a number that orders holds which end together, and the task, if it is known.
_Hold: TypeAlias = tuple[float, int, Hashable | None]


class SlotTable:
    """The tasks that the service works on, as far as the clients of one limiter know.

    A hold is a slot that was kept for a time because its task may still exist. A task whose id is
    known has one slot, however many clients know it: a hold for it ends when another client takes
    that task up, or sees that it is over.

    Args:
        limit: Tasks at once, at least 1; it may be changed at any time.

    Attributes:
        used: Slots that are taken.
        confirmed: Those of them whose task is known to exist, without holds.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.confirmed = 0
        self._holds: list[_Hold] = []
        self._held: dict[Hashable, _Hold] = {}
        self._order = itertools.count()
        self._named: Counter[Hashable] = Counter()

    @property
    def existing(self) -> int:
        """Tasks that exist, and those of uncertain submits, which may exist."""
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

    def name(self, task: Hashable) -> bool:
        """Note the task of a taken slot; return True if that ended a hold for the same task."""
        self._named[task] += 1
        return self.end_hold(task)

    def release(self, *, confirmed: bool = False, task: Hashable | None = None) -> None:
        """Give a slot back.

        Args:
            confirmed: Whether its task was known to exist.
            task: The task that was passed to `name`, if any.
        """
        self.used -= 1
        self.confirmed -= confirmed
        if task is not None:
            self._forget(task)
            self.end_hold(task)

    def hold(self, until: float, *, confirmed: bool = False, task: Hashable | None = None) -> None:
        """Keep a taken slot until a time, as its task may exist; arguments as of `release`."""
        self.confirmed -= confirmed
        hold = until, next(self._order), task
        if task is not None:
            self._forget(task)
            if self._named[task]:
                self.used -= 1  # Another client has a slot for it.
                return
            self.end_hold(task)
            self._held[task] = hold
        heapq.heappush(self._holds, hold)

    def _forget(self, task: Hashable) -> None:
        self._named[task] -= 1
        if self._named[task] <= 0:
            del self._named[task]

    def end_hold(self, task: Hashable) -> bool:
        """End the hold for a task, which is over or has another slot; False if there is none."""
        hold = self._held.pop(task, None)
        if hold is None:
            return False
        self._holds.remove(hold)
        heapq.heapify(self._holds)
        self.used -= 1
        return True

    def expire(self, now: float) -> None:
        """Give back the slots whose hold has ended."""
        while self._holds and self._holds[0][0] <= now:
            self._held.pop(heapq.heappop(self._holds)[2], None)
            self.used -= 1

    def next_expiry(self) -> float:
        """Return when the next hold ends, or infinity."""
        return self._holds[0][0] if self._holds else math.inf

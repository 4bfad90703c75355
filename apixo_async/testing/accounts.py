"""The accounts behind the keys: balance, the tasks at once, and the requests of any 60 seconds."""

from __future__ import annotations

import hashlib
import heapq
from collections import deque
from collections.abc import Iterator, Mapping
from decimal import Decimal

WINDOW = 60.0

#: Clocks are floats: a request is as old as the window is long to the microsecond.
ROUNDING = 1e-6


def digest(key: str) -> str:
    """Return what stands for a key where the key itself must not stand."""
    return hashlib.sha256(key.encode()).hexdigest()[:8]


class Account:
    """One key's balance and use.

    A request belongs to every window of 60 s, ``[t, t + 60)``, that holds its arrival.
    """

    def __init__(self, name: str, balance: Decimal) -> None:
        self.name = name
        self.balance = balance
        self.most_requests = 0
        self.most_tasks = 0
        self._stamps: deque[float] = deque()
        self._ends: list[float] = []

    def requests(self, now: float) -> int:
        """Return the requests counted in the last 60 s."""
        while self._stamps and self._stamps[0] <= now - WINDOW + ROUNDING:
            self._stamps.popleft()
        return len(self._stamps)

    def count_request(self, now: float) -> None:
        """Count a request that arrives now."""
        self._stamps.append(now)
        self.most_requests = max(self.most_requests, self.requests(now))

    def tasks(self, now: float) -> int:
        """Return the tasks that have not ended."""
        while self._ends and self._ends[0] <= now:
            heapq.heappop(self._ends)
        return len(self._ends)

    def buy(self, price: Decimal, ends: float, now: float) -> None:
        """Charge for a task that lasts until ``ends``."""
        self.balance -= price
        heapq.heappush(self._ends, ends)
        self.most_tasks = max(self.most_tasks, self.tasks(now))


class Accounts:
    """All accounts, found by the ``Authorization`` header."""

    def __init__(self, balances: Mapping[str, Decimal]) -> None:
        self._by_key = {key: Account(digest(key), amount) for key, amount in balances.items()}

    def of(self, authorization: str | None) -> Account | None:
        """Return the account of a ``Bearer`` header, None for any other."""
        scheme, _, key = (authorization or "").partition(" ")
        return self._by_key.get(key.strip()) if scheme.lower() == "bearer" else None

    def __iter__(self) -> Iterator[Account]:
        return iter(self._by_key.values())

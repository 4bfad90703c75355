"""The accounts behind the keys: balance, tasks at once, the requests of any 60 seconds."""

from __future__ import annotations

import hashlib
import heapq
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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


SECONDS = 180


@dataclass(slots=True)
class _Second:
    second: int
    requests: int
    tasks: int


class LimitHistory:
    """Remember the most of each second, of whichever account was the busiest."""

    def __init__(self) -> None:
        self._seconds: deque[_Second] = deque(maxlen=SECONDS)

    def note(self, account: Account, now: float) -> None:
        """Take down how far an account is at ``now``."""
        second = int(now)
        if not self._seconds or self._seconds[-1].second != second:
            self._seconds.append(_Second(second, 0, 0))
        last = self._seconds[-1]
        last.requests = max(last.requests, account.requests(now))
        last.tasks = max(last.tasks, account.tasks(now))

    def since(self, now: float) -> list[tuple[float, int, int]]:
        """Return (age in seconds, requests of 60 s, tasks at once), the oldest first."""
        return [
            (round(now - entry.second, 3), entry.requests, entry.tasks)
            for entry in self._seconds
            if now - entry.second <= SECONDS
        ]

"""The accounts behind the keys: balance, tasks at once, the requests of any 60 seconds."""

from __future__ import annotations

import hashlib
import heapq
from collections import deque
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final, Literal

from apixo_async._catalog import WINDOW
from apixo_async.testing.exchanges import ROUNDING


class Account:
    """One key's balance and use.

    A request belongs to every window of 60 s, ``[t, t + 60)``, that holds its arrival: the
    documentation has a limit per minute and leaves open where minutes begin, and this reading is
    the strictest. `OpenPoints.window` has the other one.
    """

    def __init__(
        self, name: str, balance: Decimal, window: Literal["sliding", "minute"] = "sliding"
    ) -> None:
        self.name = name
        self._window = window
        self.balance = balance
        self.most_requests = 0
        self.most_tasks = 0
        self._arrivals: deque[float] = deque()
        self._open: list[tuple[float, Decimal]] = []  # the end of each task, and what it gives back

    def requests(self, now: float) -> int:
        """Return the requests counted in the last 60 s."""
        while self._arrivals and self._arrivals[0] <= now - WINDOW + ROUNDING:
            self._arrivals.popleft()
        return len(self._arrivals)

    def requests_that_count(self, now: float) -> int:
        """Return the requests that decide whether one more is allowed."""
        counted = self.requests(now)
        if self._window == "minute":
            counted = sum(arrival >= now // WINDOW * WINDOW for arrival in self._arrivals)
        return counted

    def count_request(self, now: float) -> None:
        """Count a request that arrives now."""
        self._arrivals.append(now)
        self.most_requests = max(self.most_requests, self.requests(now))

    def tasks(self, now: float) -> int:
        """Return the tasks that have not ended, and pay back what ended ones give back."""
        while self._open and self._open[0][0] <= now:
            self.balance += heapq.heappop(self._open)[1]
        return len(self._open)

    def buy(self, price: Decimal, ends: float, now: float, refund: Decimal = Decimal(0)) -> None:
        """Charge for a task that lasts until ``ends``, and then gives ``refund`` back."""
        self.balance -= price
        heapq.heappush(self._open, (ends, refund))
        self.most_tasks = max(self.most_tasks, self.tasks(now))


class Accounts:
    """All accounts, found by the ``Authorization`` header; their names are digests of the keys."""

    def __init__(
        self,
        balances: Mapping[str, Decimal],
        window: Literal["sliding", "minute"] = "sliding",
    ) -> None:
        self._by_key = {
            key: Account(hashlib.sha256(key.encode()).hexdigest()[:8], balance, window)
            for key, balance in balances.items()
        }

    def of(self, authorization: str | None) -> Account | None:
        """Return the account of a ``Bearer`` header, None for any other."""
        scheme, _, key = (authorization or "").partition(" ")
        return self._by_key.get(key.strip()) if scheme.lower() == "bearer" else None

    def __iter__(self) -> Iterator[Account]:
        return iter(self._by_key.values())


SECONDS: Final = 180


class LimitHistory:
    """The highest use of both limits in each of the last 180 seconds, of the busiest account."""

    def __init__(self) -> None:
        self._seconds: dict[int, tuple[int, int]] = {}

    def note(self, account: Account, now: float) -> None:
        """Note the use of an account at ``now``."""
        requests, tasks = self._seconds.get(int(now), (0, 0))
        used = max(requests, account.requests(now)), max(tasks, account.tasks(now))
        self._seconds[int(now)] = used
        if len(self._seconds) > SECONDS:
            del self._seconds[next(iter(self._seconds))]

    def since(self, now: float) -> list[tuple[float, int, int]]:
        """Return (age in seconds, requests of 60 s, tasks at once), the oldest first."""
        return [
            (round(now - second, 3), *used)
            for second, used in self._seconds.items()
            if now - second <= SECONDS
        ]

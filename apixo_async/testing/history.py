"""How full the limits were in each of the last seconds, for the plot of the live page."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from apixo_async.testing.accounts import Account

SECONDS = 180


@dataclass(slots=True)
class _Second:
    second: int
    requests: int
    tasks: int


class History:
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

"""How fast a run goes: what was finished in the last minute, and how long the rest takes so."""

from __future__ import annotations

from collections import deque
from typing import Final

#: Seconds that count: at most, and at least for a rate to mean anything.
_WINDOW: Final = 60.0
_LEAST: Final = 3.0


class Pace:
    """Measure a rate over the last minute; it counts from the first task that was over."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, seconds: float, finished: int) -> None:
        """Note how many were finished so many seconds after the beginning."""
        if not finished:
            return
        self._seen.append((seconds, finished))
        while len(self._seen) > 2 and self._seen[1][0] <= seconds - _WINDOW:
            self._seen.popleft()

    @property
    def per_minute(self) -> float | None:
        """How many are finished in a minute, or None while nobody can tell."""
        if not self._seen:
            return None
        (early, before), (late, after) = self._seen[0], self._seen[-1]
        return 60 * (after - before) / (late - early) if late - early >= _LEAST else None

    def left(self, rows: int) -> float | None:
        """Return the seconds that so many rows take, or None while nobody can tell."""
        rate = self.per_minute
        return 60 * rows / rate if rate else None

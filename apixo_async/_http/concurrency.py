"""How many requests may be in flight: more than the latency needs would only slow each other."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from apixo_async._sync import Waiters

#: Places, of which each request in flight takes one: the fewest and the most there are. The most
#: is the size of the connection pool as well.
FEWEST: Final = 32
MOST: Final = 256

#: Head-room above rate times latency, since latencies vary.
HEADROOM: Final = 1.5

#: The part of the places that polls leave to submits.
KEPT_FOR_SUBMITS: Final = 0.25

#: The polls of one model in flight, for each place that is free: so they stop at three quarters of
#: the places and leave a quarter to other models. With the head-room that is more than rate times
#: latency needs.
_SHARE: Final = 3

#: The weight of the newest exchange in the measured latency.
_WEIGHT: Final = 0.05

#: The same where the least latency is measured, for an exchange that took longer than it.
_RISING: Final = 0.02


def places_for(requests_per_second: float, latency: float, fewest: int = FEWEST) -> int:
    """Return how many requests may be in flight, by rate times latency (Little's law)."""
    wanted = math.ceil(requests_per_second * latency * HEADROOM / (1 - KEPT_FOR_SUBMITS))
    return min(MOST, max(fewest, wanted))


def has_share(in_flight: int, free: int) -> bool:
    """Return True if a model with `in_flight` polls may send one more, with `free` places left."""
    return in_flight < max(1, _SHARE * free)


class ConcurrencyLimit:
    """The count of requests in flight, and the measured latency, by which it is limited.

    Args:
        fewest: Places that there are in any case.
        least: Whether the least recent latency counts, and not the mean: where waiting on a busy
            machine makes the latency, more places would only make the wait longer.
    """

    def __init__(self, fewest: int = FEWEST, *, least: bool = False) -> None:
        self._least = least
        self.latency = 0.0
        self.used = 0
        self.size = self._fewest = fewest

    def has_place(self, *, for_submit: bool) -> bool:
        """Return True if one more request may go; polls leave a part of the places to submits."""
        return self.used < self.size if for_submit else self.free_for_polls > 0

    @property
    def free_for_polls(self) -> int:
        """Places that polls may take now; negative where submits have taken some of theirs."""
        return self.size - int(self.size * KEPT_FOR_SUBMITS) - self.used

    def enter(self) -> None:
        """Take a place."""
        self.used += 1

    def leave(self, took: float | None, requests_per_second: float) -> None:
        """Give a place back.

        Args:
            took: The latency of an exchange that was answered, else None.
            requests_per_second: What the limit allows now.
        """
        self.used -= 1
        if took is None:
            return
        weight = _WEIGHT
        if not self.latency or (self._least and took < self.latency):
            weight = 1.0
        elif self._least:
            weight = _RISING
        self.latency += weight * (took - self.latency)
        self.size = places_for(requests_per_second, self.latency, self._fewest)


class ConcurrencyLimiter:
    """Hand out as many places as rate times latency needs, between 32 and 256, submits first.

    Every exchange is bounded in time, and so is the wait for a place.

    Args:
        requests_per_second: Returns what the limit allows, which may change.
        limit: Counts the places.
    """

    def __init__(
        self, requests_per_second: Callable[[], float], limit: ConcurrencyLimit | None = None
    ) -> None:
        self.limit = ConcurrencyLimit() if limit is None else limit
        self._requests_per_second = requests_per_second
        self._waiting: dict[bool, Waiters[None]] = {True: Waiters(), False: Waiters()}

    def has_place(self, *, for_submit: bool) -> bool:
        """Return True if a request need not wait for a place."""
        return self.limit.has_place(for_submit=for_submit) and not any(self._waiting.values())

    async def enter(self, *, for_submit: bool) -> None:
        """Wait for a place."""
        await self._waiting[for_submit].join(self._admit, lambda _: self.leave(None))

    def leave(self, took: float | None) -> None:
        """Give a place back; `took` is the latency of an exchange that was answered."""
        self.limit.leave(took, self._requests_per_second())
        self._admit()

    def _admit(self) -> None:
        for for_submit, waiting in self._waiting.items():
            while waiting and self.limit.has_place(for_submit=for_submit):
                self.limit.enter()
                waiting.hand(None)

"""How many requests may be in flight at once, submits first: a crowd slows all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from apixo_async._sync import Waiters

#: The bounds of the gate in front of the connection pool, and of the pool itself.
FEWEST: Final = 32
MOST: Final = 256

#: Head-room above rate x latency, since latencies vary.
HEADROOM: Final = 1.5

#: The part of the gate that polls leave to submits.
KEPT_FOR_SUBMITS: Final = 0.25

#: Times the places that are free: so many may the polls of one model take, so that in the end they
#: leave a quarter to other models. That is more than rate x latency needs, by the head-room.
_SHARE: Final = 3

#: The weight of the newest exchange in the measured latency.
_WEIGHT: Final = 0.05

#: And where the least latency is measured, that of one which took longer.
_RISING: Final = 0.02


def gate_size(requests_per_second: float, latency: float, fewest: int = FEWEST) -> int:
    """Return how many requests to let in at once, by rate x latency (Little's law)."""
    wanted = math.ceil(requests_per_second * latency * HEADROOM / (1 - KEPT_FOR_SUBMITS))
    return min(MOST, max(fewest, wanted))


def has_share(under_way: int, free: int) -> bool:
    """Return True if one more poll of a model may go, with so many under way and places free."""
    return under_way < max(1, _SHARE * free)


class ConcurrencyLimit:
    """The count of requests in flight, and the measured latency that sizes the gate.

    Args:
        fewest: Places that there are in any case.
        least: Whether the least recent latency counts, and not the mean: where a busy machine
            makes a crowd wait, a larger crowd would only wait longer.
    """

    def __init__(self, fewest: int = FEWEST, *, least: bool = False) -> None:
        self._least = least
        self.latency = 0.0
        self.used = 0
        self.size = self._fewest = fewest

    def has_place(self, *, for_submit: bool) -> bool:
        """Return True if one more request may go; polls leave a part of the gate to submits."""
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
        self.latency += self._weight(took) * (took - self.latency)
        self.size = gate_size(requests_per_second, self.latency, self._fewest)

    def _weight(self, took: float) -> float:
        if not self.latency:
            return 1.0
        if self._least:
            return 1.0 if took < self.latency else _RISING
        return _WEIGHT


class ConcurrencyLimiter:
    """Let as many requests into the pool as rate x latency needs, between 32 and 256.

    Places are kept for submits, so that a crowd of slow polls never stands in their way. Every
    exchange is bounded, and so is the wait for a place.

    Args:
        requests_per_second: Tells what the limit allows, which may change.
        limit: Counts the places.
    """

    def __init__(
        self, requests_per_second: Callable[[], float], limit: ConcurrencyLimit | None = None
    ) -> None:
        self.limit = ConcurrencyLimit() if limit is None else limit
        self._requests_per_second = requests_per_second
        self._waiting: dict[bool, Waiters[None]] = {True: Waiters(), False: Waiters()}

    async def enter(self, *, for_submit: bool) -> None:
        """Wait for a place."""
        await self._waiting[for_submit].join(self._admit, self.leave)

    def leave(self, took: float | None) -> None:
        """Give a place back; `took` is the latency of an exchange that was answered."""
        self.limit.leave(took, self._requests_per_second())
        self._admit()

    def _admit(self) -> None:
        for for_submit, waiting in self._waiting.items():
            while waiting and self.limit.has_place(for_submit=for_submit):
                self.limit.enter()
                waiting.hand(None)

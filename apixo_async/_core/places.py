"""How many requests may be in flight at once: few are needed, and a crowd slows all."""

from __future__ import annotations

import math
from typing import Final

#: The bounds of the gate in front of the connection pool, and of the pool itself.
FEWEST: Final = 32
MOST: Final = 256

#: Head-room above rate x latency, since latencies vary.
HEADROOM: Final = 1.5

#: The part of the gate that looks leave to submits.
KEPT_FOR_SUBMITS: Final = 0.25

#: The weight of the newest exchange in the measured latency.
_WEIGHT: Final = 0.05


def gate_size(requests_per_second: float, latency: float, fewest: int = FEWEST) -> int:
    """Return how many requests to let in at once, by rate x latency (Little's law)."""
    wanted = math.ceil(requests_per_second * latency * HEADROOM / (1 - KEPT_FOR_SUBMITS))
    return min(MOST, max(fewest, wanted))


class PlaceTable:
    """The count of requests in flight, and the measured latency that sizes the gate.

    Args:
        fewest: Places that there are in any case.
    """

    def __init__(self, fewest: int = FEWEST) -> None:
        self.latency = 0.0
        self.used = 0
        self.size = self._fewest = fewest

    def has_place(self, *, for_submit: bool) -> bool:
        """Say whether one more request may go; looks leave a part of the gate to submits."""
        size = self.size if for_submit else self.size - int(self.size * KEPT_FOR_SUBMITS)
        return self.used < size

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
        weight = _WEIGHT if self.latency else 1.0
        self.latency += weight * (took - self.latency)
        self.size = gate_size(requests_per_second, self.latency, self._fewest)

"""How a run went over time: samples of it, of which a bounded number is kept."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Final, NamedTuple

#: Samples that are kept at most: about one for each pixel or two of a plot.
MOST: Final = 600

_SHORTEST = 2.0  # seconds over which a rate is taken, at the least
_LONGEST = 60.0
_PARTS = 40  # of a run, each of which is long enough for a rate


class RunSample(NamedTuple):
    """One instant of a run."""

    #: Since the run began.
    seconds: float
    #: Items that are over by now, those of this run only.
    finished: int
    in_flight: int
    slots_limit: int
    requests: int
    #: The limit on them, in any minute.
    requests_limit: int
    spent: Decimal = Decimal(0)

    @property
    def slots_share(self) -> float:
        """The share of the slots that are taken; above 1 where old tasks are watched as well."""
        return self.in_flight / self.slots_limit if self.slots_limit else 0.0

    @property
    def requests_share(self) -> float:
        """The share of the minute's requests that are used."""
        return self.requests / self.requests_limit if self.requests_limit else 0.0


class Recorder:
    """Keeps samples evenly over a run of any length, and its newest one.

    Args:
        most: How many are kept; when there are more, every second one goes.
        interval: Seconds between two that are kept, to begin with.
    """

    __slots__ = ("_interval", "_kept", "_most", "_newest")

    def __init__(self, most: int = MOST, interval: float = 0.5) -> None:
        self._most = max(2, most)
        self._interval = interval
        self._kept: list[RunSample] = []
        self._newest: RunSample | None = None

    def add(self, sample: RunSample) -> None:
        """Take in a sample, later than all before it, however often they come."""
        self._newest = sample
        if self._kept and sample.seconds < self._kept[-1].seconds + self._interval:
            return
        if len(self._kept) >= self._most:
            self._kept = self._kept[::2]
            self._interval *= 2
            self.add(sample)
        else:
            self._kept.append(sample)

    @property
    def samples(self) -> tuple[RunSample, ...]:
        """The samples that are kept, the newest one among them."""
        if self._newest is None or self._newest is self._kept[-1]:
            return tuple(self._kept)
        return (*self._kept, self._newest)


def rates(samples: Sequence[RunSample]) -> list[float]:
    """Return for each sample how many items a minute were finished in the time before it.

    That time is a fortieth of the run, within 2 s and a minute, or the distance between two
    samples where that is longer.
    """
    if not samples:
        return []
    span = samples[-1].seconds - samples[0].seconds
    window = min(max(span / _PARTS, _SHORTEST), _LONGEST)
    first, found = 0, [0.0]
    for number, sample in enumerate(samples[1:], 1):
        while first + 1 < number and samples[first + 1].seconds <= sample.seconds - window:
            first += 1
        early = samples[first]
        took = sample.seconds - early.seconds
        found.append(60 * (sample.finished - early.finished) / took if took > 0 else 0.0)
    return found


def mean_shares(samples: Sequence[RunSample]) -> tuple[float, float]:
    """Return the mean shares of slots and of requests that were used, weighted by time."""
    took = sum(late.seconds - early.seconds for early, late in pairwise(samples))
    if took <= 0:
        return 0.0, 0.0
    slots = requests = 0.0
    for early, late in pairwise(samples):
        part = (late.seconds - early.seconds) / took
        slots += part * late.slots_share
        requests += part * late.requests_share
    return slots, requests

"""How a client polls its tasks, as callers choose it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from apixo_async._catalog import timing
from apixo_async._polling.adaptive import MOST_KINDS, AdaptiveSchedule
from apixo_async._polling.inspection import IntervalBounds
from apixo_async._polling.schedule import FixedSchedule, PollTimes, Schedule
from apixo_async._types import as_seconds
from apixo_async.errors import ConfigurationError

#: Default of the fewest seconds between two polls of a task; the documents' shortest time is 3 s.
FLOOR: Final = 0.5

#: Default of the most seconds between them: the documents' longest time to a first poll.
CEILING: Final = 120.0


@dataclass(frozen=True, slots=True)
class Polling:
    """How a client polls its tasks. Build one with `adaptive`, `documented` or `fixed`.

    Attributes:
        times: When to poll every task, or None for the times that the documents give its kind.
        learns: Whether polls follow how long past tasks took, once there are enough of them.
        floor: The fewest seconds between two polls of a task, where polls are learned.
        ceiling: The most.
        speed: What the documented times, and the floor, are divided by: how many times as fast as
            the real service a simulator is. `Simulator.polling` has it.
    """

    times: PollTimes | None = None
    learns: bool = True
    floor: float = FLOOR
    ceiling: float = CEILING
    speed: float = 1.0

    @classmethod
    def adaptive(cls, *, floor: float = FLOOR, ceiling: float = CEILING) -> Polling:
        """Learn how long tasks take, and poll when a poll is worth its request.

        The first tasks of a kind are polled at the documented times. After eight of them polls
        follow their durations: as long as requests are plentiful, no more often per task than at
        the documented times; as requests become scarce, less often. Where submits wait for
        slots and requests are left over, more often. `apixo docs polling` explains the model.

        Args:
            floor: The fewest seconds between two polls of a task, and before the first one.
            ceiling: The most.

        Raises:
            ConfigurationError: Either is below 0.01 or not a finite number, or the floor is above
                the ceiling.
        """
        low, high = _seconds("adaptive", floor=floor), _seconds("adaptive", ceiling=ceiling)
        if low > high:
            raise ConfigurationError(
                f"Polling.adaptive: floor={floor!r} is above ceiling={ceiling!r}; "
                "the fewest seconds between two polls cannot exceed the most"
            )
        return cls(floor=low, ceiling=high)

    @classmethod
    def documented(cls) -> Polling:
        """Poll at the documented times: by model, and for gpt-image-2 by resolution.

        Intervals grow where polls and submits together would exceed the limit of requests.
        """
        return cls(learns=False)

    @classmethod
    def fixed(cls, first: float, interval: float) -> Polling:
        """Poll every task `first` seconds after its creation, then every `interval` seconds.

        Raises:
            ConfigurationError: `first` is negative, `interval` is below 0.001, or either is not a
                finite number.
        """
        start = _seconds("fixed", 0.0, first=first)
        return cls(PollTimes(start, _seconds("fixed", 0.001, interval=interval)), learns=False)

    def times_for(self, kind: str) -> PollTimes:
        """Return the polling times of a kind of task, such as "gpt-image-2/4k"."""
        if self.times is not None:
            return self.times
        documented = timing(kind)
        first, interval = documented.first / self.speed, documented.interval / self.speed
        if not self.learns:
            return PollTimes(first, interval)
        # The bounds hold before anything is learned, too, and for polls that are repeated.
        bounds = self._bounds
        return PollTimes(bounds.bound(0.0, first), bounds.bound(0.0, interval))

    @property
    def _bounds(self) -> IntervalBounds:
        return IntervalBounds(self.floor / self.speed, self.ceiling)

    def schedule(self, rng: random.Random) -> Schedule:
        """Build the schedule of one client; `rng` is the source of its jitter."""
        # Every poll asks for its times, which never change.
        times_for = lru_cache(maxsize=MOST_KINDS)(self.times_for)
        fixed = FixedSchedule(times_for, rng)
        if not self.learns:
            return fixed
        return AdaptiveSchedule(times_for, fixed, self._bounds)


def _seconds(method: str, low: float = 0.01, **given: object) -> float:
    ((name, value),) = given.items()
    seconds = as_seconds(value)
    if seconds is None or seconds < low:
        raise ConfigurationError(
            f"Polling.{method}: {name}={value!r}; a finite number of seconds, {low:g} or more"
        )
    return seconds

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

#: Two polls of a task are at least so many seconds apart; the documents' shortest time is 3 s.
FLOOR: Final = 0.5

#: And at most so many: the documents' longest time to a first poll.
CEILING: Final = 120.0


@dataclass(frozen=True, slots=True)
class Polling:
    """How a client polls its tasks. Build one with `adaptive`, `documented` or `fixed`.

    Attributes:
        plan: The plan for every task, or None for the plan that the documents give its kind.
        learns: Whether polls follow what past tasks took, once there are some.
        floor: The fewest seconds between two polls of a task, where they are learned.
        ceiling: The most.
    """

    plan: PollTimes | None = None
    learns: bool = True
    floor: float = FLOOR
    ceiling: float = CEILING

    @classmethod
    def adaptive(cls, *, floor: float = FLOOR, ceiling: float = CEILING) -> Polling:
        """Learn how long tasks take, and poll when one is worth its request.

        It begins with the documents' plan. As long as requests are plentiful a task is polled
        no more often than by that plan; as they become scarce, less often.

        Args:
            floor: The fewest seconds between two polls of a task, and before the first one.
            ceiling: The most.

        Raises:
            ConfigurationError: Either is below 0.01 or no number, or the floor is the greater.
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
        """Poll when the documents say: by model, and for gpt-image-2 by resolution."""
        return cls(learns=False)

    @classmethod
    def fixed(cls, first: float, interval: float) -> Polling:
        """Poll every task `first` seconds after its creation, then every `interval` seconds.

        Raises:
            ConfigurationError: `first` is negative, `interval` is not above zero, or either is
                no finite number.
        """
        start = _seconds("fixed", 0.0, first=first)
        return cls(PollTimes(start, _seconds("fixed", 0.001, interval=interval)), learns=False)

    def plan_for(self, kind: str) -> PollTimes:
        """Return the plan for a kind of task, such as "gpt-image-2/4k"."""
        if self.plan is not None:
            return self.plan
        times = timing(kind)
        if not self.learns:
            return PollTimes(times.first, times.interval)
        # Before anything is learned, and after polls that told nothing, the bounds hold too.
        pace = IntervalBounds(self.floor, self.ceiling)
        return PollTimes(pace.bound(0.0, times.first), pace.bound(0.0, times.interval))

    def schedule(self, rng: random.Random) -> Schedule:
        """Build what says when to poll; `rng` is the source of its jitter."""
        # Every poll asks for its plan, which stays.
        plan_for = lru_cache(maxsize=MOST_KINDS)(self.plan_for)
        planned = FixedSchedule(plan_for, rng)
        if not self.learns:
            return planned
        return AdaptiveSchedule(plan_for, planned, IntervalBounds(self.floor, self.ceiling))


def _seconds(method: str, low: float = 0.01, **given: object) -> float:
    ((name, value),) = given.items()
    seconds = as_seconds(value)
    if seconds is None or seconds < low:
        raise ConfigurationError(
            f"Polling.{method}: {name}={value!r}; a number of seconds, {low:g} or more"
        )
    return seconds

"""Ways to decide when to poll, to be compared: each is a `Polling` that builds its schedule."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from apixo_async import Polling
from apixo_async._polling.adaptive import AdaptiveSchedule
from apixo_async._polling.inspection import IntervalBounds
from apixo_async._polling.schedule import Capacity, FixedSchedule, PollTimes, Schedule


class Loop:
    """Poll as a loop of one's own does for each task: a first wait, then wait after wait.

    Args:
        first: Seconds to the first poll.
        interval: Seconds from an answer to the next poll.
    """

    learns: ClassVar[bool] = False

    def __init__(self, first: float, interval: float) -> None:
        self._first = first
        self._interval = interval

    def opened(self, *_: object) -> None:
        """Do nothing: every task has a loop of its own."""

    def running(self, *_: object, first: bool) -> None:
        """Do nothing."""

    def closed(self, kind: str, *, waited: bool) -> None:
        """Do nothing."""

    def learn(self, *_: object) -> bool:
        """Learn nothing."""
        return False

    def first(self, kind: str, created: float) -> float:
        """Return when to poll for the first time."""
        del kind
        return created + self._first

    def again(self, kind: str, created: float, now: float, capacity: Capacity) -> float:
        """Return when to poll again."""
        del kind, created, capacity
        return now + self._interval

    def late(self, kind: str, created: float) -> float:
        """Return when to poll a task of another process: as always, such a loop knows none."""
        return self.first(kind, created)

    def silent(
        self, kind: str, created: float, age: float, now: float, capacity: Capacity
    ) -> float:
        """Return when to poll where a callback has not come: as always."""
        del age
        return self.again(kind, created, now, capacity)

    def median(self, kind: str, /) -> None:
        """Return None: nothing is learned."""


class Priced(AdaptiveSchedule):
    """Poll by the same rule at one price for ever, once enough is known."""

    def __init__(self, times: PollTimes, price: float, bounds: IntervalBounds) -> None:
        super().__init__(lambda _: times, FixedSchedule(lambda _: times, random.Random(0)), bounds)
        self._clearing = price
        self._slots_wanted = True  # No other price counts then.

    def _update_price(self, capacity: Capacity, now: float) -> None:
        del now
        self._latency = capacity.latency


#: The documents' plan of gpt-image-1 and flux-kontext.
PLAN = PollTimes(20.0, 3.0)


@dataclass(frozen=True, slots=True)
class Candidate(Polling):
    """One way to poll tasks whose plan is known.

    Attributes:
        documented_plan: The plan.
        way: "ours", "documented" or "priced".
        price: The price of "priced".
    """

    documented_plan: PollTimes = PLAN
    way: str = "ours"
    price: float = 0.0

    def times_for(self, kind: str) -> PollTimes:
        """Return the workload's plan, whatever the kind."""
        del kind
        return self.documented_plan

    def schedule(self, rng: random.Random) -> Schedule:
        """Build what says when to poll."""
        times, bounds = self.documented_plan, IntervalBounds(self.floor, self.ceiling)
        if self.way == "documented":
            return Loop(times.first, times.interval)
        if self.way == "priced":
            return Priced(times, self.price, bounds)
        return AdaptiveSchedule(self.times_for, FixedSchedule(self.times_for, rng), bounds)

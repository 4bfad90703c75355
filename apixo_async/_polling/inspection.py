"""When to poll next by past durations: sequential inspection (`apixo docs polling`).

A task has run for some time and is not over. The past tasks of its kind that lasted longer show
how much longer it may run. Between two polls there is an expected idle time, in which the task is
over and the client does not know it yet. The next poll is due when that expectation reaches the
price of a poll, in seconds of idle time; or, before that, when the expected idle time beyond a
target reaches a tenth of the price, so that few results are late by more than the target.

Where a callback is awaited, a task can only be idle if its callback is lost, and needs no poll if
it has come. So the expectation is that of a task of which no callback has come so far: the longer
the silence, the likelier the task is over.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import accumulate
from typing import Final, NamedTuple

#: A task that has outlasted every past one is polled again after this part of its age.
GROWTH: Final = 0.1

#: The same where its callback is still the likelier messenger.
LATE_GROWTH: Final = 0.5

#: Up to this many times the longest known duration, its polls keep to the delay target as well.
BEYOND_LONGEST: Final = 1 + 4 * GROWTH

#: How many times a second of idle time beyond the delay target counts.
_LATE_WEIGHT: Final = 10.0

#: The delay target is at least this many times the price: where polls are dear, delays are longer.
_PRICES: Final = 2.0


class IntervalBounds(NamedTuple):
    """How close and how far apart the polls of one task may be, whatever they cost.

    Attributes:
        floor: The fewest seconds between two polls, and before the first one.
        ceiling: The most.
        delay_target: The result delay that few tasks should exceed, in seconds, where no callback
            is awaited.
    """

    floor: float
    ceiling: float
    delay_target: float = math.inf

    def bound(self, age: float, due: float) -> float:
        """Return the age nearest to `due` at which a task polled at `age` may be polled."""
        return min(max(due, age + self.floor), age + self.ceiling)


class PollCost(NamedTuple):
    """What polling by one price costs a task of a sample, on the average.

    Attributes:
        polls: How often it is polled.
        delay: The result delay: seconds from its end to the poll that finds it over.
    """

    polls: float
    delay: float


class DurationSample:
    """Durations that the next task may have, each with the same probability.

    Args:
        durations: Seconds, at least one.
    """

    __slots__ = ("_durations", "_sums")

    def __init__(self, durations: Iterable[float]) -> None:
        self._durations = sorted(durations)
        self._sums = [0.0, *accumulate(self._durations)]

    @property
    def mean(self) -> float:
        """The mean duration in seconds."""
        return self._sums[-1] / len(self._durations)

    def quantile(self, part: float) -> float:
        """Return the duration in seconds that this part of the tasks does not exceed."""
        return self._durations[int(part * (len(self._durations) - 1))]

    def polls_by(self, first: float, interval: float) -> float:
        """Return how many polls a task takes on the average at fixed times."""
        late = (max(0.0, duration - first) for duration in self._durations)
        return 1 + sum(-(-seconds // interval) for seconds in late) / len(self._durations)

    def delay_by(self, first: float, interval: float, part: float) -> float:
        """Return the result delay that this part of the tasks does not exceed at fixed times."""
        early = (first - duration for duration in self._durations)
        delays = sorted(max(seconds, seconds % interval) for seconds in early)
        return delays[int(part * (len(delays) - 1))]

    def next_poll(
        self, age: float, price: float, bounds: IntervalBounds, lost: float = 1.0
    ) -> float:
        """Return the age at which to poll a task next that is not over at `age`.

        Args:
            age: Seconds since its creation.
            price: Seconds of idle time that one poll is worth, above zero.
            bounds: How close and how far apart polls may be.
            lost: The probability that its callback does not come, above zero; 1 where none is
                awaited.
        """
        over = bisect_right(self._durations, age)
        target = max(bounds.delay_target, _PRICES * price) / lost
        if over == len(self._durations):
            wait = age * min(LATE_GROWTH, GROWTH / lost)
            if age < BEYOND_LONGEST * self._durations[-1]:
                wait = min(wait, target)
            return bounds.bound(age, age + wait)
        due = self._idle_reaches(price, over, lost)
        if due - age > target:
            due = min(due, self._idle_reaches(price / _LATE_WEIGHT, over, lost) + target)
        return bounds.bound(age, due)

    def _idle_reaches(self, price: float, over: int, lost: float) -> float:
        """Return the age at which the expected idle time of a silent task reaches a price.

        Of the remaining tasks those are silent that run, and the lost part of those that are over.
        Their idle time grows piecewise linearly with the age; the prefix sums give its value at
        each duration, so that a bisection finds the piece and a division the age: O(log n).
        """
        durations, sums = self._durations, self._sums
        longer = len(durations) - over

        def idle_to_reach(ended: int) -> float:
            return price * (longer - (1 - lost) * ended) / lost

        def excess_at(index: int) -> float:
            idle = durations[index] * (index - over) - (sums[index] - sums[over])
            return idle - idle_to_reach(index - over + 1)

        ends = range(over + 1, len(durations))
        index = over + 1 + bisect_left(ends, 0.0, key=excess_at)
        reached = (idle_to_reach(index - over) + sums[index] - sums[over]) / (index - over)
        # Where a task ends, fewer are silent at once, so that the expectation may jump.
        return min(reached, durations[index]) if index < len(durations) else reached

    def cost_at(self, price: float, bounds: IntervalBounds, lost: float = 1.0) -> PollCost:
        """Return what polling by a price costs the tasks of this sample.

        It takes at most one step for each duration, however far apart they are.

        Args:
            price: As `next_poll` takes it.
            bounds: As `next_poll` takes them.
            lost: As `next_poll` takes it; each callback that comes costs the poll that it causes.
        """
        count = len(self._durations)
        age = delay = 0.0
        polls, over = (1 - lost) * count, 0
        while over < count:
            # Polls before the next task is over find none over: they come at the ceiling, and
            # are counted without a step for each.
            idle = max(0.0, -((age - self._durations[over]) // bounds.ceiling) - 1)
            age += idle * bounds.ceiling if idle else 0.0
            age = self.next_poll(age, price, bounds, lost)
            found = max(over + 1, bisect_right(self._durations, age))
            polls += idle * (count - over) + lost * (found - over) + count - found
            delay += lost * (age * (found - over) - (self._sums[found] - self._sums[over]))
            over = found
        return PollCost(polls / count, delay / count)

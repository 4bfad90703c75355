"""Where the next poll belongs: sequential inspection, after Keller and Barlow and Proschan.

A task has run for some time and is not over. Of the past tasks of its kind, those that lasted
longer say how it may go on. A poll of an age leaves an expected idle time, in which the task is
over and nobody knows; the next poll belongs where that expectation reaches the price of a poll,
which is given in seconds of idle time that one poll is worth.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import accumulate
from typing import Final, NamedTuple

#: Where no past task lasted as long, a task is polled after this part of its age.
GROWTH: Final = 0.1


class IntervalBounds(NamedTuple):
    """How close and how far apart the polls of one task may be, whatever they cost.

    Attributes:
        floor: The fewest seconds between two polls, and before the first one.
        ceiling: The most.
    """

    floor: float
    ceiling: float

    def bound(self, age: float, due: float) -> float:
        """Return the age nearest to `due` at which a task polled at `age` may be polled."""
        return min(max(due, age + self.floor), age + self.ceiling)


class PollCost(NamedTuple):
    """What a price means for a task of a sample, on the average.

    Attributes:
        polls: How often it is polled.
        delay: How many seconds pass from its end to the news.
    """

    polls: float
    delay: float


class DurationSample:
    """Durations that a task may have, each as likely as any other.

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
        """Return the duration in seconds that such a part of the tasks does not exceed."""
        return self._durations[int(part * (len(self._durations) - 1))]

    def polls_by(self, first: float, interval: float) -> float:
        """Return how many polls a task takes on the average by a plan."""
        late = (max(0.0, duration - first) for duration in self._durations)
        return 1 + sum(-(-seconds // interval) for seconds in late) / len(self._durations)

    def next_poll(self, age: float, price: float, pace: IntervalBounds) -> float:
        """Return the age at which to poll next at a task which is not over at `age`.

        Args:
            age: Seconds since its creation.
            price: Seconds of idle time that one poll is worth, above zero.
            pace: The bounds.
        """
        over = bisect_right(self._durations, age)
        longer = len(self._durations) - over
        if not longer:
            return pace.bound(age, age * (1 + GROWTH))
        return pace.bound(age, self._idle_reaches(price * longer, over))

    def _idle_reaches(self, idle: float, over: int) -> float:
        """Return the age at which those that last longer have been idle for so long in all."""
        durations, sums = self._durations, self._sums

        def idle_at_end_of(index: int) -> float:
            return durations[index] * (index - over) - (sums[index] - sums[over])

        ends = range(over + 1, len(durations))
        index = over + 1 + bisect_left(ends, idle, key=idle_at_end_of)
        return (idle + sums[index] - sums[over]) / (index - over)

    def course(self, price: float, pace: IntervalBounds) -> PollCost:
        """Return what polling by a price means for the tasks of this sample.

        It takes a step for each duration at most, however far apart they are.
        """
        count = len(self._durations)
        age = delay = 0.0
        polls, over = 0.0, 0
        while over < count:
            # No poll before the next task is over finds any: these come at the ceiling.
            idle = max(0.0, -((age - self._durations[over]) // pace.ceiling) - 1)
            age = self.next_poll(age + idle * pace.ceiling, price, pace)
            polls += (idle + 1) * (count - over)
            found = max(over + 1, bisect_right(self._durations, age))
            delay += age * (found - over) - (self._sums[found] - self._sums[over])
            over = found
        return PollCost(polls / count, delay / count)

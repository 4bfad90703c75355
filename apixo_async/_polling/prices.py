"""What a poll is worth: little while requests are plentiful, more as they become scarce."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from typing import Final, NamedTuple

from apixo_async._polling.inspection import DurationSample, IntervalBounds, PollCost

#: Prices are tried from the mean duration downwards, each by this factor below the last. At the
#: mean one poll is enough for nearly every task; at a hundredth of it the news costs no
#: throughput any more.
_STEP: Final = 0.7
_TRIALS: Final = 24
_CHEAPEST: Final = 0.01

#: Halvings that find the plan's price between two tried ones, to about a hundredth.
_HALVINGS: Final = 5

#: A task is polled a little less often than by the plan: what is learned is never exact.
_MARGIN: Final = 0.99


class PricePoint(NamedTuple):
    """One price, and what it means for a task."""

    price: float
    course: PollCost


class PriceList:
    """What each price means for the tasks of one kind.

    Args:
        sample: How long the tasks last.
        budget: Polls that a task takes by its plan, on the average.
        pace: The bounds of all polls.

    Attributes:
        mean: Seconds that the tasks last on the average.
        planned: The price at which they take as many polls as by the plan.
    """

    __slots__ = ("_logs", "_tried", "mean", "planned")

    def __init__(self, sample: DurationSample, budget: float, pace: IntervalBounds) -> None:
        self.mean = sample.mean
        self._tried: list[PricePoint] = []
        price = max(self.mean, pace.floor)
        for _ in range(_TRIALS):
            self._tried.append(PricePoint(price, sample.course(price, pace)))
            if price <= self.mean * _CHEAPEST and self._tried[-1].course.polls > budget:
                break
            price *= _STEP
        self._tried.reverse()
        self._logs = [math.log(one.price) for one in self._tried]
        self.planned = self._price_within(max(1.0, budget * _MARGIN), sample, pace)

    def bound(self, price: float) -> float:
        """Return the nearest price that was tried: beyond them nothing is to be gained."""
        return min(max(price, self._tried[0].price), self._tried[-1].price)

    def _price_within(self, polls: float, sample: DurationSample, pace: IntervalBounds) -> float:
        fits = [one.course.polls <= polls for one in self._tried]
        index = fits.index(True) if any(fits) else len(fits) - 1
        low, high = self._tried[max(0, index - 1)].price, self._tried[index].price
        for _ in range(_HALVINGS):
            middle = math.sqrt(low * high)
            if sample.course(middle, pace).polls <= polls:
                high = middle
            else:
                low = middle
        return high

    def course(self, price: float) -> PollCost:
        """Return what a price means, between the tried ones in proportion to its logarithm."""
        log = math.log(self.bound(price))
        index = bisect_left(self._logs, log, 1, len(self._logs) - 1)
        part = (log - self._logs[index - 1]) / (self._logs[index] - self._logs[index - 1])
        before, after = self._tried[index - 1].course, self._tried[index].course
        return PollCost(
            before.polls + part * (after.polls - before.polls),
            before.delay + part * (after.delay - before.delay),
        )

    def requests_per_second(self, price: float, submits: int) -> float:
        """Return how many requests a second one task takes, from its start to the news.

        Args:
            price: The price of a poll.
            submits: 1 where another task follows each that is over, else 0.
        """
        course = self.course(price)
        return (course.polls + submits) / (self.mean + course.delay)


def clearing_price(
    tracked: Iterable[tuple[int, PriceList]], requests: float, *, submits: int
) -> float:
    """Return the price at which tasks take so many requests a second together.

    Args:
        tracked: How many tasks there are of each kind, and their prices.
        requests: Requests a second that there is room for.
        submits: 1 where another task follows each that is over, else 0.
    """
    kinds = [(count, prices) for count, prices in tracked if count]

    def demand(price: float) -> float:
        return sum(n * prices.requests_per_second(price, submits) for n, prices in kinds)

    low = min((math.log(prices.bound(0.0)) for _, prices in kinds), default=0.0)
    high = max((math.log(prices.bound(math.inf)) for _, prices in kinds), default=0.0)
    for _ in range(12):  # To less than a thousandth of a range that is seldom above e**8.
        middle = (low + high) / 2
        if demand(math.exp(middle)) > requests:
            low = middle
        else:
            high = middle
    return math.exp(high)

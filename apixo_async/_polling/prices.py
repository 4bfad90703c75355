"""The price of a poll: low while requests are plentiful, higher as they become scarce."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from typing import Final, NamedTuple

from apixo_async._polling.inspection import DurationSample, IntervalBounds, PollCost

#: Prices are tried from the mean duration downwards, each this factor times the one before. At
#: the mean one poll is enough for nearly every task; at a hundredth of it the result delay is too
#: short to cost throughput.
_STEP: Final = 0.7
_TRIALS: Final = 24
_CHEAPEST: Final = 0.01

#: Halvings that find the scheduled price between two tried ones, to about a hundredth.
_HALVINGS: Final = 5

#: Tasks are polled a little less often than at the documented times: a sample is never exact.
_MARGIN: Final = 0.99


class PricePoint(NamedTuple):
    """One price, and what polling by it costs a task on the average."""

    price: float
    cost: PollCost


class PriceList:
    """What polling by each price costs the tasks of one kind.

    Args:
        sample: How long the tasks last.
        budget: Polls that a task takes at its documented times, on the average.
        bounds: The bounds of all polls.
        lost: The share of their callbacks that do not come; 1 where none are awaited.

    Attributes:
        mean: Seconds that the tasks last on the average.
        scheduled: The price at which they take as many polls as at the documented times, where no
            callbacks are awaited.
    """

    __slots__ = ("_logs", "_tried", "mean", "scheduled")

    def __init__(
        self, sample: DurationSample, budget: float, bounds: IntervalBounds, lost: float = 1.0
    ) -> None:
        self.mean = sample.mean
        self._tried: list[PricePoint] = []
        price = max(self.mean, bounds.floor)
        for _ in range(_TRIALS):
            self._tried.append(PricePoint(price, sample.cost_at(price, bounds)))
            if price <= self.mean * _CHEAPEST and self._tried[-1].cost.polls > budget:
                break
            price *= _STEP
        self._tried.reverse()  # Ascending, for the bisections.
        self._logs = [math.log(one.price) for one in self._tried]
        self.scheduled = self._price_within(max(1.0, budget * _MARGIN), sample, bounds)
        if lost < 1:
            # The ceiling is for polls, and not for the wait for a callback.
            bounds = bounds._replace(ceiling=math.inf)
            self._tried = [
                PricePoint(one.price, sample.cost_at(one.price, bounds, lost))
                for one in self._tried
            ]

    def bound(self, price: float) -> float:
        """Return the nearest price that was tried: beyond those nothing can be gained."""
        return min(max(price, self._tried[0].price), self._tried[-1].price)

    def _price_within(self, polls: float, sample: DurationSample, bounds: IntervalBounds) -> float:
        fits = [one.cost.polls <= polls for one in self._tried]
        index = fits.index(True) if any(fits) else len(fits) - 1
        low, high = self._tried[max(0, index - 1)].price, self._tried[index].price
        for _ in range(_HALVINGS):
            middle = math.sqrt(low * high)
            if sample.cost_at(middle, bounds).polls <= polls:
                high = middle
            else:
                low = middle
        return high

    def cost_at(self, price: float) -> PollCost:
        """Interpolate what a price costs, linearly in its logarithm, between the tried ones."""
        log = math.log(self.bound(price))
        index = bisect_left(self._logs, log, 1, len(self._logs) - 1)
        part = (log - self._logs[index - 1]) / (self._logs[index] - self._logs[index - 1])
        before, after = self._tried[index - 1].cost, self._tried[index].cost
        return PollCost(
            before.polls + part * (after.polls - before.polls),
            before.delay + part * (after.delay - before.delay),
        )

    def requests_per_second(self, price: float, submits: int) -> float:
        """Return the requests a second of one task, from its submit until its end is known.

        Args:
            price: The price of a poll.
            submits: 1 where another task follows each that is over, else 0.
        """
        cost = self.cost_at(price)
        return (cost.polls + submits) / (self.mean + cost.delay)


def clearing_price(
    tracked: Iterable[tuple[int, PriceList]], requests: float, *, submits: int
) -> float:
    """Return the price at which all tasks together take `requests` requests a second.

    Demand falls as the price rises, so that halving the range of prices finds it.

    Args:
        tracked: How many tasks there are of each kind, and their prices.
        requests: Requests a second that are available.
        submits: 1 where another task follows each that is over, else 0.
    """
    kinds = [(count, prices) for count, prices in tracked if count]

    def demand(price: float) -> float:
        return sum(n * prices.requests_per_second(price, submits) for n, prices in kinds)

    low = min((math.log(prices.bound(0.0)) for _, prices in kinds), default=0.0)
    high = max((math.log(prices.bound(math.inf)) for _, prices in kinds), default=0.0)
    # Twelve halvings: to less than a thousandth of a range that is seldom wider than e**8.
    for _ in range(12):
        middle = (low + high) / 2
        if demand(math.exp(middle)) > requests:
            low = middle
        else:
            high = middle
    return math.exp(high)

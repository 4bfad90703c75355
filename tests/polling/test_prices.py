"""Prices: the documented number of polls while requests are plentiful, fewer when they are not."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apixo_async._polling.inspection import DurationSample, IntervalBounds
from apixo_async._polling.prices import PriceList, clearing_price

LIVELY = settings(max_examples=60, deadline=None, database=None)
BOUNDS = IntervalBounds(0.5, 120.0)
rng = random.Random(3)
SAMPLE = DurationSample(rng.lognormvariate(math.log(30), 0.35) for _ in range(500))
QUICK = DurationSample(rng.lognormvariate(math.log(12), 0.3) for _ in range(500))


def listed(sample: DurationSample, first: float = 20.0, interval: float = 3.0) -> PriceList:
    """Return the prices of a sample beside documented times."""
    return PriceList(sample, sample.polls_by(first, interval), BOUNDS)


def test_the_scheduled_price() -> None:
    """At that price a task takes the documented number of polls, or up to 3 % fewer."""
    prices, budget = listed(SAMPLE), SAMPLE.polls_by(20.0, 3.0)
    assert 0.97 * budget <= SAMPLE.cost_at(prices.scheduled, BOUNDS).polls <= budget


def test_documented_times_that_poll_late() -> None:
    """Where the one documented poll comes after every task is over, one is enough, and earlier."""
    sample = DurationSample([5.0 + n / 100 for n in range(100)])
    cost = sample.cost_at(PriceList(sample, sample.polls_by(20.0, 3.0), BOUNDS).scheduled, BOUNDS)
    assert cost.polls == 1.0
    assert cost.delay < 3.0


def test_documented_times_beyond_all_trials() -> None:
    """Documented times with very many polls cost no more than the floor lets through."""
    sample = DurationSample([100.0, 101.0, 102.0])
    prices = PriceList(sample, 1e6, BOUNDS)
    assert prices.scheduled == prices.bound(0.0)


@LIVELY
@given(price=st.floats(0.01, 1_000))
def test_between_two_prices(price: float) -> None:
    """What a price means is near to what the sample itself says."""
    prices = listed(SAMPLE)
    told, exact = prices.cost_at(price), SAMPLE.cost_at(prices.bound(price), BOUNDS)
    assert told.polls == pytest.approx(exact.polls, rel=0.08)
    assert told.delay == pytest.approx(exact.delay, rel=0.08)


@LIVELY
@given(
    slow=st.integers(0, 900),
    quick=st.integers(1, 900),
    requests=st.floats(1.0, 400.0),
    submits=st.sampled_from([0, 1]),
)
def test_the_clearing_price_clears(slow: int, quick: int, requests: float, submits: int) -> None:
    """Requests at that price are those that are available, unless no price is in reach."""
    kinds = [(slow, listed(SAMPLE)), (quick, listed(QUICK))]
    price = clearing_price(kinds, requests, submits=submits)

    def demand(at: float) -> float:
        return sum(count * one.requests_per_second(at, submits) for count, one in kinds)

    if demand(0.0) <= requests:
        assert price <= 1.01 * min(one.bound(0.0) for _, one in kinds)
    elif demand(math.inf) >= requests:
        assert price >= 0.99 * max(one.bound(math.inf) for count, one in kinds if count)
    else:
        assert demand(price) == pytest.approx(requests, rel=0.02)


def test_no_tasks_at_all() -> None:
    """Without tasks there is nothing to clear."""
    assert clearing_price([(0, listed(SAMPLE))], 10.0, submits=1) == 1.0


def test_callbacks_make_polls_cheap() -> None:
    """The fewer are lost, the fewer requests a price takes; the scheduled price stays."""
    budget = SAMPLE.polls_by(20.0, 3.0)
    lists = [PriceList(SAMPLE, budget, BOUNDS, lost) for lost in (1.0, 0.3, 0.01)]
    assert len({prices.scheduled for prices in lists}) == 1
    asked = [prices.requests_per_second(1.0, 1) for prices in lists]
    assert asked == sorted(asked, reverse=True)
    cleared = [clearing_price([(1_000, prices)], 130.0, submits=1) for prices in lists]
    assert cleared == sorted(cleared, reverse=True)
    assert cleared[2] < 0.5 * cleared[0]


def test_the_ceiling_is_not_for_the_wait_for_a_callback() -> None:
    """Where tasks last longer than it and none is lost, one poll is enough."""
    sample = DurationSample([300.0] * 20)
    cost = PriceList(sample, 17.0, BOUNDS, 0.01).cost_at(10.0)
    assert cost.polls == pytest.approx(1.0)
    assert cost.delay == pytest.approx(0.1, rel=0.05)

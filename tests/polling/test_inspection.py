"""The rule of sequential inspection, against its definition."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from apixo_async._polling.inspection import (
    BEYOND_LONGEST,
    GROWTH,
    LATE_GROWTH,
    DurationSample,
    IntervalBounds,
    PollCost,
)

LIVELY = settings(max_examples=400, deadline=None, database=None)
WIDE = IntervalBounds(1e-9, 1e9)
# Whole numbers of an eighth are exact as floats, and so are their sums.
eighths = st.integers(1, 800).map(lambda eighth: eighth / 8)
samples = st.lists(eighths, min_size=1, max_size=12)
prices = st.integers(1, 400).map(lambda eighth: eighth / 8)
ages = st.integers(0, 900).map(lambda eighth: eighth / 8)


def idle(durations: list[float], age: float, due: Fraction) -> Fraction:
    """Return the mean idle time of a poll of `due`, by its definition."""
    longer = [Fraction(one) for one in durations if one > age]
    return sum((max(Fraction(0), due - one) for one in longer), Fraction(0)) / len(longer)


@LIVELY
@given(durations=samples, age=ages, price=prices)
def test_exact_against_brute_force(durations: list[float], age: float, price: float) -> None:
    """The next poll is where the mean idle time of those that last longer is the price."""
    due = DurationSample(durations).next_poll(age, price, WIDE)
    if max(durations) <= age:
        assert due == pytest.approx(max(age * (1 + GROWTH), age + WIDE.floor))
        return
    near = idle(durations, age, Fraction(due))
    assert float(near) == pytest.approx(price, rel=1e-9, abs=1e-9)
    # The idle time grows with the age of the poll, so that there is no other such age.
    assert idle(durations, age, Fraction(due) + Fraction(1, 100)) > near


def idle_in_silence(durations: list[float], age: float, due: Fraction, lost: float) -> Fraction:
    """Return the mean idle time at `due` of the tasks of which no callback has come by then."""
    longer = [Fraction(one) for one in durations if one > age]
    running = sum(one >= due for one in longer)
    over = [due - one for one in longer if one < due]
    return Fraction(lost) * sum(over, Fraction(0)) / (running + Fraction(lost) * len(over))


@LIVELY
@given(durations=samples, age=ages, price=prices, eighth=st.integers(1, 8))
def test_silence_against_brute_force(
    durations: list[float], age: float, price: float, eighth: int
) -> None:
    """The next poll is where the mean idle time of the silent tasks reaches the price."""
    lost = eighth / 8
    due = DurationSample(durations).next_poll(age, price, WIDE, lost)
    if max(durations) <= age:
        growth = min(LATE_GROWTH, GROWTH / lost)
        assert due == pytest.approx(max(age * (1 + growth), age + WIDE.floor))
        return
    before, after = (Fraction(due) + sign * Fraction(1, 10**6) for sign in (-1, 1))
    assert idle_in_silence(durations, age, before, lost) < price
    assert idle_in_silence(durations, age, after, lost) > price


@LIVELY
@given(durations=samples, age=ages, price=prices, low=st.floats(0.001, 1), high=st.floats(0.001, 1))
def test_the_fewer_callbacks_are_lost_the_later_is_the_poll(
    durations: list[float], age: float, price: float, low: float, high: float
) -> None:
    """And it is never earlier than without callbacks."""
    sample, shares = DurationSample(durations), sorted((low, high, 1.0), reverse=True)
    dues = [sample.next_poll(age, price, WIDE, lost) for lost in shares]
    assert dues[0] == sample.next_poll(age, price, WIDE)
    assert dues[0] <= dues[1] + 1e-9
    assert dues[1] <= dues[2] + 1e-9


@LIVELY
@given(durations=samples, age=ages, low=prices, high=prices, target=st.floats(0.1, 100))
def test_a_higher_price_never_polls_earlier(
    durations: list[float], age: float, low: float, high: float, target: float
) -> None:
    """The next poll is monotone in the price."""
    sample, (low, high) = DurationSample(durations), sorted((low, high))
    bounds = WIDE._replace(delay_target=target)
    assert sample.next_poll(age, low, bounds) <= sample.next_poll(age, high, bounds) + 1e-9


@LIVELY
@given(durations=samples, age=ages, price=prices, target=eighths)
def test_idle_time_beyond_the_target_counts_ten_times(
    durations: list[float], age: float, price: float, target: float
) -> None:
    """Of two times the earlier: of all idle time, and of a tenth beyond target or two prices."""
    sample, target = DurationSample(durations), max(target, 2 * price)
    due = sample.next_poll(age, price, WIDE._replace(delay_target=target))
    usual = sample.next_poll(age, price, WIDE)
    assert due <= usual
    if max(durations) > age:
        beyond = float(idle(durations, age, Fraction(due) - Fraction(target)))
        assert beyond <= price / 10 + 1e-9
        assert due == usual or beyond == pytest.approx(price / 10, rel=1e-6, abs=1e-9)


def test_the_target_yields_to_the_price() -> None:
    """Where a poll is worth more than half the target, results may be later than the target."""
    sample, bounds = DurationSample([10.0, *[60.0] * 9]), IntervalBounds(0.5, 120.0, 4.0)
    # One of ten has been over since 10 s: for 4 s, and 10 times a tenth of the price.
    assert sample.next_poll(0.0, 2.0, bounds) == pytest.approx(10.0 + 4.0 + 2.0)
    assert sample.next_poll(0.0, 4.0, bounds) == pytest.approx(10.0 + 8.0 + 4.0)


@LIVELY
@given(
    durations=samples,
    age=ages,
    price=prices,
    floor=st.floats(0.01, 100),
    above=st.floats(0, 100),
)
@example(durations=[1.0], age=900.0, price=1.0, floor=0.01, above=0.0)
def test_polls_stay_within_their_bounds(
    durations: list[float], age: float, price: float, floor: float, above: float
) -> None:
    """A poll is never early of the floor and never late of the ceiling, whatever it costs."""
    due = DurationSample(durations).next_poll(age, price, IntervalBounds(floor, floor + above))
    assert age + floor - 1e-9 <= due <= age + floor + above + 1e-9


@LIVELY
@given(durations=samples, price=prices, target=st.sampled_from([1.0, 5.0, math.inf]))
def test_a_course_is_what_the_polls_come_to(
    durations: list[float], price: float, target: float
) -> None:
    """Expected polls and delay are those of following the rule with each duration in turn."""
    sample, bounds = DurationSample(durations), IntervalBounds(0.25, 50.0, target)
    polls = delays = 0.0
    for duration in durations:
        age = 0.0
        while age < duration:
            age = sample.next_poll(age, price, bounds)
            polls += 1
        delays += age - duration
    cost = sample.cost_at(price, bounds)
    assert cost.polls == pytest.approx(polls / len(durations))
    assert cost.delay == pytest.approx(delays / len(durations), abs=1e-9)


@LIVELY
@given(durations=samples, price=prices, lost=st.floats(0.001, 1))
def test_a_course_in_silence(durations: list[float], price: float, lost: float) -> None:
    """A callback that comes ends the polls with one; of those that are lost the next poll tells."""
    sample, bounds = DurationSample(durations), IntervalBounds(0.25, 50.0)
    polls = delays = 0.0
    for duration in durations:
        age, early = 0.0, 0
        while (due := sample.next_poll(age, price, bounds, lost)) < duration:
            age, early = due, early + 1
        polls += early + 1  # Whether a callback or the schedule causes the last one.
        delays += lost * (due - duration)
    cost = sample.cost_at(price, bounds, lost)
    assert cost.polls == pytest.approx(polls / len(durations))
    assert cost.delay == pytest.approx(delays / len(durations), abs=1e-9)


def test_beyond_all_that_was_seen() -> None:
    """Where no past task lasted as long, polls spread geometrically, up to the ceiling."""
    sample, bounds, age, gaps = DurationSample([10.0]), IntervalBounds(0.5, 4.0), 20.0, []
    for _ in range(10):
        due = sample.next_poll(age, 1.0, bounds)
        gaps.append(due - age)
        age = due
    grown = [2.0, 2.2, 2.42, 2.662, 2.9282, 3.22102, 3.543122, 3.8974342, 4.0, 4.0]
    assert gaps == pytest.approx(grown)


def test_soon_beyond_all_that_was_seen() -> None:
    """Up to 1.4 times the longest duration polls keep to the target, then they spread as ever."""
    sample, bounds, age, gaps = DurationSample([50.0]), IntervalBounds(0.5, 120.0, 3.0), 50.0, []
    while age < 100.0:
        due = sample.next_poll(age, 1.0, bounds)
        gaps.append((age, due - age))
        age = due
    near = [gap for at, gap in gaps if at < BEYOND_LONGEST * 50.0]
    assert near == pytest.approx([3.0] * 7)
    assert all(gap == pytest.approx(GROWTH * at) for at, gap in gaps[7:])
    # Of short tasks a tenth of the age is less than the target.
    assert DurationSample([5.0]).next_poll(6.0, 1.0, bounds) == pytest.approx(6.6)


def test_two_clusters_are_sought_where_they_are() -> None:
    """Between 22 s and 60 s nothing ends, so that nothing is sought there."""
    sample = DurationSample([22.0] * 70 + [60.0] * 30)
    first = sample.next_poll(0.0, 0.7, WIDE)
    assert first == pytest.approx(23.0)
    assert sample.next_poll(first, 0.7, WIDE) == pytest.approx(60.7)


@pytest.mark.parametrize("huge", [1e4, 1.8e9, 1e300])
def test_a_course_takes_few_steps(huge: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much longer than all others one duration is, no poll is walked to one by one."""
    steps, walked = [0.0], DurationSample.next_poll

    def counted(
        sample: DurationSample, age: float, price: float, bounds: IntervalBounds, lost: float
    ) -> float:
        steps.append(age)
        return walked(sample, age, price, bounds, lost)

    monkeypatch.setattr(DurationSample, "next_poll", counted)
    cost = DurationSample([*[10.0] * 31, huge]).cost_at(2.0, IntervalBounds(0.5, 120.0))
    assert len(steps) <= 1 + 32
    assert cost.polls == pytest.approx(huge / 120.0 / 32, rel=0.5)


def test_quantiles() -> None:
    """A quantile is a duration that was given, which that part of them does not exceed."""
    sample = DurationSample(range(1, 101))
    assert [sample.quantile(part) for part in (0.0, 0.5, 0.9, 1.0)] == [1, 50, 90, 100]
    assert DurationSample([3.0]).quantile(0.9) == 3.0


def test_polls_at_fixed_times() -> None:
    """Times of 20 s and 3 s take one poll up to 20 s, two up to 23 s, and so on."""
    assert (
        DurationSample([5.0, 20.0, 20.5, 23.0, 23.5]).polls_by(20.0, 3.0) == (1 + 1 + 2 + 2 + 3) / 5
    )
    assert DurationSample([5.0, 7.0]).mean == 6.0


def test_delays_at_fixed_times() -> None:
    """Times of 20 s and 3 s find a task of 5 s after 15 s, one of 21 s after 2 s."""
    sample = DurationSample([5.0, 20.0, 21.0, 23.0, 23.5])
    assert sample.delay_by(20.0, 3.0, 1.0) == 15.0
    assert sample.delay_by(20.0, 3.0, 0.75) == 2.5
    assert sample.delay_by(20.0, 3.0, 0.0) == 0.0


def test_one_poll_at_any_high_price() -> None:
    """Where a poll costs more than all idle time, one is enough."""
    assert DurationSample([1.0, 2.0, 3.0]).cost_at(100.0, WIDE) == PollCost(1.0, 100.0)
    assert math.isclose(DurationSample([4.0]).next_poll(0.0, 2.0, WIDE), 6.0)

"""What past tasks say of the next ones."""

from __future__ import annotations

import random

import pytest

from apixo_async._polling.durations import ENOUGH, WATCHED, Durations
from apixo_async._polling.inspection import DurationSample, IntervalBounds


def known(sample: DurationSample | None) -> DurationSample:
    """Return a sample that there is."""
    assert sample is not None
    return sample


def watched(durations: list[float]) -> Durations:
    """Return what is known when tasks have ended, one after the other."""
    found = Durations()
    for task, seconds in enumerate(durations):
        found.watch(task)
        assert found.end(task, seconds)
    return found


def test_too_few_say_nothing() -> None:
    """Seven durations are not enough, eight are."""
    assert watched([5.0] * (ENOUGH - 1)).sample() is None
    assert known(watched([5.0] * ENOUGH).sample()).mean == pytest.approx(5.0)


def test_the_newest_count() -> None:
    """After 128 tasks nothing is left of what was before them."""
    sample = known(watched([100.0] * 500 + [7.0] * WATCHED).sample())
    assert sample.mean == pytest.approx(7.0)


def test_only_watched_tasks_count() -> None:
    """Of a crowd that begins together the first 128 are watched, and no others learned from."""
    found = Durations()
    for task in range(1_000):
        found.watch(task)
    assert [found.end(task, 5.0) for task in (WATCHED - 1, WATCHED, 999)] == [True, False, False]
    assert not found.end(WATCHED - 1, 5.0)
    found.watch("next")
    assert found.end("next", 5.0)
    assert not found.end(3, None)


def crowd(*, over: int, seen_at: float) -> Durations:
    """Return what is known of 100 tasks: some over after 10 s, the others seen running."""
    found = Durations()
    for task in range(100):
        found.watch(task)
        found.seen(task, seen_at)
    for task in range(over):
        found.end(task, 10.0)
    return found


@pytest.mark.parametrize(("over", "enough"), [(79, False), (80, True)])
def test_the_quick_ones_of_a_crowd_say_nothing(over: int, enough: bool) -> None:
    """Nothing is known while more than a fifth was seen running when all that is over was over."""
    assert (crowd(over=over, seen_at=10.5).sample() is not None) == enough
    # Nobody knows of the others whether they are over by now.
    assert known(crowd(over=over, seen_at=9.5).sample()).mean == pytest.approx(10.0)


def test_a_wave_of_polls_says_nothing() -> None:
    """Of a crowd whose polls take a second, those seen running before the longest end count."""
    found = Durations()
    for task in range(100):
        found.watch(task)
        found.seen(task, 10.0 + task / 100)
    for task in range(0, 100, 4):
        found.end(task, 9.99 + task / 100)
    assert found.sample() is None  # Three of four go on, though one is seen beyond the longest.


def test_those_that_go_on_stand_beyond_the_others() -> None:
    """Tasks seen running after all that is over count as ending before 1.4 times as long."""
    sample = known(crowd(over=90, seen_at=10.5).sample())
    assert sample.mean == pytest.approx(0.9 * 10 + 0.1 * 12, abs=0.1)


def test_what_is_not_watched_is_not_seen() -> None:
    """Of tasks that are over, or were never watched, it does not matter how old they are."""
    found = watched([10.0] * 20)
    found.seen(3, 99.0)
    found.seen("never watched", 99.0)
    assert known(found.sample()).mean == pytest.approx(10.0)


def test_durations_stand_for_those_nearby() -> None:
    """Spreading fits the next tasks better than the very durations that were seen."""
    rng, bounds = random.Random(5), IntervalBounds(0.01, 120.0)
    delays: dict[bool, float] = {False: 0.0, True: 0.0}
    truth = [rng.lognormvariate(3.4, 0.35) for _ in range(4_000)]
    for _ in range(6):
        seen = [rng.lognormvariate(3.4, 0.35) for _ in range(64)]
        for spread, sample in (
            (False, DurationSample(seen)),
            (True, known(watched(seen).sample())),
        ):
            delays[spread] += delay_at(sample, truth, bounds, polls=5.0)
    assert delays[True] < 0.95 * delays[False]


def delay_at(
    sample: DurationSample, truth: list[float], bounds: IntervalBounds, polls: float
) -> float:
    """Return the mean delay of news of other tasks, at the price of so many polls a task."""
    low, high = 0.01, 100.0
    for _ in range(14):
        price = (low * high) ** 0.5
        ages = [0.0]
        while ages[-1] <= max(truth):
            ages.append(sample.next_poll(ages[-1], price, bounds))
        found = sorted(truth)
        mean, delay, last = 0.0, 0.0, 0
        for age in ages[1:]:
            mean += len(found) - last
            while last < len(found) and found[last] <= age:
                delay += age - found[last]
                last += 1
        low, high = (price, high) if mean / len(found) > polls else (low, price)
    return delay / len(found)


def test_nothing_stands_in_the_gap_between_two_clusters() -> None:
    """Durations spread within their cluster only, and never below zero."""
    clusters = [1.0 + n / 100 for n in range(40)] + [50.0 + n / 100 for n in range(88)]
    sample = known(watched(clusters).sample())
    assert [one for one in sample._durations if 2.0 < one < 49.0] == []
    assert known(watched([0.1, 9.0, 18.0, *[30.0] * 9]).sample())._durations[0] == 0.0

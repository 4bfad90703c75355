"""Polls come at their times: late by a little jitter, never early."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from apixo_async._polling.schedule import (
    PollTimes,
    after_fault,
    after_miss,
    first_poll,
    is_gone,
    late_again,
    late_poll,
    next_poll,
    stretching,
)

LIVELY = settings(max_examples=200, deadline=None, database=None)
seconds = st.floats(0.0, 1e6)
poll_times = st.builds(PollTimes, st.floats(0.0, 300.0), st.floats(0.001, 300.0))
sources = st.builds(random.Random, st.integers(0, 2**32))


class Latest(random.Random):
    """A source of chance that always gives the most."""

    def random(self) -> float:
        """Return nearly 1."""
        return math.nextafter(1.0, 0.0)


@LIVELY
@given(times=poll_times, created=seconds, rng=sources)
def test_the_first_poll_is_never_early(
    times: PollTimes, created: float, rng: random.Random
) -> None:
    """A task is first polled at its time, or up to a tenth of an interval later."""
    due = first_poll(times, created=created, rng=rng)
    expected = created + times.first
    assert expected <= due <= expected + times.interval * 0.1 + 1e-9


@LIVELY
@given(times=poll_times, created=seconds, age=seconds, stretch=st.floats(1.0, 50.0), rng=sources)
def test_the_next_poll_is_never_early(
    times: PollTimes, created: float, age: float, stretch: float, rng: random.Random
) -> None:
    """The next poll comes a stretched interval later, and never before the time of the first."""
    now = created + age
    due = next_poll(times, created=created, now=now, stretch=stretch, rng=rng)
    expected = max(created + times.first, now + times.interval * stretch)
    assert expected <= due <= expected + times.interval * stretch * 0.1 + 1e-9


def test_a_task_that_was_polled_at_too_early() -> None:
    """A task attached to at once is polled again when its first poll is due."""
    due = next_poll(PollTimes(120, 10), created=0.0, now=1.0, stretch=1.0, rng=Latest())
    assert due == pytest.approx(121.0)


def test_jitter_disperses_and_replays() -> None:
    """A thousand tasks made at once are polled over a tenth of an interval; a seed replays."""
    times = PollTimes(20, 10)
    polls = [
        [first_poll(times, created=0.0, rng=rng) for _ in range(1_000)] for rng in seeded(7, 7)
    ]
    assert polls[0] == polls[1]
    slices = [sum(20 + i / 10 <= poll < 20.1 + i / 10 for poll in polls[0]) for i in range(10)]
    assert sum(slices) == 1_000
    assert min(slices) > 60


def seeded(*seeds: int) -> list[random.Random]:
    """Return a source of chance for each seed."""
    return [random.Random(seed) for seed in seeds]


@pytest.mark.parametrize(
    ("interval", "pauses"),
    [
        (3, [3, 6, 12, 24, 48, 60, 60]),
        (10, [10, 20, 40, 60, 60, 60, 60]),
        (90, [90, 90, 90, 90, 90, 90, 90]),
    ],
)
def test_after_polls_that_told_nothing(interval: float, pauses: list[float]) -> None:
    """Pauses double from the interval to a minute, and are never below the interval."""
    times = PollTimes(0, interval)
    due = [after_fault(times, faults=i, now=100.0, rng=Stuck(0)) for i in range(1, 8)]
    assert [one - 100 for one in due] == pauses
    late = [after_fault(times, faults=i, now=100.0, rng=Latest()) for i in range(1, 8)]
    assert [one - 100 for one in late] == pytest.approx([1.1 * pause for pause in pauses])


class Stuck(random.Random):
    """A source of chance that always gives zero."""

    def random(self) -> float:
        """Return 0."""
        return 0.0


@LIVELY
@given(times=poll_times, faults=st.integers(1, 10**9), now=seconds, rng=sources)
def test_after_any_number_of_faults(
    times: PollTimes, faults: int, now: float, rng: random.Random
) -> None:
    """However many polls failed, the next one comes within bounds."""
    due = after_fault(times, faults=faults, now=now, rng=rng)
    assert now + times.interval <= due <= now + max(60.0, times.interval) * 1.1 + 1e-9


@pytest.mark.parametrize(
    ("load", "submits", "factor"),
    [
        (0.0, 0.0, 1.0),
        (100.0, 0.0, 1.0),
        (100.0, 60.0, 1.0),
        (200.0, 0.0, 2.0),
        (100.0, 50.0, 2.0),
        (100.0, 75.0, 4.0),
        (100.0, 99.0, 4.0),
        (100.0, 500.0, 4.0),
    ],
)
def test_stretching(load: float, submits: float, factor: float) -> None:
    """Intervals grow as the polls outgrow what submits leave, but for the quarter kept."""
    requests = 160.0 if submits == 60.0 else 100.0
    assert stretching(load, submits, requests) == pytest.approx(factor)


@LIVELY
@given(load=st.floats(0.0, 1e5), submits=st.floats(0.0, 1e4), requests=st.floats(1 / 60, 1e4))
def test_stretched_polls_and_submits_fit_the_limit(
    load: float, submits: float, requests: float
) -> None:
    """Stretched polls fit beside the submits, and shrink for nothing else."""
    factor = stretching(load, submits, requests)
    assert factor >= 1.0
    assume(factor > 1.0)
    assert load / factor == pytest.approx(max(requests / 4, requests - submits))


@pytest.mark.parametrize(
    ("misses", "span", "gone"),
    [(5, 10.0, True), (5, 9.9, False), (4, 3_600.0, False), (100, 0.0, False), (6, 11.0, True)],
)
def test_a_task_that_is_gone(misses: int, span: float, gone: bool) -> None:
    """A task never seen is gone after five polls without it, over at least ten seconds."""
    assert is_gone(misses, span, seen=False, crowd=False) is gone
    assert is_gone(misses, 12 * span, seen=True, crowd=False) is gone


@pytest.mark.parametrize("span", [0.0, 119.9, 120.0, 1e6])
def test_a_crowd_that_is_missing(span: float) -> None:
    """Missing in a crowd, a task that was seen is kept, and another one for two minutes."""
    assert not is_gone(100, span, seen=True, crowd=True)
    assert is_gone(100, span, seen=False, crowd=True) is (span >= 120.0)


@LIVELY
@given(times=poll_times, rng=sources)
def test_a_mistyped_id_is_reported_soon(times: PollTimes, rng: random.Random) -> None:
    """Whatever its times, five polls a task never seen span ten seconds and less than 15."""
    polled, misses = [0.0], 1
    while not is_gone(misses, polled[-1], seen=False, crowd=False):
        polled.append(after_miss(times, misses=misses, seen=False, now=polled[-1], rng=rng))
        misses += 1
    assert misses == 5
    assert polled[-1] < 14.0


@pytest.mark.parametrize(
    ("seen", "pauses"),
    [(True, [3, 6, 12, 24, 48, 60, 60]), (False, [2.6, 2.6, 2.6, 2.6, 3, 6, 12])],
)
def test_polls_for_a_missing_task_grow_rare(seen: bool, pauses: list[float]) -> None:
    """Pauses grow to a minute, from the first where a task was seen, else from the fifth."""
    polls = [
        after_miss(PollTimes(20, 3), misses=misses, seen=seen, now=100.0, rng=Stuck(0))
        for misses in range(1, 8)
    ]
    assert [one - 100.0 for one in polls] == pytest.approx(pauses)


@pytest.mark.parametrize(("age", "due"), [(1.0, 103.0), (6.0, 103.0), (50.0, 125.0)])
def test_a_task_that_a_callback_is_to_tell_of(age: float, due: float) -> None:
    """It is polled after ten intervals more, and then after half of its age each time."""
    times = PollTimes(20, 3)
    assert late_poll(times, 100.0) == 150.0
    assert late_again(times, age=age, now=100.0) == due

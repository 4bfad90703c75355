"""Samples: a bounded number of them, evenly over the run, and what they tell."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apixo_async._cli.report.samples import MOST, Recorder, mean_shares, rates

from ...support.records import sample


@pytest.mark.parametrize("hours", [0.01, 1, 10, 100])
def test_samples_of_a_run_of_any_length(hours: float) -> None:
    """Some hundred samples are kept however long it lasts, its first and last among them."""
    recorder = Recorder()
    step = hours * 3600 / 20_000
    for number in range(20_000):
        recorder.add(sample(number * step))
    kept = recorder.samples
    assert len(kept) <= MOST + 1
    assert len(kept) >= min(MOST // 2, hours * 3600 / 0.5)
    assert (kept[0].seconds, kept[-1].seconds) == (0, 19_999 * step)


@given(st.lists(st.floats(0, 50), max_size=300), st.integers(0, 12))
def test_samples_are_even(distances: list[float], most: int) -> None:
    """No more are kept than asked for and the newest one; they grow, at equal distances or more."""
    recorder, now = Recorder(most, 1.0), 0.0
    for distance in distances:
        now += distance
        recorder.add(sample(now))
    kept = [one.seconds for one in recorder.samples]
    assert len(kept) <= max(2, most) + 1
    assert kept == sorted(kept)
    assert all(late - early > 1 - 1e-9 for early, late in pairwise(kept[:-1]))
    assert kept[-1:] == ([now] if distances else [])


def test_when_it_is_full_every_second_one_goes() -> None:
    """Resolution halves: samples go in pairs, and new ones come at twice the distance."""
    recorder = Recorder(4, 1.0)
    seen = []
    for second in range(9):
        recorder.add(sample(second))
        seen.append([one.seconds for one in recorder.samples])
    assert seen[3:] == [
        [0, 1, 2, 3], [0, 2, 4], [0, 2, 4, 5], [0, 2, 4, 6], [0, 2, 4, 6, 7], [0, 4, 8]
    ]  # fmt: skip


def test_no_samples() -> None:
    """A run that ended at once has no course."""
    assert Recorder().samples == ()
    assert rates([]) == []
    assert mean_shares([]) == mean_shares([sample(1)]) == (0.0, 0.0)


def test_a_steady_rate() -> None:
    """Two items a second are 120 a minute, from the second sample on."""
    found = rates([sample(float(second), 2 * second) for second in range(600)])
    assert found[0] == 0
    assert set(found[1:]) == {120.0}


def test_a_rate_follows_within_its_time() -> None:
    """A fortieth of the run after a change, here 10 s, a rate knows of nothing before it."""
    found = rates([sample(float(s), max(0, s - 200)) for s in range(401)])
    assert found[200] == 0
    assert 0 < found[205] < found[209] < 60
    assert set(found[210:]) == {60.0}


def test_a_rate_over_distant_samples() -> None:
    """Where samples are further apart than that, a rate is taken from one to the next."""
    found = rates([sample(0), sample(3600, 60), sample(7200, 60), sample(7200, 60)])
    assert found == [0, 1, 0, 0]


def test_shares_count_by_time() -> None:
    """A share that lasted three times as long counts three times; no limit is no share."""
    slots, requests = mean_shares(
        [
            sample(0),
            sample(1, in_flight=10, requests=0),
            sample(4, in_flight=2, requests=100),
            sample(4, slots_limit=0, requests_limit=0),
        ]
    )
    assert slots == pytest.approx((1 * 1.0 + 3 * 0.2) / 4)
    assert requests == pytest.approx(3 / 4)
    assert sample(0, slots_limit=0, requests_limit=0).slots_share == 0
    assert sample(0, slots_limit=0, requests_limit=0).requests_share == 0

"""There are as many places as rate and latency need, within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apixo_async._http.concurrency import FEWEST, MOST, ConcurrencyLimit, places_for

RATE = 10_000 / 60


@pytest.mark.parametrize(
    ("rate", "latency", "size"),
    [
        (RATE, 0.0, 32),
        (RATE, 0.05, 32),
        (RATE, 0.3, 100),
        (RATE, 0.5, 167),
        (RATE, 1.0, 256),
        (RATE, 1e6, 256),
        (1 / 60, 60.0, 32),
    ],
)
def test_how_many_places_there_are(rate: float, latency: float, size: int) -> None:
    """It is rate x latency with head-room, between 32 and 256."""
    assert places_for(rate, latency) == size
    assert (FEWEST, MOST) == (32, 256)


@settings(max_examples=200, deadline=None, database=None)
@given(rate=st.floats(1 / 60, 1e4), latency=st.floats(0.0, 1e4))
def test_the_gate_lets_the_rate_through(rate: float, latency: float) -> None:
    """Within its bounds, what is left to polls carries the whole rate."""
    size = places_for(rate, latency)
    assert 32 <= size <= 256
    if size < 256:
        assert (size - size // 4) >= min(rate * latency, 256)


def test_places_are_kept_for_submits() -> None:
    """Polls leave a quarter of the places to submits, and submits may take all."""
    limit = ConcurrencyLimit()
    polls = submits = 0
    while limit.has_place(for_submit=False):
        limit.enter()
        polls += 1
    while limit.has_place(for_submit=True):
        limit.enter()
        submits += 1
    assert (polls, submits, limit.used) == (24, 8, 32)
    for used in range(31, 22, -1):
        limit.leave(None, RATE)
        assert limit.has_place(for_submit=True)
        assert limit.has_place(for_submit=False) is (used < 24)


def test_latency_is_that_of_answers() -> None:
    """The first answer sets the latency, later ones move it a little, and no answer none."""
    limit = ConcurrencyLimit()
    seen = []
    for took in (0.4, None, 0.4, 1.4):
        limit.enter()
        limit.leave(took, RATE)
        seen.append(limit.latency)
    assert seen == pytest.approx([0.4, 0.4, 0.4, 0.45])
    assert limit.size == places_for(RATE, limit.latency) == 150
    assert limit.used == 0


def test_one_slow_answer_makes_no_places() -> None:
    """Many slow answers make more places, a single one does not, and quick ones make fewer."""
    limit = ConcurrencyLimit()

    def sized(took: float, times: int) -> int:
        for _ in range(times):
            limit.enter()
            limit.leave(took, RATE)
        return limit.size

    assert sized(0.05, 50) == 32
    assert sized(2.0, 1) < 64
    assert sized(2.0, 100) == 256
    assert sized(0.05, 200) == 32


def test_the_least_latency() -> None:
    """It follows the quickest at once, and those that wait in a crowd slowly."""
    mean, least = ConcurrencyLimit(4), ConcurrencyLimit(4, least=True)
    for limit in (mean, least):
        for took in (0.5, 0.1, *[0.1, 0.9] * 50):
            limit.enter()
            limit.leave(took, 100.0)
    assert mean.latency == pytest.approx(0.5, abs=0.1)
    assert 0.1 <= least.latency < 0.12
    for _ in range(300):
        least.enter()
        least.leave(0.9, 100.0)
    assert least.latency == pytest.approx(0.9, abs=0.01)
    assert mean.size > places_for(100.0, 0.12, 4)

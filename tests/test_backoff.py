"""Pauses double up to a bound, times a random factor."""

from __future__ import annotations

import random

import pytest

from apixo_async._backoff import growing_pause


class Most(random.Random):
    """A source of chance that always gives the most."""

    def uniform(self, a: float, b: float) -> float:
        """Return the upper bound."""
        del a
        return b


@pytest.mark.parametrize(
    ("number", "pause"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 3.0), (5, 3.0), (10**9, 3.0)]
)
def test_pauses_double_up_to_the_longest(number: int, pause: float) -> None:
    """The first pause comes first, each later one is twice as long, and none is above the bound."""
    found = growing_pause(number, Most(), first=0.5, longest=3.0, jitter=(0.0, 1.0))
    assert found == pause


def test_the_longest_may_be_the_first() -> None:
    """Where the first pause is the longest, all are equal."""
    pauses = {
        growing_pause(number, Most(), first=90.0, longest=90.0, jitter=(0.0, 1.0))
        for number in range(1, 9)
    }
    assert pauses == {90.0}


def test_one_draw_spreads_a_pause_evenly() -> None:
    """Pauses fill all of the span between the bounds; each takes one number from the source."""
    rng, twin = random.Random(3), random.Random(3)
    pauses = [
        growing_pause(1, rng, first=10.0, longest=10.0, jitter=(0.8, 1.2)) for _ in range(1_000)
    ]
    assert pauses == [10.0 * twin.uniform(0.8, 1.2) for _ in range(1_000)]
    quarters = [sum(8.0 + i <= pause < 9.0 + i for pause in pauses) for i in range(4)]
    assert sum(quarters) == 1_000
    assert min(quarters) > 200

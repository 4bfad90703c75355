"""Whether callbacks are to be expected, by what became of the last ones."""

from __future__ import annotations

import math

from apixo_async._core.callbacks import SILENT_AFTER, Trust


def test_silence_begins_once() -> None:
    """Eight tasks in a row without a callback are a silence, which begins with the eighth."""
    trust = Trust()
    assert [trust.missed() for _ in range(2 * SILENT_AFTER)].index(True) == SILENT_AFTER - 1
    assert sum(Trust().missed() for _ in range(20)) == 0
    assert trust.is_silent


def test_a_callback_ends_the_count() -> None:
    """One callback among seven tasks without one: nothing is silent."""
    trust = Trust()
    assert trust.came_at == -math.inf
    for _ in range(SILENT_AFTER - 1):
        trust.missed()
    assert not trust.came(5.0)
    assert not any(trust.missed() for _ in range(SILENT_AFTER - 1))
    assert not trust.is_silent
    assert trust.came_at == 5.0


def test_a_callback_ends_a_silence_once() -> None:
    """The first callback after a silence ends it; the next one ends nothing."""
    trust = Trust()
    for _ in range(SILENT_AFTER):
        trust.missed()
    assert [trust.came(1.0), trust.came(2.0)] == [True, False]
    assert not trust.is_silent

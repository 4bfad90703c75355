"""The rate of a run."""

from __future__ import annotations

import pytest

from apixo_async._cli.run.live_view import Rate


def test_nobody_can_tell_at_first() -> None:
    """There is no rate before three seconds of finished rows, and no time left either."""
    pace = Rate()
    for seconds, finished in ((0, 0), (30, 0), (31, 5), (33, 9)):
        pace.add(seconds, finished)
        assert (pace.per_minute, pace.left(10)) == (None, None)
    pace.add(35, 13)
    assert pace.per_minute == 120
    assert pace.left(10) == 5


def test_only_the_last_minute_counts() -> None:
    """A run that has become faster is as fast as it is now, and one that stands still stands."""
    pace = Rate()
    for second in range(1, 600):
        pace.add(second, second)
    for second in range(600, 680):
        pace.add(second, 600 + 10 * (second - 600))
    assert pace.per_minute == pytest.approx(600)
    for second in range(680, 800):
        pace.add(second, 1390)
    assert pace.per_minute == 0
    assert pace.left(5) is None

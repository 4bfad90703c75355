from __future__ import annotations

import math
import random

from apixo_async._core.outage import FAILURES, LONGEST_PROBE_PAUSE, Outage


def down(at: float = 100.0) -> Outage:
    """Return an outage that begins at a time."""
    outage = Outage(random.Random(1))
    begun = [outage.failed(at, sent_at=at) for _ in range(FAILURES)]
    assert begun == [False] * (FAILURES - 1) + [True]
    return outage


def test_few_failures_are_no_outage() -> None:
    """Looks that fail now and then, however many, never count as an outage."""
    outage = Outage(random.Random(1))
    for now in range(100):
        outage.failed(now, sent_at=now)
        if now % (FAILURES - 1) == 0:
            outage.told(sent_at=now)
    assert not outage.is_on
    assert outage.ready_at(100.0) == 100.0


def test_failures_in_a_row_begin_one() -> None:
    """Five looks in a row that told nothing pause the others for about a second."""
    outage = down()
    assert outage.is_on
    assert 100.8 <= outage.ready_at(100.0) <= 101.2


def test_one_probe_at_a_time() -> None:
    """While a probe is out nothing else goes, and its failure makes the next pause longer."""
    outage, now, pauses = down(), 100.0, []
    for _ in range(6):
        due = outage.ready_at(now)
        pauses.append(due - now)
        now = due
        outage.passed(now)
        assert outage.ready_at(now) == math.inf
        assert outage.failed(now, sent_at=now) is False
    assert pauses[0] < pauses[1] < pauses[2]
    assert max(pauses) <= LONGEST_PROBE_PAUSE
    assert pauses[-1] == LONGEST_PROBE_PAUSE


def test_late_failures_belong_to_the_same_outage() -> None:
    """Looks that were under way when the outage began neither lengthen nor double it."""
    outage = down()
    due = outage.ready_at(100.0)
    for _ in range(50):
        assert outage.failed(100.5, sent_at=99.0) is False
    assert outage.ready_at(100.5) == due


def test_answered_probe_ends_it() -> None:
    """The first probe that is answered ends the outage; an older look's answer does not."""
    outage = down()
    assert outage.told(sent_at=99.0) is False
    due = outage.ready_at(100.0)
    outage.passed(due)
    assert outage.told(sent_at=due) is True
    assert not outage.is_on
    assert outage.ready_at(due) == due


def test_unclear_probe_makes_room_for_the_next() -> None:
    """A probe that met a 429 tells nothing, and the next one may go."""
    outage = down()
    due = outage.ready_at(100.0)
    outage.passed(due)
    outage.unclear(sent_at=due)
    assert outage.is_on
    assert outage.ready_at(due) == due


def test_asked_look_before_the_pause_is_over_is_no_probe() -> None:
    """A look that somebody asks for during the pause leaves the probe to the schedule."""
    outage = down()
    due = outage.ready_at(100.0)
    outage.passed(100.1)
    assert outage.failed(100.2, sent_at=100.1) is False
    assert outage.ready_at(100.3) == due

"""Polls that fail in a row are an outage: one probe at a time asks whether it is over."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apixo_async._polling.outages import FAILURES, LONGEST_PROBE_PAUSE, Outage


def down(at: float = 100.0) -> Outage:
    """Return an outage that begins at a time."""
    outage = Outage(random.Random(1))
    begun = [outage.failed(at, sent_at=at) for _ in range(FAILURES)]
    assert begun == [False] * (FAILURES - 1) + [True]
    return outage


def test_few_failures_are_no_outage() -> None:
    """Polls that fail now and then, however many, never count as an outage."""
    outage = Outage(random.Random(1))
    for now in range(100):
        outage.failed(now, sent_at=now)
        if now % (FAILURES - 1) == 0:
            outage.answered(sent_at=now)
    assert not outage.is_on
    assert outage.ready_at(100.0) == 100.0


def test_failures_in_a_row_begin_one() -> None:
    """Five consecutive polls without a usable answer pause the others for about a second."""
    assert FAILURES == 5
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
    assert pauses[-1] == LONGEST_PROBE_PAUSE == 5.0


def test_late_failures_belong_to_the_same_outage() -> None:
    """Polls that were under way when the outage began neither lengthen nor double it."""
    outage = down()
    due = outage.ready_at(100.0)
    for _ in range(50):
        assert outage.failed(100.5, sent_at=99.0) is False
    assert outage.ready_at(100.5) == due


def test_answered_probe_ends_it() -> None:
    """The first probe that is answered ends the outage; an older poll's answer does not."""
    outage = down()
    assert outage.answered(sent_at=99.0) is False
    due = outage.ready_at(100.0)
    outage.passed(due)
    assert outage.answered(sent_at=due) is True
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


def test_asked_poll_before_the_pause_is_over_is_no_probe() -> None:
    """A poll that somebody asks for during the pause leaves the probe to the schedule."""
    outage = down()
    due = outage.ready_at(100.0)
    outage.passed(100.1)
    assert outage.failed(100.2, sent_at=100.1) is False
    assert outage.ready_at(100.3) == due


def test_a_probe_fails_after_a_late_answer() -> None:
    """An older poll that is answered late does not keep the probe's failure from counting."""
    outage = down()
    outage.answered(sent_at=99.0)
    due = outage.ready_at(100.0)
    outage.passed(due)
    assert outage.failed(due + 1, sent_at=due) is False
    assert due + 1 < outage.ready_at(due + 1) <= due + 1 + LONGEST_PROBE_PAUSE


STEPS = ["scheduled", "asked", "told", "failed", "unclear", "wait"]


@settings(max_examples=400, deadline=None, database=None)
@given(st.integers(0, 9), st.lists(st.tuples(st.sampled_from(STEPS), st.floats(0, 1)), max_size=80))
def test_polls_never_stop_for_good(seed: int, steps: list[tuple[str, float]]) -> None:
    """In any order of answers, scheduled polls go on once nothing is under way."""
    outage, now = Outage(random.Random(seed)), 100.0
    under_way: list[float] = []
    for step, part in steps:
        now += part
        if step == "wait":
            now += LONGEST_PROBE_PAUSE
        elif step == "asked" or (step == "scheduled" and outage.ready_at(now) <= now):
            outage.passed(now)
            under_way.append(now)
        elif step != "scheduled" and under_way:
            sent_at = under_way.pop(int(part * (len(under_way) - 1)))
            was_on = outage.is_on
            if step == "failed":
                assert outage.failed(now, sent_at=sent_at) is (outage.is_on and not was_on)
            elif step == "told":
                assert outage.answered(sent_at=sent_at) is (was_on and not outage.is_on)
            else:
                outage.unclear(sent_at=sent_at)
                assert outage.is_on is was_on
        if not under_way:
            assert outage.ready_at(now) <= now + LONGEST_PROBE_PAUSE + 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_it_begins_and_ends_as_often_as_it_likes(seed: int) -> None:
    """Each outage is told once when it begins and once when it ends, and pauses begin anew."""
    outage, now, news = Outage(random.Random(seed)), 0.0, list[str]()
    for _ in range(3):
        for _ in range(20):
            now = outage.ready_at(now)
            outage.passed(now)
            if outage.failed(now, sent_at=now):
                news.append("down")
                assert outage.ready_at(now) - now <= 1.2
        now = outage.ready_at(now)
        outage.passed(now)
        if outage.answered(sent_at=now):
            news.append("back")
    assert news == ["down", "back"] * 3

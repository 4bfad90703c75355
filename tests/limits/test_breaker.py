"""A 429 opens the breaker once, whatever else was in flight; one probe at a time closes it."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apixo_async._limits.breaker import FIRST_PAUSE, LONGEST_PAUSE, CircuitBreaker


def breaker() -> CircuitBreaker:
    """Return a closed breaker."""
    return CircuitBreaker(random.Random(7))


def opened(retry_after: float | None = 5.0) -> CircuitBreaker:
    """Return a breaker that a 429 opened at 100, to a request of 99."""
    throttle = breaker()
    throttle.refused(100.0, sent_at=99.0, retry_after=retry_after)
    return throttle


def test_a_closed_breaker() -> None:
    """Through a closed breaker every request passes, and answers change nothing."""
    throttle = breaker()
    for now in (0.0, 1.0):
        throttle.passed(throttle.probe_at)
        assert throttle.ready_at(now) == now
        assert throttle.answered(sent_at=now) is False
        throttle.lost(sent_at=now)
        assert throttle.is_closed


def test_a_429_closes_until_a_probe() -> None:
    """Nothing passes until the pause is over, then one probe, and nothing beside it."""
    throttle = opened(retry_after=5.0)
    assert (throttle.is_closed, throttle.probe_at) == (False, 105.0)
    assert [throttle.ready_at(now) for now in (100.0, 104.9, 105.0, 110.0)] == [
        *(105.0, 105.0),
        *(105.0, 110.0),
    ]
    throttle.passed(throttle.probe_at)
    assert throttle.ready_at(110.0) == throttle.ready_at(1e9) == math.inf


def test_the_answer_to_the_probe_opens() -> None:
    """An answer other than a 429 closes the breaker, and returns True once."""
    throttle = opened()
    throttle.passed(throttle.probe_at)
    assert throttle.answered(sent_at=105.0) is True
    assert (throttle.is_closed, throttle.ready_at(106.0)) == (True, 106.0)
    assert throttle.answered(sent_at=106.0) is False


def test_an_older_answer_does_not_open() -> None:
    """Good answers to requests from before the 429 say nothing of now."""
    throttle = opened()
    assert throttle.answered(sent_at=99.5) is False
    throttle.passed(throttle.probe_at)
    assert throttle.answered(sent_at=104.9) is False
    assert throttle.ready_at(106.0) == math.inf


def test_a_lost_probe_lets_another_one_pass() -> None:
    """A probe without an answer tells nothing: the next request is the probe."""
    throttle = opened()
    throttle.passed(throttle.probe_at)
    throttle.lost(sent_at=99.0)
    assert throttle.ready_at(106.0) == math.inf
    throttle.lost(sent_at=105.0)
    assert (throttle.is_closed, throttle.ready_at(106.0)) == (False, 106.0)


@pytest.mark.parametrize(
    ("retry_after", "pause"), [(0.5, 0.5), (7.0, 7.0), (60.0, 60.0), (61.0, 60.0), (86_400.0, 60.0)]
)
def test_retry_after_is_honoured_up_to_a_minute(retry_after: float, pause: float) -> None:
    """The service's word is the pause, capped."""
    assert breaker().refused(100.0, sent_at=99.0, retry_after=retry_after) == pause
    assert LONGEST_PAUSE == 60.0


@pytest.mark.parametrize("retry_after", [None, 0.0], ids=repr)
def test_without_a_word_pauses_grow(retry_after: float | None) -> None:
    """Each refused probe doubles the pause, jittered by a fifth, up to a minute."""
    throttle, now = breaker(), 100.0
    for count in range(40):
        pause = throttle.refused(now, sent_at=now - 0.1, retry_after=retry_after)
        grown = FIRST_PAUSE * 2**count
        assert 0.8 * min(grown, 60.0) <= pause <= min(1.2 * grown, 60.0)
        assert throttle.probe_at == now + pause
        now = throttle.ready_at(now) + 0.1
        throttle.passed(throttle.probe_at)


def test_growth_begins_anew() -> None:
    """After the breaker was closed, the next pause is a first one."""
    throttle, now = breaker(), 100.0
    for _ in range(5):
        throttle.refused(now, sent_at=now, retry_after=None)
        now = throttle.probe_at
        throttle.passed(throttle.probe_at)
    assert throttle.answered(sent_at=now)
    assert throttle.refused(now + 1, sent_at=now + 0.5, retry_after=None) <= 1.2


def test_jitter_replays() -> None:
    """The same seed pauses the same."""
    pauses = [
        [
            throttle.refused(now, sent_at=now, retry_after=None)
            for now in (0.0, 1_000.0, 2_000.0, 3_000.0)
        ]
        for throttle in (breaker(), breaker())
    ]
    assert pauses[0] == pauses[1]
    assert len({pause / 2**i for i, pause in enumerate(pauses[0])}) == 4


def test_many_429s_in_flight_are_one_episode() -> None:
    """A thousand 429s to requests that were on their way count as one."""
    throttle = breaker()
    throttle.refused(100.0, sent_at=99.0, retry_after=None)
    late = [
        throttle.refused(100.0 + i / 10_000, sent_at=99.5, retry_after=None) for i in range(999)
    ]
    assert set(late) == {0.0}
    assert throttle.probe_at <= 101.2
    throttle.passed(throttle.probe_at)
    assert throttle.refused(102.0, sent_at=101.3, retry_after=None) <= 2.4


def test_a_429_in_flight_may_ask_for_more() -> None:
    """A 429 of the same episode lengthens the pause by what it asks for, and never shortens it."""
    throttle = opened(retry_after=5.0)
    for asked in (2.0, 4.0):
        assert throttle.refused(101.0, sent_at=99.0, retry_after=asked) == 0.0
        assert throttle.probe_at == 105.0
    assert throttle.refused(101.0, sent_at=99.0, retry_after=10.0) == 10.0
    assert throttle.probe_at == 111.0
    assert throttle.refused(102.0, sent_at=99.0, retry_after=1e9) == 60.0


@pytest.mark.parametrize("retry_after", [None, 10.0], ids=repr)
def test_a_429_from_before_while_the_probe_is_out(retry_after: float | None) -> None:
    """A late 429 changes nothing for the probe that is out: its own answer decides."""
    throttle = opened(retry_after=1.0)
    throttle.passed(throttle.probe_at)  # At 101.
    assert throttle.refused(101.5, sent_at=99.0, retry_after=retry_after) == 0.0
    assert throttle.answered(sent_at=101.0) is True
    assert throttle.is_closed


def test_a_429_from_before_after_all_is_open() -> None:
    """A late 429 of an episode that is over does not open the breaker again."""
    throttle = opened()
    throttle.passed(throttle.probe_at)
    throttle.answered(sent_at=105.0)
    assert throttle.refused(107.0, sent_at=99.0, retry_after=30.0) == 0.0
    assert throttle.is_closed


def test_a_new_episode() -> None:
    """A 429 to a request sent after the breaker closed opens it again."""
    throttle = opened()
    throttle.passed(throttle.probe_at)
    throttle.answered(sent_at=105.0)
    assert throttle.refused(107.0, sent_at=106.0, retry_after=3.0) == 3.0
    assert throttle.ready_at(107.0) == 110.0


def test_since_when_it_is_open() -> None:
    """The episode began with its first 429, however many probes were refused since."""
    throttle = breaker()
    assert throttle.since is None
    throttle.refused(100.0, sent_at=99.0, retry_after=5.0)
    throttle.passed(105.0)
    throttle.refused(106.0, sent_at=105.0, retry_after=5.0)
    assert throttle.since == 100.0
    throttle.passed(111.0)
    throttle.answered(sent_at=111.0)
    assert throttle.since is None
    throttle.refused(120.0, sent_at=119.0, retry_after=None)
    assert throttle.since == 120.0


def test_refused_probes_are_counted() -> None:
    """The first 429 of an episode was to no probe; each later one is, until the breaker closes."""
    throttle = opened(retry_after=5.0)
    assert throttle.refused_probes == 0
    throttle.refused(101.0, sent_at=99.5, retry_after=8.0)
    assert throttle.refused_probes == 0
    for probes in (1, 2):
        now = throttle.probe_at
        throttle.passed(now)
        throttle.refused(now + 1, sent_at=now, retry_after=5.0)
        assert throttle.refused_probes == probes
    now = throttle.probe_at
    throttle.passed(now)
    throttle.answered(sent_at=now)
    assert throttle.refused_probes == 0


def test_what_passes_during_the_pause_is_no_probe() -> None:
    """A request that passes an open breaker all the same leaves the probe to come."""
    throttle = opened(retry_after=5.0)
    throttle.passed(104.9)
    assert throttle.ready_at(104.9) == 105.0
    throttle.passed(105.0)
    assert throttle.ready_at(105.0) == math.inf


@pytest.mark.parametrize("retry_after", [None, 3_600.0], ids=repr)
def test_the_longest_pause_can_be_another(retry_after: float | None) -> None:
    """No pause is longer than the breaker's own longest one, asked for or grown."""
    throttle, pause = CircuitBreaker(random.Random(7), longest=5.0), 0.0
    for now in range(0, 1_000, 100):
        pause = throttle.refused(float(now), sent_at=float(now), retry_after=retry_after)
        assert pause <= 5.0
    assert pause == 5.0


events = st.tuples(
    st.sampled_from(["send", "ok", "429", "lost", "wait"]),
    st.floats(0.0, 1.0),
    st.none() | st.sampled_from([0.0, 1.0, 30.0, 3_600.0]),
)


@settings(max_examples=400, deadline=None, database=None)
@given(st.integers(0, 9), st.lists(events, max_size=60))
def test_the_gate_never_sticks(seed: int, steps: list[tuple[str, float, float | None]]) -> None:
    """In any order of answers, one probe at most is out, and with none out the breaker closes."""
    throttle, now = CircuitBreaker(random.Random(seed)), 100.0
    in_flight: list[float] = []
    probe: float | None = None  # When the probe that is out was sent.
    for step, part, retry_after in steps:
        now += part
        if step == "wait":
            now = max(now, throttle.probe_at)
        elif step == "send":
            ready = throttle.ready_at(now)
            assert ready >= now
            if ready > now:
                continue
            if not throttle.is_closed:
                assert probe is None
                assert now >= throttle.probe_at
                probe = now
            throttle.passed(now)
            in_flight.append(now)
        elif in_flight:
            sent_at = in_flight.pop(int(part * (len(in_flight) - 1)))
            was_open = throttle.is_closed
            if step == "429":
                pause = throttle.refused(now, sent_at=sent_at, retry_after=retry_after)
                assert 0.0 <= pause <= LONGEST_PAUSE + 1e-9
            elif step == "ok":
                opened = throttle.answered(sent_at=sent_at)
                assert opened is (not was_open and sent_at == probe)
            else:
                throttle.lost(sent_at=sent_at)
                assert throttle.is_closed is was_open
            probe = None if sent_at == probe else probe
        waits = throttle.ready_at(now) - now
        assert (waits == math.inf) is (probe is not None)
        assert waits == math.inf or waits <= LONGEST_PAUSE + 1e-9

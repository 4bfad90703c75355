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
    circuit = breaker()
    circuit.refused(100.0, sent_at=99.0, retry_after=retry_after)
    return circuit


def test_a_closed_breaker() -> None:
    """Through a closed breaker every request passes, and answers change nothing."""
    circuit = breaker()
    for now in (0.0, 1.0):
        circuit.passed(circuit.probe_at)
        assert circuit.ready_at(now) == now
        assert circuit.answered(sent_at=now) is False
        circuit.lost(sent_at=now)
        assert circuit.is_closed


def test_a_429_opens_until_a_probe() -> None:
    """Nothing passes until the pause is over, then one probe, and nothing beside it."""
    circuit = opened(retry_after=5.0)
    assert (circuit.is_closed, circuit.probe_at) == (False, 105.0)
    assert [circuit.ready_at(now) for now in (100.0, 104.9, 105.0, 110.0)] == [
        *(105.0, 105.0),
        *(105.0, 110.0),
    ]
    circuit.passed(circuit.probe_at)
    assert circuit.ready_at(110.0) == circuit.ready_at(1e9) == math.inf


def test_the_answer_to_the_probe_closes() -> None:
    """An answer other than a 429 closes the breaker, and returns True once."""
    circuit = opened()
    circuit.passed(circuit.probe_at)
    assert circuit.answered(sent_at=105.0) is True
    assert (circuit.is_closed, circuit.ready_at(106.0)) == (True, 106.0)
    assert circuit.answered(sent_at=106.0) is False


def test_an_older_answer_does_not_close() -> None:
    """Good answers to requests from before the 429 say nothing of now."""
    circuit = opened()
    assert circuit.answered(sent_at=99.5) is False
    circuit.passed(circuit.probe_at)
    assert circuit.answered(sent_at=104.9) is False
    assert circuit.ready_at(106.0) == math.inf


def test_a_lost_probe_lets_another_one_pass() -> None:
    """A probe without an answer tells nothing: the next request is the probe."""
    circuit = opened()
    circuit.passed(circuit.probe_at)
    circuit.lost(sent_at=99.0)
    assert circuit.ready_at(106.0) == math.inf
    circuit.lost(sent_at=105.0)
    assert (circuit.is_closed, circuit.ready_at(106.0)) == (False, 106.0)


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
    circuit, now = breaker(), 100.0
    for count in range(40):
        pause = circuit.refused(now, sent_at=now - 0.1, retry_after=retry_after)
        grown = FIRST_PAUSE * 2**count
        assert 0.8 * min(grown, 60.0) <= pause <= min(1.2 * grown, 60.0)
        assert circuit.probe_at == now + pause
        now = circuit.ready_at(now) + 0.1
        circuit.passed(circuit.probe_at)


def test_growth_begins_anew() -> None:
    """After the breaker was closed, the next pause is a first one."""
    circuit, now = breaker(), 100.0
    for _ in range(5):
        circuit.refused(now, sent_at=now, retry_after=None)
        now = circuit.probe_at
        circuit.passed(circuit.probe_at)
    assert circuit.answered(sent_at=now)
    assert circuit.refused(now + 1, sent_at=now + 0.5, retry_after=None) <= 1.2


def test_jitter_replays() -> None:
    """The same seed pauses the same."""
    pauses = [
        [
            circuit.refused(now, sent_at=now, retry_after=None)
            for now in (0.0, 1_000.0, 2_000.0, 3_000.0)
        ]
        for circuit in (breaker(), breaker())
    ]
    assert pauses[0] == pauses[1]
    assert len({pause / 2**i for i, pause in enumerate(pauses[0])}) == 4


def test_many_429s_in_flight_are_one_episode() -> None:
    """A thousand 429s to requests that were on their way count as one."""
    circuit = breaker()
    circuit.refused(100.0, sent_at=99.0, retry_after=None)
    late = [circuit.refused(100.0 + i / 10_000, sent_at=99.5, retry_after=None) for i in range(999)]
    assert set(late) == {0.0}
    assert circuit.probe_at <= 101.2
    circuit.passed(circuit.probe_at)
    assert circuit.refused(102.0, sent_at=101.3, retry_after=None) <= 2.4


def test_a_429_in_flight_may_ask_for_more() -> None:
    """A 429 of the same episode lengthens the pause by what it asks for, and never shortens it."""
    circuit = opened(retry_after=5.0)
    for asked in (2.0, 4.0):
        assert circuit.refused(101.0, sent_at=99.0, retry_after=asked) == 0.0
        assert circuit.probe_at == 105.0
    assert circuit.refused(101.0, sent_at=99.0, retry_after=10.0) == 10.0
    assert circuit.probe_at == 111.0
    assert circuit.refused(102.0, sent_at=99.0, retry_after=1e9) == 60.0


@pytest.mark.parametrize("retry_after", [None, 10.0], ids=repr)
def test_a_429_from_before_while_the_probe_is_out(retry_after: float | None) -> None:
    """A late 429 changes nothing for the probe that is out: its own answer decides."""
    circuit = opened(retry_after=1.0)
    circuit.passed(circuit.probe_at)  # At 101.
    assert circuit.refused(101.5, sent_at=99.0, retry_after=retry_after) == 0.0
    assert circuit.answered(sent_at=101.0) is True
    assert circuit.is_closed


def test_a_429_from_before_after_all_is_open() -> None:
    """A late 429 of an episode that is over does not open the breaker again."""
    circuit = opened()
    circuit.passed(circuit.probe_at)
    circuit.answered(sent_at=105.0)
    assert circuit.refused(107.0, sent_at=99.0, retry_after=30.0) == 0.0
    assert circuit.is_closed


def test_a_new_episode() -> None:
    """A 429 to a request sent after the breaker closed opens it again."""
    circuit = opened()
    circuit.passed(circuit.probe_at)
    circuit.answered(sent_at=105.0)
    assert circuit.refused(107.0, sent_at=106.0, retry_after=3.0) == 3.0
    assert circuit.ready_at(107.0) == 110.0


def test_since_when_it_is_open() -> None:
    """The episode began with its first 429, however many probes were refused since."""
    circuit = breaker()
    assert circuit.since is None
    circuit.refused(100.0, sent_at=99.0, retry_after=5.0)
    circuit.passed(105.0)
    circuit.refused(106.0, sent_at=105.0, retry_after=5.0)
    assert circuit.since == 100.0
    circuit.passed(111.0)
    circuit.answered(sent_at=111.0)
    assert circuit.since is None
    circuit.refused(120.0, sent_at=119.0, retry_after=None)
    assert circuit.since == 120.0


def test_refused_probes_are_counted() -> None:
    """The first 429 of an episode was to no probe; each later one is, until the breaker closes."""
    circuit = opened(retry_after=5.0)
    assert circuit.refused_probes == 0
    circuit.refused(101.0, sent_at=99.5, retry_after=8.0)
    assert circuit.refused_probes == 0
    for probes in (1, 2):
        now = circuit.probe_at
        circuit.passed(now)
        circuit.refused(now + 1, sent_at=now, retry_after=5.0)
        assert circuit.refused_probes == probes
    now = circuit.probe_at
    circuit.passed(now)
    circuit.answered(sent_at=now)
    assert circuit.refused_probes == 0


def test_what_passes_during_the_pause_is_no_probe() -> None:
    """A request that passes an open breaker all the same leaves the probe to come."""
    circuit = opened(retry_after=5.0)
    circuit.passed(104.9)
    assert circuit.ready_at(104.9) == 105.0
    circuit.passed(105.0)
    assert circuit.ready_at(105.0) == math.inf


@pytest.mark.parametrize("retry_after", [None, 3_600.0], ids=repr)
def test_the_longest_pause_can_be_another(retry_after: float | None) -> None:
    """No pause is longer than the breaker's own longest one, asked for or grown."""
    circuit, pause = CircuitBreaker(random.Random(7), longest=5.0), 0.0
    for now in range(0, 1_000, 100):
        pause = circuit.refused(float(now), sent_at=float(now), retry_after=retry_after)
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
    circuit, now = CircuitBreaker(random.Random(seed)), 100.0
    in_flight: list[float] = []
    probe: float | None = None  # When the probe that is out was sent.
    for step, part, retry_after in steps:
        now += part
        if step == "wait":
            now = max(now, circuit.probe_at)
        elif step == "send":
            ready = circuit.ready_at(now)
            assert ready >= now
            if ready > now:
                continue
            if not circuit.is_closed:
                assert probe is None
                assert now >= circuit.probe_at
                probe = now
            circuit.passed(now)
            in_flight.append(now)
        elif in_flight:
            sent_at = in_flight.pop(int(part * (len(in_flight) - 1)))
            was_open = circuit.is_closed
            if step == "429":
                pause = circuit.refused(now, sent_at=sent_at, retry_after=retry_after)
                assert 0.0 <= pause <= LONGEST_PAUSE + 1e-9
            elif step == "ok":
                opened = circuit.answered(sent_at=sent_at)
                assert opened is (not was_open and sent_at == probe)
            else:
                circuit.lost(sent_at=sent_at)
                assert circuit.is_closed is was_open
            probe = None if sent_at == probe else probe
        waits = circuit.ready_at(now) - now
        assert (waits == math.inf) is (probe is not None)
        assert waits == math.inf or waits <= LONGEST_PAUSE + 1e-9

"""Repeated 429s lower an adaptive limit to what is granted; use under pressure raises it again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apixo_async._limits.adaptive import FIRST_REST, MEMORY, AdaptiveLimit


def cut(limit: int = 1_000, *, use: int = 10, now: float = 100.0) -> AdaptiveLimit:
    """Return an adaptive limit that a refused probe has cut."""
    adaptive = AdaptiveLimit(limit)
    assert not adaptive.refused(now - 1, use=use, episode=now - 1, probed=False, pause=1.0)
    assert adaptive.refused(now, use=use, episode=now - 1, probed=True, pause=2.0)
    return adaptive


def test_a_stray_429_costs_nothing() -> None:
    """One episode that one probe ends lowers nothing, however many 429s it has."""
    adaptive = AdaptiveLimit(1_000)
    for _ in range(50):
        assert not adaptive.refused(100.0, use=3, episode=100.0, probed=False, pause=1.0)
    assert not adaptive.refused(200.0, use=3, episode=200.0, probed=False, pause=1.0)
    assert adaptive.value == 1_000


def test_a_refused_probe_cuts_to_what_is_granted() -> None:
    """Where a probe is refused too, the value falls to what the service is known to grant."""
    assert cut(use=10).value == 10
    assert cut(use=960).value == 960


@pytest.mark.parametrize(("later", "value"), [(MEMORY, 10), (MEMORY + 0.1, 1_000)])
def test_a_second_episode_within_a_minute_cuts(later: float, value: int) -> None:
    """A 429 within a minute of the end of the last pause is no stray one."""
    assert MEMORY == 60
    adaptive = AdaptiveLimit(1_000)
    adaptive.refused(100.0, use=10, episode=100.0, probed=False, pause=30.0)
    adaptive.refused(130.0 + later, use=10, episode=130.0 + later, probed=False, pause=1.0)
    assert adaptive.value == value


def test_a_429_without_a_pause_is_over_at_once() -> None:
    """The minute in which a second episode counts begins with a 429 that makes no pause."""
    adaptive = AdaptiveLimit(1_000)
    adaptive.refused(100.0, use=10, episode=100.0, probed=False)
    later = 100.1 + MEMORY
    assert not adaptive.refused(later, use=10, episode=later, probed=False)


@pytest.mark.parametrize(
    ("first", "second", "wait"),
    [(10, 9, 30), (10, 8, 15), (80, 72, 30), (80, 71, 15), (80, 70, 15)],
)
def test_a_limit_that_is_found_again(first: int, second: int, wait: float) -> None:
    """A cut within an eighth of the limit found, or by one, finds it again, for twice as long."""
    adaptive = cut(use=first)
    assert adaptive.refused(110.0, use=second, episode=110.0, probed=True)
    assert adaptive.value == second
    assert not adaptive.step_up(109.9 + wait, second)
    assert adaptive.step_up(110.0 + wait, second)


def test_a_refusal_at_the_limit_found_says_nothing_new() -> None:
    """With all of the limit found in use, a refused probe neither cuts nor prolongs the rest."""
    adaptive = cut(use=10)
    assert not adaptive.refused(110.0, use=10, episode=110.0, probed=True)
    assert adaptive.step_up(100.0 + FIRST_REST, 10)


def test_one_cut_an_episode() -> None:
    """However long an episode lasts, it cuts once."""
    adaptive = cut(use=500)
    for now in range(110, 400, 10):
        assert not adaptive.refused(now, use=5, episode=99.0, probed=True, pause=10.0)
    assert adaptive.value == 500


@pytest.mark.parametrize(("limit", "use", "value"), [(1_000, 0, 10), (10_000, 3, 100), (50, 0, 1)])
def test_a_cut_has_a_bottom(limit: int, use: int, value: int) -> None:
    """One cut goes to a hundredth at the most, and never below one."""
    assert cut(limit, use=use).value == value


def test_a_cut_never_raises() -> None:
    """Where more is in use than the value allows, a refusal changes nothing."""
    adaptive = AdaptiveLimit(10)
    assert not adaptive.refused(100.0, use=50, episode=100.0, probed=True)
    assert adaptive.value == 10


def test_a_limit_found_stands_for_a_while() -> None:
    """After a cut the value stays for 15 s, then one step is tried under pressure."""
    adaptive = cut(use=10)
    assert not adaptive.step_up(100.0 + FIRST_REST - 0.1, 10)
    assert adaptive.step_up(100.0 + FIRST_REST, 10)
    assert adaptive.value == 11
    assert adaptive.step_up(500.0, 10) is False  # The trial has not shown anything yet.


def test_a_failed_try_goes_back_and_waits_twice_as_long() -> None:
    """One 429 ends a trial, and the limit found rests for twice as long each time, up to 300 s."""
    adaptive, now, waits = cut(use=10), 100.0, list[float]()
    for _ in range(7):
        tried = next(now + t for t in range(1_000) if adaptive.step_up(now + t, 10))
        waits.append(tried - now)
        now = tried + 0.5
        assert adaptive.refused(now, use=9, episode=now, probed=False, pause=1.0)
        assert adaptive.value == 10
    assert waits == [15, 30, 60, 120, 240, 300, 300]


def test_a_dear_try_is_not_soon_repeated() -> None:
    """Where a trial costs a pause of 60 s, the next one comes 20 minutes later."""
    adaptive = cut(use=10)
    assert adaptive.step_up(200.0, 10)
    adaptive.refused(200.0, use=10, episode=200.0, probed=False, pause=60.0)
    assert not adaptive.step_up(200.0 + 1_199, 10)
    assert adaptive.step_up(200.0 + 1_200, 10)


def test_a_limit_found_that_is_gone() -> None:
    """Once more than the limit found is in use, the value rises by eighths to the limit."""
    adaptive, now, values = cut(100, use=10), 100.0 + FIRST_REST, list[int]()
    while adaptive.step_up(now, adaptive.value):
        values.append(adaptive.value)
    assert values[:8] == [11, 12, 13, 14, 15, 16, 18, 20]
    assert values[-1] == 100
    # With the whole limit back, a stray 429 costs nothing again.
    assert not adaptive.refused(now + 300, use=90, episode=now + 300, probed=False)


def test_steps_take_their_time() -> None:
    """Where use does not prove a step at once, steps are as far apart as was said."""
    adaptive = AdaptiveLimit(1_000, interval=1.0)
    adaptive.refused(100.0, use=10, episode=100.0, probed=True)
    assert adaptive.step_up(115.0, 10)
    assert not adaptive.step_up(115.9, 11)
    assert adaptive.step_up(116.0, 11)


def test_other_limits() -> None:
    """Another limit begins anew; the same one set again changes nothing."""
    adaptive = cut(1_000, use=10)
    adaptive.resize(1_000)
    assert (adaptive.limit, adaptive.value) == (1_000, 10)
    adaptive.resize(500)
    assert (adaptive.limit, adaptive.value) == (500, 500)
    assert not adaptive.refused(110.0, use=1, episode=110.0, probed=False)


steps = st.lists(
    st.tuples(
        st.sampled_from(["press", "429", "probe", "limit"]), st.integers(0, 60), st.booleans()
    )
)


@settings(max_examples=300, deadline=None, database=None)
@given(st.integers(1, 50), steps, st.floats(0, 90))
def test_always_within_bounds_and_back_in_the_end(
    limit: int, taken: list[tuple[str, int, bool]], gap: float
) -> None:
    """Whatever comes, it is within 1 and the limit; pressure without 429s brings the limit back."""
    adaptive, now, episode = AdaptiveLimit(limit), 0.0, 0.0
    for step, use, anew in taken:
        now += gap
        episode = now if anew else episode
        before = adaptive.value
        if step == "limit":
            adaptive.resize(use + 1)
        elif step == "press":
            assert adaptive.step_up(now, use) is (adaptive.value > before)
        else:
            probed = step == "probe"
            lowered = adaptive.refused(now, use=use, episode=episode, probed=probed, pause=gap)
            assert lowered is (adaptive.value < before)
        assert 1 <= adaptive.value <= adaptive.limit
    for _ in range(100):
        now += 20 * 90.0
        adaptive.step_up(now, adaptive.value)
    assert adaptive.value == adaptive.limit

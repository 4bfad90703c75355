"""Submits go first, and waiting polls keep a quarter of the permits."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apixo_async._limits.priority import FairPicker, Priority, RateMeter

SUBMIT, ASKED, SCHEDULED = Priority
LETTER = {SUBMIT: "S", ASKED: "a", SCHEDULED: "s"}


def order(waiting: str, permits: int) -> str:
    """Return which classes are served when these classes wait without end."""
    turns, served = FairPicker(), ""
    for _ in range(permits):
        choice = turns.choose(submit="S" in waiting, asked="a" in waiting, scheduled="s" in waiting)
        if choice is None:
            return served + "-"
        turns.served(choice)
        served += LETTER[choice]
    return served


@pytest.mark.parametrize(
    ("waiting", "served"),
    [
        ("", "-"),
        ("S", "SSSSSSSSSSSS"),
        ("a", "aaaaaaaaaaaa"),
        ("s", "ssssssssssss"),
        ("as", "asasasasasas"),
        ("Ss", "SSSsSSSsSSSs"),
        ("Sa", "SSSaSSSaSSSa"),
        ("Sas", "SSSaSSSsSSSa"),
    ],
)
def test_which_classes_are_served(waiting: str, served: str) -> None:
    """Submits come first but for every fourth permit; the two kinds of polls take turns."""
    assert order(waiting, 12) == served


def test_the_classes_in_their_order() -> None:
    """The classes are listed in the order in which they are served."""
    assert [priority.value for priority in Priority] == ["submit", "asked", "scheduled"]


def test_a_poll_that_comes_late_is_served_at_once() -> None:
    """After many submits in a row a poll need not wait for three more."""
    turns = FairPicker()
    for _ in range(10):
        turns.served(SUBMIT)
    assert turns.choose(submit=True, asked=False, scheduled=True) is SCHEDULED


@settings(max_examples=200, deadline=None, database=None)
@given(
    st.lists(st.fixed_dictionaries(dict.fromkeys(Priority, st.booleans())), min_size=1, max_size=60)
)
def test_no_class_starves(rounds: list[dict[Priority, bool]]) -> None:
    """Of four permits in a row, waiting polls get one and waiting submits three."""
    turns, choices = FairPicker(), list[Priority | None]()
    for waiting in rounds:
        choice = turns.choose(
            submit=waiting[SUBMIT], asked=waiting[ASKED], scheduled=waiting[SCHEDULED]
        )
        assert choice is None or waiting[choice]
        assert (choice is None) is not any(waiting.values())
        if choice is not None:
            turns.served(choice)
        choices.append(choice)
    for at in range(len(rounds) - 3):
        four, chosen = rounds[at : at + 4], choices[at : at + 4]
        if all(waiting[SUBMIT] for waiting in four):
            assert chosen.count(SUBMIT) >= 3
        if all(waiting[ASKED] or waiting[SCHEDULED] for waiting in four):
            assert sum(choice is not SUBMIT for choice in chosen) >= 1


# --- the recent rate ---------------------------------------------------------------------------


def test_a_steady_rate_is_measured() -> None:
    """What happens five times a second reads as about five a second."""
    meter = RateMeter()
    for i in range(500):
        meter.count(1_000 + i / 5)
    assert meter.per_second(1_100.0) == pytest.approx(5.0, rel=0.03)


def test_the_past_is_forgotten() -> None:
    """An event counts for a third after the memory's seconds, and for nothing in the end."""
    meter = RateMeter(memory=10.0)
    assert meter.per_second(5.0) == 0.0
    meter.count(5.0)
    assert meter.per_second(5.0) == pytest.approx(0.1)
    assert meter.per_second(15.0) == pytest.approx(0.1 / math.e)
    assert meter.per_second(1e9) == 0.0


def test_a_clock_that_goes_back() -> None:
    """A clock that was set back, as a virtual one is, makes no rate out of nothing."""
    meter = RateMeter()
    meter.count(1_000.0)
    assert meter.per_second(0.0) == pytest.approx(0.1)

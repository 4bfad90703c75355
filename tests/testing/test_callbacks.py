"""Callbacks: what chance and script decide for each task, and what is counted."""

from __future__ import annotations

from typing import Any

import pytest

from apixo_async.testing import Simulator
from apixo_async.testing.callbacks import (
    Attempt,
    Callback,
    CallbackCounts,
    CallbackLog,
)

FAILED = Attempt(1.0, 2.0, "task_1", "success", 1, 1, "https://a.example/x", status=500)


def log(**options: Any) -> CallbackLog:
    """Return the callbacks of a simulator with these options."""
    parts = ("lost", "early", "duplicate", "processing")
    renamed = {name: f"{name}_callbacks" for name in parts}
    renamed |= {"delay": "callback_delay", "spread": "callback_spread"}
    given = {renamed.get(name, name): value for name, value in options.items()}
    return CallbackLog(Simulator(**given).options)


def decided(count: int, **options: Any) -> list[Callback]:
    """Return what becomes of the callbacks of ``count`` tasks."""
    callbacks = log(**options)
    return [callbacks.of_next_task() for _ in range(count)]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"copies": 0}, "copies: 0 given; allowed is 1 or more"),
        ({"delay": -0.1}, r"delay: -0\.1 given; allowed is 0 or more"),
        ({"delay": float("nan")}, "delay: nan given"),
        ({"lost": True, "early": True}, "lost and early given"),
    ],
)
def test_a_callback_that_makes_no_sense_is_refused(options: dict[str, Any], told: str) -> None:
    """A wrong number, or what contradicts itself, is an error that says so."""
    with pytest.raises(ValueError, match=told):
        Callback(**options)


def test_nothing_happens_unless_asked_for() -> None:
    """By default each callback is posted once, at the end of its task."""
    assert set(decided(100)) == {Callback()}
    assert log().delay_of(Callback()) == 0.0


def test_the_parts_are_those_asked_for() -> None:
    """Lost, early and duplicate callbacks come as often as asked, and never together."""
    found = decided(10_000, seed=1, lost=0.1, early=0.2, duplicate=0.3, processing=0.5)
    assert sum(one.lost for one in found) == pytest.approx(1_000, rel=0.1)
    assert sum(one.early for one in found) == pytest.approx(2_000, rel=0.1)
    assert sum(one.copies == 2 for one in found) == pytest.approx(3_000, rel=0.1)
    assert sum(one.processing for one in found) == pytest.approx(4_500, rel=0.1)
    assert not any(one.early and one.copies == 2 for one in found)


@pytest.mark.parametrize(
    ("options", "always"),
    [
        ({"lost": 1.0}, Callback(lost=True)),
        ({"early": 1.0}, Callback(early=True)),
        ({"duplicate": 1.0}, Callback(copies=2)),
        ({"processing": 1.0}, Callback(processing=True)),
    ],
)
def test_a_part_of_one_is_all(options: dict[str, float], always: Callback) -> None:
    """At 1, every task meets it."""
    assert set(decided(100, **options)) == {always}


def test_what_is_drawn_replays_with_the_seed() -> None:
    """The same seed decides the same, and another one something else."""
    runs = [decided(100, seed=seed, lost=0.3, early=0.3, spread=1.0) for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_turns_are_taken_in_order_and_leave_the_rest_to_chance() -> None:
    """A script decides for the next tasks; None, and its end, leave the draws as they were."""
    drawn = decided(5, lost=0.5)
    callbacks = log(lost=0.5)
    callbacks.next(Callback(copies=3), None)
    callbacks.next(Callback(early=True))
    assert callbacks.left == 3
    found = [callbacks.of_next_task() for _ in range(5)]
    assert found == [Callback(copies=3), drawn[1], Callback(early=True), *drawn[3:]]
    assert callbacks.left == 0
    callbacks.next(Callback(lost=True))
    callbacks.clear()
    assert callbacks.left == 0


def test_delays_are_given_or_drawn() -> None:
    """A delay of its own stands; an early one has none; the others spread beyond the delay."""
    callbacks = log(delay=2.0, spread=3.0)
    drawn = [callbacks.delay_of(Callback()) for _ in range(1_000)]
    assert 2.0 <= min(drawn) < 2.1
    assert 4.9 < max(drawn) <= 5.0
    assert callbacks.delay_of(Callback(delay=7.0)) == 7.0
    assert callbacks.delay_of(Callback(early=True)) == 0.0
    assert callbacks.delay_of(Callback(early=True, delay=1.0)) == 1.0


def test_counts_sum_up() -> None:
    """Tasks are counted by what becomes of them, attempts by how they ended."""
    callbacks = log(keep_log=2)
    assert callbacks.counts == CallbackCounts()
    callbacks.next(Callback(lost=True, copies=2), Callback(early=True, copies=2), Callback())
    for _ in range(3):
        callbacks.of_next_task()
    attempts = [
        FAILED,
        Attempt(3.0, 4.0, "task_1", "success", 1, 4, "https://a.example/x", error="refused"),
        Attempt(5.0, 6.0, "task_2", "failed", 1, 4, "https://a.example/y", status=200),
    ]
    for attempt in attempts:
        callbacks.add(attempt)
    assert callbacks.log == attempts[1:]
    assert [attempt.delivered for attempt in attempts] == [False, False, True]
    assert callbacks.counts == CallbackCounts(
        tasks=3, lost=1, early=1, duplicated=1, delivered=1, failed=2, given_up=1
    )

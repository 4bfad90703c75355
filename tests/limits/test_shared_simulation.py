"""Processes that share an account never exceed its limit, whatever goes wrong; little is wasted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from apixo_async._limits import leased, shared
from apixo_async._limits.leased import LeasedWindow
from apixo_async._limits.shared import Grant, Report, SharedLimits

from ..support.simulation.sharing import (
    Sharing,
    Value,
    World,
    any_world,
    nothing_ends_with_the_lease,
)

#: Processes that send as many as they can, with what is always a little wrong.
MANY = World(limit=10_000, processes=6, latency=0.28, tail=0.01, unanswered=0.005, hiccup=0.002)

FEW = replace(MANY, limit=600, processes=3)

pytestmark = pytest.mark.heavy
LONG = pytest.mark.long


@pytest.mark.parametrize("seed", range(100))
def test_the_limit_holds_whatever_goes_wrong(seed: int) -> None:
    """A hundred drawn worlds; soak runs ten thousand."""
    world = any_world(seed)
    assert Sharing(world, seed).run().fullest() <= allowed(world)


def allowed(world: World) -> int:
    """Return the limit; and 1 % more where the clock of the store is set while processes die.

    Those that knew may all be dead before one of them has said so.
    """
    return (
        math.ceil(1.01 * world.limit) if world.sets and world.kills < world.lease else world.limit
    )


@LONG
@pytest.mark.parametrize("part", range(100))
def test_the_limit_holds_in_ten_thousand_worlds(part: int) -> None:
    """The long form."""
    for seed in range(1000 + 100 * part, 1100 + 100 * part):
        world = any_world(seed)
        assert Sharing(world, seed).run().fullest() <= allowed(world), seed


GREEDY_CASES: dict[str, tuple[World, float]] = {
    "1 process": (replace(MANY, processes=1), 0.99),
    "6 processes": (MANY, 0.99),
    "40 processes": (replace(MANY, processes=40), 0.99),
    "2 % of messages lost": (replace(MANY, lost=0.02), 0.98),
    "10 % of messages lost": (replace(MANY, lost=0.1), 0.95),
    "a kill every 5 s": (replace(MANY, kills=5.0), 0.97),
    "a kill every 5 s, short leases": (replace(MANY, kills=5.0, lease=3.0), 0.97),
    "stops": (replace(MANY, stops=(2.0, 25.0)), 0.97),
    "store away for 4 s": (replace(MANY, away=(80.0, 4.0)), 0.98),
    # Nothing goes from the end of the leases until it is back.
    "store away for 30 s": (replace(MANY, away=(80.0, 30.0)), 0.65),
    "demand that moves": (replace(MANY, moves=7.0), 0.96),
    "limit 600": (replace(MANY, limit=600), 0.99),
    "limit 60": (replace(MANY, limit=60, seconds=300.0), 0.97),
    "limit 10": (replace(MANY, limit=10, seconds=600.0), 0.95),
    "limit 600, a kill every 0.5 s": (replace(MANY, limit=600, kills=0.5, lease=3.0), 0.8),
}


@pytest.mark.parametrize("name", ["6 processes", "a kill every 5 s, short leases", "limit 60"])
def test_how_much_is_used(name: str) -> None:
    """Processes that send as many as they can use nearly all of it; soak runs every case."""
    world, use = GREEDY_CASES[name]
    run = Sharing(world, 1).run()
    assert run.fullest() <= world.limit
    assert run.use(since=70.0) >= use


@LONG
@pytest.mark.parametrize("name", GREEDY_CASES)
def test_how_much_is_used_in_every_case(name: str) -> None:
    """The long form."""
    for seed in range(4):
        world, use = GREEDY_CASES[name]
        run = Sharing(world, seed).run()
        assert run.fullest() <= world.limit
        assert run.use(since=70.0) >= use


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(replace(FEW, losses=(75.0,), seconds=200.0), id="the value is lost"),
        pytest.param(replace(FEW, sets=((75.0, -300.0),), seconds=200.0), id="back by 300 s"),
        pytest.param(
            replace(MANY, sets=((75.0, 30.0),), seconds=230.0), id="on by 30 s", marks=LONG
        ),
        pytest.param(
            replace(MANY, sets=((75.0, -5.0),), seconds=230.0), id="back by 5 s", marks=LONG
        ),
    ],
)
def test_use_is_back_within_a_window(trouble: World) -> None:
    """What a lost value or a clock that was set costs is over a window later."""
    run = Sharing(trouble, 2).run()
    assert run.fullest() <= trouble.limit
    assert run.use(since=75.0 + 60.0 + shared.QUIET) >= 0.9


def test_parts_are_equal() -> None:
    """Within 10 %, among six that send as many as they can; one that joins has its own in 2 s."""
    joins = (0.0, 0.0, 0.0, 0.0, 0.0, 20.0)
    run = Sharing(replace(MANY, joins=joins, counted_from=22.0, seconds=100.0), 3).run()
    assert len(run.sent_by) == 6
    mean = sum(run.sent_by.values()) / 6
    assert all(0.9 * mean <= sent <= 1.1 * mean for sent in run.sent_by.values())


def test_small_ones_are_fully_served() -> None:
    """Three that want little get all that they want, beside three that take what they can."""
    rates = (None, None, None, 5.0, 5.0, 5.0)
    run = Sharing(replace(MANY, rates=rates, counted_from=30.0, seconds=90.0), 4).run()
    for number in sorted(run.sent_by, key=lambda each: run.sent_by[each])[:3]:
        assert run.sent_by[number] >= 0.8 * 5.0 * 60.0
    assert sum(process.waiting for process in run.processes if process.rate) < 20


# --- what would break it -----------------------------------------------------------------

Patch = Callable[[pytest.MonkeyPatch], None]
_exchange = shared.exchange


def an_expelled_one_comes_back_by_its_name(patch: pytest.MonkeyPatch) -> None:
    def exchanged(value: SharedLimits, report: Report, now: float, tasks: int = 0) -> Grant | None:
        grant = _exchange(value, report, now, tasks)
        return grant or _exchange(value, replace(report, number=1), now, tasks)

    patch.setattr(leased, "exchange", exchanged)


def a_lost_value_waits_for_a_second_only(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(shared, "QUIET", 1.0)


def a_lost_value_is_a_fresh_one(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SharedLimits, "lost", classmethod(lambda cls, now, _: cls.fresh(now)))


def a_clock_that_was_set_is_believed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LeasedWindow, "_clock_was_set", lambda *_: False)
    patch.setattr(SharedLimits, "is_doubtful", lambda *_: False)


def none_lives_that_knows(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SharedLimits, "is_doubtful", lambda *_: False)


def what_dead_ones_held_is_free(patch: pytest.MonkeyPatch) -> None:
    really = SharedLimits.forget

    def forget(value: SharedLimits, now: float) -> None:
        for member in value.members.values():
            if member.at + member.lease < now:
                member.held = 0
        really(value, now)

    patch.setattr(SharedLimits, "forget", forget)


def every_value_is_kept(patch: pytest.MonkeyPatch) -> None:
    def save(store: Value, value: SharedLimits, _: int) -> bool:
        return store.keep(value)

    patch.setattr(Value, "save", save)


def permits_are_used_before_they_are_free(patch: pytest.MonkeyPatch) -> None:
    def exchanged(value: SharedLimits, report: Report, now: float, tasks: int = 0) -> Grant | None:
        grant = _exchange(value, report, now, tasks)
        return grant and replace(grant, permits=(0.0,) * len(grant.permits))

    patch.setattr(leased, "exchange", exchanged)


def a_request_without_an_answer_arrives_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(leased, "MARGIN", 0.0)


def a_lost_answer_means_that_it_was_kept(patch: pytest.MonkeyPatch) -> None:
    def settle(window: LeasedWindow, _: SharedLimits) -> None:
        if window._unsettled is not None:
            window.kept()

    patch.setattr(LeasedWindow, "_settle", settle)


def what_was_in_a_lost_message_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    really = LeasedWindow._not_kept

    def not_kept(window: LeasedWindow) -> None:
        assert window._unsettled is not None
        window._unsettled.ended.clear()
        really(window)

    patch.setattr(LeasedWindow, "_not_kept", not_kept)


@pytest.mark.parametrize(
    ("breaks", "world", "seed"),
    [
        (an_expelled_one_comes_back_by_its_name, replace(FEW, stops=(3.0, 100.0), lease=2.0), 1),
        (nothing_ends_with_the_lease, replace(FEW, stops=(2.0, 25.0), lease=2.0), 3),
        (a_lost_value_waits_for_a_second_only, replace(FEW, losses=(20.0, 40.0, 75.0)), 0),
        (a_lost_value_is_a_fresh_one, replace(FEW, losses=(40.0,)), 0),
        (a_clock_that_was_set_is_believed, replace(FEW, sets=((40.0, 300.0),)), 0),
        (a_clock_that_was_set_is_believed, replace(FEW, sets=((40.0, 5.0),)), 0),
        (
            none_lives_that_knows,
            replace(FEW, processes=1, kills=2.0, lease=3.0, sets=((89.7, 30.0),)),
            5287,
        ),
        (what_dead_ones_held_is_free, replace(FEW, kills=2.0, lease=2.0), 0),
        (every_value_is_kept, FEW, 0),
        (permits_are_used_before_they_are_free, FEW, 0),
        (a_request_without_an_answer_arrives_at_once, replace(FEW, unanswered=0.2), 0),
        (a_lost_answer_means_that_it_was_kept, replace(FEW, lost=0.1), 0),
        (what_was_in_a_lost_message_is_forgotten, replace(FEW, lost=0.1), 0),
    ],
)
def test_what_would_break_it_is_found(
    breaks: Patch, world: World, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rule is there for a reason: without it the limit is exceeded, and this sees it."""
    world = replace(world, seconds=300.0 if world.stops[1] > 60 else world.seconds)
    breaks(monkeypatch)
    assert Sharing(world, seed).run().fullest() > world.limit

"""The value that processes share: what an exchange takes in, and what it grants."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from apixo_async._limits.shared import (
    AHEAD,
    INTERVAL,
    LONGEST_INTERVAL,
    QUIET,
    TICK,
    Grant,
    Report,
    SharedLimits,
    exchange,
    leave,
)
from apixo_async._limits.window import MARGIN, SLACK

NOW = 1_000_000.0
LIMITS = (600, 50)


def report(member: str = "a", number: int = 1, **what: object) -> Report:
    return replace(Report(member, number, 10.0, LIMITS), **what)  # type: ignore[arg-type]


def granted(shared: SharedLimits, said: Report, now: float, open_tasks: int = 0) -> Grant:
    grant = exchange(shared, replace(said, other_clock=now), now, open_tasks)
    assert grant is not None
    return grant


@pytest.fixture
def shared() -> SharedLimits:
    return replace(SharedLimits.fresh(NOW), other_clock=NOW)


def test_a_burst_at_first_and_then_evenly(shared: SharedLimits) -> None:
    """A tenth of the limit may go at once; as much as two intervals allow is granted ahead."""
    grant = granted(shared, report(wants=1000), NOW)
    assert grant.permits[:60] == (0.0,) * 60
    later = grant.permits[60:]
    assert len(later) == pytest.approx(AHEAD * INTERVAL * 10, abs=1)
    assert later == tuple(pytest.approx((place + 1) / 10) for place in range(len(later)))
    assert grant.is_short
    assert shared.occupied == len(grant.permits)


def test_what_is_wanted_and_no_more(shared: SharedLimits) -> None:
    """A process gets what it wants if there is as much."""
    grant = granted(shared, report(wants=7), NOW)
    assert grant.permits == (0.0,) * 7
    assert not grant.is_short
    assert granted(shared, report(number=2, held=7), NOW + 1).permits == ()


def test_those_that_want_share(shared: SharedLimits) -> None:
    """Of what there is, each that wants some gets an equal part when it comes."""
    granted(shared, report("a", wants=1000), NOW)
    granted(shared, report("b", wants=1000), NOW)
    first = granted(shared, report("a", 2, held=65, wants=1000), NOW + 2)
    second = granted(shared, report("b", 2, wants=1000), NOW + 2)
    assert len(first.permits) == pytest.approx(10, abs=2)
    assert len(second.permits) == pytest.approx(len(first.permits) / 2, abs=1)
    assert first.rate == second.rate == 5.0


def test_a_stamp_bears_the_age_of_its_answer(shared: SharedLimits) -> None:
    """A request counts until a window after its answer, whenever that is reported."""
    granted(shared, report(wants=1), NOW)
    granted(shared, report(number=2, free_in=[35.0]), NOW + 25)
    assert shared.occupied == 1
    shared.forget(NOW + 60.0 - TICK)
    assert shared.occupied == 1
    shared.forget(NOW + 60.0 + TICK)
    assert shared.occupied == 0


def test_a_permit_is_granted_before_it_is_free(shared: SharedLimits) -> None:
    """With the window full, the next permits bear the time at which stamps leave."""
    shared.stamp(NOW + 0.2, 2)
    shared.stamp(NOW + 50.0, 598)
    grant = granted(shared, report(wants=10), NOW)
    assert grant.permits == (pytest.approx(0.2, abs=TICK),) * 2
    assert shared.occupied == 600


def test_no_process_is_known_by_an_old_name(shared: SharedLimits) -> None:
    """One that is not known, and has reported before, gets nothing and takes another name."""
    assert exchange(shared, report(number=2, held=5, wants=5), NOW) is None
    assert shared.members == {}


def test_what_a_dead_process_held_counts_as_sent(shared: SharedLimits) -> None:
    """It may have sent all until its lease was over, and what is sent then may arrive later."""
    granted(shared, report("a", wants=20), NOW)
    granted(shared, report("b"), NOW + 10.5)
    assert [*shared.members] == ["b"]
    assert shared.occupied == 20
    until = NOW + 10 + MARGIN + 60 + SLACK
    shared.forget(until - TICK)
    assert shared.occupied == 20
    shared.forget(until + TICK)
    assert shared.occupied == 0


def test_a_late_process_that_none_has_buried_lives(shared: SharedLimits) -> None:
    """No other took what it had."""
    granted(shared, report(wants=20), NOW)
    assert granted(shared, report(number=2, held=20), NOW + 30).permits == ()
    assert shared.occupied == 20


def test_one_that_leaves(shared: SharedLimits) -> None:
    """What it gives back is free; what is in flight may still arrive."""
    granted(shared, report(wants=20), NOW)
    leave(shared, report(number=2, held=3, free_in=[0.0] * 17), NOW + 1)
    assert shared.members == {}
    shared.forget(NOW + 2)
    assert shared.occupied == 3
    leave(shared, report(number=3, held=3), NOW + 3)
    assert shared.occupied == 3


def test_the_lowest_limit_holds(shared: SharedLimits) -> None:
    """Where processes were given different limits; and the other again when that one is gone."""
    granted(shared, report("a"), NOW)
    grant = granted(shared, replace(report("b"), limits=(300, 80)), NOW)
    assert (grant.requests_per_minute, grant.concurrent_tasks) == (300, 50)
    leave(shared, report("b", 2), NOW + 1)
    assert granted(shared, report("a", 2), NOW + 2).requests_per_minute == 600


def test_a_limit_that_is_lowered(shared: SharedLimits) -> None:
    """Nothing is granted until what was sent fits, not even what becomes free."""
    shared.stamp(NOW + 0.1, 20)
    shared.stamp(NOW + 40, 60)
    said = replace(report(wants=10), limits=(60, 50))
    assert granted(shared, said, NOW).permits == ()
    assert granted(shared, replace(said, number=2), NOW + 1).permits == ()
    later = granted(shared, replace(said, number=3), NOW + 41)
    assert later.permits[:6] == (0.0,) * 6


def test_a_lost_value() -> None:
    """Nothing is granted for a while, and then evenly: a full window may have been before."""
    lost = SharedLimits.lost(NOW, 600)
    assert lost.occupied == 600
    assert granted(lost, report(wants=10), NOW + QUIET - 1).permits == ()
    grant = granted(lost, report(number=2, wants=1000), NOW + QUIET + 1)
    assert len(grant.permits) == pytest.approx((1 + AHEAD * INTERVAL) * 10, abs=3)


@pytest.mark.parametrize("seconds", [-300.0, -1.0])
def test_a_clock_that_went_back(shared: SharedLimits, seconds: float) -> None:
    """It is seen at once, and the value is as good as lost."""
    granted(shared, report("a", wants=20), NOW)
    assert exchange(shared, report("a", 2, held=20), NOW + seconds) is None
    assert shared.occupied == 600
    assert granted(shared, report("c", wants=5), NOW + seconds).permits == ()


def test_a_clock_that_went_on(shared: SharedLimits) -> None:
    """A process says so; one that joins then is taken in."""
    granted(shared, report("a", wants=20), NOW)
    assert exchange(shared, report("a", 2, clock_was_set=True), NOW + 300) is None
    assert shared.occupied == 600
    assert shared.members == {}


def test_clocks_of_two_processors_may_differ(shared: SharedLimits) -> None:
    """A time that is earlier by a millisecond is no clock that was set."""
    granted(shared, report("a", wants=20), NOW)
    assert granted(shared, report("b"), NOW - 0.001).permits == ()
    assert shared.occupied == 20


def test_a_burst_that_is_spent(shared: SharedLimits) -> None:
    """After a 429, permits come evenly."""
    grant = granted(shared, report(wants=100, spends_burst=True), NOW)
    assert grant.permits[:2] == (0.0, pytest.approx(0.1))


def test_many_processes_come_less_often(shared: SharedLimits) -> None:
    """All together make no more than 40 exchanges a second, up to 80 processes."""
    for place in range(100):
        grant = granted(shared, report(str(place)), NOW)
    assert grant.interval == LONGEST_INTERVAL
    del shared.members["0"]
    for place in range(60):
        del shared.members[str(place + 1)]
    assert granted(shared, report("x"), NOW).interval == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("tasks", "wants", "open_tasks", "parts"),
    [
        pytest.param((0, 0), (0, 0), 0, (50, 50), id="none wants any: the first that comes"),
        pytest.param((0, 0), (90, 90), 0, (25, 25), id="equal parts"),
        pytest.param((0, 0), (90, 5), 0, (45, 5), id="who wants less leaves the rest"),
        pytest.param((50, 0), (9, 90), 50, (25, 0), id="a full one keeps what it has"),
        pytest.param((30, 0), (9, 90), 30, (25, 20), id="and takes no more"),
        pytest.param((10, 10), (90, 90), 40, (15, 15), id="tasks of dead ones count"),
        pytest.param((10, 10), (90, 90), 90, (0, 0), id="more than the limit"),
        pytest.param((2, 3), (0, 0), 5, (47, 48), id="room for all"),
    ],
)
def test_parts_of_the_tasks(
    shared: SharedLimits,
    tasks: tuple[int, int],
    wants: tuple[int, int],
    open_tasks: int,
    parts: tuple[int, int],
) -> None:
    """A hint: how many tasks a process should have at most."""
    for name, has, wish in zip("ab", tasks, wants, strict=True):
        granted(shared, report(name, tasks=has, wants_tasks=wish), NOW)
    found = []
    for name, has, wish in zip("ab", tasks, wants, strict=True):
        again = report(name, 2, tasks=has, wants_tasks=wish)
        found.append(granted(shared, again, NOW, open_tasks).tasks)
    assert tuple(found) == parts


def test_one_slot_for_two(shared: SharedLimits) -> None:
    """Each may ask for it: the store gives it to the first."""
    for name in "ab":
        said = replace(report(name, wants_tasks=3), limits=(600, 1))
        granted(shared, said, NOW)
        assert granted(shared, replace(said, number=2), NOW).tasks == 1


def test_who_lives_is_known_after_a_lease(shared: SharedLimits) -> None:
    """Before that, one that has not reported yet may live all the same."""
    assert granted(shared, report("a"), NOW).living is None
    granted(shared, report("b"), NOW + 9)
    assert granted(shared, report("a", 2), NOW + 10.5).living == {"a", "b"}
    assert granted(shared, report("a", 3), NOW + 20).living == {"a"}


def test_the_value_as_json(shared: SharedLimits) -> None:
    """What is kept is read again, and is small."""
    for place in range(6):
        granted(shared, report(str(place), wants=500), NOW)
    for second in range(600):
        shared.stamp(NOW + second / 10, 17)
    body = shared.dump()
    assert SharedLimits.load(body) == shared
    assert len(body) < 4_000


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"stamps": [-1]},
        {"at": 1e300},
        {"members": {"a": {}}},
        {"stamps": "1"},
        {"at": None},
    ],
    ids=str,
)
def test_a_value_of_others_is_refused(shared: SharedLimits, change: dict[str, object]) -> None:
    """Whatever else lies there is not believed."""
    body = json.loads(shared.dump()) | change
    with pytest.raises(ValueError, match="SharedLimits"):
        SharedLimits.load(json.dumps(body).encode())

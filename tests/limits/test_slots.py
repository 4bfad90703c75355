"""A slot is a task at the service; no client takes more of them than there are."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from apixo_async._limits.slots import SlotTable

STEPS = ["take", "above", "release", "hold", "expire"]


def test_slots_run_out_and_come_back() -> None:
    """As many tasks as the limit says hold slots; a release makes room for one."""
    table = SlotTable(2)
    assert [table.try_take() for _ in range(3)] == [True, True, False]
    table.release()
    assert (table.used, table.try_take(), table.try_take()) == (1, True, False)


def test_tasks_that_exist_already_count() -> None:
    """Attached tasks hold slots above the limit, and no submit gets one until they are over."""
    table = SlotTable(2)
    for _ in range(4):
        table.take_above()
    for used in (4, 3, 2):
        assert (table.used, table.try_take()) == (used, False)
        table.release()
    assert (table.used, table.try_take()) == (1, True)


def test_held_slots_expire() -> None:
    """The slot of an uncertain submit comes back when its hold is over, and not before."""
    table = SlotTable(3)
    for until in (180.0, 120.0):
        assert table.try_take()
        table.hold(until)
    assert (table.used, table.next_expiry()) == (2, 120.0)
    table.expire(119.9)
    assert table.used == 2
    table.expire(120.0)
    assert (table.used, table.next_expiry()) == (1, 180.0)
    table.expire(1e9)
    assert (table.used, table.next_expiry()) == (0, math.inf)


def test_holds_of_a_task() -> None:
    """A task counts once: who takes it up, or knows that it is over, ends what is held for it."""
    table = SlotTable(9)
    for task in "abc":
        table.take_above()
        table.name(task)
        table.hold(100.0, confirmed=True, task=task)
    assert (table.used, table.existing) == (3, 3)
    table.take_above()
    assert table.name("a")  # Attached by another client.
    assert (table.used, table.existing, table.confirmed) == (3, 3, 1)
    table.release(confirmed=True, task="a")
    assert (table.used, table.existing) == (2, 2)
    table.take_above()
    assert not table.name("d")
    table.take_above()
    table.name("d")  # Two clients have it, and one is closed ...
    table.hold(100.0, confirmed=True, task="d")
    assert (table.used, table.next_expiry()) == (3, 100.0)
    table.hold(50.0, confirmed=True, task="d")  # ... and then the other one.
    assert (table.used, table.existing, table.next_expiry()) == (3, 3, 50.0)
    table.expire(60.0)
    assert (table.used, table.next_expiry()) == (2, 100.0)
    table.expire(100.0)
    assert (table.used, table.existing, table._held, table._named) == (0, 0, {}, {})


def test_tasks_that_exist() -> None:
    """Tasks that are known to exist, and those that may, are counted among the slots taken."""
    table = SlotTable(5)
    for _ in range(4):
        assert table.try_take()
    table.confirm()
    table.confirm()
    table.take_above()
    assert (table.used, table.confirmed, table.existing) == (5, 3, 3)
    table.hold(100.0)
    table.hold(100.0, confirmed=True)
    assert (table.used, table.confirmed, table.existing) == (5, 2, 4)
    table.release(confirmed=True)
    table.release()
    assert (table.used, table.confirmed, table.existing) == (3, 1, 3)
    table.expire(100.0)
    assert (table.used, table.confirmed, table.existing) == (1, 1, 1)


@settings(max_examples=200, deadline=None, database=None)
@given(
    limit=st.integers(1, 4),
    steps=st.lists(
        st.tuples(st.sampled_from(STEPS), st.floats(0, 60)),
        max_size=40,
    ),
)
def test_the_count_is_that_of_a_plain_model(limit: int, steps: list[tuple[str, float]]) -> None:
    """Whatever happens in which order, slots taken are running tasks and holds that last."""
    table, now = SlotTable(limit), 0.0
    running, holds = 0, list[float]()
    for step, amount in steps:
        if step == "take":
            there_was_room = running + len(holds) < limit
            assert table.try_take() is there_was_room
            running += there_was_room
        elif step == "above":
            table.take_above()
            running += 1
        elif step == "release" and running:
            table.release()
            running -= 1
        elif step == "hold" and running:
            table.hold(now + amount)
            running -= 1
            holds.append(now + amount)
        elif step == "expire":
            now += amount
            table.expire(now)
            holds = [until for until in holds if until > now]
        assert table.used == running + len(holds)
        assert table.next_expiry() == min(holds, default=math.inf)


def test_the_next_hold_ends_first_after_one_was_ended() -> None:
    """Whichever of them another client has ended by taking up its task."""
    table = SlotTable(10)
    for until, task in ((10.0, "a"), (30.0, "b"), (20.0, "c"), (40.0, "d")):
        assert table.try_take()
        table.name(task)
        table.hold(until, task=task)
    assert table.try_take()
    assert table.name("a")
    assert table.next_expiry() == 20.0

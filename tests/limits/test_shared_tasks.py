"""Processes that share an account never have more tasks than its slots, whichever dies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from apixo_async.stores._protocol import State
from apixo_async.testing.memory_store import OpenMemoryStore

from ..support.simulation.sharing import World, nothing_ends_with_the_lease
from ..support.simulation.sharing_tasks import SharingTasks, TaskWorld, any_task_world

pytestmark = pytest.mark.heavy
LONG = pytest.mark.long

#: Processes that buy as much as they can.
GREEDY = World(limit=3000, slots=20, processes=3, seconds=120.0, latency=0.3)


def lived(tasks: TaskWorld, seed: int) -> SharingTasks:
    """Run a world in which the limits must hold."""
    run = SharingTasks(tasks, seed).run()
    assert run.most_at_once() <= tasks.world.slots
    assert run.fullest() <= tasks.world.limit
    return run


@pytest.mark.parametrize("part", range(10))
def test_the_slots_hold_whatever_goes_wrong(part: int) -> None:
    """Drawn worlds, a hundred of them; soak runs twenty thousand."""
    for seed in range(10 * part, 10 * part + 10):
        lived(any_task_world(seed), seed)


@LONG
@pytest.mark.parametrize("part", range(200))
def test_the_slots_hold_in_twenty_thousand_worlds(part: int) -> None:
    """The long form."""
    for seed in range(1000 + 100 * part, 1100 + 100 * part):
        lived(any_task_world(seed), seed)


def test_the_slots_of_dead_ones_come_back() -> None:
    """Under kills, nearly as many are used as without, and every end is seen by somebody."""
    calm = lived(TaskWorld(GREEDY), 1)
    killed = lived(TaskWorld(replace(GREEDY, kills=5.0, lease=2.0)), 1)
    assert calm.used(since=20.0) >= 0.85
    assert killed.used(since=20.0) >= 0.8 * calm.used(since=20.0)
    assert killed.unseen(before=90.0) == set()


@LONG
@pytest.mark.parametrize("seed", range(20))
def test_every_end_is_seen(seed: int) -> None:
    """What was bought durably is seen to its end, whichever dies or is stopped."""
    world = replace(GREEDY, kills=2.0, stops=(3.0, 8.0), lease=2.0, lost=0.02)
    assert lived(TaskWorld(world), seed).unseen(before=80.0) == set()


# --- what would break it -----------------------------------------------------------------


def the_lease_is_checked_before_the_intent_only(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SharingTasks, "may_send", lambda *_: True)


def a_hold_is_as_long_as_a_task(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SharingTasks, "hold", 6.0)


def intents_of_dead_ones_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    really = OpenMemoryStore.take_over

    async def take_over(
        store: OpenMemoryStore, owner: str, living: object, **options: float
    ) -> object:
        taken = await really(store, owner, living, **options)  # type: ignore[arg-type]  # as given
        for key, kept in [*store._tables.entries.items()]:
            if kept.entry.state is State.UNCERTAIN and kept.entry.owner is None:
                del store._tables.entries[key]
        return taken

    patch.setattr(OpenMemoryStore, "take_over", take_over)


def what_dead_ones_bought_is_free(patch: pytest.MonkeyPatch) -> None:
    async def take_over(
        store: OpenMemoryStore, owner: str, living: object, **options: float
    ) -> object:
        assert options["most"]
        for key, kept in [*store._tables.entries.items()]:
            if kept.entry.owner not in {owner, *living}:  # type: ignore[misc]  # a set of names
                del store._tables.entries[key]
        return []

    patch.setattr(OpenMemoryStore, "take_over", take_over)


def slots_are_counted_before(patch: pytest.MonkeyPatch) -> None:
    really = OpenMemoryStore._open_tasks
    patch.setattr(OpenMemoryStore, "_open_tasks", lambda store: 0.7 * really(store))


#: So few slots that one task too many is seen.
STOPPED = TaskWorld(
    World(
        limit=3000, slots=2, processes=5, seconds=200.0, lease=2.0, latency=0.3, stops=(4.0, 60.0)
    ),
    shortest=1.0,
    longest=2.0,
    slow=1.0,
)
KILLED = TaskWorld(replace(GREEDY, kills=1.0, lease=2.0))
IN_DOUBT = TaskWorld(replace(GREEDY, kills=0.5, lease=3.0, latency=1.0), shortest=18.0)


@pytest.mark.parametrize(
    ("breaks", "tasks", "seed"),
    [
        (nothing_ends_with_the_lease, STOPPED, 9),
        (the_lease_is_checked_before_the_intent_only, STOPPED, 9),
        (a_hold_is_as_long_as_a_task, IN_DOUBT, 1),
        (intents_of_dead_ones_are_forgotten, KILLED, 1),
        (what_dead_ones_bought_is_free, KILLED, 1),
        (slots_are_counted_before, TaskWorld(GREEDY), 1),
    ],
)
def test_what_would_break_it_is_found(
    breaks: Callable[[pytest.MonkeyPatch], None],
    tasks: TaskWorld,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each rule is there for a reason: without it there are too many tasks, and this sees it."""
    lived(tasks, seed)
    breaks(monkeypatch)
    assert SharingTasks(tasks, seed).run().most_at_once() > tasks.world.slots

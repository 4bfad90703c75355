"""Permits and slots are given back once, whatever their holders say afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from apixo_async import Limiter, Limits
from apixo_async._limits.limiter import PermitOutcome, Slot
from apixo_async._limits.priority import Priority


def now() -> float:
    """Return the time of the loop."""
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("first", PermitOutcome)
async def test_a_permit_ends_once(first: PermitOutcome) -> None:
    """Only the first report of how a request ended counts."""
    limiter = Limiter(Limits(requests_per_minute=2))
    permit = await limiter.permit(Priority.SUBMIT)
    assert (permit.taken_at, permit.has_place, permit.known_tasks) == (now(), False, 0)
    throttle = limiter.report(permit, first, retry_after=0.0)
    assert (throttle is not None) is (first is PermitOutcome.THROTTLED)
    for later in PermitOutcome:
        assert limiter.report(permit, later) is None
    assert limiter.requests_used(now()) == (0 if first is PermitOutcome.UNUSED else 1)
    assert limiter._permits.in_flight == 0
    assert limiter._allowance.submits_in_flight == 0


async def test_a_permit_knows_the_tasks_of_its_moment() -> None:
    """What a 429 means is read from the tasks that existed when the request went."""
    limiter = Limiter()
    slots = [limiter.slot_above() for _ in range(3)]
    permit = await limiter.permit(Priority.SUBMIT)
    slots[0].release()
    assert permit.known_tasks == 3


ENDS: dict[str, tuple[Callable[[Slot], object], int]] = {
    "release": (Slot.release, 0),
    "hold": (lambda slot: slot.hold(100.0), 1),
}


@pytest.mark.parametrize("confirmed", [True, False])
@pytest.mark.parametrize(("end", "left"), ENDS.values(), ids=ENDS)
async def test_a_slot_ends_once(end: Callable[[Slot], object], left: int, confirmed: bool) -> None:
    """A slot that was given back or held has no owner: later calls on it change nothing."""
    limiter = Limiter()
    slot = await limiter.slot()
    if confirmed:
        slot.confirm()
        slot.confirm()
    assert limiter._allowance.slots.confirmed == int(confirmed)
    end(slot)
    slot.confirm()
    slot.release()
    slot.hold(100.0)
    assert (limiter.slots_used, limiter._allowance.slots.confirmed) == (left, 0)
    await asyncio.sleep(100.0)
    assert limiter.slots_used == 0


async def test_an_attached_task_exists() -> None:
    """The slot of an attached task is confirmed from the beginning."""
    limiter = Limiter()
    slot = limiter.slot_above()
    slot.confirm()
    assert limiter._allowance.slots.confirmed == 1
    slot.release()
    assert limiter._allowance.slots.confirmed == 0


async def test_a_slot_that_is_handed_on() -> None:
    """It counts as that of a task, and only its new owner gives it back."""
    limiter = Limiter()
    slot = await limiter.slot()
    other = slot.handed_on()
    slot.release()
    assert (limiter.slots_used, limiter._allowance.slots.existing) == (1, 1)
    other.release()
    assert (limiter.slots_used, limiter._allowance.slots.existing) == (0, 0)

from __future__ import annotations

import asyncio
import itertools
import random

import pytest

from apixo_async import (
    ConfigurationError,
    EffectiveLimitLowered,
    EffectiveLimitRaised,
    Limiter,
    Limits,
)
from apixo_async._limits.limiter import Permit, PermitOutcome
from apixo_async._limits.priority import Priority


def now() -> float:
    """Return the time of the loop."""
    return asyncio.get_running_loop().time()


async def taken(limiter: Limiter, priority: Priority = Priority.SUBMIT) -> Permit:
    """Take a permit that must be there at once."""
    async with asyncio.timeout(0.001):
        return await limiter.permit(priority)


async def test_burst_then_evenly() -> None:
    """A tenth of the limit goes at once, then permits come evenly."""
    limiter = Limiter(Limits(requests_per_minute=600))
    start = now()
    times: list[float] = []
    for _ in range(90):
        permit = await limiter.permit(Priority.SUBMIT)
        limiter.report(permit, PermitOutcome.ANSWERED)
        times.append(now() - start)
    assert times[59] == 0.0
    gaps = [b - a for a, b in itertools.pairwise(times[59:])]
    assert gaps == pytest.approx([0.1] * 30)


async def test_no_window_above_the_limit_and_none_wasted() -> None:
    """Greedy callers with jittered answers use 99 % of the limit, and never more than it."""
    limiter, rng = Limiter(Limits(requests_per_minute=600)), random.Random(5)
    arrivals: list[float] = []

    async def exchange() -> None:
        permit = await limiter.permit(Priority.SUBMIT)
        latency = rng.uniform(0.0, 0.8)
        to_server = rng.uniform(0.0, latency)
        await asyncio.sleep(to_server)
        arrivals.append(now())
        await asyncio.sleep(latency - to_server)
        limiter.report(permit, PermitOutcome.ANSWERED)

    start = now()
    await asyncio.gather(*(exchange() for _ in range(6_000)))
    arrivals.sort()
    for first, beyond in zip(arrivals, arrivals[600:], strict=False):
        assert beyond - first > 60.0
    assert len(arrivals) / ((now() - start) / 60) >= 0.99 * 600


async def test_unanswered_requests_count_longer() -> None:
    """A request that ended without an answer may arrive later: it counts for 5 s more."""
    limiter = Limiter(Limits(requests_per_minute=1))
    start = now()
    limiter.report(await taken(limiter), PermitOutcome.UNANSWERED)
    await limiter.permit(Priority.SUBMIT)
    assert now() - start == pytest.approx(65.02)


async def test_unused_permit_is_free_again() -> None:
    """A permit with which nothing was sent can be taken again at once."""
    limiter = Limiter(Limits(requests_per_minute=1))
    limiter.report(await taken(limiter), PermitOutcome.UNUSED)
    await taken(limiter)
    assert limiter.requests_used(now()) == 1


async def test_cancelled_waiters_hold_nothing() -> None:
    """Waiters cancelled before and after their turn has come leave every permit free."""
    limiter = Limiter(Limits(requests_per_minute=10))
    first = await taken(limiter)
    waiters = [asyncio.create_task(limiter.permit(Priority.SUBMIT)) for _ in range(3)]
    await asyncio.sleep(0)
    assert limiter.permits_waiting == 3
    waiters[1].cancel()
    limiter.report(
        first, PermitOutcome.UNUSED
    )  # Hands the permit to the first waiter, which has not run yet ...
    waiters[0].cancel()  # ... and gives it back, so that the third gets it.
    permit = await asyncio.wait_for(waiters[2], 0.001)
    assert waiters[0].cancelled() or waiters[0].cancelling()
    limiter.report(permit, PermitOutcome.UNUSED)
    await asyncio.gather(*waiters[:2], return_exceptions=True)
    assert limiter.permits_waiting == 0
    assert limiter.requests_used(now()) == 0


async def test_submits_before_polls_which_keep_a_quarter() -> None:
    """While all wait, three submits go for each poll, and the two kinds of polls take turns."""
    limiter = Limiter(Limits(requests_per_minute=60))
    order: list[str] = []

    async def take(priority: Priority, name: str) -> None:
        limiter.report(await limiter.permit(priority), PermitOutcome.ANSWERED)
        order.append(name)

    blocker = [await taken(limiter, Priority.SCHEDULED) for _ in range(6)]
    waiting = [
        asyncio.create_task(take(priority, f"{priority.value}{n}"))
        for priority in (Priority.SCHEDULED, Priority.ASKED, Priority.SUBMIT)
        for n in range(4)
    ]
    await asyncio.sleep(0)
    for permit in blocker:
        limiter.report(permit, PermitOutcome.ANSWERED)
    await asyncio.gather(*waiting)
    polls = [name for name in order if not name.startswith("submit")]
    assert polls == [f"{kind}{n}" for n in range(4) for kind in ("asked", "scheduled")]
    assert [name for name in order if name.startswith("submit")] == [f"submit{n}" for n in range(4)]
    assert order.index("submit3") <= 4
    assert order.index("asked0") <= 3


async def test_slots_in_order() -> None:
    """A released slot goes to the submit that waits longest; a slot is given back only once."""
    limiter = Limiter(Limits(concurrent_tasks=2))
    first, _second = await limiter.slot(), await limiter.slot()
    order: list[int] = []

    async def take(n: int) -> None:
        await limiter.slot()
        order.append(n)

    waiters = [asyncio.create_task(take(n)) for n in range(3)]
    await asyncio.sleep(0)
    assert (limiter.slots_used, limiter.slots_waiting) == (2, 3)
    first.release()
    first.release()
    first.hold(100)
    await asyncio.sleep(1)
    assert order == [0]
    assert limiter.slots_used == 2
    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)
    assert limiter.slots_waiting == 0


async def test_held_slot_comes_back_by_itself() -> None:
    """A slot held for 180 s is free for the next waiter then, and not before."""
    limiter = Limiter(Limits(concurrent_tasks=1))
    start = now()
    (await limiter.slot()).hold(180.0)
    await limiter.slot()
    assert now() - start == pytest.approx(180.0)


async def test_slot_above_the_limit() -> None:
    """A task that exists already takes a slot above the limit, and submits wait for both."""
    limiter = Limiter(Limits(concurrent_tasks=1))
    first, above = await limiter.slot(), limiter.slot_above()
    assert limiter.slots_used == 2
    waiter = asyncio.create_task(limiter.slot())
    await asyncio.sleep(0)
    above.release()
    await asyncio.sleep(1)
    assert not waiter.done()
    first.release()
    await waiter


async def test_cancelled_slot_waiter_passes_it_on() -> None:
    """A slot handed to a waiter that is cancelled in the same instant goes to the next one."""
    limiter = Limiter(Limits(concurrent_tasks=1))
    slot = await limiter.slot()
    waiters = [asyncio.create_task(limiter.slot()) for _ in range(2)]
    await asyncio.sleep(0)
    slot.release()
    waiters[0].cancel()
    await asyncio.wait_for(waiters[1], 0.001)
    assert limiter.slots_used == 1


async def test_429_to_a_submit_closes_submits_only() -> None:
    """After a 429 to a submit, polls go on, and submits wait for `Retry-After`, then probe."""
    limiter = Limiter(seed=1)
    start = now()
    closed = limiter.report(await taken(limiter), PermitOutcome.THROTTLED, retry_after=7.0)
    assert closed == ("submits", 7.0)
    limiter.report(await taken(limiter, Priority.SCHEDULED), PermitOutcome.ANSWERED)
    probe = await limiter.permit(Priority.SUBMIT)
    assert now() - start == pytest.approx(7.0)
    others = [asyncio.create_task(limiter.permit(Priority.SUBMIT)) for _ in range(5)]
    await asyncio.sleep(30)
    assert not any(other.done() for other in others)
    limiter.report(probe, PermitOutcome.ANSWERED)
    opened = now()
    await asyncio.gather(*others)
    # Paced: one more at once, the rest evenly at 10,000 a minute.
    assert now() - opened == pytest.approx(4 * 60 / 10_000)


async def test_429_to_a_poll_closes_everything() -> None:
    """After a 429 to a poll, neither submits nor polls go until one probe is answered."""
    limiter = Limiter(seed=1)
    closed = limiter.report(
        await taken(limiter, Priority.SCHEDULED), PermitOutcome.THROTTLED, retry_after=None
    )
    assert closed is not None
    assert closed.scope == "everything"
    assert 0.8 <= closed.pause <= 1.2
    start = now()
    probe = await limiter.permit(Priority.SUBMIT)
    assert now() - start == pytest.approx(closed.pause)
    poll = asyncio.create_task(limiter.permit(Priority.ASKED))
    await asyncio.sleep(10)
    assert not poll.done()
    limiter.report(
        probe, PermitOutcome.UNANSWERED
    )  # A probe that tells nothing makes room for the next probe.
    await asyncio.wait_for(poll, 0.001)


async def test_lost_probe_of_both_gates() -> None:
    """A submit that is refused while it probes for all traffic makes room for a poll's probe."""
    limiter = Limiter(seed=1)
    limiter.report(
        await taken(limiter, Priority.SCHEDULED), PermitOutcome.THROTTLED, retry_after=1.0
    )
    submit = await limiter.permit(Priority.SUBMIT)
    poll = asyncio.create_task(limiter.permit(Priority.SCHEDULED))
    await asyncio.sleep(1)
    assert not poll.done()
    limiter.report(submit, PermitOutcome.THROTTLED, retry_after=5.0)
    await asyncio.wait_for(poll, 0.001)


def test_one_limiter_on_loops_in_turn() -> None:
    """A limiter goes on with the next loop, and what the former one sent still counts."""
    limiter = Limiter(Limits(requests_per_minute=20))

    async def take(count: int) -> int:
        for _ in range(count):
            await limiter.permit(Priority.SUBMIT)
        return limiter.requests_used(now())

    assert asyncio.run(take(2)) == 2
    assert asyncio.run(take(0)) == 2
    assert asyncio.run(asyncio.wait_for(take(0), 1)) == 2


# --- other limits ----------------------------------------------------------------------------


async def test_higher_limits_serve_at_once() -> None:
    """A waiter for a slot or a permit gets it in the instant in which the limits rise."""
    limiter = Limiter(Limits(1, 10))
    start = now()
    await limiter.slot()
    limiter.report(await taken(limiter), PermitOutcome.ANSWERED)
    waiters = [asyncio.create_task(limiter.slot()) for _ in range(3)]
    polls = [asyncio.create_task(limiter.permit(Priority.ASKED)) for _ in range(3)]
    await asyncio.sleep(0.5)
    assert not any(task.done() for task in (*waiters, *polls))
    limiter.limits = Limits(3, 1_200)
    await asyncio.gather(*polls, *waiters[:2])
    assert now() - start == 0.5
    await asyncio.sleep(1_000)
    assert not waiters[2].done()
    waiters[2].cancel()


async def test_lower_limits_take_nothing_back() -> None:
    """What was sent counts against a lower limit, and what waits goes when there is room."""
    limiter = Limiter(Limits(5, 600))
    start = now()
    slots = [await limiter.slot() for _ in range(5)]
    for _ in range(20):
        limiter.report(await taken(limiter, Priority.ASKED), PermitOutcome.ANSWERED)
    limiter.limits = Limits(2, 12)
    poll = asyncio.create_task(limiter.permit(Priority.ASKED))
    slot = asyncio.create_task(limiter.slot())
    await poll
    assert now() - start == pytest.approx(60.02)
    for one in slots[:3]:
        one.release()
    await asyncio.sleep(1)
    assert not slot.done()
    slots[3].release()
    await slot
    assert limiter.slots_used == 2


async def test_the_timer_follows_the_limits() -> None:
    """A waiter by the pace of a low limit goes by the pace of the higher one."""
    limiter = Limiter(Limits(requests_per_minute=1))
    limiter.report(await taken(limiter), PermitOutcome.ANSWERED)
    poll = asyncio.create_task(limiter.permit(Priority.ASKED))
    await asyncio.sleep(10)
    limiter.limits = Limits(requests_per_minute=60)
    await asyncio.wait_for(poll, 0.1)


def test_limits_before_the_first_use() -> None:
    """Limits can be set before there is a loop, and after it is closed."""
    limiter = Limiter(Limits(1, 1))

    async def burst() -> int:
        permits = [asyncio.create_task(limiter.permit(Priority.ASKED)) for _ in range(50)]
        await asyncio.sleep(0.01)
        return sum(permit.done() for permit in permits)

    limiter.limits = Limits(1, 60)
    assert asyncio.run(burst()) == 6
    limiter.limits = Limits(1, 100)
    assert limiter.limits == Limits(1, 100)
    assert asyncio.run(burst()) <= 1  # A closed loop has left six in the minute.


@pytest.mark.parametrize("limits", [None, 10, (10, 10), {"concurrent_tasks": 1}])
def test_limits_that_are_none(limits: object) -> None:
    """What is no `Limits` is refused, with what it should be, and changes nothing."""
    limiter = Limiter(Limits(7, 7))
    with pytest.raises(ConfigurationError, match=r"limits=.*Limits\("):
        limiter.limits = limits  # type: ignore[assignment]
    assert limiter.limits == Limits(7, 7)
    assert (limiter.effective_slots_limit, limiter.effective_requests_limit) == (7, 7)


# --- what is in reserve, and effective limits ------------------------------------------------


async def test_reserve() -> None:
    """The reserve is what the burst still holds, in seconds of permits, and 0 when it is empty."""
    limiter = Limiter(Limits(requests_per_minute=600))
    assert limiter.requests_per_second == 10.0
    assert limiter.reserve(now()) == 6.0
    for _ in range(30):
        limiter.report(await taken(limiter, Priority.ASKED), PermitOutcome.ANSWERED)
    assert limiter.reserve(now()) == pytest.approx(3.0)
    limiter.pace()
    await taken(limiter, Priority.ASKED)
    assert limiter.reserve(now()) == 0.0


async def test_a_reserve_ends_with_the_limit() -> None:
    """Where the minute is full, nothing is in reserve."""
    limiter = Limiter(Limits(requests_per_minute=10))
    for _ in range(10):
        limiter.report(await limiter.permit(Priority.ASKED), PermitOutcome.ANSWERED)
    await asyncio.sleep(4)
    assert limiter.reserve(now()) == 0.0


async def test_listeners_get_each_change() -> None:
    """Listeners get an event for each change, with the configured limit beside it."""
    limiter = Limiter(Limits(200, 3_000), seed=1)
    events: list[EffectiveLimitLowered | EffectiveLimitRaised] = []
    limiter.listeners.append(events.append)
    slots = [await limiter.slot() for _ in range(4)]
    for slot in slots[:3]:
        slot.confirm()
    limiter.report(await taken(limiter), PermitOutcome.THROTTLED, retry_after=1.0)
    assert events == []
    limiter.report(await limiter.permit(Priority.SUBMIT), PermitOutcome.THROTTLED, retry_after=1.0)
    await asyncio.sleep(0)
    assert events == [EffectiveLimitLowered("slots", 3, 200)]
    assert (limiter.effective_slots_limit, limiter.effective_requests_limit) == (3, 3_000)
    limiter.report(await taken(limiter, Priority.ASKED), PermitOutcome.THROTTLED, retry_after=1.0)
    limiter.report(await limiter.permit(Priority.ASKED), PermitOutcome.THROTTLED, retry_after=1.0)
    assert events[1:] == [EffectiveLimitLowered("requests", 30, 3_000)]
    assert limiter.requests_per_second == 0.5
    waiter = asyncio.create_task(limiter.permit(Priority.SUBMIT))
    await asyncio.sleep(30)
    assert not waiter.done()
    slots[0].release()
    limiter.report(await waiter, PermitOutcome.ANSWERED)
    slots[3].confirm()
    waiter = asyncio.create_task(limiter.permit(Priority.SUBMIT))
    await waiter
    assert events[2:] == [EffectiveLimitRaised("slots", 4, 200)]
    limiter.limits = Limits(200, 3_001)
    await asyncio.sleep(0)
    assert (limiter.effective_slots_limit, limiter.effective_requests_limit) == (4, 3_001)
    assert events[3:] == []  # The caller who set the limits knows.


async def test_an_accepted_submit_makes_no_room() -> None:
    """Between the answer to a submit and the word that its task exists, no other one slips in."""
    limiter = Limiter(Limits(concurrent_tasks=1))
    slot = await limiter.slot()
    permit = await taken(limiter)
    next_one = asyncio.create_task(limiter.permit(Priority.SUBMIT))
    await asyncio.sleep(0)
    limiter.report(permit, PermitOutcome.ANSWERED)
    slot.confirm()
    await asyncio.sleep(100)
    assert not next_one.done()
    slot.release()
    await asyncio.wait_for(next_one, 0.1)


async def test_a_crowd_shares_timers() -> None:
    """At 10,000 a minute a timer serves a handful; a thousand waiters still need six seconds."""
    limiter, loop = Limiter(), asyncio.get_running_loop()
    limiter.pace()
    start, steps = now(), set[float]()

    async def poll() -> None:
        limiter.report(await limiter.permit(Priority.SCHEDULED), PermitOutcome.ANSWERED)
        steps.add(loop.time())

    await asyncio.gather(*(poll() for _ in range(1_000)))
    assert now() - start == pytest.approx(999 * 60 / 10_000, abs=0.01)
    assert len(steps) <= 130


async def test_the_first_stamp_sets_the_timer_anew() -> None:
    """With all permits in flight, an answer says when the next goes, whatever waits for a slot."""
    limiter = Limiter(Limits(1, 1))
    start = now()
    (await limiter.slot()).hold(500.0)
    permit = await taken(limiter, Priority.ASKED)
    waiters = [
        asyncio.create_task(limiter.slot()),
        asyncio.create_task(limiter.permit(Priority.ASKED)),
    ]
    await asyncio.sleep(1)
    limiter.report(permit, PermitOutcome.ANSWERED)
    await waiters[1]
    assert now() - start == pytest.approx(61.02)
    await waiters[0]
    assert now() - start == pytest.approx(500.0)


async def test_the_next_of_the_first_submits_goes_at_once() -> None:
    """Of those who wait for word of the first submits, one goes with each answer."""
    limiter = Limiter()
    (await limiter.slot()).hold(500.0)  # A timer runs, and is not what they wait for.
    first = [await taken(limiter) for _ in range(16)]
    others = [asyncio.create_task(limiter.permit(Priority.SUBMIT)) for _ in range(3)]
    await asyncio.sleep(1)
    assert not any(other.done() for other in others)
    for n in range(2):
        limiter.report(first[n], PermitOutcome.ANSWERED)
        await asyncio.wait_for(others[n], 0.1)
        assert not others[n + 1].done()
    others[2].cancel()


async def test_one_who_polls_again_and_again_keeps_a_quarter() -> None:
    """Polls asked for one after the other keep their quarter against a crowd of submits."""
    limiter = Limiter(Limits(requests_per_minute=6_000))
    loop = asyncio.get_running_loop()
    served: list[Priority] = []

    async def submit() -> None:
        limiter.report(await limiter.permit(Priority.SUBMIT), PermitOutcome.ANSWERED)
        served.append(Priority.SUBMIT)

    async def poll_on() -> None:
        while True:
            limiter.report(await limiter.permit(Priority.SCHEDULED), PermitOutcome.ANSWERED)
            served.append(Priority.SCHEDULED)

    submits = [loop.create_task(submit()) for _ in range(2_000)]
    polling = loop.create_task(poll_on())
    await asyncio.sleep(1.0)
    served.clear()  # The burst went to those who stood there first.
    await asyncio.sleep(10.0)
    assert 0.24 <= served.count(Priority.SCHEDULED) / len(served) <= 0.27
    for task in (polling, *submits):
        task.cancel()
    await asyncio.gather(polling, *submits, return_exceptions=True)


async def test_a_free_permit_needs_no_wait() -> None:
    """A permit that is there is taken at once, and counts as any other."""
    limiter = Limiter(Limits(requests_per_minute=20))
    permits = [limiter.try_permit(Priority.SCHEDULED) for _ in range(2)]
    assert all(permits)
    assert limiter.requests_used(now()) == 2
    assert limiter.try_permit(Priority.SCHEDULED) is None
    await asyncio.sleep(3.0)
    assert limiter.try_permit(Priority.ASKED) is not None


async def test_a_free_permit_goes_to_who_waits() -> None:
    """While any request waits, none takes a permit past it."""
    limiter = Limiter(Limits(requests_per_minute=20))
    held = [limiter.try_permit(Priority.SUBMIT) for _ in range(2)]
    assert all(held)
    waiter = asyncio.create_task(limiter.permit(Priority.SUBMIT))
    await asyncio.sleep(0)
    limiter.limits = Limits(requests_per_minute=10_000)
    assert limiter.try_permit(Priority.SCHEDULED) is None
    assert (await waiter).priority is Priority.SUBMIT
    await asyncio.sleep(1.0)
    assert limiter.try_permit(Priority.SCHEDULED) is not None


async def test_no_limit_rises_for_who_has_left() -> None:
    """After a waiter was cancelled none waits, and answers to others raise no limit."""
    limiter = Limiter(Limits(requests_per_minute=3_000), seed=1)
    for _ in range(2):
        permit = await limiter.permit(Priority.ASKED)
        limiter.report(permit, PermitOutcome.THROTTLED, retry_after=1.0)
    assert limiter.effective_requests_limit == 30
    limiter.report(await limiter.permit(Priority.ASKED), PermitOutcome.ANSWERED)
    await asyncio.sleep(100.0)
    while (permit := limiter.try_permit(Priority.ASKED)) is not None:
        limiter.report(permit, PermitOutcome.ANSWERED)
    before = limiter.effective_requests_limit
    waiter = asyncio.create_task(limiter.permit(Priority.ASKED))
    await asyncio.sleep(0.1)
    waiter.cancel()
    await asyncio.wait([waiter])
    await asyncio.sleep(100.0)
    for _ in range(2):
        permit = limiter.try_permit(Priority.ASKED)
        assert permit is not None
        limiter.report(permit, PermitOutcome.ANSWERED)
    assert limiter.effective_requests_limit == before == 30

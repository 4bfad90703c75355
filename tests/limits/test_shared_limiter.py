"""Limiters that share an account through a store, in virtual time: none of it is a simulation."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from apixo_async import ApixoError, Limits
from apixo_async._limits.limiter import Permit, PermitOutcome, Slot
from apixo_async._limits.priority import Priority
from apixo_async._limits.shared import SharedLimits
from apixo_async._limits.shared_limiter import PATIENCE, SharedLimiter
from apixo_async.errors import StoreError
from apixo_async.stores._protocol import SharedValue
from apixo_async.testing.memory_store import MemoryStore, OpenMemoryStore

from ..support.simulation.sharing import most_within

LIMITS = Limits(concurrent_tasks=20, requests_per_minute=600)


def now() -> float:
    return asyncio.get_running_loop().time()


class Store(OpenMemoryStore):
    """A store of one account in memory."""

    def __init__(self) -> None:
        super().__init__(MemoryStore()._tables, "account")


def known(store: Store) -> SharedLimits:
    """Return what the processes know together."""
    return SharedLimits.load(store._tables.limits["account"][0])


class Troubled(Store):
    """A store that fails while a test wants it to, or is silent."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.trouble: Exception | None = None
        self.is_silent = False

    async def load(self) -> SharedValue:
        self.calls += 1
        if self.is_silent:
            await asyncio.sleep(1e9)
        if self.trouble is not None:
            raise self.trouble
        await asyncio.sleep(0.002)
        return await super().load()

    async def save(self, body: bytes, version: int) -> bool:
        if self.trouble is not None:
            raise self.trouble
        await asyncio.sleep(0.002)
        return await super().save(body, version)


class Service:
    """Note when requests arrive, and whose they are."""

    def __init__(self, limiters: list[SharedLimiter]) -> None:
        self.arrivals: list[float] = []
        self.of = Counter[int]()
        self._rng = random.Random(5)
        self._limiters = limiters

    async def greedy(self, limiter: SharedLimiter, seconds: float) -> None:
        """Send as many as the limiter lets go."""
        until = now() + seconds
        async with asyncio.TaskGroup() as group:
            while now() < until:
                try:
                    async with asyncio.timeout_at(until):
                        permit = await limiter.permit(Priority.ASKED)
                except TimeoutError:
                    break
                group.create_task(self._answer(limiter, permit))

    async def _answer(self, limiter: SharedLimiter, permit: Permit) -> None:
        latency = self._rng.uniform(0.1, 0.5)
        to_server = self._rng.uniform(0.0, latency)
        await asyncio.sleep(to_server)
        self.arrivals.append(now())
        self.of[self._limiters.index(limiter)] += 1
        await asyncio.sleep(latency - to_server)
        limiter.report(permit, PermitOutcome.ANSWERED)

    def fullest(self) -> int:
        """Return the most arrivals in any 60 s."""
        return most_within(60.0, self.arrivals)


@asynccontextmanager
async def sharing(
    count: int, store: Store | None = None, limits: Limits = LIMITS
) -> AsyncIterator[list[SharedLimiter]]:
    shared = store or Store()
    limiters = [SharedLimiter(shared, limits, seed=seed) for seed in range(count)]
    try:
        yield limiters
    finally:
        for limiter in limiters:
            await limiter.aclose()


async def until(state: Callable[[], bool], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not state():  # noqa: ASYNC110  # nothing tells when a process is missed
            await asyncio.sleep(0.05)


async def test_together_they_use_the_limit_and_no_more() -> None:
    """Three that send as many as they can: all of it, none above it, in equal parts."""
    async with sharing(3, Troubled()) as limiters:
        service = Service(limiters)
        start = now()
        await asyncio.gather(*(service.greedy(limiter, 200.0) for limiter in limiters))
    assert service.fullest() <= 600
    assert sum(at > start + 70 for at in service.arrivals) >= 0.98 * 130 * 10
    assert min(service.of.values()) >= 0.85 * max(service.of.values())


async def test_a_request_waits_for_no_exchange_of_a_busy_process() -> None:
    """Permits are there before they are asked for."""
    store = Troubled()
    async with sharing(1, store) as [limiter]:
        waited = []
        for _ in range(200):
            before = now()
            permit = await limiter.permit(Priority.ASKED)
            waited.append(now() - before)
            limiter.report(permit, PermitOutcome.ANSWERED)
            await asyncio.sleep(0.2)
        assert max(waited[5:]) < 0.001
        assert store.calls <= 4.5 * 40


async def test_an_idle_process_asks_seldom() -> None:
    """An exchange each quarter of its lease, and none before its first request."""
    store = Troubled()
    async with sharing(1, store) as [limiter]:
        await asyncio.sleep(100)
        assert store.calls == 0
        permit = await limiter.permit(Priority.ASKED)
        limiter.report(permit, PermitOutcome.ANSWERED)
        await asyncio.sleep(20)
        before = store.calls
        await asyncio.sleep(100)
        assert store.calls - before <= 41


async def test_one_that_leaves_gives_back_what_it_has() -> None:
    """The others go on at once."""
    store = Store()
    async with sharing(2, store, Limits(requests_per_minute=60)) as [first, second]:
        held = [await first.permit(Priority.ASKED) for _ in range(6)]
        for permit in held[:3]:
            first.report(permit, PermitOutcome.UNUSED)
        await first.aclose()
        left = known(store)
        assert left.members == {}
        left.forget(now() + 0.2)
        assert left.occupied == 3
        await second.permit(Priority.ASKED)
        await first.aclose()  # Once is enough.
        for permit in held[3:]:
            first.report(permit, PermitOutcome.ANSWERED)
        await asyncio.sleep(5)
        assert [*known(store).members] == [second._leased.member]


async def test_a_dead_one_is_missed_after_its_lease() -> None:
    """What it held counts as sent; the other has all that is left."""
    store = Store()
    async with sharing(2, store) as [first, second]:
        for _ in range(30):
            await first.permit(Priority.ASKED)
        await second.permit(Priority.ASKED)
        assert first._runner is not None
        first._runner.cancel()
        await until(lambda: len(known(store).members) == 1)
        assert known(store).occupied >= 31


async def test_without_its_store_it_sends_until_its_lease_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Then requests wait until it is back; each is said once."""
    store = Troubled()
    caplog.set_level(logging.WARNING)
    async with sharing(1, store) as [limiter]:
        start = now()
        await limiter.permit(Priority.ASKED)
        store.trouble = StoreError("the database is away: start it")
        limiter.fence and limiter.fence()  # type: ignore[func-returns-value]  # it may raise
        await asyncio.sleep(10.5)
        waiting = asyncio.create_task(limiter.permit(Priority.ASKED))
        await asyncio.sleep(30)
        assert not waiting.done()
        assert limiter.fence is not None
        with pytest.raises(ApixoError, match="nothing was sent"):
            limiter.fence()
        store.trouble = None
        await asyncio.wait_for(waiting, 3.0)
        assert now() > start + 40
    said = [record.message for record in caplog.records]
    assert len(said) == 2
    assert "the database is away: start it" in said[0]
    assert "is back" in said[1]


async def test_what_a_foreign_store_raises_is_not_quoted(caplog: pytest.LogCaptureFixture) -> None:
    """Its text may hold a password; and it ends nothing."""
    store = Troubled()
    store.trouble = RuntimeError("postgresql://user:canary@host")
    async with sharing(1, store) as [limiter]:
        waiting = asyncio.create_task(limiter.permit(Priority.ASKED))
        await asyncio.sleep(5)
        store.trouble = None
        await asyncio.wait_for(waiting, 3.0)
    assert "RuntimeError" in caplog.text
    assert "canary" not in caplog.text


async def test_a_silent_store_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    """Each exchange has a bound."""
    store = Troubled()
    store.is_silent = True
    async with sharing(1, store) as [limiter]:
        waiting = asyncio.create_task(limiter.permit(Priority.ASKED))
        await asyncio.sleep(PATIENCE + 0.5)
        store.is_silent = False
        await asyncio.wait_for(waiting, 3.0)
    assert "no answer in 2 s" in caplog.text


async def test_a_value_that_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    """It is as good as lost: requests wait until what may have been sent has left the window."""
    store = Store()
    await store.save(b'{"version": 2}', 0)
    async with sharing(1, store) as [limiter]:
        start = now()
        await limiter.permit(Priority.ASKED)
        assert 10 < now() - start < 13
    assert "cannot be read" in caplog.text


async def test_slots_are_shared() -> None:
    """A part of the limit for each that wants some; all of it for one that is alone."""
    async with sharing(2) as [first, second]:
        slots: list[Slot] = []

        async def take(limiter: SharedLimiter) -> None:
            slot = await limiter.slot()
            slot.confirm()
            slots.append(slot)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(take(first)) for _ in range(30)]
            await until(lambda: first.slots_used == 20)
            await asyncio.sleep(1)  # Until the first one has reported how many it has.
            tasks += [group.create_task(take(second)) for _ in range(30)]
            await asyncio.sleep(1)
            assert second.slots_used == 0
            for _ in range(12):
                slots.pop().release()
            await until(lambda: second.slots_used == 10)
            assert first.slots_used == 10
            for task in tasks:
                task.cancel()
        for slot in slots:
            slot.release()


async def test_limits_may_be_changed() -> None:
    """The lowest of all holds, from the next exchange on."""
    store = Store()
    async with sharing(2, store) as [first, second]:
        await first.permit(Priority.ASKED)
        await second.permit(Priority.ASKED)
        second.limits = Limits(concurrent_tasks=5, requests_per_minute=60)
        await until(lambda: known(store).requests_per_minute == 60)
        await second.aclose()
        await until(lambda: known(store).requests_per_minute == 600)


def test_another_event_loop() -> None:
    """A limiter may be used again once its loop is closed."""
    store = Store()
    limiter = SharedLimiter(store, LIMITS)

    async def use() -> None:
        permit = await limiter.permit(Priority.ASKED)
        limiter.report(permit, PermitOutcome.ANSWERED)

    asyncio.run(use())
    asyncio.run(use())
    assert limiter.exchanges >= 2
    assert known(store).occupied >= 2

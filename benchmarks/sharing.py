"""What does a store cost: throughput, the wait of a submit, permits, and how often is it asked?

Each is measured in a process of its own, with a file of SQLite in the directory of the results, and
with PostgreSQL where ``APIXO_POSTGRES`` has the URL of a database, which should be empty. The
service only takes time, as for `journal.py`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from apixo_async import AsyncClient, Limits, OtherModel, Polling
from apixo_async._limits.limiter import PermitOutcome
from apixo_async._limits.priority import Priority
from apixo_async._limits.shared_limiter import SharedLimiter
from apixo_async.stores import Backend, State, Store
from apixo_async.stores._account import AccountStore, backend_of
from apixo_async.testing import MemoryStore
from apixo_async.testing.store_steps import purchase
from benchmarks import Options, Row
from benchmarks.counting_service import KEY
from benchmarks.journal import DOCUMENTED, EnoughError, prompts
from benchmarks.measuring import in_child, interleaved, median, metered
from benchmarks.virtual_service import VirtualService, lognormal, run_virtually

T = TypeVar("T")

QUESTION: Final = "What does a store cost?"
LEAST: Final = 0.95
MOST_ADDED: Final = 0.010
LEAST_PERMITS: Final = 5_000
MOST_CALLS: Final = 15
MOST_IDLE_CALLS: Final = 1
DEADLINE: Final = 120.0
SUBMITS: Final = 300
IDLE: Final = 20.0
CHANGES: Final = 200
MOST_LATE: Final = 0.1
ALL_SLOTS: Final = 60

#: What is written for each task; all other calls are those of the limits and of takeovers.
OF_A_TASK: Final = ("intend", "bought", "over", "refused", "find")


class Counting:
    """A backend that counts what its store is asked for."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.keep = backend.keep
        self.calls = Counter[str]()

    async def open(self, account: str) -> Store:
        """Open the store, and count from then on."""
        return cast("Store", _Counted(await self._backend.open(account), self.calls))


class _Counted:
    def __init__(self, store: Store, calls: Counter[str]) -> None:
        self._store = store
        self._calls = calls

    def __getattr__(self, name: str) -> Callable[..., Any]:
        self._calls[name] += 1
        return getattr(self._store, name)  # type: ignore[no-any-return]  # a method


def _client(store: object, latency: float, limits: Limits) -> AsyncClient:
    logging.getLogger("apixo_async").setLevel(logging.CRITICAL)  # Much is left in flight.
    return AsyncClient(
        KEY,
        transport=VirtualService(lognormal(DOCUMENTED.duration, 0.0), 0, latency),
        limits=limits,
        polling=Polling.fixed(DOCUMENTED.polled_at, DOCUMENTED.polled_at),
        store=store,  # type: ignore[arg-type]  # words or a backend
        # Of its own, so that it takes over nothing that an earlier one has left.
        account=None if store is None else f"account-{os.getpid()}",
    )


def mapped(store: str | None) -> tuple[float, float, float]:
    """Map inputs without an end; return tasks a minute, CPU a task, and other calls a second."""
    return asyncio.run(_mapped(store))


async def _mapped(store: str | None) -> tuple[float, float, float]:
    counting = None if store is None else Counting(backend_of(store))
    client = _client(counting, DOCUMENTED.latency, DOCUMENTED.limits)
    started = taken = 0.0
    calls = 0
    async with metered() as meter, client:
        with suppress(EnoughError):
            async with client.map(prompts(count())) as outcomes:
                async for outcome in outcomes:
                    assert outcome.ok
                    taken += 1
                    if taken == DOCUMENTED.skipped:
                        started, calls = time.monotonic(), _others(counting)
                    elif taken == DOCUMENTED.skipped + DOCUMENTED.counted:
                        raise EnoughError
        took = time.monotonic() - started
        others = (_others(counting) - calls) / took
    return 60 * DOCUMENTED.counted / took, meter.cpu / taken, others


def _others(counting: Counting | None) -> int:
    calls = Counter[str]() if counting is None else counting.calls
    return calls.total() - sum(calls[name] for name in OF_A_TASK)


def submitted(store: str | None) -> float:
    """Submit one after the other; return the median wait in seconds."""
    return asyncio.run(_submitted(store))


async def _submitted(store: str | None) -> float:
    waits: list[float] = []
    async with _client(store, 0.0, Limits(10_000, 1_000_000)) as client:
        for number, one in zip(range(SUBMITS), prompts(count()), strict=False):
            began = time.monotonic()
            await client.submit(one, key=None if store is None else f"{os.getpid()}-{number}")
            waits.append(time.monotonic() - began)
    return median(waits)


def idle(store: str) -> float:
    """Do nothing for a while; return calls a second."""
    return asyncio.run(_idle(store))


async def _idle(store: str) -> float:
    counting = Counting(backend_of(store))
    async with _client(counting, 0.0, Limits()) as client:
        await client.find("nothing")
        await asyncio.sleep(5)
        before = counting.calls.total()
        await asyncio.sleep(IDLE)
        return (counting.calls.total() - before) / IDLE


def permitted(store: str) -> float:
    """Take permits as fast as they come; return how many a second."""
    return asyncio.run(_permitted(store))


async def _permitted(store: str) -> float:
    account = AccountStore(backend_of(store), f"greedy-{os.getpid()}")
    limiter = SharedLimiter(account, Limits(1_000, 60_000_000))
    taken = 0

    async def take() -> None:
        nonlocal taken
        while True:
            limiter.report(await limiter.permit(Priority.SCHEDULED), PermitOutcome.ANSWERED)
            taken += 1

    takers = [asyncio.create_task(take()) for _ in range(2_000)]
    await asyncio.sleep(2)
    before, began = taken, time.monotonic()
    await asyncio.sleep(5)
    rate = (taken - before) / (time.monotonic() - began)
    for taker in takers:
        taker.cancel()
    await asyncio.wait(takers)
    await limiter.aclose()
    await account.aclose()
    return rate


def one_by_one(store: str) -> float:
    """Change the value of the limits as for one permit each; return how many a second."""
    return asyncio.run(_one_by_one(store))


async def _one_by_one(store: str) -> float:
    opened, changed = await backend_of(store).open(f"single-{os.getpid()}"), 0
    began = time.monotonic()
    while time.monotonic() < began + 3:
        value = await opened.load()
        changed += await opened.save(value.body or b"{}", value.version)
    took = time.monotonic() - began
    await opened.aclose()
    return changed / took


def uneven(shared: bool) -> int:  # it is called in a child
    """Have one process buy without an end beside two small ones; return its tasks in 10 minutes."""
    return run_virtually(partial(_uneven, shared=shared))


async def _uneven(*, shared: bool) -> int:
    store, part = MemoryStore(), 1 if shared else 3
    loop, service = asyncio.get_running_loop(), VirtualService(lognormal(20.0, 0.0), 0)
    limits = Limits(ALL_SLOTS // part, 6_000 // part)
    until, counts = loop.time() + 600, [0, 0, 0]

    async def buy(place: int, pause: float) -> None:
        async with AsyncClient(
            KEY,
            transport=service,
            limits=limits,
            polling=Polling.fixed(20.5, 1.0),
            store=store if shared else None,
            seed=place,
        ) as client:

            async def one() -> None:
                await client.generate(OtherModel("m", prompt="p"))
                counts[place] += 1

            async with asyncio.TaskGroup() as group:
                if pause:
                    while loop.time() < until:
                        group.create_task(one())
                        await asyncio.sleep(pause)
                else:
                    for _ in range(ALL_SLOTS):
                        group.create_task(_repeated(one, until))

    await asyncio.gather(buy(0, 0.0), buy(1, 10.0), buy(2, 10.0))
    return counts[0]


async def _repeated(one: Callable[[], Awaitable[None]], until: float) -> None:
    while asyncio.get_running_loop().time() < until:
        await one()


def heard(store: str) -> float:
    """Change entries and listen for that; return the 99th percentile of the time between, in s."""
    return asyncio.run(_heard(store))


async def _heard(store: str) -> float:
    backend, account = backend_of(store), f"news-{os.getpid()}"
    one, two = await backend.open(account), await backend.open(account)
    heard_of, waits = asyncio.Event(), list[float]()
    two.listen(lambda _: heard_of.set())
    await asyncio.sleep(2)
    for number in range(CHANGES):
        attempt, bought = secrets.token_hex(16), purchase(f"{account}-{number}")
        await one.intend(bought, attempt, "one", slots=CHANGES + 1, hold=60)
        await one.bought(bought, attempt, "one", attempt, hold=60)
        await asyncio.sleep(0.12)  # That is heard of, and over.
        heard_of.clear()
        await one.over(attempt, State.SUCCESS, "{}")
        began = time.monotonic()
        await heard_of.wait()
        waits.append(time.monotonic() - began)
    await one.aclose()
    await two.aclose()
    return sorted(waits)[CHANGES * 99 // 100]


# --- the answer ------------------------------------------------------------------------------


def run(options: Options) -> Iterator[Row]:
    """Answer for SQLite, and for PostgreSQL where there is one."""
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.out) as name:
        stores = {"SQLite": str(Path(name) / "store.db")}
        if dsn := os.environ.get("APIXO_POSTGRES"):
            stores["PostgreSQL"] = dsn
        else:
            yield Row(QUESTION, "PostgreSQL", "-", "set APIXO_POSTGRES to the URL of a database")
        words: dict[str, str | None] = {**stores, "no store": None}
        maps = interleaved(
            options.rounds,
            {name: _measuring(mapped, store) for name, store in words.items()},
        )
        submits = interleaved(
            options.rounds,
            {name: _measuring(submitted, store) for name, store in words.items()},
        )
        alone, split = in_child(DEADLINE, uneven, True), in_child(DEADLINE, uneven, False)
        yield Row(
            QUESTION,
            "tasks of a busy process beside two small ones, against limits split by hand",
            f"{alone / split:.2f}x",
            f"{alone:,} against {split:,} in 10 minutes, {ALL_SLOTS} slots",
            "at least 2.5x",
            alone >= 2.5 * split,
        )
        for name, store in stores.items():
            yield _rate(name, maps[name], maps["no store"])
            yield _added(name, submits[name], submits["no store"])
            permits = in_child(DEADLINE, permitted, store)
            yield Row(
                QUESTION,
                f"permits a second of one greedy process, {name}",
                f"{permits / LEAST_PERMITS:.2f}x",
                f"{permits:,.0f}",
                f"at least {LEAST_PERMITS:,}",
                permits >= LEAST_PERMITS,
            )
            single = in_child(DEADLINE, one_by_one, store)
            yield Row(
                QUESTION,
                f"permits a second, {name}, against an exchange with the store for each",
                f"{permits / single:.0f}x",
                f"{permits:,.0f} against {single:,.0f}",
            )
            yield _calls(name, median(calls for _, _, calls in maps[name]), MOST_CALLS, "busy")
            yield _calls(name, in_child(DEADLINE, idle, store), MOST_IDLE_CALLS, "idle")
            late = in_child(DEADLINE, heard, store)
            yield Row(
                QUESTION,
                f"until a change by another process is heard of, {name}, 99th percentile",
                f"{late / MOST_LATE:.2f}x",
                f"{late * 1e3:.0f} ms after its commit",
                f"at most {MOST_LATE * 1e3:.0f} ms",
                late <= MOST_LATE,
            )


def _measuring(measure: Callable[[str | None], T], store: str | None) -> Callable[[], T]:
    return lambda: in_child(DEADLINE, measure, store)


def _rate(
    name: str,
    ours: Sequence[tuple[float, float, float]],
    plain: Sequence[tuple[float, float, float]],
) -> Row:
    rates = [median(rate for rate, _, _ in samples) for samples in (ours, plain)]
    costs = [median(cpu for _, cpu, _ in samples) * 1e6 for samples in (ours, plain)]
    ratio = rates[0] / rates[1]
    return Row(
        QUESTION,
        f"tasks a minute through `map` at the documented limits with {name}, against no store",
        f"{ratio:.3f}x",
        f"{rates[0]:,.0f} against {rates[1]:,.0f}; CPU {costs[0]:,.0f} against {costs[1]:,.0f} µs",
        f"at least {LEAST}x",
        ratio >= LEAST,
    )


def _added(name: str, ours: Sequence[float], plain: Sequence[float]) -> Row:
    waits = median(ours), median(plain)
    added = waits[0] - waits[1]
    return Row(
        QUESTION,
        f"wait of a submit with a key, {name}, against no store",
        f"+{added * 1e3:.1f} ms",
        f"{waits[0] * 1e3:.1f} against {waits[1] * 1e3:.1f} ms",
        f"at most {MOST_ADDED * 1e3:.0f} ms more",
        added <= MOST_ADDED,
    )


def _calls(name: str, calls: float, most: float, how: str) -> Row:
    return Row(
        QUESTION,
        f"calls of the store a second of a process that is {how}, {name}, without those of tasks",
        f"{calls / most:.2f}x",
        f"{calls:.2f}",
        f"at most {most}",
        calls <= most,
    )

"""What does a task in flight, a queued input and a finished one keep in memory?

Each is measured in a process of its own, in virtual time, against a service that only counts: what
so many more of them add, per item, to the traced memory (every byte that Python asked for) and,
without tracing, to the resident memory of the process, allocator and fragments included. All share
one input. A tracked task was bought and polled; its handle is kept. A queued one is a coroutine
in `client.submit` that waits for a slot. The yardstick is an `asyncio.Task` that sleeps.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import time
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from apixo_async import ClientClosedError, GptImage1, Polling
from apixo_async.testing import VirtualTimeLoop
from benchmarks import Options, Row
from benchmarks.counting_service import client_of
from benchmarks.measuring import in_child, interleaved, median, progress

QUESTION: Final = "Memory: what does an item keep?"
ITEMS: Final = 2_000
WARM: Final = 200
POLLED_AT: Final = 25.0  # seconds in which the documented plan polls once or twice
SLOTS: Final = 1_000
LONG_QUEUE: Final = 100_000
SHORT_QUEUE: Final = 2_000
SERVED: Final = 3_000
INPUTS: Final = 100_000
EARLY: Final = 20_000
FLAT: Final = 1.2
ROUNDS: Final = 3  # each is a mean over thousands of items
DEADLINE: Final = 600.0  # real seconds for one process; on a slow machine the map takes 200
INPUT: Final = GptImage1(prompt="a small cafe by the sea", aspect_ratio="1:1", num_images=1)

T = TypeVar("T")
Grow: TypeAlias = Callable[[int], Awaitable[None]]


# --- what one item keeps ---------------------------------------------------------------------


@asynccontextmanager
async def sleeping() -> AsyncGenerator[Grow]:
    kept: list[asyncio.Task[None]] = []

    async def grow(items: int) -> None:
        kept.extend(asyncio.create_task(asyncio.sleep(3600)) for _ in range(items))
        await asyncio.sleep(0)

    yield grow
    await _cancelled(kept)


@asynccontextmanager
async def tracked() -> AsyncGenerator[Grow]:
    async with client_of(ITEMS + WARM, duration=3600.0) as client:
        kept: list[object] = []

        async def grow(items: int) -> None:
            kept.extend([await client.submit(INPUT) for _ in range(items)])
            await asyncio.sleep(POLLED_AT)
            assert client.statistics().polls >= len(kept)

        yield grow


@asynccontextmanager
async def queued() -> AsyncGenerator[Grow]:
    async with client_of(WARM, duration=3600.0) as client:
        kept = [asyncio.create_task(client.submit(INPUT)) for _ in range(2 * WARM)]
        await asyncio.sleep(1)

        async def grow(items: int) -> None:
            kept.extend(asyncio.create_task(client.submit(INPUT)) for _ in range(items))
            await asyncio.sleep(1)

        yield grow
        await _cancelled(kept)


KINDS: Final[Mapping[str, Callable[[], AbstractAsyncContextManager[Grow]]]] = {
    "sleeping": sleeping,
    "tracked": tracked,
    "queued": queued,
}


async def _cancelled(tasks: Sequence[asyncio.Task[T]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def resident() -> int:
    """Return the bytes of memory that this process holds; 0 where the system has no /proc."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


def traced() -> int:
    """Return the bytes that Python holds since tracing began."""
    return tracemalloc.get_traced_memory()[0]


def bytes_each(kind: str, *, tracing: bool) -> float:
    """Return what one more item of a kind adds, in bytes."""

    async def measured() -> float:
        async with KINDS[kind]() as grow:
            await grow(WARM)
            gc.collect()
            before = size()
            await grow(ITEMS)
            gc.collect()
            return (size() - before) / ITEMS

    size = traced if tracing else resident
    if tracing:
        tracemalloc.start()
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(measured())


# --- a long queue ----------------------------------------------------------------------------


JOINED: Final = "CPU to join the queue"
SERVED_IN: Final = "CPU from a free slot to the end of the task"
LEFT: Final = "CPU to be sent away by the close of the client"


def queue_of(length: int) -> dict[str, float]:
    """Let so many submits wait on one client, serve some, and close it; return µs by cost."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(_queue_of(length))


async def _queue_of(length: int) -> dict[str, float]:
    started = time.process_time()
    async with client_of(SLOTS, duration=3.0, polling=Polling.fixed(4.0, 4.0)) as client:
        line = [asyncio.create_task(client.submit(INPUT)) for _ in range(length + SERVED)]
        await asyncio.sleep(0.001)  # All join, however many begin in a turn of the loop.
        joined = time.process_time()
        while client.statistics().succeeded < SERVED:  # noqa: ASYNC110 - virtual seconds are free
            await asyncio.sleep(1)
        served, rest = time.process_time(), client.statistics().slots_waiting
    ended = await asyncio.gather(*line, return_exceptions=True)
    left = time.process_time()
    assert sum(isinstance(one, ClientClosedError) for one in ended) == rest
    return {
        JOINED: (joined - started) / len(line) * 1e6,
        SERVED_IN: (served - joined) / SERVED * 1e6,
        LEFT: (left - served) / rest * 1e6,
    }


# --- many inputs -----------------------------------------------------------------------------


def map_of(inputs: int, early: int) -> tuple[int, int]:
    """Map so many inputs; return the resident bytes after an early one's outcome and at the end."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(_map_of(inputs, early))


async def _map_of(inputs: int, early: int) -> tuple[int, int]:
    client = client_of(SLOTS, duration=3.0, polling=Polling.fixed(4.0, 4.0))
    at_first = taken = 0
    async with client, client.map(INPUT for _ in range(inputs)) as outcomes:
        async for outcome in outcomes:
            assert outcome.ok
            taken += 1
            at_first = resident() if taken == early else at_first
    assert taken == inputs
    return at_first, resident()


# --- the answer ------------------------------------------------------------------------------


def run(_: Options) -> Iterator[Row]:
    """Answer, with the one long run beside the many short ones."""
    with ThreadPoolExecutor(1) as beside:
        mapping = beside.submit(in_child, DEADLINE, map_of, INPUTS, EARLY)
        yield from _kept()
        yield from _queue()
        progress(f"  {INPUTS:,} inputs through a map")
        yield _mapped(*mapping.result())


def _kept() -> Iterator[Row]:
    sizes = {
        (kind, tracing): in_child(DEADLINE, bytes_each, kind, tracing=tracing)
        for kind in KINDS
        for tracing in (True, False)
    }
    sleeping = sizes["sleeping", True], sizes["sleeping", False]
    for kind in ("tracked", "queued"):
        traced, resident = sizes[kind, True], sizes[kind, False]
        ratio = traced / sleeping[0]
        most = 2_000 if kind == "tracked" else math.inf
        yield Row(
            QUESTION,
            f"a {kind} task beyond its input, against a sleeping asyncio task",
            f"{ratio:.2f}x",
            f"{traced:,.0f} against {sleeping[0]:,.0f} bytes traced, "
            f"{resident:,.0f} against {sleeping[1]:,.0f} resident",
            "at most 1.5x" + (" and 2 KB" if kind == "tracked" else ""),
            ratio <= 1.5 and traced <= most,
        )


def _queue() -> Iterator[Row]:
    candidates: dict[str, Callable[[], dict[str, float]]] = {
        "long queue": lambda: in_child(DEADLINE, queue_of, LONG_QUEUE),
        "short queue": lambda: in_child(DEADLINE, queue_of, SHORT_QUEUE),
    }
    long, short = interleaved(ROUNDS, candidates).values()
    for cost in (JOINED, SERVED_IN, LEFT):
        in_long, in_short = (median(one[cost] for one in runs) for runs in (long, short))
        ratio = in_long / in_short
        yield Row(
            QUESTION,
            f"{cost}, {LONG_QUEUE:,} submits queued on one client, against {SHORT_QUEUE:,}",
            f"{ratio:.2f}x",
            f"{in_long:,.0f} against {in_short:,.0f} µs",
            f"flat: at most {FLAT}x",
            ratio <= FLAT,
        )


def _mapped(early: int, end: int) -> Row:
    ratio = end / early
    return Row(
        QUESTION,
        f"resident memory after {INPUTS:,} inputs through `map`, against after {EARLY:,}",
        f"{ratio:.2f}x",
        f"{end / 2**20:.1f} against {early / 2**20:.1f} MB",
        f"flat: at most {FLAT}x",
        ratio <= FLAT,
    )

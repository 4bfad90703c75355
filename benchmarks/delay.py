"""How late is the news, for how many requests, where requests are plentiful?

The real client in virtual time with 100 tasks in flight and a latency of 2 ms, so that what is
late is late by the schedule. It is cold at first; the first 200 tasks are not counted, the next
2,000 are. Against the documented plan, and against a backoff of 3 to 30 s by 1.5, by arithmetic on
the durations of the very same tasks: without any latency, to their advantage.

And 1,000 tasks at once, twice: the client is cold at the first crowd, and has learned from it at
the second. There the plan is measured under the same limiter as well, which lets a burst of 1,000
requests go and then 167 a second: by arithmetic a crowd's polls take no permits.
"""

from __future__ import annotations

import asyncio
import math
import random
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate, product
from typing import Final, NamedTuple

from apixo_async import AsyncClient, OtherModel, TaskSettled
from apixo_async._polling.schedule import PollTimes
from benchmarks import Options, Row, plots
from benchmarks.measuring import median
from benchmarks.schedules import Candidate
from benchmarks.virtual_service import VARIED, VirtualService, Workload, in_parallel, run_virtually

QUESTION: Final = "How late is the news, at the plan's number of polls?"
ROUNDS: Final = 3
SKIPPED: Final = 200
COUNTED: Final = 2_000
IN_FLIGHT: Final = 100
CROWD: Final = 1_000
CROWDS: Final = ("cold", "warm")
LATENCY: Final = 0.002
WAYS: Final = ("ours", "documented", "backoff")
#: Against the plan: on the narrow workload, and on any; and of the 99th percentile, rounded.
TARGETS: Final = {0: 0.55}
TARGET: Final = 1.03
TARGET_OF_P99: Final = 1.005


class Job(NamedTuple):
    """One run: a workload and a seed."""

    workload: int
    seed: int


class News(NamedTuple):
    """What the news of a task took: polls and delay on the average, and percentiles of delays."""

    polls: float
    delay: float
    p50: float
    p99: float


class Settled(NamedTuple):
    """One task that is over."""

    polls: int
    delay: float
    duration: float


def run(options: Options) -> Iterator[Row]:
    """Run every workload; whoever else would have polled its tasks is worked out."""
    jobs = [Job(*one) for one in product(range(len(VARIED)), range(options.rounds))]
    streams = _medians(jobs, in_parallel(heard, jobs))
    for w, workload in enumerate(VARIED):
        ours, plan, backoff = streams[w]
        target = TARGETS.get(w, TARGET)
        yield Row(
            QUESTION,
            f"{workload.name}: mean delay against the plan's",
            f"{ours.delay / plan.delay:.2f}x",
            f"{ours.delay:.2f} against {plan.delay:.2f} s; {_polls(ours, plan)}",
            f"at most {target}x, at no more polls",
            ours.delay / plan.delay <= target and ours.polls <= plan.polls,
        )
        yield _p99_row(workload.name, ours, plan, "the plan's")
        yield Row(
            QUESTION,
            f"{workload.name}: mean delay against a backoff's",
            f"{ours.delay / backoff.delay:.2f}x",
            f"{ours.delay:.2f} against {backoff.delay:.2f} s; {_polls(ours, backoff)}",
        )
    crowds = _medians(jobs, in_parallel(heard_of_crowds, jobs))
    for (w, workload), (rank, known) in product(enumerate(VARIED), enumerate(CROWDS)):
        ours, letter, limited = crowds[w][3 * rank : 3 * rank + 3]
        name = f"{workload.name}, {CROWD:,} at once, {known}"
        yield _p99_row(name, ours, letter, "the plan's")
        yield _p99_row(name, ours, limited, "the plan's under the same limiter")
    _plot(options, streams)


def _medians(jobs: Sequence[Job], heard: Sequence[tuple[News, ...]]) -> list[list[News]]:
    """Return for each workload the median over its rounds of each of its figures."""
    by_workload: list[list[tuple[News, ...]]] = [[] for _ in VARIED]
    for job, news in zip(jobs, heard, strict=True):
        by_workload[job.workload].append(news)
    return [
        [News(*map(median, zip(*way, strict=True))) for way in zip(*rounds, strict=True)]
        for rounds in by_workload
    ]


def _p99_row(name: str, ours: News, other: News, whose: str) -> Row:
    return Row(
        QUESTION,
        f"{name}: 99th percentile of the delay against {whose}",
        f"{ours.p99 / other.p99:.2f}x",
        f"{ours.p99:.2f} against {other.p99:.2f} s, half within {ours.p50:.2f} against "
        f"{other.p50:.2f} s; {_polls(ours, other)}",
        "at most 1.00x, at no more polls" if "limiter" not in whose else "",
        None if "limiter" in whose else _is_reached(ours, other),
    )


def _is_reached(ours: News, plan: News) -> bool:
    return ours.p99 <= TARGET_OF_P99 * plan.p99 and ours.polls <= plan.polls


def _polls(ours: News, other: News) -> str:
    return f"{ours.polls:.2f} against {other.polls:.2f} polls a task"


def heard(job: Job) -> tuple[News, ...]:
    """Run tasks to their end; return what their news took, and would have taken others."""
    workload = VARIED[job.workload]
    settled = run_virtually(lambda: _streamed(workload, _candidate(workload), job.seed))
    backoff = [3.0]
    while sum(backoff) < 3_600.0:
        backoff.append(min(30.0, backoff[-1] * 1.5))
    return _news(settled), _by_plan(workload, settled), _polled_at(settled, backoff)


def heard_of_crowds(job: Job) -> tuple[News, ...]:
    """Return for each crowd ours, the plan by arithmetic, and the plan under the limiter."""
    workload = VARIED[job.workload]
    ours, limited = (
        run_virtually(partial(_crowded, workload, _candidate(workload, way), job.seed))
        for way in ("ours", "documented")
    )
    return tuple(
        news
        for mine, its in zip(ours, limited, strict=True)
        for news in (_news(mine), _by_plan(workload, mine), _news(its))
    )


def _candidate(workload: Workload, way: str = "ours") -> Candidate:
    return Candidate(documented_plan=PollTimes(workload.first, workload.interval), way=way)


def _by_plan(workload: Workload, settled: list[Settled]) -> News:
    return _polled_at(settled, [workload.first, *[workload.interval] * 2_000])


def _polled_at(settled: list[Settled], waits: list[float]) -> News:
    ages = list(accumulate(waits))
    polls = [bisect_left(ages, one.duration) for one in settled]
    return _news(
        [
            Settled(1 + poll, ages[poll] - one.duration, one.duration)
            for poll, one in zip(polls, settled, strict=True)
        ]
    )


def _news(settled: list[Settled]) -> News:
    count, delays = len(settled), sorted(one.delay for one in settled)
    p50, p99 = (delays[math.ceil(part * count) - 1] for part in (0.5, 0.99))
    return News(sum(one.polls for one in settled) / count, sum(delays) / count, p50, p99)


async def _streamed(workload: Workload, polling: Candidate, seed: int) -> list[Settled]:
    service, settled = VirtualService(workload.draw, seed, LATENCY), list[Settled]()
    numbers, rng = iter(range(SKIPPED + COUNTED)), random.Random(seed)
    async with _client(service, polling, settled) as client:

        async def generate_all() -> None:
            await asyncio.sleep(rng.random() * 1.5 * workload.first)  # not all in step
            for _ in numbers:
                await client.generate(OtherModel("m", prompt="x"))

        await asyncio.gather(*(generate_all() for _ in range(IN_FLIGHT)))
    return settled[SKIPPED:]


async def _crowded(workload: Workload, polling: Candidate, seed: int) -> list[list[Settled]]:
    service, settled = VirtualService(workload.draw, seed, LATENCY), list[Settled]()
    async with _client(service, polling, settled) as client:
        for _ in CROWDS:
            await asyncio.sleep(60.0)  # The permits of the crowd before are back.
            one = OtherModel("m", prompt="x")
            await asyncio.gather(*(client.generate(one) for _ in range(CROWD)))
    return [settled[CROWD * rank :][:CROWD] for rank in range(len(CROWDS))]


def _client(service: VirtualService, polling: Candidate, settled: list[Settled]) -> AsyncClient:
    def note(event: object) -> None:
        if isinstance(event, TaskSettled):
            work = service.works[int(event.task_id)]
            delay = asyncio.get_running_loop().time() - work.over
            settled.append(Settled(event.polls, delay, work.over - work.created))

    return AsyncClient(
        "key", base_url="http://127.0.0.1", transport=service, polling=polling, on_event=note
    )


def _plot(options: Options, streams: list[list[News]]) -> None:
    figure, panels = plots.new("Mean delay of the news in seconds (polls a task)", len(VARIED))
    for panel, workload, news in zip(panels, VARIED, streams, strict=True):
        heights = {
            f"{way} ({one.polls:.1f})": one.delay for way, one in zip(WAYS, news, strict=True)
        }
        plots.bars(panel, heights, workload.name, "{:.2f}")
    plots.save(figure, options, "delay")

"""How late is the news, for how many requests, where requests are plentiful?

The real client in virtual time with 100 tasks in flight and a latency of 2 ms, so that what is
late is late by the schedule. It is cold at first; the first 200 tasks are not counted, the next
2,000 are. Against the documented plan, and against a backoff of 3 to 30 s by 1.5, by arithmetic on
the durations of the very same tasks: without any latency, to their advantage.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate, product
from typing import Final, NamedTuple

from apixo_async import AsyncClient, OtherModel, TaskSettled
from apixo_async._polling.schedule import PollTimes
from benchmarks import Options, Row, plots
from benchmarks.measuring import median
from benchmarks.schedules import Candidate
from benchmarks.virtual_service import VARIED, VirtualService, Workload, in_parallel, run_virtually

QUESTION: Final = "How late is the news, at the plan's number of polls?"
SKIPPED: Final = 200
COUNTED: Final = 2_000
IN_FLIGHT: Final = 100
LATENCY: Final = 0.002
WAYS: Final = ("ours", "documented", "backoff")
#: Against the plan: on the narrow workload, and on any.
TARGETS: Final = {0: 0.55}
TARGET: Final = 1.03


class Job(NamedTuple):
    """One run: a workload and a seed."""

    workload: int
    seed: int


class News(NamedTuple):
    """What the news of a task took, on the average."""

    polls: float
    delay: float


def run(options: Options) -> Iterator[Row]:
    """Run every workload; whoever else would have polled its tasks is worked out."""
    jobs = [Job(*one) for one in product(range(len(VARIED)), range(options.rounds))]
    news = dict(zip(jobs, in_parallel(heard, jobs), strict=True))
    medians: dict[tuple[int, str], News] = {}
    for (w, _), (rank, way) in product(enumerate(VARIED), enumerate(WAYS)):
        polls, delays = zip(*(by[rank] for job, by in news.items() if job[0] == w), strict=True)
        medians[w, way] = News(median(polls), median(delays))
    for w, workload in enumerate(VARIED):
        ours, plan, backoff = (medians[w, way] for way in WAYS)
        target = TARGETS.get(w, TARGET)
        yield Row(
            QUESTION,
            f"{workload.name}: mean delay against the plan's",
            f"{ours.delay / plan.delay:.2f}x",
            f"{ours.delay:.2f} against {plan.delay:.2f} s; "
            f"{ours.polls:.2f} against {plan.polls:.2f} polls a task",
            f"at most {target}x, at no more polls",
            ours.delay / plan.delay <= target and ours.polls <= plan.polls,
        )
        yield Row(
            QUESTION,
            f"{workload.name}: mean delay against a backoff's",
            f"{ours.delay / backoff.delay:.2f}x",
            f"{ours.delay:.2f} against {backoff.delay:.2f} s; "
            f"{ours.polls:.2f} against {backoff.polls:.2f} polls a task",
        )
    _plot(options, medians)


def heard(job: Job) -> tuple[News, News, News]:
    """Run tasks to their end; return what their news took, and would have taken others."""
    workload = VARIED[job.workload]
    plan = PollTimes(workload.first, workload.interval)
    ours, durations = run_virtually(
        lambda: _streamed(workload, Candidate(documented_plan=plan), job.seed)
    )
    backoff = [3.0]
    while sum(backoff) < 3_600.0:
        backoff.append(min(30.0, backoff[-1] * 1.5))
    by_plan = [plan.first, *(plan.interval for _ in backoff * 10)]
    return ours, _polled_at(durations, by_plan), _polled_at(durations, backoff)


def _polled_at(durations: list[float], waits: list[float]) -> News:
    ages = list(accumulate(waits))
    polls = [bisect_left(ages, duration) for duration in durations]
    delays = [ages[poll] - duration for poll, duration in zip(polls, durations, strict=True)]
    return News(1 + sum(polls) / len(polls), sum(delays) / len(delays))


async def _streamed(workload: Workload, polling: Candidate, seed: int) -> tuple[News, list[float]]:
    service = VirtualService(workload.draw, seed, LATENCY)
    polls: list[int] = []
    delays: list[float] = []
    durations: list[float] = []

    def note(event: object) -> None:
        if isinstance(event, TaskSettled):
            polls.append(event.polls)
            work = service.works[int(event.task_id)]
            delays.append(asyncio.get_running_loop().time() - work.over)
            durations.append(work.over - work.created)

    numbers, rng = iter(range(SKIPPED + COUNTED)), random.Random(seed)
    async with AsyncClient(
        "key", base_url="http://127.0.0.1", transport=service, polling=polling, on_event=note
    ) as client:

        async def generate_all() -> None:
            await asyncio.sleep(rng.random() * 1.5 * workload.first)  # not all in step
            for _ in numbers:
                await client.generate(OtherModel("m", prompt="x"))

        await asyncio.gather(*(generate_all() for _ in range(IN_FLIGHT)))
    ours = News(sum(polls[SKIPPED:]) / COUNTED, sum(delays[SKIPPED:]) / COUNTED)
    return ours, durations[SKIPPED:]


def _plot(options: Options, medians: dict[tuple[int, str], News]) -> None:
    figure, panels = plots.new("Mean delay of the news in seconds (polls a task)", len(VARIED))
    for w, (panel, workload) in enumerate(zip(panels, VARIED, strict=True)):
        heights = {f"{way} ({medians[w, way].polls:.1f})": medians[w, way].delay for way in WAYS}
        plots.bars(panel, heights, workload.name, "{:.2f}")
    plots.save(figure, options, "delay")

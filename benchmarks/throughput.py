"""How many tasks a minute, with an endless queue, 1,000 slots and 10,000 requests a minute?

The real client in virtual time, at a tenth of the account: 100 slots and 1,000 requests a minute.
It is cold at first; after 60 s, 180 s are counted. Against the documented plan: once to the letter,
by arithmetic, with every poll sent when it is due and submits with what is left of the requests;
and once measured under the same limiter, where late polls stretch the plan. And against the best
of many fixed prices of a poll, which nobody could know before (found with seeds that are not those
of the comparison).
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import product
from typing import Final, NamedTuple

from apixo_async import AsyncClient, Limits, OtherModel
from apixo_async._polling.schedule import PollTimes
from benchmarks import Options, Row, plots
from benchmarks.measuring import median, progress
from benchmarks.schedules import Candidate
from benchmarks.virtual_service import (
    SATURATING,
    VirtualService,
    Workload,
    in_parallel,
    run_virtually,
)

QUESTION: Final = "Saturated: how many tasks a minute?"
SCALE: Final = 10  # an account's tenth costs a tenth of the work and behaves alike
WARM: Final = 60.0
COUNTED: Final = 180.0
PRICES: Final = (0.15, 0.3, 0.7, 1.8, 3.0, 5.0)
SEARCHED_WITH: Final = (101,)
DRAWN: Final = 100_000
WAYS: Final = ("ours", "priced", "documented")
#: Against the best price; and against the plan, where the plan wastes most.
TARGET_OF_BEST: Final = 0.98
TARGETS: Final = {0: 1.1, 2: 1.5}


class Job(NamedTuple):
    """One run: a workload, a way to poll, a seed."""

    workload: int
    way: str
    price: float
    seed: int


def run(options: Options) -> Iterator[Row]:
    """Find the best prices, then compare."""
    workloads = range(len(SATURATING))
    progress("  the best fixed price of each workload")
    search = [Job(w, "priced", p, s) for w, p, s in product(workloads, PRICES, SEARCHED_WITH)]
    found = dict(zip(search, in_parallel(tasks_a_minute, search), strict=True))
    best = {w: max(PRICES, key=partial(_found_at, found, w)) for w in workloads}
    progress("  ours, the best price and the plan")
    jobs = [
        Job(w, way, best[w] if way == "priced" else 0.0, seed)
        for seed in range(options.rounds)
        for w, way in product(workloads, WAYS)
    ]
    rates = dict(zip(jobs, in_parallel(tasks_a_minute, jobs), strict=True))
    medians: dict[str, list[float]] = {
        way: [median(rate for job, rate in rates.items() if job[:2] == (w, way)) for w in workloads]
        for way in WAYS
    }
    medians["to the letter"] = [to_the_letter(workload) for workload in SATURATING]
    for w in workloads:
        yield from _rows(w, best[w], *(medians[way][w] for way in (*WAYS, "to the letter")))
    _plot(options, medians)


def _found_at(found: Mapping[Job, float], w: int, price: float) -> float:
    return sum(found[Job(w, "priced", price, seed)] for seed in SEARCHED_WITH)


def _rows(
    w: int, price: float, ours: float, best: float, plan: float, letter: float
) -> Iterator[Row]:
    name, target = SATURATING[w].name, TARGETS.get(w)
    against_best = f"at least {TARGET_OF_BEST}"
    for against, other, form, wanted, least in (
        (f"the best fixed price ({price:g} s)", best, ".3f", against_best, TARGET_OF_BEST),
        (
            "the plan to the letter (arithmetic)",
            letter,
            ".2f",
            f"at least {target}x" if target else "",
            target,
        ),
        ("the plan under the same limiter", plan, ".2f", "", None),
    ):
        yield Row(
            QUESTION,
            f"{name}: against {against}",
            f"{ours / other:{form}}x",
            f"{ours:,.0f} against {other:,.0f} a minute",
            wanted,
            None if least is None else ours / other >= least,
        )


def to_the_letter(workload: Workload) -> float:
    """Return how many tasks a minute slots and requests allow where every poll is in time."""
    rng, polls, busy = random.Random(0), 0, 0.0
    for _ in range(DRAWN):
        waits = math.ceil(max(0.0, workload.draw(rng) - workload.first) / workload.interval)
        polls += 1 + waits
        busy += workload.first + waits * workload.interval
    return min(60 * 1_000 / (busy / DRAWN), 10_000 / (1 + polls / DRAWN))


def tasks_a_minute(job: Job) -> float:
    """Keep an account busy; return how many tasks of the whole account's end in a minute."""
    workload = SATURATING[job.workload]
    plan = PollTimes(workload.first, workload.interval)
    polling = Candidate(documented_plan=plan, way=job.way, price=job.price)
    return run_virtually(lambda: _saturated(workload, polling, job.seed))


async def _saturated(workload: Workload, polling: Candidate, seed: int) -> float:
    limits = Limits(1_000 // SCALE, 10_000 // SCALE)
    service = VirtualService(workload.draw, seed)
    over = 0
    async with (
        AsyncClient(
            "key", base_url="http://127.0.0.1", transport=service, limits=limits, polling=polling
        ) as client,
        asyncio.TaskGroup() as group,
    ):

        async def generate_for_ever() -> None:
            nonlocal over
            while True:
                await client.generate(OtherModel("m", prompt="x"))
                over += 1

        busy = [
            group.create_task(generate_for_ever()) for _ in range(limits.concurrent_tasks * 6 // 5)
        ]
        await asyncio.sleep(WARM)
        before = over
        await asyncio.sleep(COUNTED)
        rate = (over - before) * SCALE * 60 / COUNTED
        for one in busy:
            one.cancel()
    return rate


def _plot(options: Options, medians: dict[str, list[float]]) -> None:
    names = {
        "ours": "ours",
        "priced": "best price",
        "documented": "plan, stretched",
        "to the letter": "plan",
    }
    figure, panels = plots.new("Tasks a minute with an endless queue", len(SATURATING))
    for w, (panel, workload) in enumerate(zip(panels, SATURATING, strict=True)):
        heights = {name: medians[way][w] for way, name in names.items()}
        plots.bars(panel, heights, workload.name)
    plots.save(figure, options, "throughput")

"""How many tasks a minute, with an endless queue, 1,000 slots and 10,000 requests a minute?

The real client in virtual time, at a tenth of the account: 100 slots and 1,000 requests a minute.
It is cold at first; after 60 s, 180 s are counted. Against the documented plan: once to the letter,
by arithmetic, with every poll sent when it is due and submits with what is left of the requests;
and once measured under the same limiter, where late polls stretch the plan. And against the best
of many fixed prices of a poll, which nobody could know before (found with seeds that are not those
of the comparison). And with callbacks, of which a share is lost, against polling.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import product
from typing import Final, NamedTuple

from apixo_async import AsyncClient, Limits, OtherModel, WebhookReceiver
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
#: The shares of callbacks that are lost; and against polling, but for noise.
LOST: Final = (0.0, 0.01, 0.1, 0.3)
TARGET_OF_CALLBACKS: Final = 0.995


class Job(NamedTuple):
    """One run: a workload, a way to poll, a seed; with callbacks, the share that is lost."""

    workload: int
    way: str
    price: float
    seed: int
    lost: float | None = None


class Throughput(NamedTuple):
    """What came out of a run: tasks of the whole account a minute, and polls a task."""

    tasks: float
    polls: float


def run(options: Options) -> Iterator[Row]:
    """Find the best prices, then compare."""
    workloads = range(len(SATURATING))
    progress("  the best fixed price of each workload")
    search = [Job(w, "priced", p, s) for w, p, s in product(workloads, PRICES, SEARCHED_WITH)]
    found = dict(zip(search, in_parallel(throughput_of, search), strict=True))
    best = {w: max(PRICES, key=partial(_found_at, found, w)) for w in workloads}
    progress("  ours, the best price and the plan")
    jobs = [
        Job(w, way, best[w] if way == "priced" else 0.0, seed)
        for seed in range(options.rounds)
        for w, way in product(workloads, WAYS)
    ]
    seen = dict(zip(jobs, in_parallel(throughput_of, jobs), strict=True))
    medians: dict[str, list[float]] = {
        way: [_median(seen, w, way).tasks for w in workloads] for way in WAYS
    }
    medians["to the letter"] = [to_the_letter(workload) for workload in SATURATING]
    for w in workloads:
        yield from _rows(w, best[w], *(medians[way][w] for way in (*WAYS, "to the letter")))
    progress("  with callbacks, of which some are lost")
    jobs = [
        Job(w, "ours", 0.0, seed, lost)
        for seed in range(options.rounds)
        for w, lost in product(workloads, LOST)
    ]
    seen |= zip(jobs, in_parallel(throughput_of, jobs), strict=True)
    for w in workloads:
        polled = _median(seen, w, "ours")
        yield _row_of_callbacks(w, polled, [_median(seen, w, "ours", lost) for lost in LOST])
    _plot(options, medians)


def _found_at(found: Mapping[Job, Throughput], w: int, price: float) -> float:
    return sum(found[Job(w, "priced", price, seed)].tasks for seed in SEARCHED_WITH)


def _median(
    seen: Mapping[Job, Throughput], w: int, way: str, lost: float | None = None
) -> Throughput:
    """Return the medians over the seeds."""
    runs = [run for job, run in seen.items() if (job[:2], job.lost) == ((w, way), lost)]
    return Throughput(median(run.tasks for run in runs), median(run.polls for run in runs))


def _row_of_callbacks(w: int, polled: Throughput, called: list[Throughput]) -> Row:
    ratios = [run.tasks / polled.tasks for run in called]
    shares = " / ".join(f"{100 * lost:g}" for lost in LOST)
    tasks = " / ".join(f"{run.tasks:,.0f}" for run in called)
    polls = " / ".join(f"{run.polls:.2f}" for run in called)
    return Row(
        QUESTION,
        f"{SATURATING[w].name}: with callbacks, {shares} % lost: against polling",
        " / ".join(f"{ratio:.2f}x" for ratio in ratios),
        f"{tasks} against {polled.tasks:,.0f} a minute; "
        f"{polls} against {polled.polls:.2f} polls a task",
        f"at least {TARGET_OF_CALLBACKS}x each",
        min(ratios) >= TARGET_OF_CALLBACKS,
    )


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


def throughput_of(job: Job) -> Throughput:
    """Keep an account busy; return how many tasks of the whole account's end in a minute."""
    workload = SATURATING[job.workload]
    plan = PollTimes(workload.first, workload.interval)
    polling = Candidate(documented_plan=plan, way=job.way, price=job.price)
    return run_virtually(lambda: _saturated(workload, polling, job.seed, job.lost))


async def _saturated(
    workload: Workload, polling: Candidate, seed: int, lost: float | None
) -> Throughput:
    limits = Limits(1_000 // SCALE, 10_000 // SCALE)
    receiver = None if lost is None else WebhookReceiver("http://127.0.0.1/apixo", "s" * 16)
    service = VirtualService(workload.draw, seed, receiver=receiver, lost=lost or 0.0)
    over, rng = 0, random.Random(seed)
    async with (
        AsyncClient(
            "key",
            base_url="http://127.0.0.1",
            transport=service,
            limits=limits,
            polling=polling,
            webhooks=receiver,
        ) as client,
        asyncio.TaskGroup() as group,
    ):

        async def generate_for_ever() -> None:
            nonlocal over
            await asyncio.sleep(rng.random() * WARM / 2)  # not all in step
            while True:
                await client.generate(OtherModel("m", prompt="x"))
                over += 1

        busy = [
            group.create_task(generate_for_ever()) for _ in range(limits.concurrent_tasks * 6 // 5)
        ]
        await asyncio.sleep(WARM)
        over_before, polls_before = over, service.polls
        await asyncio.sleep(COUNTED)
        counted, polls = over - over_before, service.polls - polls_before
        for one in busy:
            one.cancel()
    return Throughput(counted * SCALE * 60 / COUNTED, polls / counted)


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

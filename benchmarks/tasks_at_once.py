"""1,000 tasks at once, 20 s each: does every result come, how late, and at what cost?

Every client creates all tasks in one gather with its own default settings, in a process of its
own, against a small server in another process that speaks its API. No task can be over before
20 s: that is the ideal wall time. What is not back after 60 s counts as not handed back. A round
of all clients takes more than two minutes, so one is the default; the long form is
``python -m benchmarks tasks_at_once --rounds 5``.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks import Options, Row, plots, unanswered
from benchmarks.measuring import (
    in_child,
    interleaved,
    is_installed,
    median,
    metered,
    received,
    serving,
)
from benchmarks.peers.clients import PEERS

ROUNDS = 1

LATEST = 3.0  # what is not back after so many times the ideal, is not handed back
ENDING = 90.0  # seconds that a client may take beyond that, to start and to give up
SLOWEST = 1.1  # wall time against the ideal
FREEZE = 0.1  # seconds for which the event loop may stand still


@dataclass(frozen=True)
class Outcome:
    """What one client did.

    Attributes:
        returned: Distinct results handed back in time.
        created: Tasks that the server made.
        requests: Requests that the server had.
        submitted: Seconds until the last task was made.
        wall: Seconds until the last result, or until time was up.
        cpu: Seconds of CPU of the client's process.
        freeze: The longest time in seconds for which its event loop stood still.
        server_cpu: Seconds of CPU of the server's process.
        errors: What the others ended with, and how many of them.
    """

    returned: int
    created: int
    requests: int
    submitted: float
    wall: float
    cpu: float
    freeze: float
    server_cpu: float
    errors: str


@dataclass(frozen=True)
class _Heard:
    ids: list[str]
    started: float
    wall: float
    cpu: float
    freeze: float
    errors: str


def run(options: Options) -> Iterator[Row]:
    """Measure each client that is installed."""
    question = f"{options.tasks:,} tasks at once, {options.seconds:g} s each"
    installed = [name for name, peer in PEERS.items() if is_installed(peer.module)]
    measured = interleaved(
        options.rounds, {name: partial(measure, name, options) for name in installed}
    )
    for name in PEERS:
        if name not in measured:
            yield unanswered(question, PEERS[name].distribution)
        elif PEERS[name].is_ours:
            yield from _our_rows(question, name, measured, options)
        else:
            yield _peer_row(question, name, measured[name], options)
    _draw(measured, options)


def measure(name: str, options: Options) -> Outcome:
    """Let one client work on all tasks, and ask its server what it saw."""
    from benchmarks.peers.servers import serve

    latest = LATEST * options.seconds
    with serving(serve, PEERS[name].shape, options.seconds) as said:
        url: str = received(said)
        heard = in_child(latest + ENDING, ask_all, name, url, options.tasks, latest)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            f"{url}/counts", timeout=30
        ) as answer:
            counts = json.load(answer)
    return Outcome(
        returned=len(set(heard.ids)),
        created=len(counts["created"]),
        requests=counts["requests"],
        submitted=max(counts["created"], default=heard.started) - heard.started,
        wall=heard.wall,
        cpu=heard.cpu,
        freeze=heard.freeze,
        server_cpu=counts["cpu"],
        errors=heard.errors,
    )


def ask_all(name: str, url: str, tasks: int, latest: float) -> _Heard:
    """Be the process of one client."""
    os.environ["NO_PROXY"] = "127.0.0.1"
    return asyncio.run(_ask_all(name, url, tasks, latest))


async def _ask_all(name: str, url: str, tasks: int, latest: float) -> _Heard:
    last = 0.0
    loop = asyncio.get_running_loop()
    async with PEERS[name].connect(url) as ask:

        async def note(number: int) -> str:
            nonlocal last
            task_id = await ask(number)
            last = loop.time()
            return task_id

        started, began = time.time(), loop.time()
        async with metered() as meter:
            asking = [asyncio.create_task(note(number)) for number in range(tasks)]
            done, late = await asyncio.wait(asking, timeout=latest)
        wall = latest if late else last - began
        failed = Counter(type(task.exception()).__name__ for task in done if task.exception())
        for task in late:
            task.cancel()
        return _Heard(
            ids=[task.result() for task in done if not task.exception()],
            started=started,
            wall=wall,
            cpu=meter.cpu,
            freeze=meter.freeze,
            errors=", ".join(f"{count} {name}" for name, count in failed.items()),
        )


def _our_rows(
    question: str, name: str, measured: Mapping[str, Sequence[Outcome]], options: Options
) -> Iterator[Row]:
    outcomes = measured[name]
    returned, created = min(_of(outcomes, "returned")), max(_of(outcomes, "created"))
    yield Row(
        question,
        f"{name}: results handed back, against tasks asked for",
        f"{returned / options.tasks:.2f}x",
        f"{returned:,.0f}; {created:,.0f} tasks created, {_polls(outcomes):.2f} polls a task",
        "every one, once",
        returned == created == options.tasks,
    )
    wall = median(_of(outcomes, "wall")) / options.seconds
    submitted = median(_of(outcomes, "submitted"))
    yield Row(
        question,
        f"{name}: wall, against the ideal",
        f"{wall:.2f}x",
        f"{wall * options.seconds:.1f} s; last task created after {submitted:.1f} s",
        f"at most {SLOWEST}x",
        wall <= SLOWEST,
    )
    freeze = median(_of(outcomes, "freeze"))
    yield Row(
        question,
        f"{name}: worst freeze of the event loop",
        f"{freeze / FREEZE:.2f}x",
        f"{freeze * 1000:.0f} ms",
        f"at most {FREEZE * 1000:.0f} ms",
        freeze <= FREEZE,
    )
    yield from _cpu_row(question, name, measured)


def _cpu_row(question: str, name: str, measured: Mapping[str, Sequence[Outcome]]) -> Iterator[Row]:
    spent = {of: median(_of(outcomes, "cpu")) for of, outcomes in measured.items()}
    peers = {of: cpu for of, cpu in spent.items() if not PEERS[of].is_ours}
    if peers:
        best = min(peers, key=peers.__getitem__)
        yield Row(
            question,
            f"{name}: CPU of the client, against {best}",
            f"{spent[name] / peers[best]:.2f}x",
            f"{spent[name]:.1f} against {peers[best]:.1f} s",
            "less than any peer",
            spent[name] < peers[best],
        )


def _peer_row(question: str, name: str, outcomes: Sequence[Outcome], options: Options) -> Row:
    version = importlib.metadata.version(PEERS[name].distribution)
    returned, wall, freeze, cpu, created = (
        median(_of(outcomes, figure)) for figure in ("returned", "wall", "freeze", "cpu", "created")
    )
    figures = (
        f"{returned:,.0f} results of {created:,.0f} created in {wall:.0f} s; "
        f"CPU {cpu:.0f} s, freeze {freeze:.1f} s, {_polls(outcomes):.1f} polls a task"
    )
    errors = "; ".join(sorted({outcome.errors for outcome in outcomes if outcome.errors}))
    return Row(
        question,
        f"{name} {version}: wall, against the ideal",
        f"{wall / options.seconds:.2f}x" if returned == options.tasks else "-",
        f"{figures}; {errors}" if errors else figures,
    )


def _of(outcomes: Sequence[Outcome], figure: str) -> list[float]:
    return [getattr(outcome, figure) for outcome in outcomes]


def _polls(outcomes: Sequence[Outcome]) -> float:
    """Return requests a task, but for the one that made it."""
    return median(outcome.requests / max(1, outcome.created) - 1 for outcome in outcomes)


def _draw(measured: Mapping[str, Sequence[Outcome]], options: Options) -> None:
    figure, panels = plots.new(f"{options.tasks:,} tasks at once, {options.seconds:g} s each", 3)
    shown = [
        ("wall", "seconds until the last result, or until time was up", "{:,.1f}", False),
        ("cpu", "seconds of CPU of the client", "{:,.1f}", False),
        ("freeze", "seconds of the worst freeze of its loop", "{:,.2f}", True),
    ]
    for panel, (name, title, form, log) in zip(panels, shown, strict=True):
        heights = {of: median(_of(outcomes, name)) for of, outcomes in measured.items()}
        plots.bars(panel, heights, title, form, log=log)
    plots.save(figure, options, "tasks_at_once")

"""What does one gain, and lose, against a client by hand: purchases, results, delays, CPU?

`peers/by_hand_client.py` has what a good engineer writes with aiohttp, a semaphore and aiolimiter.
Both clients have the documented limits, and go over aiohttp. Each has a process of its own, and so
has the simulator of each, which enforces the limits and whose tasks take 20 to 40 s. Each appends a
line a result to a file. The two work at the same time; the second one begins when the burst of the
first is over.

A crowd of 1,000 tasks is begun in one `gather`; 5,000 go through `client.map`, and through the
other's semaphore. Of 1 % of the submits the answer is lost: they are carried out, and their
connection is closed. At last both are killed (SIGKILL) when half of the results of a crowd are
known, and begun again: ours with its journal, the other with its file of results.

*Paid and lost* are tasks whose result is in no line. The delay of a result is the time from the end
of its task at the service until its line; it holds the time for which a killed client was dead,
while by hand such a result is lost and not late. With ``--tasks`` other than 1,000 the limits
scale, too; with ``--seconds`` other than 20 the times of tasks and of the documented schedule do.
"""

from __future__ import annotations

import asyncio
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, NamedTuple

from apixo_async import ApixoError, AsyncClient, GptImage1, Limits, Result
from apixo_async.aiohttp import AiohttpTransport
from apixo_async.testing import Fault, Simulator, serve
from benchmarks import Options, Row, unanswered
from benchmarks.counting_service import KEY
from benchmarks.measuring import (
    TurnSelector,
    cpu_of,
    is_installed,
    median,
    progress,
    received,
    serving,
)

QUESTION: Final = "Against a client by hand"
ROUNDS: Final = 1  # the service's limits set the pace, and a round takes nine minutes
MOST_CPU: Final = 1.25
FIRST_POLL: Final = 20.0  # seconds, by the documents, and then 3 s from one poll to the next
INTERVAL: Final = 3.0
APART: Final = 0.4  # of the seconds of a task; the second client begins that much later
DEADLINE: Final = 900.0


class Case(NamedTuple):
    """What both clients are to do.

    Attributes:
        name: What it is, in few words.
        crowds: Tasks, as a multiple of those at once.
        lost_every: The answer to one of this number of submits is lost; 0 loses none.
        is_killed: Whether both are killed when half of the results are known.
    """

    name: str
    crowds: int = 1
    lost_every: int = 0
    is_killed: bool = False


CASES: Final = (
    Case("{} tasks at once"),
    Case("{} tasks at once, 1 % of the answers lost", lost_every=100),
    Case("{} tasks", crowds=5),
    Case("{} tasks, 1 % of the answers lost", crowds=5, lost_every=100),
    Case("{} tasks at once, SIGKILL in the middle", is_killed=True),
)


class Load(NamedTuple):
    """What one client is given.

    Attributes:
        url: Of its simulator.
        prompts: One a task.
        limits: Of the account.
        pace: Seconds of a task against those of the documents.
        results: The file of lines.
        journal: The file of our journal, or None.
    """

    url: str
    prompts: Sequence[str]
    limits: Limits
    pace: float
    results: Path
    journal: Path | None


class Bought(NamedTuple):
    """A task at the service, which ended at that Unix time."""

    task_id: str
    prompt: str
    ended: float


class Seen(NamedTuple):
    """What the service saw: all tasks, answers of 429, and requests."""

    bought: Sequence[Bought]
    refused: int
    requests: int


class Life(NamedTuple):
    """What the process of a client came to.

    Attributes:
        opening: Seconds of CPU for which its loop stood still when it opened and closed a client,
            the imports at the first use included.
        ended: In Unix time.
        cpu: Seconds, without all that.
        freeze: The longest time in seconds for which its event loop stood still afterwards.
        work: The most seconds of CPU for which it did.
    """

    opening: float
    ended: float
    cpu: float
    freeze: float
    work: float


class Outcome(NamedTuple):
    """What became of one client's tasks.

    Attributes:
        results: Prompts that have a result.
        bought_twice: Tasks beyond the first of a prompt.
        lost: Tasks whose result is in no line.
        wall: Seconds, those for which the client was dead included.
        opening: As of its last life, and so are cpu (a prompt's), freeze and work.
        refused: Answers of 429.
        requests: Requests a prompt.
        delays: Seconds of each result.
    """

    results: int
    bought_twice: int
    lost: int
    wall: float
    opening: float
    cpu: float
    freeze: float
    work: float
    refused: int
    requests: float
    delays: Sequence[float]

    @property
    def mean(self) -> float:
        """Seconds of the mean delay."""
        return statistics.fmean(self.delays)

    def delay(self, percentile: int) -> float:
        """Return a percentile of the delays, 1 to 99."""
        return statistics.quantiles(self.delays, n=100, method="inclusive")[percentile - 1]


# --- the service -----------------------------------------------------------------------------


def serve_simulator(said: Connection, limits: Limits, speed: float, turns: Sequence[Fault]) -> None:
    """Say the URL, and when asked, what was seen."""
    asyncio.run(_serve_simulator(said, limits, speed, turns))


async def _serve_simulator(
    said: Connection, limits: Limits, speed: float, turns: Sequence[Fault]
) -> None:
    simulator = Simulator(
        key=KEY,
        balance=Decimal(1_000_000),
        speed=speed,
        concurrent_tasks=limits.concurrent_tasks,
        requests_per_minute=limits.requests_per_minute,
        keep_log=1,
    )
    simulator.faults.submit(*turns)
    async with serve(simulator) as url:
        said.send(url)
        await asyncio.to_thread(said.recv)
        zero = simulator.wall_clock() - simulator.now()
        bought = [Bought(one.id, one.prompt, zero + one.ends) for one in simulator.tasks.values()]
        said.send(Seen(bought, simulator.statistics().refused, simulator.count()))
        await asyncio.Event().wait()


def lossy(every: int, submits: int) -> list[Fault]:
    """Return the turns of a number of submits, of which one in ``every`` loses its answer."""
    return [
        Fault.lost_answer() if every and number % every == every // 2 else Fault.none()
        for number in range(submits)
    ]


# --- the clients -----------------------------------------------------------------------------


async def ours(load: Load) -> None:
    """Let this package work: a crowd without a journal in one gather, all else in a map."""

    def image(prompt: str) -> GptImage1:
        return GptImage1(prompt=prompt, aspect_ratio="1:1", num_images=1)

    with load.results.open("a", buffering=1) as file:

        def note(prompt: str, result: Result) -> None:
            line = {"prompt": prompt, "task_id": result.task_id, "urls": result.urls}
            file.write(json.dumps(line | {"at": time.time()}) + "\n")

        async def generate(prompt: str) -> None:
            with suppress(ApixoError):
                note(prompt, await client.generate(image(prompt)))

        async with AsyncClient(
            KEY, base_url=load.url, transport=AiohttpTransport(), limits=load.limits
        ) as client:
            if load.journal is None and len(load.prompts) <= load.limits.concurrent_tasks:
                await asyncio.gather(*map(generate, load.prompts))
                return
            wanted = ((prompt, image(prompt)) for prompt in load.prompts)
            async for outcome in client.map(wanted, journal=load.journal):
                if outcome.result is not None:
                    note(outcome.key, outcome.result)


async def by_hand(load: Load) -> None:
    """Let the other client work."""
    from benchmarks.peers.by_hand_client import generate_all

    await generate_all(
        load.url,
        KEY,
        load.prompts,
        load.results,
        tasks_at_once=load.limits.concurrent_tasks,
        requests_per_minute=load.limits.requests_per_minute,
        first_poll=FIRST_POLL * load.pace,
        interval=INTERVAL * load.pace,
    )


CLIENTS: Final[Mapping[str, Callable[[Load], Coroutine[object, object, None]]]] = {
    "ours": ours,
    "by hand": by_hand,
}


def live(said: Connection, name: str, load: Load) -> None:
    """Be the process of one client; say when its work begins (Unix time), and what it took."""
    logging.disable(logging.CRITICAL)
    import_module("benchmarks.peers.by_hand_client")
    client, turns = CLIENTS[name], TurnSelector()
    opening = cpu_of(lambda: asyncio.run(client(load._replace(prompts=(), journal=None))))
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(turns)) as runner:
        said.send(time.time())
        cpu = cpu_of(lambda: runner.run(client(load)))
    said.send(Life(opening, time.time(), cpu, turns.freeze, turns.work))


# --- one client and its service --------------------------------------------------------------


def measure(name: str, case: Case, options: Options) -> Outcome:
    """Let one client work on a case, and compare its lines with what its service saw."""
    pace = options.seconds / Options.seconds
    limits = Limits(options.tasks, round(10 * options.tasks / pace))
    prompts = [f"a small cafe by the sea, no. {n}" for n in range(case.crowds * options.tasks)]
    turns = lossy(case.lost_every, 4 * len(prompts))
    with (
        tempfile.TemporaryDirectory(dir=options.out) as where,
        serving(serve_simulator, limits, 1 / pace, turns) as service,
    ):
        url: str = received(service)
        results = Path(where) / "results.jsonl"
        results.touch()
        journal = Path(where) / "journal.db" if case.is_killed else None
        load = Load(url, prompts, limits, pace, results, journal)
        started, life = _lives(name, load, is_killed=case.is_killed)
        service.send(None)
        return compare(load, started, life, received(service))


def _lives(name: str, load: Load, *, is_killed: bool) -> tuple[float, Life]:
    """Return when the first life of a client began, and what the last one came to."""
    first: list[float] = []
    if is_killed:
        with serving(live, name, load) as said:  # whose end kills
            first.append(received(said))
            while load.results.read_bytes().count(b"\n") < len(load.prompts) / 2:
                if said.poll(0.05):
                    raise RuntimeError(f"{name} ended before it could be killed")
    with serving(live, name, load) as said:
        first.append(received(said))
        return first[0], received(said, DEADLINE)


def compare(load: Load, started: float, life: Life, seen: Seen) -> Outcome:
    """Return what became of the tasks of a client, by its lines and by what its service saw."""
    known: dict[str, float] = {}
    for line in map(json.loads, load.results.read_text("utf-8").splitlines()):
        known.setdefault(line["task_id"], line["at"])  # a resumed map has those of before, too
    found = [one for one in seen.bought if one.task_id in known]
    return Outcome(
        results=len({one.prompt for one in found}),
        bought_twice=len(seen.bought) - len({one.prompt for one in seen.bought}),
        lost=len(seen.bought) - len(found),
        wall=life.ended - started,
        opening=life.opening,
        cpu=life.cpu / len(load.prompts),
        freeze=life.freeze,
        work=life.work,
        refused=seen.refused,
        requests=seen.requests / len(load.prompts),
        delays=[known[one.task_id] - one.ended for one in found],
    )


# --- the question ----------------------------------------------------------------------------


def run(options: Options) -> Iterator[Row]:
    """Let both clients work on each case at the same time, and compare."""
    if not is_installed("aiolimiter"):
        yield unanswered(QUESTION, "aiolimiter")
        return
    options.out.mkdir(parents=True, exist_ok=True)
    delays: dict[str, dict[str, Sequence[float]]] = {}
    for case in CASES:
        name = case.name.format(f"{case.crowds * options.tasks:,}")
        rounds: list[Mapping[str, Outcome]] = []
        for number in range(options.rounds):
            progress(f"  round {number + 1} of {options.rounds}: {name}")
            rounds.append(_both(case, options, number))
        yield from rows(name, case, rounds)
        delays[name] = {client: outcome.delays for client, outcome in rounds[0].items()}
    _draw(options, delays)


def _both(case: Case, options: Options, number: int) -> dict[str, Outcome]:
    """Measure both, another one first in each round."""
    names = list(CLIENTS)[:: -1 if number % 2 else 1]

    def one(place: int) -> Outcome:
        time.sleep(place * APART * options.seconds)
        return measure(names[place], case, options)

    with ThreadPoolExecutor(len(names)) as threads:
        return dict(zip(names, threads.map(one, range(len(names))), strict=True))


def rows(name: str, case: Case, rounds: Sequence[Mapping[str, Outcome]]) -> Iterator[Row]:
    """Yield what a case came to; ratios are those of one round."""

    def pair(form: str, figure: Callable[[Outcome], float]) -> str:
        found = (median(figure(one[client]) for one in rounds) for client in CLIENTS)
        return " against ".join(form.format(each) for each in found)

    def ratio(figure: Callable[[Outcome], float]) -> float:
        return median(figure(one["ours"]) / figure(one["by hand"]) for one in rounds)

    yield Row(
        QUESTION,
        f"{name}: results",
        f"{ratio(lambda one: one.results):.3f}x",
        f"{pair('{:,.0f}', lambda one: one.results)}; "
        f"bought twice {pair('{:,.0f}', lambda one: one.bought_twice)}; "
        f"paid and lost {pair('{:,.0f}', lambda one: one.lost)}",
        "none bought twice",
        all(not one["ours"].bought_twice for one in rounds),
    )
    yield Row(
        QUESTION,
        f"{name}: wall",
        f"{ratio(lambda one: one.wall):.2f}x",
        f"{pair('{:.1f}', lambda one: one.wall)} s; "
        f"429s {pair('{:,.0f}', lambda one: one.refused)}; "
        f"requests a task {pair('{:.2f}', lambda one: one.requests)}",
    )
    yield Row(
        QUESTION,
        f"{name}: mean delay of the result",
        f"{ratio(lambda one: one.mean):.2f}x",
        f"{pair('{:.2f}', lambda one: one.mean)} s; "
        f"p50 {pair('{:.2f}', lambda one: one.delay(50))} s; "
        f"p99 {pair('{:.2f}', lambda one: one.delay(99))} s",
    )
    cpu = ratio(lambda one: one.cpu)
    yield Row(
        QUESTION,
        f"{name}: CPU a task" + (", of the life that resumes" if case.is_killed else ""),
        f"{cpu:.2f}x",
        f"{pair('{:.2f}', lambda one: one.cpu * 1e3)} ms; "
        f"worst freeze {pair('{:.0f}', lambda one: one.freeze * 1e3)} ms, "
        f"of CPU {pair('{:.0f}', lambda one: one.work * 1e3)} ms; "
        f"before, to open a client, {pair('{:.0f}', lambda one: one.opening * 1e3)} ms",
        "" if case.is_killed else f"at most {MOST_CPU}x",
        None if case.is_killed else cpu <= MOST_CPU,
    )


def _draw(options: Options, delays: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    from benchmarks import plots

    figure, panels = plots.new("Delay of the results, against a client by hand", 2)
    plain = [name for name, case in zip(delays, CASES, strict=True) if case[2:] == (0, False)]
    for panel, name in zip(panels, plain, strict=True):
        points = {
            client: (sorted(each), [(n + 1) / len(each) for n in range(len(each))])
            for client, each in delays[name].items()
        }
        plots.curves(panel, points, name, "seconds of delay", "share of the results")
    plots.save(figure, options, "by_hand")

"""Real processes that share a store, killed and stopped at any time: what the service has seen."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

import pytest

import apixo_async
from apixo_async import AsyncClient, Limits, Polling
from apixo_async.stores import State, StoreEntry
from apixo_async.testing import Fault, Simulator, serve

from ...support import store_program
from ...support.postgres import PostgresServer, postgres_server
from ...support.store_program import Job

PACKAGE = Path(apixo_async.__file__).parents[1]


@dataclass(frozen=True)
class Plan:
    """What happens.

    Attributes:
        processes: How many live at a time.
        seconds: For how long.
        kill_every: Seconds between two kills.
        stops: How many are stopped meanwhile, for up to twice the lease.
        lost: The part of answers that are lost.
        tasks: Seconds that tasks take, at least and at most.
        job: What each process does; what is not known before is filled in.
    """

    processes: int
    seconds: float
    kill_every: float
    stops: int
    lost: float
    tasks: tuple[float, float]
    job: Job


SHORT = Plan(
    processes=3,
    seconds=6.0,
    kill_every=1.0,
    stops=2,
    lost=0.02,
    tasks=(1.5, 2.0),
    job=Job("", "", "", 12, 1_200, 8, 2.0, 0.0, 1.0, 0.5),
)
LONG = Plan(
    processes=6,
    seconds=60.0,
    kill_every=0.5,
    stops=19,
    lost=0.02,
    tasks=(18.0, 22.0),
    job=Job("", "", "", 50, 600, 14, 3.0, 0.0, 16.0, 3.0),
)

#: The same without kills: what the slots used are compared with.
CALM = replace(LONG, kill_every=1e9, stops=0)


@dataclass
class Herd:
    """Processes, which are killed and stopped."""

    job: Job
    pids: set[int] = field(default_factory=set[int])
    kills: int = 0
    _nursery: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._nursery = subprocess.Popen(
            [sys.executable, store_program.__file__, json.dumps(asdict(self.job))],
            env=os.environ | {"PYTHONPATH": str(PACKAGE)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.pids:
            self._send(pid, signal.SIGKILL)
        assert self._nursery is not None
        self._nursery.communicate()

    def start(self) -> None:
        """Start one."""
        assert self._nursery is not None
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        self._nursery.stdin.write("\n")
        self._nursery.stdin.flush()
        self.pids.add(int(self._nursery.stdout.readline()))

    def kill(self, rng: random.Random) -> None:
        """Kill one, and start another in its place."""
        pid = rng.choice(sorted(self.pids))
        self.pids.remove(pid)
        self._send(pid, signal.SIGKILL)
        self.kills += 1
        self.start()

    async def stop(self, rng: random.Random, seconds: float) -> None:
        """Stop one for a time."""
        pid = rng.choice(sorted(self.pids))
        self._send(pid, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        self._send(pid, signal.SIGCONT)

    def _send(self, pid: int, number: int) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            self.pids.discard(pid)

    async def ended(self) -> None:
        """Wait until all have ended by themselves."""
        until = time.monotonic() + 60
        while self.pids and time.monotonic() < until:
            for pid in [*self.pids]:
                self._send(pid, 0)
            await asyncio.sleep(0.1)
        assert not self.pids, "processes live on"


async def run(
    plan: Plan,
    store: str,
    folder: Path,
    seed: int,
    disasters: Sequence[Callable[[], Awaitable[object]]] = (),
) -> Simulator:
    """Let them live, die and stop; then take over what is left, and compare with the service.

    Args:
        plan: What happens.
        store: Words for the store.
        folder: Where the file of keys is.
        seed: Of all that is drawn.
        disasters: What befalls the store, evenly over the time.
    """
    rng = random.Random(seed)
    simulator = Simulator(
        seed=seed,
        concurrent_tasks=plan.job.slots,
        requests_per_minute=plan.job.requests,
        durations=lambda _kind, _input, source: source.uniform(*plan.tasks),
    )
    simulator.faults.submit(
        *(Fault.lost_answer() if rng.random() < plan.lost else None for _ in range(10_000))
    )
    async with serve(simulator) as url:
        job = Job(
            **{
                **asdict(plan.job),
                "url": url,
                "store": store,
                "keys": str(folder / "keys"),
                "until": time.time() + plan.seconds,
            }
        )
        with Herd(job) as herd:
            for _ in range(plan.processes):
                herd.start()
            stops = [
                asyncio.create_task(_stopped_later(herd, rng, plan)) for _ in range(plan.stops)
            ]
            befalls = asyncio.create_task(_one_after_the_other(disasters, plan.seconds))
            while time.time() < job.until:
                await asyncio.sleep(min(plan.kill_every, plan.seconds))
                if plan.kill_every < plan.seconds:
                    herd.kill(rng)
            await asyncio.gather(befalls, *stops)
            await herd.ended()
        await asyncio.sleep(plan.job.lease)
        limits = Limits(job.slots, job.requests)
        polling = Polling.fixed(job.first, job.interval)
        async with AsyncClient(
            "test-key", base_url=url, store=store, limits=limits, polling=polling
        ) as client:
            entries: list[StoreEntry] = []
            async with asyncio.timeout(300):
                # On a busy machine the end of a lease may be noticed after the first time.
                while not entries or any(each.state is State.INTENT for each in entries):
                    for task in await client.recover():
                        await task
                    entries = [entry async for entry in client.entries()]
    check(simulator, entries, herd.kills + plan.stops, plan)
    return simulator


async def _one_after_the_other(
    disasters: Sequence[Callable[[], Awaitable[object]]], seconds: float
) -> None:
    for disaster in disasters:
        await asyncio.sleep(seconds / (len(disasters) + 1))
        await disaster()


async def _stopped_later(herd: Herd, rng: random.Random, plan: Plan) -> None:
    await asyncio.sleep(rng.uniform(0.5, plan.seconds * 0.8))
    await herd.stop(rng, rng.uniform(0.3, 2.0) * plan.job.lease)


def check(simulator: Simulator, entries: list[StoreEntry], deaths: int, plan: Plan) -> None:
    """Compare what the service has sold with what the store says."""
    seen = simulator.statistics()
    assert simulator.most_concurrent <= plan.job.slots
    assert simulator.most_in_window() <= plan.job.requests
    assert seen.refused == 0
    prompts = Counter(str(task.input["prompt"]) for task in simulator.tasks.values())
    assert [*(prompts - Counter({*prompts}))] == [], "bought twice"
    known = {entry.purchase.key: entry for entry in entries}
    for task_id, task in simulator.tasks.items():
        entry = known[str(task.input["prompt"])]  # No paid task is without an entry.
        assert entry.state is State.UNCERTAIN or entry.task_id == task_id
    states = Counter(entry.state for entry in entries)
    assert set(states) <= {State.SUCCESS, State.UNCERTAIN}, states
    doubts = [entry for entry in entries if entry.state is State.UNCERTAIN]
    never_sent = [entry for entry in doubts if entry.purchase.key not in prompts]
    lost = sum(exchange.fault == "lost_answer" for exchange in simulator.log)
    first = simulator.log[0].at
    last = first + plan.seconds
    busy = sum(
        max(0.0, min(task.ends, last) - max(task.created, first + plan.tasks[1]))
        for task in simulator.tasks.values()
    )
    use = busy / plan.job.slots / (plan.seconds - plan.tasks[1])
    sys.stdout.write(
        f"\n{states}, never sent {len(never_sent)}, lost {lost}, deaths {deaths}, slots used "
        f"{use:.3f}, most {simulator.most_concurrent}, most requests {seen.most_requests}, {seen}\n"
    )
    assert len(never_sent) <= 4 * deaths, states
    assert len(doubts) - len(never_sent) <= lost + 4 * deaths, states
    assert states[State.SUCCESS] >= 10


def used(simulator: Simulator, since: float, until: float, limit: int) -> float:
    """Return the part of the limit of requests that was used between two times."""
    seen = sum(since <= exchange.at < until for exchange in simulator.log)
    return seen / (limit * (until - since) / 60)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def plan(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Let the process that looks at the end know of the shorter lease."""
    plan = request.param
    assert isinstance(plan, Plan)
    for module in ("entries", "following", "keyed"):
        monkeypatch.setattr(f"apixo_async._submit.{module}.LEASE", plan.job.lease)
    return plan


#: The short form, and the long one.
PLANS = pytest.mark.parametrize(
    "plan",
    [
        pytest.param(SHORT, id="short", marks=pytest.mark.heavy),
        pytest.param(LONG, id="long", marks=pytest.mark.long),
        pytest.param(CALM, id="calm", marks=pytest.mark.long),
    ],
    indirect=True,
)


@PLANS
async def test_kills_over_sqlite(plan: Plan, tmp_path: Path) -> None:
    """One host, three processes."""
    await run(plan, str(tmp_path / "store.db"), tmp_path, seed=1)


@PLANS
async def test_kills_over_postgres(plan: Plan, tmp_path: Path, server: PostgresServer) -> None:
    """The same over a database."""
    name = f"kills_{plan.processes}_{plan.stops}"
    server.ask(f"CREATE DATABASE {name}")
    await run(plan, server.dsn.removesuffix("postgres") + name, tmp_path, seed=2)


#: No kill, and more to do than the limit of requests allows: 300 a minute.
BUSY = Plan(
    processes=3,
    seconds=200.0,
    kill_every=1e9,
    stops=0,
    lost=0.0,
    tasks=(1.0, 1.5),
    job=Job("", "", "", 100, 300, 12, 10.0, 0.0, 1.0, 0.5),
)


async def expect_use(simulator: Simulator) -> None:
    """A window after the last disaster, at 133 s, all of the limit is used again."""
    first = simulator.log[0].at
    assert used(simulator, first, first + 60, BUSY.job.requests) > 0.9
    assert used(simulator, first + 133 + 11 + 2, first + 195, BUSY.job.requests) > 0.9


@pytest.mark.long
async def test_sqlite_loses_its_limits(tmp_path: Path) -> None:
    """The file beside it is removed in mid-run, twice: the limits hold, and are used again."""

    async def remove() -> None:
        (tmp_path / "store.db-limits").unlink()

    store = str(tmp_path / "store.db")
    await expect_use(await run(BUSY, store, tmp_path, 3, [remove, remove]))


@pytest.mark.long
async def test_postgres_is_killed(tmp_path: Path, server: PostgresServer) -> None:
    """It comes back without its limits, which are lost once more later."""
    server.ask("CREATE DATABASE disasters")

    async def kill() -> None:
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)

    async def truncate() -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("TRUNCATE apixo_limits")

    import psycopg

    dsn = server.dsn.removesuffix("postgres") + "disasters"
    await expect_use(await run(BUSY, dsn, tmp_path, 4, [kill, truncate]))

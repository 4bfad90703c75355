"""Web workers that share a store: the app of the guide under uvicorn, in processes of its own."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx2
import pytest

from apixo_async import AsyncClient
from apixo_async.testing import Simulator, serve

from ...support.postgres import PostgresServer, postgres_server
from ...support.web_workers import BOUND, PACKAGE, WebWorker, free_port

GUIDE: Final = PACKAGE / "apixo_async/guides/many-processes.md"

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Have an empty store."""
    if request.param == "sqlite":
        return str(tmp_path / "apixo.db")
    server: PostgresServer = request.getfixturevalue("server")
    name = f"workers_{time.monotonic_ns()}"
    server.ask(f"CREATE DATABASE {name}")
    return server.dsn.removesuffix("postgres") + name


@dataclass
class Shop:
    """Workers that serve the app.

    Attributes:
        folder: Where the app is.
        url: The service.
        store: Words for the store.
        workers: Those that live, by their ports.
    """

    folder: Path
    url: str
    store: str
    workers: dict[int, WebWorker] = field(default_factory=dict[int, WebWorker])

    def start(self, public: int, port: int | None = None) -> int:
        """Start a worker whose callbacks go to a port; return its own."""
        worker = WebWorker(
            self.folder,
            GUIDE,
            "WebhookReceiver",
            self.url,
            self.store,
            port=port,
            PUBLIC_URL=f"http://127.0.0.1:{public}/apixo",
            WEBHOOK_SECRET="a secret of all workers",
        )
        worker.start()
        self.workers[worker.port] = worker
        return worker.port

    async def end(self, port: int, number: signal.Signals) -> None:
        """End a worker, and wait until it has ended."""
        await self.workers.pop(port).end(number)


@contextlib.asynccontextmanager
async def shop(folder: Path, simulator: Simulator, store: str) -> AsyncIterator[Shop]:
    """Serve the service, and kill the workers in the end."""
    async with serve(simulator) as url:
        made = Shop(folder, url, store)
        try:
            yield made
        finally:
            for port in [*made.workers]:
                await made.end(port, signal.SIGKILL)


async def test_a_callback_on_the_other_worker(store: str, tmp_path: Path) -> None:
    """Each worker gets the callbacks of the other: who waits, at either, is woken by them."""
    simulator = Simulator(seed=1, durations=2.0)
    async with shop(tmp_path, simulator, store) as workers:
        one, two = free_port(), free_port()
        for port, other in ((one, two), (two, one)):
            workers.start(other, port)
        for port in (one, two):
            await workers.workers[port].until_ready()
        async with httpx2.AsyncClient(trust_env=False, timeout=BOUND) as http:

            async def ordered(number: int, port: int) -> tuple[str, float]:
                url = f"http://127.0.0.1:{port}/orders/order-{number}?prompt=castle+{number}"
                answer = await http.post(url)
                assert answer.status_code == 200, answer.text
                return str(answer.json()["urls"]), time.monotonic()

            began = time.monotonic()
            numbers = range(15)
            pairs = await asyncio.gather(
                *(asyncio.gather(ordered(number, one), ordered(number, two)) for number in numbers)
            )
        seen = simulator.statistics()
        assert all(here[0] == there[0] for here, there in pairs)
        assert simulator.created == len(numbers)
        # Every poll was caused by a callback: without one the first is due after 30 s.
        assert seen.requests["poll"] <= len(numbers) + 3
        assert (seen.callbacks.delivered, seen.callbacks.failed) == (len(numbers), 0)
        late = [moment - began for pair in pairs for _, moment in pair]
        sys.stdout.write(f"\n{store[:10]}: answers after {min(late):.2f} to {max(late):.2f} s\n")


class Balancer:
    """Lead each connection to one of some workers."""

    def __init__(self) -> None:
        self.ports: set[int] = set()
        self._rng = random.Random(1)
        self._leading: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._leading:
            task.cancel()
        if self._leading:
            await asyncio.wait(self._leading)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._lead(reader, writer))
        self._leading.add(task)
        task.add_done_callback(self._leading.discard)

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        forth: asyncio.StreamWriter | None = None
        try:
            with contextlib.suppress(OSError):
                port = self._rng.choice(sorted(self.ports))
                back, forth = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(_copy(reader, forth), _copy(back, writer))
        finally:
            for each in (writer, forth):
                if each is not None:
                    each.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while part := await reader.read(65_536):
            writer.write(part)
            await writer.drain()
        writer.write_eof()


@dataclass(frozen=True)
class Plan:
    """How many workers are replaced, and under which load."""

    workers: int
    orders: int
    callers: int


class Deploy:
    """Callers that order through a balancer, and retry, while workers are replaced.

    Attributes:
        pictures: What each order got.
        doubted: The orders of which a worker has said meanwhile that they may be bought.
        taken: Seconds in which the tasks of each worker that was closed had other owners.
    """

    def __init__(self, plan: Plan, workers: Shop, http: httpx2.AsyncClient) -> None:
        self.plan = plan
        self.workers = workers
        self.http = http
        self.balancer = Balancer()
        self.pictures: dict[int, str] = {}
        self.doubted: set[int] = set()
        self.taken: list[float] = []

    async def run(self) -> None:
        """Serve all orders, and replace every worker meanwhile."""
        async with self.balancer as public:
            first = [self.workers.start(public) for _ in range(self.plan.workers)]
            for port in first:
                await self.workers.workers[port].until_ready()
            self.balancer.ports |= {*first}
            numbers = iter(range(self.plan.orders))
            replacing = asyncio.create_task(self._replace(first, public))
            operating = asyncio.create_task(operate(self.workers))
            await asyncio.gather(
                *(self._call(numbers, public) for _ in range(self.plan.callers)), replacing
            )
            operating.cancel()
            await asyncio.wait([operating])

    async def _call(self, numbers: Iterator[int], public: int) -> None:
        for number in numbers:
            url = f"http://127.0.0.1:{public}/orders/{number}?prompt=castle+{number}"
            while number not in self.pictures:
                status = 0
                with contextlib.suppress(httpx2.TransportError):
                    answer = await self.http.post(url)
                    status = answer.status_code
                if status == 200:
                    self.pictures[number] = str(answer.json()["urls"])
                    continue
                assert status in {0, 500, 503}, answer.text
                if status == 503:
                    self.doubted.add(number)
                await asyncio.sleep(0.5)

    async def _replace(self, first: list[int], public: int) -> None:
        for place, port in enumerate(first):
            ready = self.plan.orders * (place + 1) // (self.plan.workers + 2)
            while len(self.pictures) < ready:  # noqa: ASYNC110  # callers know no event
                await asyncio.sleep(0.05)
            new = self.workers.start(public)
            await self.workers.workers[new].until_ready()
            self.balancer.ports.add(new)
            self.balancer.ports.remove(port)
            if place % 2:
                await self.workers.end(port, signal.SIGKILL)
            else:
                await self.workers.end(port, signal.SIGTERM)
                self.taken.append(await handed_over(self.workers))


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(Plan(2, 24, 8), id="short"),
        pytest.param(Plan(4, 500, 40), id="long", marks=pytest.mark.long),
    ],
)
async def test_a_rolling_deploy(plan: Plan, store: str, tmp_path: Path) -> None:
    """Workers are replaced one by one, by SIGTERM and SIGKILL in turns, while callers retry."""
    simulator = Simulator(seed=1, durations=lambda _kind, _input, source: source.uniform(0.5, 3.0))
    limit = httpx2.Limits(max_connections=plan.callers, max_keepalive_connections=0)
    async with (
        shop(tmp_path, simulator, store) as workers,
        httpx2.AsyncClient(trust_env=False, timeout=BOUND, limits=limit) as http,
        asyncio.timeout(10 * BOUND),
    ):
        deploy = Deploy(plan, workers, http)
        await deploy.run()
    bought = Counter(str(task.input["prompt"]) for task in simulator.tasks.values())
    assert bought == Counter(f"castle {number}" for number in range(plan.orders))
    assert sorted(deploy.pictures) == [*range(plan.orders)]
    assert simulator.statistics().refused == 0
    sys.stdout.write(
        f"\n{store[:10]}: {plan.orders} orders, doubted {len(deploy.doubted)}, taken over "
        f"after {', '.join(f'{seconds:.2f} s' for seconds in deploy.taken)}\n"
    )


async def handed_over(workers: Shop) -> float:
    """Wait until every task of a worker that was ended has another owner; return how long."""
    began = time.monotonic()
    async with asyncio.timeout(BOUND), AsyncClient("test-key", store=workers.store) as client:
        while True:
            entries = [e async for e in client.entries(state="submitted") if e.owner is None]
            if not entries:
                return time.monotonic() - began
            await asyncio.sleep(0.05)


async def operate(workers: Shop) -> None:
    """Say of doubts that stay for long what the account shows: nothing, or a callback names it."""
    async with AsyncClient("test-key", store=workers.store) as client:
        while True:
            await asyncio.sleep(1.0)
            async for entry in client.entries(state="uncertain"):
                if entry.called_at is None and entry.read_at - entry.intent_at > 15:
                    await client.resolve(entry.purchase.key, bought=False)

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from apixo_async import (
    APIStatusError,
    AsyncClient,
    ClientClosedError,
    FluxKontext,
    Limiter,
    Limits,
    Result,
    SubmitUncertainError,
    Task,
)
from apixo_async._downloads.downloader import Downloader
from apixo_async._limits.limiter import PermitOutcome
from apixo_async._limits.priority import Priority
from apixo_async.testing import Fault, Simulator

from ..support.stepping import Cut, Stepped, cuts

CASTLE = FluxKontext(mode="pro", prompt="a castle")
HELD = 200.0  # seconds after which the tasks of these tests, and the slots held, are over
AGE_LIMIT = 1_900.0  # seconds after which a task that nobody polls has given its slot back


class Scene:
    """A client for one try, and the rules that hold however the try was cut short."""

    def __init__(self, *, tasks: int = 1, requests: int = 6) -> None:
        self.before = asyncio.all_tasks()
        self.simulator = Simulator(seed=1, durations=10.0)
        self.limiter = Limiter(Limits(tasks, requests))
        self.orphans: list[Task | SubmitUncertainError] = []
        self.client = self.new_client()

    def new_client(self) -> AsyncClient:
        return AsyncClient(
            "test-key",
            limiter=self.limiter,
            transport=self.simulator.transport(1.0),
            on_orphan=self.orphans.append,
            seed=1,
        )

    async def crowd(self) -> None:
        """Take what a submit needs; slot, permits and places come back a second apart."""
        loop = asyncio.get_running_loop()
        concurrency = self.client._life.engine().api.concurrency
        slot = await self.limiter.slot()
        loop.call_later(1.0, slot.release)
        permit = await self.limiter.permit(Priority.ASKED)
        loop.call_later(2.0, self.limiter.report, permit, PermitOutcome.UNUSED)
        for _ in range(concurrency.limit.size):
            await concurrency.enter(for_submit=True)
            loop.call_later(3.0, concurrency.leave, None)

    def check_idle(self) -> None:
        """Nobody holds anything, or waits for it."""
        assert (self.limiter.slots_used, self.limiter.slots_waiting) == (0, 0)
        assert (self.limiter._permits.in_flight, self.limiter.permits_waiting) == (0, 0)
        engine = self.client._life._engine
        assert engine is None or engine.api.concurrency.limit.used == 0

    async def check_afterwards(self) -> None:
        """Everything is given back, a client works, and its close leaves nothing pending."""
        self.check_idle()
        assert (await self.client.generate(CASTLE)).urls
        self.check_idle()
        await self.client.aclose()
        assert asyncio.all_tasks() == self.before


async def test_submit_cut_everywhere() -> None:
    """A submit cancelled at any await leaves nothing held, and no task unknown."""
    points = 0
    for cut in cuts():
        scene = Scene()
        scene.simulator.faults.submit(Fault.status(503))
        await scene.crowd()
        ended = await cut(scene.client.submit(CASTLE))
        await asyncio.sleep(HELD)
        known = [o.id for o in scene.orphans if isinstance(o, Task)]
        known += [] if ended.cancelled() else [ended.result().id]
        assert known == [*scene.simulator.tasks]
        await scene.check_afterwards()
        points = max(points, cut.points)
    assert points >= 7  # slot, permit, place, POST, pause, permit, POST


async def test_generate_cut_everywhere() -> None:
    """A `generate` cancelled at any await leaves nothing held, and no task unknown."""
    points = 0
    for cut in cuts():
        scene = Scene()
        await scene.crowd()
        ended = await cut(scene.client.generate(CASTLE))
        await asyncio.sleep(HELD)
        known = [o.id for o in scene.orphans if isinstance(o, Task)]
        known += [] if ended.cancelled() else [ended.result().task_id]
        assert known == [*scene.simulator.tasks]
        await scene.check_afterwards()
        points = max(points, cut.points)
    assert points >= 5  # slot, permit, place, POST, the task


@pytest.mark.parametrize("way", ["refresh", "wait", "until", "updates"])
async def test_poll_cut_everywhere(way: str) -> None:
    """A caller who polls or waits, cancelled at any await, takes nothing from the task."""

    async def watch(task: Task) -> None:
        async for _ in task.updates():
            pass

    ways = {
        "refresh": Task.refresh,
        "wait": Task.wait,
        "until": lambda task: task.until(None),
        "updates": watch,
    }
    points = 0
    for cut in cuts():
        scene = Scene(requests=600)
        scene.simulator.faults.poll(Fault.status(500), Fault.odd_state())
        task = await scene.client.submit(CASTLE)
        await cut(_quietly(ways[way](task)))
        assert (await task).urls
        await scene.check_afterwards()
        points = max(points, cut.points)
    assert points >= (2 if way == "updates" else 1)


async def _quietly(work: Coroutine[Any, Any, object]) -> None:
    try:
        await work
    except APIStatusError:
        return


async def test_balance_cut_everywhere() -> None:
    """A question for the balance cancelled at any await leaves nothing held."""
    points = 0
    for cut in cuts():
        scene = Scene()
        scene.simulator.faults.balance(Fault.status(500), Fault.lost_answer())
        await scene.crowd()
        ended = await cut(scene.client.balance())
        assert ended.cancelled() or ended.result() == Decimal(1000)
        await asyncio.sleep(HELD)
        await scene.check_afterwards()
        points = max(points, cut.points)
    assert points >= 8  # permit, place, exchange, and twice pause, permit, exchange


async def result_of(scene: Scene) -> Result:
    result = await scene.client.generate(FluxKontext(mode="pro", prompt="two castles"))
    return Result(result.task_id, result.model, result.urls * 2)


async def test_download_cut_everywhere(tmp_path: Path) -> None:
    """A download cancelled at any await of its caller leaves no unfinished file."""
    points = 0
    for number, cut in enumerate(cuts()):
        scene, folder = Scene(requests=600), tmp_path / str(number)
        ended = await cut(scene.client.download(await result_of(scene), folder))
        found = sorted(folder.iterdir()) if folder.exists() else []
        assert ended.cancelled() or found == ended.result()
        assert [path.name for path in found if path.suffix == ".part"] == []
        await scene.check_afterwards()
        points = max(points, cut.points)
    assert points >= 2


async def test_file_cut_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download cancelled at any await of the transfer of a file leaves no unfinished file."""
    save, points = Downloader._save, 0
    for number, cut in enumerate(cuts()):
        scene, folder = Scene(requests=600), tmp_path / str(number)
        scene.simulator.faults.download(Fault.truncated(0.5), Fault.status(503))
        result = await scene.client.generate(CASTLE)

        async def saved(*given: Any, cut: Cut = cut) -> Path:
            return await Stepped(save(*given), cut, victim=cut.ended)

        monkeypatch.setattr(Downloader, "_save", saved)
        ended = await cut.run(scene.client.download(result, folder))
        found = sorted(folder.iterdir()) if folder.exists() else []
        assert ended.cancelled() or found == ended.result()
        assert [path.name for path in found if path.suffix == ".part"] == []
        await scene.check_afterwards()
        points = max(points, cut.points)
    assert points >= 12  # three answers, each with files opened, written and polled, and pauses


async def test_close_cut_everywhere() -> None:
    """A close cancelled at any await still ends everything, and keeps every id."""
    points = 0
    for cut in cuts():
        scene = Scene(tasks=3, requests=600)
        client = scene.client
        running = await client.submit(CASTLE)
        waiter = asyncio.create_task(running.wait())
        posts = [asyncio.create_task(client.submit(CASTLE)) for _ in range(2)]
        queueing = asyncio.create_task(client.submit(CASTLE))
        await asyncio.sleep(0.7)
        await cut(client.aclose(drain=4.0))
        await client.aclose()
        ends = await asyncio.gather(waiter, *posts, queueing, return_exceptions=True)
        assert isinstance(ends[0], ClientClosedError)
        assert isinstance(ends[-1], ClientClosedError)
        told = {end.id for end in ends[1:3] if isinstance(end, Task)}
        unclear = sum(isinstance(end, SubmitUncertainError) for end in ends[1:3])
        assert len(told) + unclear == 2
        assert {ref.task_id for ref in client.unfinished} == {running.id, *told}
        assert len(set(scene.simulator.tasks) - told - {running.id}) <= unclear
        assert asyncio.all_tasks() == scene.before
        await asyncio.sleep(AGE_LIMIT)
        scene.client = scene.new_client()
        (await scene.limiter.slot()).release()
        await scene.check_afterwards()
        points = max(points, cut.points)
    assert points >= 3


async def test_poll_cancelled_before_its_first_step() -> None:
    """A poll that a close cancels before it has begun gives back its permit and its place."""
    scene = Scene(requests=600)
    client = scene.client
    task = await client.submit(CASTLE)
    engine = client._life.engine()
    permit = await engine.api.admit(Priority.SCHEDULED)
    engine.poller.registry.queue.ask(task._track)
    engine.poller._send_poll(permit)
    await engine.poller.aclose(ClientClosedError("closed"))
    await client.aclose()
    assert scene.limiter._permits.in_flight == 0
    assert engine.api.concurrency.limit.used == 0


async def test_thousand_submits_cancelled_at_random_moments() -> None:
    """Of 1,000 submits cancelled at random moments, no task that was made is unknown."""
    rng, orphans = random.Random(7), list[Task]()
    simulator = Simulator(seed=7, durations=lambda *given: given[2].uniform(1, 60))
    client = AsyncClient(
        "test-key",
        transport=simulator.transport(lambda source: source.uniform(0, 3)),
        limits=Limits(concurrent_tasks=500, requests_per_minute=10_000),
        on_orphan=orphans.append,
        seed=7,
    )

    async def submit() -> Task | None:
        try:
            async with asyncio.timeout(rng.uniform(0.0, 6.0)):
                return await client.submit(CASTLE)
        except TimeoutError:
            return None

    async with client:
        kept = [task for task in await asyncio.gather(*(submit() for _ in range(1_000))) if task]
        await asyncio.sleep(3)
        known = [task.id for task in (*kept, *orphans)]
        assert len(simulator.tasks.keys() - known) == 0
        assert len(known) == len(set(known)) == simulator.created
        assert len(kept) > 100
        assert len(orphans) > 100
        await asyncio.gather(*kept, *orphans)
        assert client.statistics().slots_used == 0

"""The main job: submit, await, download, alone and by the thousand."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from PIL import Image

from apixo_async import (
    AsyncClient,
    FluxKontext,
    GptImage1,
    GptImage2,
    Limits,
    OtherModel,
    Polling,
    TaskRef,
    TaskSettled,
)
from apixo_async.testing import Simulator

ClientOf = Callable[..., AsyncClient]

CAFE = GptImage1(prompt="a cozy cyberpunk cafe", aspect_ratio="3:2", num_images=2)


async def test_readme_example(simulator: Simulator, client_of: ClientOf, tmp_path: Path) -> None:
    """A submitted task is awaited and its two images are saved whole."""
    client = client_of(simulator)
    task = await client.submit(CAFE)
    result = await task
    paths = await client.download(result, tmp_path)
    assert [path.name for path in paths] == [f"{task.id}-1.png", f"{task.id}-2.png"]
    for path in paths:
        with Image.open(path) as image:
            image.load()
            assert image.width / image.height == pytest.approx(1.5, abs=0.02)
    assert simulator.charged == Decimal("0.70")


async def test_polls_follow_the_documented_plan(simulator: Simulator, client_of: ClientOf) -> None:
    """The first poll comes 20 s after creation, the next ones every 3 s, up to a tenth later."""
    client = client_of(simulator)
    await client.generate(CAFE)
    submitted, *polls = [exchange.at for exchange in simulator.log]
    assert 20.0 <= polls[0] - submitted <= 20.4
    for earlier, later in itertools.pairwise(polls):
        assert 3.0 <= later - earlier <= 3.4


@pytest.mark.parametrize(
    ("resolution", "first", "interval"), [("1k", 30, 10), ("2k", 60, 10), ("4k", 120, 10)]
)
async def test_plan_of_each_resolution(
    simulator: Simulator, client_of: ClientOf, resolution: str, first: float, interval: float
) -> None:
    """A gpt-image-2 task is polled by the plan of its resolution."""
    task_input = GptImage2.model_validate({"prompt": "a lake", "resolution": resolution})
    await client_of(simulator).generate(task_input)
    submitted, *polls = [exchange.at for exchange in simulator.log]
    assert first <= polls[0] - submitted <= first + interval / 10 + 0.1
    assert all(b - a >= interval for a, b in itertools.pairwise(polls))


async def test_a_thousand_tasks_at_once(
    simulator: Simulator, client_of: ClientOf, events: list[object]
) -> None:
    """A thousand tasks of three models run at once, and each ends once, within the limits."""
    client = client_of(simulator)
    inputs = [
        (CAFE, GptImage2(prompt="x"), FluxKontext(mode="pro", prompt="y"))[n % 3]
        for n in range(1_000)
    ]
    tasks = await asyncio.gather(*(client.submit(one) for one in inputs))
    assert len({task.id for task in tasks}) == 1_000
    results = await asyncio.gather(*tasks)
    assert all(result.urls for result in results)
    settled = [event.task_id for event in events if isinstance(event, TaskSettled)]
    assert sorted(settled) == sorted(task.id for task in tasks)
    assert simulator.most_in_window(60.0) <= 10_000
    assert simulator.statistics().refused == 0
    statistics = client.statistics()
    assert (statistics.slots_used, statistics.tasks_tracked) == (0, 0)
    assert statistics.succeeded == 1_000


async def test_more_tasks_than_slots(client_of: ClientOf) -> None:
    """Submits beyond the tasks at once wait for a slot, and are never refused by the service."""
    simulator = Simulator(seed=2, concurrent_tasks=5)
    client = client_of(simulator, limits=Limits(concurrent_tasks=5))
    results = await asyncio.gather(*(client.generate(CAFE) for _ in range(23)))
    assert len(results) == 23
    assert simulator.most_concurrent == 5
    assert simulator.statistics().refused == 0


async def test_small_plan_of_requests(client_of: ClientOf) -> None:
    """With 60 requests a minute, polls stretch so that the service never refuses one."""
    simulator = Simulator(seed=3, requests_per_minute=60)
    client = client_of(simulator, limits=Limits(requests_per_minute=60))
    results = await asyncio.gather(*(client.generate(CAFE) for _ in range(40)))
    assert len(results) == 40
    assert simulator.most_in_window(60.0) <= 60
    assert simulator.statistics().refused == 0


async def test_fixed_plan(simulator: Simulator, client_of: ClientOf) -> None:
    """A plan fixed by the caller replaces that of the documents."""
    client = client_of(simulator, polling=Polling.fixed(first=1.0, interval=7.0))
    await client.generate(CAFE)
    submitted, *polls = [exchange.at for exchange in simulator.log]
    assert 1.0 <= polls[0] - submitted <= 1.8
    assert all(7.0 <= b - a <= 7.8 for a, b in itertools.pairwise(polls))


async def test_attach_from_another_client(simulator: Simulator, client_of: ClientOf) -> None:
    """A task is awaited by a client which did not buy it, polled as soon as it attaches."""
    ref = (await client_of(simulator).submit(CAFE)).ref
    await asyncio.sleep(5)
    attached_at = asyncio.get_running_loop().time()
    task = client_of(simulator).attach(TaskRef(ref.model, ref.task_id))
    result = await task
    polls = [exchange.at for exchange in simulator.log if exchange.kind == "poll"]
    assert polls[0] - attached_at < 0.1
    # The service's own stamp dates the task: the second poll is the plan's first.
    assert polls[1] - attached_at >= 10
    assert result.task_id == ref.task_id
    assert simulator.created == 1


async def test_any_model_can_be_named(simulator: Simulator, client_of: ClientOf) -> None:
    """The input of an unknown model reaches the service untouched and in the order given."""
    client = client_of(simulator)
    sora = OtherModel("sora-2", mode="text-to-video", prompt="a wave", seconds=4, nVariants=1)
    result = await client.generate(sora)
    assert list(simulator.tasks[result.task_id].input.items()) == [
        ("mode", "text-to-video"),
        ("prompt", "a wave"),
        ("seconds", 4),
        ("nVariants", 1),
    ]


async def test_balance_and_estimate(simulator: Simulator, client_of: ClientOf) -> None:
    """What an estimate says is what the balance loses."""
    client = client_of(simulator)
    inputs = [CAFE, GptImage2(prompt="x", resolution="4k"), FluxKontext(mode="max", prompt="y")]
    before = await client.balance()
    await asyncio.gather(*(client.generate(one) for one in inputs))
    estimate = client.estimate([*inputs, OtherModel("sora-2", prompt="z")])
    assert before - await client.balance() == estimate.total == Decimal("0.80")
    assert (estimate.priced, estimate.unpriced) == (3, 1)

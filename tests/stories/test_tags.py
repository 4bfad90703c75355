from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from apixo_async import (
    ApixoError,
    AsyncClient,
    BadRequestError,
    ConfigurationError,
    Event,
    FluxKontext,
    GptImage1,
    OtherModel,
    SubmitUncertainError,
    Task,
    TaskFailedError,
    TaskRef,
    WaitTimeoutError,
)
from apixo_async.events import ClientOpened, TaskSettled
from apixo_async.testing import Fault, MemoryStore, Simulator

ClientOf = Callable[..., AsyncClient]
CASTLE = FluxKontext(mode="pro", prompt="a castle")
VIDEO = OtherModel("sora-2", mode="text-to-video", prompt="a castle")


def tags(events: list[Event]) -> set[str | None]:
    """Return the tags of all events that are about one submit or task."""
    return {getattr(event, "tag", None) for event in events if not isinstance(event, ClientOpened)}


async def test_everything_about_a_task_has_its_tag(
    simulator: Simulator, client_of: ClientOf, events: list[Event], tmp_path: Path
) -> None:
    """Every event, the handle and the result of a submit carry the caller's word for it."""
    client = client_of(simulator)
    simulator.faults.submit(Fault.status(503))
    simulator.faults.poll(Fault.html())
    task = await client.submit(CASTLE, tag="customer-42")
    result = await task
    await client.download(result, tmp_path)
    assert (task.tag, result.tag) == ("customer-42", "customer-42")
    assert (await task.refresh()).result == result
    kinds = {type(event).__name__ for event in events}
    assert kinds >= {"SubmitRefused", "TaskSubmitted", "PollFailed", "TaskSettled"}
    assert tags(events) == {"customer-42"}
    assert all(str(event).endswith(" [customer-42]") for event in events[1:])


FAILURES: dict[str, tuple[Fault, type[ApixoError]]] = {
    "refused": (Fault.status(400), BadRequestError),
    "uncertain": (Fault.lost_answer(), SubmitUncertainError),
    "failed": (Fault.task_fails("NSFW"), TaskFailedError),
    "too late": (Fault.task_lasts(1e3), WaitTimeoutError),
}


@pytest.mark.parametrize(("fault", "cls"), FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("store", [False, True], ids=["alone", "store"])
async def test_errors_have_the_tag(
    simulator: Simulator,
    client_of: ClientOf,
    events: list[Event],
    fault: Fault,
    cls: type[ApixoError],
    store: bool,
) -> None:
    """Whatever a submit or its task ends in has the tag, in another process as well."""
    client = client_of(simulator, store=MemoryStore() if store else None)
    simulator.faults.submit(fault)
    with pytest.raises(cls) as raised:
        await client.generate(CASTLE, tag="customer-42", timeout=100)
    assert raised.value.tag == "customer-42"
    assert pickle.loads(pickle.dumps(raised.value)).tag == "customer-42"
    assert tags(events) == {"customer-42"}


async def test_an_orphan_has_its_tag(simulator: Simulator, client_of: ClientOf) -> None:
    """What no caller holds any more still says whose it is."""
    orphans: list[Task | SubmitUncertainError] = []
    client = client_of(simulator, latency=2.0, on_orphan=orphans.append)
    simulator.faults.submit(None, Fault.lost_answer())
    for tag in ("bought", "uncertain"):
        submit = asyncio.create_task(client.submit(CASTLE, tag=tag))
        await asyncio.sleep(1)
        submit.cancel()
        await asyncio.sleep(10)
    assert [orphan.tag for orphan in orphans] == ["bought", "uncertain"]


async def test_a_resubmit_keeps_the_tag(simulator: Simulator, client_of: ClientOf) -> None:
    """What is bought anew is for whom the first one was."""
    client = client_of(simulator)
    simulator.faults.submit(Fault.lost_answer())
    with pytest.raises(SubmitUncertainError) as raised:
        await client.submit(CASTLE, tag="customer-42")
    assert (await client.resubmit(raised.value)).tag == "customer-42"


async def test_the_tag_of_an_attached_task(simulator: Simulator, client_of: ClientOf) -> None:
    """A task that is attached to has the tag that is given there, and keeps one that it has."""
    client, other = client_of(simulator), client_of(simulator)
    task = await client.submit(CASTLE, tag="first")
    assert client.attach(task.ref, tag="second").tag == "first"
    attached = other.attach(task.ref, tag="second")
    assert (await attached).tag == "second"
    assert (await task).tag == "first"


async def test_who_asks_again_by_key_gets_the_tag(
    simulator: Simulator, client_of: ClientOf
) -> None:
    """A process that asks for what another one bought tags it for itself, running or over."""
    store = MemoryStore()
    client, other = client_of(simulator, store=store), client_of(simulator, store=store)
    task = await client.submit(CASTLE, key="order-1", tag="first")
    followed = await other.submit(CASTLE, key="order-1", tag="second")
    assert (task.id, followed.tag) == (followed.id, "second")
    assert ((await followed).tag, (await task).tag) == ("second", "first")
    ended = await client_of(simulator, store=store).submit(CASTLE, key="order-1", tag="third")
    assert ended.result().tag == "third"
    assert ended.cost == Decimal("0.03")


async def test_the_tag_of_a_task_that_was_taken_over(
    simulator: Simulator, client_of: ClientOf, events: list[Event]
) -> None:
    """What another process left has the tag and the cost of its submit, and its true age."""
    store = MemoryStore()
    client = client_of(simulator, store=store)
    task = await client.submit(CASTLE, key="order-1", tag="customer-42")
    bought_at = asyncio.get_running_loop().time()
    await asyncio.sleep(3)
    await client.aclose()
    events.clear()
    (taken,) = await client_of(simulator, store=store).recover()
    result = await taken
    assert (taken.ref, taken.tag, result.tag) == (task.ref, "customer-42", "customer-42")
    assert tags(events) == {"customer-42"}
    (settled,) = (event for event in events if isinstance(event, TaskSettled))
    assert settled.cost == Decimal("0.03")
    assert settled.age == pytest.approx(asyncio.get_running_loop().time() - bought_at, abs=0.1)


async def test_the_tag_of_a_doubt_of_another_process(
    simulator: Simulator, client_of: ClientOf
) -> None:
    """Who asks for a key whose POST is a doubt learns for whom it was."""
    store = MemoryStore()
    simulator.faults.submit(Fault.lost_answer())
    for _ in range(2):
        client = client_of(simulator, store=store)
        with pytest.raises(SubmitUncertainError) as raised:
            await client.submit(CASTLE, key="order-1", tag="customer-42")
        assert raised.value.tag == "customer-42"
    with pytest.raises(SubmitUncertainError) as raised:
        await client_of(simulator, store=store).find("order-1")
    assert raised.value.tag == "customer-42"


async def test_outcomes_of_a_map_have_its_tag(
    simulator: Simulator, client_of: ClientOf, events: list[Event], tmp_path: Path
) -> None:
    """A map tags every task that it buys, and those of earlier runs of its journal."""
    journal = tmp_path / "run.db"
    for tag in ("monday", "tuesday"):
        outcomes = client_of(simulator).map([CASTLE, CASTLE], journal=journal, tag=tag)
        async with outcomes:
            found = [outcome async for outcome in outcomes]
        assert [outcome.result and outcome.result.cost for outcome in found] == [
            Decimal("0.03"),
            Decimal("0.03"),
        ]
        assert {outcome.tag for outcome in found} == {tag}
    assert simulator.created == 2
    assert tags(events) == {"monday"}


@pytest.mark.parametrize("tag", ["", "x" * 201, 42, "a\0b", "\ud800"])
async def test_what_is_no_tag(simulator: Simulator, client_of: ClientOf, tag: Any) -> None:
    """A tag is a text of bounded length; another one is refused before anything is sent."""
    client = client_of(simulator)
    for call in (
        lambda: client.submit(CASTLE, tag=tag),
        lambda: client.generate(CASTLE, tag=tag),
    ):
        with pytest.raises(ConfigurationError, match="tag"):
            await call()
    with pytest.raises(ConfigurationError, match="tag"):
        client.map([CASTLE], tag=tag)
    with pytest.raises(ConfigurationError, match="tag"):
        client.attach("flux-kontext", "task_1", tag=tag)
    assert simulator.created == 0


async def test_costs(simulator: Simulator, client_of: ClientOf) -> None:
    """A task and its result say what they cost, and None where that is not known."""
    client = client_of(simulator, prices={"sora-2": "1.20", "flux-kontext": 9})
    square = GptImage1(prompt="a castle", aspect_ratio="1:1", num_images=2)
    dear = OtherModel("veo-3-1", prompt="a castle")
    costs = {square: "0.70", CASTLE: "0.03", VIDEO: "1.20", dear: None}
    for wanted, usd in costs.items():
        task = await client.submit(wanted)
        cost = None if usd is None else Decimal(usd)
        assert (task.cost, (await task).cost) == (cost, cost)
    estimated = client.estimate([VIDEO, dear])
    assert (estimated.total, estimated.unpriced) == (Decimal("1.20"), 1)
    video = TaskRef("sora-2", (await client.submit(VIDEO)).detach().task_id)
    assert client.attach(video).cost == Decimal("1.20")


async def test_the_cost_of_a_failed_task(simulator: Simulator, client_of: ClientOf) -> None:
    """A failed task has the price that was asked for it: refunds are not documented."""
    simulator.faults.submit(Fault.task_fails("NSFW"))
    task = await client_of(simulator).submit(CASTLE)
    await task.wait()
    assert task.cost == Decimal("0.03")


async def test_a_map_spends_by_the_prices_of_its_client(
    simulator: Simulator, client_of: ClientOf
) -> None:
    """A budget counts the client's prices, and the map's own before them."""
    client = client_of(simulator, prices={"sora-2": "1.20"})
    for prices, spent in ((None, "1.20"), ({"sora-2": 2}, "2")):
        async with client.map([VIDEO], max_cost=10, prices=prices) as outcomes:
            (outcome,) = [outcome async for outcome in outcomes]
        assert outcomes.progress.spent == Decimal(spent)
        assert outcome.result is not None
        assert outcome.result.cost == Decimal(spent)


async def test_what_is_no_price(simulator: Simulator) -> None:
    """Prices are USD by model."""
    with pytest.raises(ConfigurationError, match="prices"):
        AsyncClient("k", transport=simulator.transport(), prices={"sora-2": -1})

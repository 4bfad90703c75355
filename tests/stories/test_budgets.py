"""What a client may spend: never a cent more, whatever becomes of its submits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from apixo_async import (
    APIStatusError,
    ApixoError,
    AsyncClient,
    Budget,
    BudgetExceededError,
    ConfigurationError,
    GptImage2,
    OtherModel,
    PresumedNotBoughtError,
    Result,
    SubmitUncertainError,
    WebhookReceiver,
)
from apixo_async.testing import Callback, Fault, MemoryStore, Simulator

ClientOf = Callable[..., AsyncClient]
MOON = GptImage2(prompt="a paper moon", resolution="1k")  # $0.02
PRICE = Decimal("0.02")


async def test_never_exceeded(simulator: Simulator, client_of: ClientOf) -> None:
    """A dollar under 200 submits at once, through refusals, outages and lost answers."""
    faults = [Fault.status(429), Fault.status(503), Fault.status(400), Fault.lost_answer()]
    simulator.faults.submit(*(faults * 5))
    budget = Budget(1)
    client = client_of(simulator, budget=budget)
    ended = await asyncio.gather(
        *(client.generate(MOON) for _ in range(200)), return_exceptions=True
    )
    assert budget.spent == simulator.charged == 50 * PRICE == 1
    kept = [one for one in ended if isinstance(one, Result | SubmitUncertainError)]
    refused = [one for one in ended if isinstance(one, ApixoError) and one.bought is False]
    assert (len(kept), len(refused)) == (50, 150)
    assert sum(isinstance(one, BudgetExceededError) for one in refused) > 100


async def test_what_is_refused_is_given_back(simulator: Simulator, client_of: ClientOf) -> None:
    """A submit that bought nothing leaves the money to the next one."""
    simulator.faults.submit(Fault.status(400), Fault.status(401), Fault.refused())
    budget = Budget(PRICE)
    client = client_of(simulator, budget=budget)
    for _ in range(2):
        with pytest.raises(APIStatusError):
            await client.submit(MOON)
        assert budget.spent == 0
    task = await client.submit(MOON)  # at its second try
    assert budget.left == 0
    with pytest.raises(BudgetExceededError) as caught:
        await client.submit(MOON, tag="customer-42")
    assert (caught.value.bought, caught.value.left, caught.value.tag) == (False, 0, "customer-42")
    assert isinstance(await task, Result)
    assert simulator.count("submit") == 3


async def test_an_uncertain_submit_is_counted(simulator: Simulator, client_of: ClientOf) -> None:
    """It may have been bought, whatever is presumed of it later."""
    receiver = WebhookReceiver("https://example.com/apixo", secret="a secret of sixteen bytes")
    simulator.deliver_to(receiver.asgi())
    simulator.callbacks.next(Callback(lost=True))
    simulator.faults.submit(Fault.lost_answer())
    budget = Budget("0.90")
    client = client_of(simulator, budget=budget, webhooks=receiver)
    with pytest.raises(SubmitUncertainError) as caught:
        await client.submit(MOON)
    assert caught.value.task is not None
    while budget.left:
        await client.generate(MOON)
    with pytest.raises(PresumedNotBoughtError):
        await caught.value.task
    assert budget.spent == simulator.charged == Decimal("0.90")


async def test_posts_under_way_at_a_renewal(simulator: Simulator, client_of: ClientOf) -> None:
    """What the service charges in a new day is not exceeded by what was sent in the old one."""
    loop = asyncio.get_running_loop()
    midnight = datetime(2026, 11, 29, tzinfo=UTC)
    start = midnight.timestamp() - loop.time() - 1
    budget = Budget("0.20", per="day", clock=lambda: start + loop.time())
    client = client_of(simulator, latency=4.0, budget=budget)
    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(client.submit(MOON))
        await asyncio.sleep(1.5)
        with pytest.raises(BudgetExceededError):
            await client.submit(MOON)
    assert simulator.charged == budget.spent == Decimal("0.20")


async def test_a_key_that_another_client_buys_just_then(
    simulator: Simulator, client_of: ClientOf
) -> None:
    """Both set the money aside, and one gives it back."""
    budget, store = Budget(1), MemoryStore()
    clients = [client_of(simulator, budget=budget, store=store) for _ in range(5)]
    tasks = await asyncio.gather(*(client.submit(MOON, key="order-1") for client in clients))
    assert len({task.id for task in tasks}) == simulator.created == 1
    assert budget.spent == PRICE


async def test_it_renews(simulator: Simulator, client_of: ClientOf) -> None:
    """The error says when; from then on there is money again."""
    loop = asyncio.get_running_loop()
    midnight = datetime(2026, 11, 29, tzinfo=UTC)
    start = midnight.timestamp() - loop.time() - 600
    client = client_of(
        simulator, budget=Budget(PRICE, per="day", clock=lambda: start + loop.time())
    )
    await client.submit(MOON)
    with pytest.raises(BudgetExceededError, match="renews at 2026-11-29 00:00 UTC") as caught:
        await client.submit(MOON)
    assert caught.value.renews_at == midnight
    await asyncio.sleep(600)
    await client.generate(MOON)


async def test_one_budget_of_two_clients_and_a_map(
    simulator: Simulator, client_of: ClientOf, tmp_path: Path
) -> None:
    """It ends a map as `max_cost` does; the next run of the journal goes on."""
    budget = Budget("0.10", name="november")
    await client_of(simulator, budget=budget).generate(MOON)
    client = client_of(simulator, budget=budget)
    outcomes = client.map([MOON] * 9, journal=tmp_path / "run.db", raise_at_end=False)
    assert sum([outcome.ok async for outcome in outcomes]) == 4
    assert isinstance(outcomes.ended_by, BudgetExceededError)
    assert "november: the next task" in str(outcomes.ended_by)
    async with client_of(simulator).map([MOON] * 9, journal=tmp_path / "run.db") as rest:
        assert sum([outcome.ok async for outcome in rest]) == 9
    assert simulator.created == 10


async def test_a_key_that_is_bought_costs_nothing(
    simulator: Simulator, client_of: ClientOf
) -> None:
    """It is found, whatever is left."""
    budget = Budget(PRICE)
    client = client_of(simulator, budget=budget, store=MemoryStore())
    task = await client.submit(MOON, key="order-1")
    assert (await client.submit(MOON, key="order-1")).id == task.id
    with pytest.raises(BudgetExceededError):
        await client.submit(MOON, key="order-2")
    assert await client.find("order-2") is None


async def test_a_price_is_needed(simulator: Simulator, client_of: ClientOf) -> None:
    """Nothing is bought whose price is not known, until one is given."""
    video = OtherModel("sora-2", prompt="a paper moon")
    with pytest.raises(ConfigurationError, match="the documents give no price") as caught:
        await client_of(simulator, budget=Budget(1)).submit(video)
    assert caught.value.bought is False
    budget = Budget(1)
    await client_of(simulator, budget=budget, prices={"sora-2": "0.5"}).submit(video)
    assert budget.left == Decimal("0.5")

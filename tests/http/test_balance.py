from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal

import pytest

from apixo_async import (
    APIConnectionError,
    APITimeoutError,
    AsyncClient,
    AuthenticationError,
    ClientClosedError,
    InternalServerError,
    Timeouts,
)
from apixo_async.testing import Fault, Simulator

ClientOf = Callable[..., AsyncClient]


async def test_exact_number(client_of: ClientOf) -> None:
    """The bare number of the service is returned as it is written, not as a float."""
    client = client_of(Simulator(balance=Decimal("74.87")))
    assert await client.balance() == Decimal("74.87")


FAULTS = [
    Fault.status(500),
    Fault.status(429),
    Fault.html(200),
    Fault.data_null(),
    Fault.lost_answer(),
    Fault.refused(),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_passing_fault(simulator: Simulator, client_of: ClientOf, fault: Fault) -> None:
    """A balance is asked for again after any passing fault."""
    simulator.faults.balance(fault, fault)
    assert await client_of(simulator).balance() == 1_000
    assert simulator.faults.left == 0


async def test_refusal_is_final(simulator: Simulator, client_of: ClientOf) -> None:
    """A wrong key is said at once."""
    simulator.faults.balance(Fault.status(401))
    with pytest.raises(AuthenticationError, match="check the API key"):
        await client_of(simulator).balance()
    assert simulator.count("balance") == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.status(500), InternalServerError),
        (Fault.hang(), APITimeoutError),
        (Fault.html(200), APIConnectionError),
    ],
    ids=["500", "hang", "HTML"],
)
async def test_budget_of_repeats(
    simulator: Simulator, client_of: ClientOf, fault: Fault, error: type[Exception]
) -> None:
    """When nothing helps, the last error comes within the budget and an exchange at each end."""
    simulator.faults.balance(Fault.repeat(1_000, fault))
    client = client_of(simulator, timeout=Timeouts(retry=60.0, exchange=20.0))
    start = asyncio.get_running_loop().time()
    with pytest.raises(error):
        await client.balance()
    assert 20.0 <= asyncio.get_running_loop().time() - start <= 100.0


async def test_429s_spend_no_budget(simulator: Simulator, client_of: ClientOf) -> None:
    """Time under 429 spends nothing of the budget of repeats."""
    simulator.faults.balance(Fault.repeat(4, Fault.status(429, retry_after=4.0)))
    client = client_of(simulator, timeout=Timeouts(retry=10.0))
    assert await client.balance() == 1_000


@pytest.mark.parametrize("fault", [Fault.status(500), Fault.hang()], ids=lambda fault: fault.name)
async def test_closed_meanwhile(simulator: Simulator, client_of: ClientOf, fault: Fault) -> None:
    """A close ends a balance that is asked for, in a pause or an exchange; nothing more is sent."""
    simulator.faults.balance(*[fault] * 20)
    client = client_of(simulator)
    asking = asyncio.create_task(client.balance())
    await asyncio.sleep(3.0)
    sent, start = simulator.count("balance"), asyncio.get_running_loop().time()
    await client.aclose()
    with pytest.raises(ClientClosedError):
        await asking
    assert asyncio.get_running_loop().time() - start < 5.0
    await asyncio.sleep(200.0)
    assert simulator.count("balance") == sent > 0

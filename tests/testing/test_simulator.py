"""Simulator: the ways to the service, in process and as an app."""

from __future__ import annotations

import asyncio

import httpx2
import pytest

from apixo_async.testing import Simulator, SimulatorTransport
from apixo_async.testing.options import KEY

HEADERS = {"Authorization": f"Bearer {KEY}"}
BALANCE = "https://api.apixo.ai/api/v1/apikeys/current-balance"


async def test_transport_with_a_latency() -> None:
    """The way in process takes the latency that was asked for, and reaches this very service."""
    simulator = Simulator()
    transport = simulator.transport(latency=2.0)
    assert isinstance(transport, SimulatorTransport)
    async with httpx2.AsyncClient(transport=transport, headers=HEADERS) as client:
        start = asyncio.get_running_loop().time()
        answer = await client.get(BALANCE)
    assert answer.json()["data"] == 1000
    assert asyncio.get_running_loop().time() - start == pytest.approx(2.0)
    assert simulator.count("balance") == 1


async def test_app() -> None:
    """The app answers for this very service."""
    simulator = Simulator()
    transport = httpx2.ASGITransport(app=simulator.app())
    async with httpx2.AsyncClient(transport=transport, headers=HEADERS) as client:
        assert (await client.get(BALANCE)).status_code == 200
    assert simulator.count("balance") == 1

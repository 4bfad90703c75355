from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from apixo_async import (
    AsyncClient,
    ClientClosedError,
    FluxKontext,
    Limiter,
    Limits,
    Result,
    SubmitUncertainError,
    Task,
)
from apixo_async._core.turns import Urgency
from apixo_async._downloads import Downloader
from apixo_async._limiter import Permit
from apixo_async.testing import Fault, Simulator

from .stepping import Stepped

pytestmark = pytest.mark.anyio
T = TypeVar("T")
CASTLE = FluxKontext(mode="pro", prompt="a castle")
HELD = 200.0  # seconds after which the tasks of these tests, and the slots held, are over
AGE_LIMIT = 1_900.0  # seconds after which a task that nobody looks at gives its slot back


class Scene:
    """A client for one try, and the rules that hold however the try was cut short."""

    def __init__(self, *, requests: int = 6) -> None:
        self.simulator = Simulator(seed=1, durations=10.0, speed=1.0)
        self.limiter = Limiter(Limits(concurrent_tasks=1, requests_per_minute=requests))
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
        """Take the slot, the permits and the places, each given back a second after the other."""
        loop = asyncio.get_running_loop()
        gate = self.client._life.engine().line.gate
        slot = await self.limiter.slot()
        permits = [await self.limiter.permit(Urgency.ASKED) for _ in range(self.burst)]
        for _ in range(gate.table.size):
            await gate.enter(for_submit=True)
        loop.call_later(1.0, slot.release)
        for permit in permits:
            loop.call_later(2.0, permit.unused)
        for _ in range(gate.table.size):
            loop.call_later(3.0, gate.leave, None)

    @property
    def burst(self) -> int:
        return max(1, self.limiter.limits.requests_per_minute // 10)

    def check_idle(self, *clients: AsyncClient) -> None:
        """Nobody holds or waits for anything."""
        assert self.limiter.slots_used == 0
        assert self.limiter.slots_waiting == 0
        assert self.limiter.permits_waiting == 0
        assert self.limiter._permits.in_flight == 0
        for client in (self.client, *clients):
            engine = client._life._engine
            assert engine is None or engine.line.gate.table.used == 0

    async def check_afterwards(self) -> None:
        """Everything is given back, the client works, and its close leaves nothing pending."""
        await asyncio.sleep(HELD)
        self.check_idle()
        assert (await self.client.generate(CASTLE)).urls
        self.check_idle()
        await self.client.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def cut_everywhere(
    try_once: Callable[[Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]]], Awaitable[None]],
) -> int:
    """Try something again and again, cancelled at each suspension in turn; return their count.

    Both when it begins to wait there, and when what it waits for has come.
    """
    for late in (False, True):
        for at in itertools.count(1):
            tries: list[Stepped[Any]] = []
            ends: list[asyncio.Task[Any]] = []

            async def cut(
                work: Coroutine[Any, Any, Any], at: int = at, late: bool = late
            ) -> asyncio.Task[Any]:
                stepped = Stepped(work, at=at, late=late)

                async def steps() -> Any:
                    return await stepped

                ends.append(asyncio.create_task(steps()))
                tries.append(stepped)
                await asyncio.wait(ends)
                return ends[0]

            await try_once(cut)
            if tries[0].points < at:
                assert not ends[0].cancelled()
                break
            assert ends[0].cancelled()
    return at - 1

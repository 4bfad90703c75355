"""Random lives of maps: every fault, every end, and no task is lost or bought twice."""

from __future__ import annotations

import asyncio
import gc
import random
import warnings
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import patch

import pytest

from apixo_async import (
    ApixoError,
    AsyncClient,
    FluxKontext,
    Limiter,
    Limits,
    Outcome,
    SubmitUncertainError,
    Task,
)
from apixo_async.testing import Simulator, VirtualTimeLoop

from ..support.maps import castle, mapped
from ..support.simulation.clocks import EPOCH
from ..support.simulation.settings import AGE_LIMIT, TIMEOUTS
from ..support.simulation.trouble import script_trouble


class MapLife:
    """One map over a troubled service, ended somehow."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.tasks = rng.randint(1, 8)
        requests = rng.choice((30, 60, 200, 1_000))
        self.simulator = Simulator(
            seed=seed,
            concurrent_tasks=self.tasks,
            requests_per_minute=requests,
            failure_rate=rng.choice((0.0, 0.2)),
            durations=lambda *given: given[2].uniform(0, 60),
        )
        script_trouble(self.simulator, rng)
        self.limiter = Limiter(Limits(self.tasks, requests), seed=seed)
        self.orphans: list[Task | SubmitUncertainError] = []
        self.client = AsyncClient(
            "test-key",
            limiter=self.limiter,
            transport=self.simulator.transport(lambda source: source.uniform(0, 1.5)),
            timeout=TIMEOUTS,
            on_orphan=self.orphans.append,
            seed=seed,
        )
        self.taken: list[Outcome] = []
        self.attempts = rng.choice((1, 1, 3))
        self.end = rng.choice(("end", "end", "break", "raise", "cancel", "close", "stop", "drop"))

    async def rows(self) -> AsyncIterator[FluxKontext]:
        slow = self.rng.random() < 0.2
        for number in range(self.rng.randint(1, 60)):
            if slow:
                await asyncio.sleep(self.rng.uniform(0, 5))
            yield castle(number)
        if self.rng.random() < 0.1:
            raise OSError("the rows are gone")

    async def live(self) -> None:
        work = asyncio.create_task(self.work())
        if self.end in ("cancel", "close"):
            await asyncio.wait((work,), timeout=self.rng.uniform(0, 120))
            work.cancel() if self.end == "cancel" else await self.client.aclose()
        await asyncio.wait((work,), timeout=20 * AGE_LIMIT)
        assert work.done()
        error = None if work.cancelled() else work.exception()
        assert error is None or isinstance(error, ApixoError | OSError), error
        del work, error
        gc.collect()
        await asyncio.sleep(AGE_LIMIT)
        await self.client.aclose()
        self.check()
        await asyncio.sleep(AGE_LIMIT)
        assert self.limiter.slots_used == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def work(self) -> None:
        options: dict[str, Any] = {
            "ordered": self.rng.random() < 0.5,
            "attempts": self.attempts,
        }
        left_at = self.rng.randint(0, 30)
        outcomes = mapped(self.client, self.rows(), **options)
        if self.end == "drop":
            async for one in outcomes:
                self.taken.append(one)
                if len(self.taken) > left_at:
                    return
            return
        async with outcomes:
            async for one in outcomes:
                self.taken.append(one)
                assert outcomes.progress.in_progress <= 2 * self.tasks
                if len(self.taken) == left_at and self.end == "stop":
                    outcomes.stop()
                if len(self.taken) == left_at and self.end in ("break", "raise"):
                    break
            if self.end == "raise":
                raise OSError("the disk is full")
        async for one in outcomes:
            self.taken.append(one)  # one by one: what comes before an exception counts
        progress = outcomes.progress
        assert (progress.in_progress, progress.read) == (0, len(self.taken))

    def check(self) -> None:
        known: Counter[str] = Counter(one.task.id for one in self.taken if one.task)
        known.update(one.id for one in self.orphans if isinstance(one, Task))
        assert not known or max(known.values()) == 1
        unfinished = {ref.task_id for ref in self.client.unfinished}
        uncertain = Counter(
            str(getattr(one.input, "prompt", ""))
            for one in (*(one.error for one in self.taken), *self.orphans)
            if isinstance(one, SubmitUncertainError)
        )
        made = Counter(task.prompt for task in self.simulator.tasks.values())
        bought = {one.input.prompt: one.purchases for one in self.taken if _named(one.input)}
        for prompt, count in made.items():
            assert count <= self.attempts, f"{prompt} was bought {count} times"
            if prompt in bought:
                assert count - bought[prompt] in (0, uncertain[prompt])
        lost = [
            task
            for task in self.simulator.tasks.values()
            if task.id not in known and task.id not in unfinished and not uncertain[task.prompt]
        ]
        # What failed and was bought again is known by its successor.
        assert all(task.fail_code and self.attempts > 1 for task in lost), lost
        assert len({one.key for one in self.taken}) == len(self.taken)


def _named(given: object) -> bool:
    return isinstance(given, FluxKontext)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "seeds", [range(8), pytest.param(range(8, 200), marks=pytest.mark.long)], ids=str
)
def test_lives_of_maps(seeds: range) -> None:
    """Whatever the service does and however the map ends, each paid task is known once."""
    ends: Counter[str] = Counter()
    for seed in seeds:
        life, loop = MapLife(seed), VirtualTimeLoop()
        problems: list[str] = []
        loop.set_exception_handler(lambda _, context, told=problems: told.append(str(context)))
        with (
            warnings.catch_warnings(),
            patch("time.time", lambda loop=loop: EPOCH + loop.time()),
            asyncio.Runner(loop_factory=lambda loop=loop: loop) as runner,
        ):
            if life.end == "drop":
                warnings.simplefilter("ignore", ResourceWarning)
            try:
                runner.run(life.live())
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, {life.end}: {error}") from error
        assert problems == [], f"seed {seed}, {life.end}"
        ends[life.end] += 1
    assert len(ends) > 4

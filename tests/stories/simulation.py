"""One random life of a client and its callers in virtual time, replayed from its seed alone.

`python -m tests.stories.simulation 17` lives seed 17 again and prints what went wrong.
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from unittest.mock import patch

from apixo_async import (
    APIStatusError,
    ApixoError,
    AsyncClient,
    Event,
    FluxKontext,
    Limiter,
    Limits,
    PollerDiedError,
    Polling,
    SubmitUncertainError,
    Task,
    TaskNotFoundError,
    Timeouts,
)
from apixo_async.testing import Exchange, Simulator, VirtualTimeLoop

from .books import Books
from .trouble import script_trouble

T = TypeVar("T")

TIMEOUTS: Final = Timeouts(connect=2, read=6, write=2, exchange=8, retry=20, throttled=40)
CLOSING: Final = 5.0  # what `aclose` gives the connections
AGE_LIMIT: Final = 1_900.0  # after which even a task at which nobody may look has given its slot up
LONGEST: Final = 10 * AGE_LIMIT  # of a life: the callers queue for the slots of such tasks
EPOCH: Final = 1_700_000_000.0
MODEL: Final = "flux-kontext"
MISSING: Final = (400, 404, 410, 422)


@dataclass(frozen=True, slots=True)
class Report:
    """What one life came to.

    Attributes:
        seed: Replays it.
        problems: The rules that were broken.
        log: What the service saw.
        met: How often what happened.
    """

    seed: int
    problems: tuple[str, ...]
    log: tuple[Exchange, ...]
    met: Counter[str]

    def __str__(self) -> str:
        replay = f"python -m tests.stories.simulation {self.seed}"
        return "\n  ".join((replay, *self.problems))


class Life:
    """A service, a client, a crowd of callers, and an heir that takes up what the client left."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.problems: list[str] = []
        self.met: Counter[str] = Counter()
        self.handles: list[Task] = []
        tasks, requests = rng.randint(1, 8), rng.choice((6, 12, 30, 60, 200, 1000))
        self.limits = Limits(tasks, requests)
        # A service with tighter limits than the client was told answers 429.
        self.told_right = rng.random() < 0.7
        tighter = 1 if self.told_right else 2
        self.simulator = Simulator(
            seed=seed,
            concurrent_tasks=max(1, tasks // tighter),
            requests_per_minute=requests // tighter,
            failure_rate=rng.choice((0.0, 0.1, 0.5)),
            durations=lambda *given: given[2].uniform(0, 100),
        )
        script_trouble(self.simulator, rng)
        self.books = Books(self.simulator)
        self.limiter = Limiter(self.limits, seed=seed)
        self.slowest = rng.choice((0.05, 0.5, 1.5))
        fixed = Polling.fixed(rng.uniform(0, 10), rng.uniform(1, 10))
        self.polling = rng.choice((Polling.documented(), fixed))
        self._events = 0
        self._moments: list[tuple[int, asyncio.Future[None]]] = []

    # --- the course of it ----------------------------------------------------------------

    async def live(self) -> None:
        """Live to the end, and leave in `problems` whatever broke a rule."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.problems.append(f"loop: {context}"))
        client = self.client()
        callers = [
            loop.create_task(self._call(client, random.Random(self.rng.random())))
            for _ in range(self.rng.randint(4, 12))
        ]
        if self.rng.random() < 0.6:
            await self._moment(self.rng, 200)
            self.met["closed early"] += 1
            await self._close(client, self.rng)
        ended, late = await asyncio.wait(callers, timeout=LONGEST)
        self.problems += [f"never ended: {caller.get_stack()}" for caller in late]
        for caller in ended:
            caller.result()
        await self._close(client, self.rng)
        self.problems += self.books.problems(client.unfinished)
        await self._inherit(client)
        self._check()

    def client(self) -> AsyncClient:
        """Make a client; all of them share one limiter."""
        steady = self.rng.random() < 0.3
        return AsyncClient(
            "test-key",
            limiter=self.limiter,
            polling=self.polling,
            transport=self.simulator.transport(
                0.05 if steady else lambda source: source.uniform(0, self.slowest)
            ),
            timeout=TIMEOUTS,
            on_event=self._noted,
            on_orphan=self._orphaned,
            seed=self.rng.randrange(1000),
        )

    async def _close(self, client: AsyncClient, rng: random.Random) -> None:
        """Close the client, at times twice at once, or cancelled: in bounded time always."""
        loop, drain = asyncio.get_running_loop(), rng.choice((0.0, 0.0, 5.0, 60.0))
        start = loop.time()
        closing = loop.create_task(client.aclose(drain))
        if rng.random() < 0.2:
            await self._moment(rng, 5)
            closing.cancel()
        await asyncio.wait((closing, loop.create_task(client.aclose())))
        await asyncio.wait((closing,))
        if not closing.cancelled():
            closing.result()
        if loop.time() - start > TIMEOUTS.exchange + drain + CLOSING + 0.001:
            self.problems.append(f"closing took {loop.time() - start} s, {drain=}")

    async def _inherit(self, client: AsyncClient) -> None:
        """Have a second client end what the first one left."""
        async with self.client() as heir:
            for task in [heir.attach(ref) for ref in client.unfinished]:
                self.handles.append(task)
                self.met["inherited"] += 1
                await self._do(self.rng, task.until(None), 0.0)
            left = heir.unfinished
        if heir.unfinished != left:
            self.problems.append(f"unfinished: {heir.unfinished}, before closing {left}")

    # --- what happens when ---------------------------------------------------------------

    def _noted(self, event: Event) -> None:
        self._events += 1
        self.met[type(event).__name__] += 1
        for number, moment in self._moments:
            if number == self._events and not moment.done():
                moment.set_result(None)

    def _orphaned(self, orphan: Task | SubmitUncertainError) -> None:
        self.met[f"orphaned {type(orphan).__name__}"] += 1
        self.books.orphan(orphan)

    async def _moment(self, rng: random.Random, within: float) -> None:
        """Wait for any time, or for a few steps of the loop after an event of a client."""
        if rng.random() < 0.5:
            await asyncio.sleep(rng.uniform(0, within))
            return
        moment: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._moments.append((self._events + rng.randint(1, 8), moment))
        await asyncio.wait((moment,), timeout=within)
        for _ in range(rng.randrange(5)):
            await asyncio.sleep(0)

    # --- the callers ---------------------------------------------------------------------

    async def _call(self, client: AsyncClient, rng: random.Random) -> None:
        acts = (self._buy, self._buy, self._generate, self._attach, self._balance)
        for _ in range(rng.randint(1, 3)):
            await asyncio.sleep(rng.choice((0.0, rng.uniform(0, 60))))
            await rng.choice(acts)(client, rng)

    async def _do(
        self, rng: random.Random, work: Coroutine[Any, Any, T], cut: float
    ) -> T | ApixoError | None:
        """Do something, cancelled with a probability; return what the caller was told."""
        loop = asyncio.get_running_loop()
        caller = loop.create_task(work)
        if rng.random() < cut:
            await self._moment(rng, 30)
            start, cancelled = loop.time(), caller.cancel()
            await asyncio.wait((caller,))
            if cancelled:
                self.met["cancelled"] += 1
                if not caller.cancelled() or loop.time() != start:
                    self.problems.append(f"was not cancelled at once: {caller}")
                    caller.cancelled() or caller.exception()
                return None
        await asyncio.wait((caller,))
        if caller.cancelled():
            self.problems.append(f"cancelled by nobody: {caller}")
            return None
        error = caller.exception()
        self.met[type(error).__name__] += 1
        if isinstance(error, PollerDiedError) or not isinstance(error, ApixoError | None):
            self.problems.append(f"{work} raised {error!r}")
        return caller.result() if error is None else error if isinstance(error, ApixoError) else None

    async def _buy(self, client: AsyncClient, rng: random.Random) -> None:
        prompt = self.books.new_prompt()
        castle = FluxKontext(mode="pro", prompt=prompt)
        self.books.submits[prompt] += 1
        timeout = rng.choice((None, None, rng.uniform(0, 60)))
        task = await self._do(rng, client.submit(castle, timeout=timeout), 0.4)
        self.books.told(prompt, task)
        if isinstance(task, SubmitUncertainError) and rng.random() < 0.5:
            self.books.submits[prompt] += 1
            task = await self._do(rng, client.resubmit(task), 0.2)
            self.books.told(prompt, task)
        if isinstance(task, Task) and rng.random() < 0.9:  # else the handle is dropped
            await self._follow(task, rng)

    async def _generate(self, client: AsyncClient, rng: random.Random) -> None:
        prompt = self.books.new_prompt()
        self.books.submits[prompt] += 1
        castle = FluxKontext(mode="pro", prompt=prompt)
        timeout = rng.choice((None, rng.uniform(0, 120)))
        self.books.told(prompt, await self._do(rng, client.generate(castle, timeout=timeout), 0.4))

    async def _attach(self, client: AsyncClient, rng: random.Random) -> None:
        known = rng.choice((*self.simulator.tasks, "task_unknown"))
        try:
            task = client.attach(MODEL, known)
        except ApixoError as error:
            self.met[type(error).__name__] += 1
            return
        self.met["attached"] += 1
        await self._follow(task, rng)

    async def _balance(self, client: AsyncClient, rng: random.Random) -> None:
        await self._do(rng, client.balance(), 0.3)

    async def _follow(self, task: Task, rng: random.Random) -> None:
        self.handles.append(task)
        ways = (
            lambda: task.until(None),
            lambda: task.wait(rng.uniform(0, 60)),
            task.refresh,
            lambda: _watch(task),
        )
        for _ in range(rng.randint(1, 3)):
            told = await self._do(rng, rng.choice(ways)(), 0.3)
            if isinstance(told, APIStatusError):  # it may be that looks pause until asked for
                await self._do(rng, task.refresh(), 0.0)

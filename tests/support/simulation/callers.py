"""The callers of a simulated life: they buy, wait, poll, attach and are cancelled at any moment."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine
from typing import Any, Final, Protocol, TypeVar, cast

from apixo_async import (
    APIStatusError,
    ApixoError,
    AsyncClient,
    AuthenticationError,
    Event,
    FluxKontext,
    PermissionDeniedError,
    PollerDiedError,
    Result,
    SubmitUncertainError,
    Task,
)
from apixo_async.testing import Simulator

from .books import Books, prompt_of
from .rules import Witness

T = TypeVar("T")

MODEL: Final = "flux-kontext"


class Shop(Protocol):
    """Where callers buy: a process whose client may be another one at any time."""

    @property
    def client(self) -> AsyncClient: ...


class Crowd:
    """Everybody who uses a client, and what was noticed of it.

    Attributes:
        problems: The rules that were broken.
        met: How often what happened.
        handles: The tasks that somebody held.
        results: What somebody was given.
        denied: Those who waited for these tasks were told that the key may not ask.
        doubts: The uncertain submits whose task a callback may name, and nobody awaits yet.
        books: Who paid for what.
        witness: What the clients told by themselves.
        loop_ends: Whether the loop is about to end under a client, of which its poller dies.
    """

    def __init__(self, simulator: Simulator) -> None:
        self.problems: list[str] = []
        self.met: Counter[str] = Counter()
        self.handles: list[Task] = []
        self.results: list[Result] = []
        self.denied: list[tuple[str, ApixoError]] = []
        self.doubts: list[SubmitUncertainError] = []
        self.books = Books(simulator)
        self.witness = Witness()
        self.loop_ends = False
        self._simulator = simulator
        self._resolved: list[SubmitUncertainError] = []
        self._events = 0
        self._moments: list[tuple[int, asyncio.Future[None]]] = []

    def noted(self, client: int, event: Event) -> None:
        name = type(event).__name__
        self._events += name != "CallbackReceived"  # What it causes is an event as well.
        self.met[name] += 1
        if name == "PollerDied" and not self.loop_ends:
            self.problems.append(str(event))
        self.witness.note(client, event, self._simulator.now())
        for number, moment in self._moments:
            if number == self._events and not moment.done():
                moment.set_result(None)

    def orphaned(self, orphan: Task | SubmitUncertainError) -> None:
        self.met[f"orphaned {type(orphan).__name__}"] += 1
        self.books.orphan(orphan)
        if isinstance(orphan, SubmitUncertainError) and orphan.task is not None:
            self.doubts.append(orphan)

    async def moment(self, rng: random.Random, within: float) -> None:
        """Wait for any time, or for a few steps of the loop after an event of a client."""
        if rng.random() < 0.5:
            await asyncio.sleep(rng.uniform(0, within))
            return
        moment: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._moments.append((self._events + rng.randint(1, 8), moment))
        await asyncio.wait((moment,), timeout=within)
        for _ in range(rng.randrange(5)):
            await asyncio.sleep(0)

    async def call(self, shop: Shop, rng: random.Random, most: int = 3) -> None:
        acts = (self._buy, self._buy, self._generate, self._attach, self._balance)
        for _ in range(rng.randint(1, most)):
            await asyncio.sleep(rng.choice((0.0, rng.uniform(0, 60))))
            await rng.choice(acts)(shop.client, rng)

    async def resolve(self, error: SubmitUncertainError, rng: random.Random, cut: float) -> None:
        """Wait for what became of an uncertain submit, where a callback may tell."""
        if error.task is None or any(error is one for one in self._resolved):
            return
        self._resolved.append(error)
        task = cast("Task", error.task)
        self.handles.append(task)
        told = await self.do(rng, task.until(None), cut)
        self.met["doubt resolved"] += 1
        self.books.resolved(prompt_of(error), told)

    async def do(
        self, rng: random.Random, work: Coroutine[Any, Any, T], cut: float
    ) -> T | ApixoError | None:
        """Do something, cancelled with a probability; return what the caller was told."""
        loop = asyncio.get_running_loop()
        caller = loop.create_task(work)
        if rng.random() < cut:
            await self.moment(rng, 30)
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
            self.problems.append(f"{work.__qualname__} raised {error!r}")
        if error is not None:
            return error if isinstance(error, ApixoError) else None
        told = caller.result()
        if isinstance(told, Result):
            self.results.append(told)
        return told

    async def _buy(self, client: AsyncClient, rng: random.Random) -> None:
        prompt = self.books.new_prompt()
        castle = FluxKontext(mode="pro", prompt=prompt)
        self.books.submits[prompt] += 1
        timeout = rng.choice((None, None, rng.uniform(0, 60)))
        task = await self.do(rng, client.submit(castle, timeout=timeout), 0.4)
        self.books.told(prompt, task)
        if isinstance(task, SubmitUncertainError) and rng.random() < 0.5:
            await self.resolve(task, rng, 0.2)
        if isinstance(task, SubmitUncertainError) and rng.random() < 0.5:
            self.books.submits[prompt] += 1
            task = await self.do(rng, client.resubmit(task), 0.2)
            self.books.told(prompt, task)
        if isinstance(task, SubmitUncertainError):
            await self.resolve(task, rng, 0.2)
        if isinstance(task, Task) and rng.random() < 0.9:  # else the handle is dropped
            await self._follow(task, rng)

    async def _generate(self, client: AsyncClient, rng: random.Random) -> None:
        prompt = self.books.new_prompt()
        self.books.submits[prompt] += 1
        castle = FluxKontext(mode="pro", prompt=prompt)
        timeout = rng.choice((None, rng.uniform(0, 120)))
        told = await self.do(rng, client.generate(castle, timeout=timeout), 0.4)
        self.books.told(prompt, told)
        if isinstance(told, SubmitUncertainError):
            await self.resolve(told, rng, 0.2)

    async def _attach(self, client: AsyncClient, rng: random.Random) -> None:
        known = rng.choice((*self._simulator.tasks, "task_unknown"))
        if rng.random() < 0.2:
            self.met["mistyped"] += 1
            known = rng.choice(
                (known[:-1], f"{known} ", f"{known}0", known.upper(), f"task/{known}")
            )
        try:
            task = client.attach(MODEL, known)
        except ApixoError as error:
            self.met[type(error).__name__] += 1
            return
        self.met["attached"] += 1
        await self._follow(task, rng)

    async def _balance(self, client: AsyncClient, rng: random.Random) -> None:
        await self.do(rng, client.balance(), 0.3)

    async def _follow(self, task: Task, rng: random.Random) -> None:
        self.handles.append(task)
        ways = (
            lambda: task.until(None),
            lambda: task.wait(rng.uniform(0, 60)),
            task.refresh,
            lambda: _watch(task),
        )
        for _ in range(rng.randint(1, 3)):
            way = rng.choice(ways)
            told = await self.do(rng, way(), 0.3)
            if way != task.refresh and isinstance(
                told, AuthenticationError | PermissionDeniedError
            ):
                self.denied.append((task.id, told))
            if isinstance(told, APIStatusError):  # it may be that polls pause until asked for
                await self.do(rng, task.refresh(), 0.0)


async def _watch(task: Task) -> None:
    async for _ in task.updates():
        pass

"""Where a map buys: the parts of its client that it uses, and purchases that it can end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from apixo_async._calls import Calls
from apixo_async._config import Timeouts
from apixo_async._core.errors import ApixoError, ClientClosedError
from apixo_async._core.events import TaskOrphaned
from apixo_async._core.task_errors import SubmitUncertainError
from apixo_async._core.values import Delivery, TaskInput
from apixo_async._life import Life
from apixo_async._submits import Submitter
from apixo_async._task import Task


@dataclass(frozen=True, slots=True)
class Shop:
    """What a map needs of its client.

    Attributes:
        life: Gives the engine.
        timeouts: The budgets of repeats.
        rng: The source of every jitter.
        orphan: Handed what was paid for and nobody holds.
    """

    life: Life
    timeouts: Timeouts
    rng: random.Random
    orphan: Callable[[Task | SubmitUncertainError], None]


class StoppedError(ClientClosedError):
    """The map was stopped while a purchase waited for its turn; never leaves the map."""


class Turns(Calls):
    """The waits for a turn of one map: its stop ends them, as the close of the client does.

    Neither ends a POST: what was sent gets its answer.
    """

    def __init__(self, client: Calls) -> None:
        super().__init__()
        self._client = client

    @asynccontextmanager
    async def open(self, deadline: float | None = None) -> AsyncGenerator[None]:
        """Wait for a turn, until the map is stopped or the client closed.

        Raises:
            TimeoutError: The deadline has passed.
            ClientClosedError: The client was closed, or the map stopped: `StoppedError`.
        """
        async with self._client.open(deadline), super().open():
            yield

    def stop(self) -> None:
        """End the waits."""
        self._reason = StoppedError("the map was stopped before its turn came")
        for bound in self._open:
            if not bound.expired():
                bound.reschedule(0.0)


class Counter:
    """Buy for one map, until it is stopped.

    Args:
        shop: Where.
        delivery: The options of every submit.

    Raises:
        ApixoError: The client is closed, or cannot be used here.
    """

    def __init__(self, shop: Shop, delivery: Delivery) -> None:
        engine = shop.life.engine()
        self.limiter = engine.line.limiter
        self._delivery = delivery
        self._poller = engine.poller
        self._orphan = shop.orphan
        self._report = engine.report
        self._turns = Turns(engine.calls)
        self._submitter = Submitter(
            line=engine.line,
            posts=engine.posts,
            report=engine.report,
            timeouts=shop.timeouts,
            rng=shop.rng,
            quota=engine.quota,
            calls=self._turns,
        )

    async def buy(self, task_input: TaskInput, pause: float) -> Task:
        """Buy one task after so many seconds.

        Raises:
            StoppedError: The map was stopped; nothing was bought.
            ApixoError: As `AsyncClient.submit` says.
        """
        try:
            if pause:
                async with self._turns.open():
                    await asyncio.sleep(pause)
            self._poller.check()
            track = await self._submitter.submit(task_input, self._delivery, None)
        except ApixoError as error:
            if not isinstance(error, SubmitUncertainError):
                error.bought = False
            raise
        return Task(track, self._poller)

    def is_crowded(self, queue: int) -> bool:
        """Say whether so many submits and looks, whosever, wait for their turn."""
        return self.limiter.slots_waiting + self.limiter.permits_waiting >= queue

    def stop(self) -> None:
        """End what waits for its turn, without a purchase; POSTs under way get their answers."""
        self._turns.stop()

    def hand_over(self, orphan: Task | SubmitUncertainError) -> None:
        """Give away what was paid for and nobody will take."""
        if isinstance(orphan, Task):
            self._report(TaskOrphaned(orphan.model, orphan.id))
        self._orphan(orphan)

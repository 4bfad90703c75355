"""Where a map buys: the parts of its client that it uses, and purchases that it can end."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TypeAlias

from apixo_async._calls import Calls
from apixo_async._config import Timeouts
from apixo_async._core.errors import ClientClosedError
from apixo_async._core.events import ResultDownloaded, TaskOrphaned
from apixo_async._core.task_errors import SubmitUncertainError
from apixo_async._core.values import Delivery, Result, TaskInput
from apixo_async._life import Life
from apixo_async._record import Record
from apixo_async._submits import Submitter
from apixo_async._task import Task

#: What was paid for, or may have been, and nobody holds.
Orphan: TypeAlias = Task | SubmitUncertainError


class Shop(NamedTuple):
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
    orphan: Callable[[Orphan], None]


class StoppedError(ClientClosedError):
    """The map was stopped while a purchase waited for its turn; never leaves the map."""


class Counter:
    """Buy for one map, until it is stopped.

    Args:
        shop: Where.
        delivery: The options of every submit.

    Raises:
        ApixoError: The client is closed, or cannot be used here.
    """

    def __init__(self, shop: Shop, delivery: Delivery) -> None:
        engine = self._engine = shop.life.engine()
        self.limiter = engine.line.limiter
        self._delivery = delivery
        self._orphan = shop.orphan
        self._report = engine.report
        self._sends = Calls(engine.calls)
        self._turns = Calls(self._sends)
        self._submitter = Submitter(
            line=engine.line,
            posts=engine.posts,
            poller=engine.poller,
            report=engine.report,
            timeouts=shop.timeouts,
            rng=shop.rng,
            quota=engine.quota,
            calls=self._turns,
            sends=self._sends,
        )

    def buy(
        self, task_input: TaskInput, pause: float, record: Record | None = None
    ) -> Coroutine[object, object, Task]:
        """Buy one task after so many seconds, and note it.

        Raises:
            StoppedError: The map was stopped; nothing was bought.
            ApixoError: As `AsyncClient.submit` says.
        """
        return self._submitter.submit(task_input, self._delivery, pause=pause, record=record)

    def attach(self, model: str, task_id: str) -> Task:
        """Return the handle of a task that an earlier run bought."""
        return self._engine.attach(model, task_id)

    def reopen(
        self, model: str, mark: str, sent_at: datetime | None, record: Record
    ) -> Task | None:
        """Wait for the callback of an uncertain submit of an earlier run, if there are webhooks."""
        callbacks = self._engine.callbacks
        if callbacks is None:
            return None
        age = 0.0 if sent_at is None else (datetime.now(UTC) - sent_at).total_seconds()
        slot = self.limiter.slot_above()
        track = callbacks.reopen(model, slot, mark, age=max(0.0, age), record=record)
        return Task(track, self._engine.poller)

    async def download(self, result: Result, target: Path) -> list[Path]:
        """Save every file of a result.

        Raises:
            DownloadError: A file could not be saved.
            ClientClosedError: The client was closed.
        """
        async with self._engine.calls.open():
            paths = await self._engine.downloader.download(result, target)
        self._report(ResultDownloaded(result.model, result.task_id, len(paths)))
        return paths

    async def posts_ended(self) -> None:
        """Wait for the POSTs under way, this map's among them."""
        await self._engine.posts.ended()

    def is_crowded(self, queue: int) -> bool:
        """Say whether so many submits and looks, whosever, wait for their turn."""
        return self.limiter.slots_waiting + self.limiter.permits_waiting >= queue

    def stop(self, *, queue_only: bool = False) -> None:
        """End what is not sent yet, without a purchase; POSTs that were sent get their answers.

        Args:
            queue_only: Whether purchases that have their turn, and their money reserved, go on.
        """
        calls = self._turns if queue_only else self._sends
        calls.end(StoppedError("the map was stopped before its turn came"))

    def hand_over(self, orphan: Orphan) -> None:
        """Give away what was paid for and nobody will take."""
        if isinstance(orphan, Task):
            self._report(TaskOrphaned(orphan.model, orphan.id))
        self._orphan(orphan)

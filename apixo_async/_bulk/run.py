"""A map at work: one reader, a purchase for each input in turn, and what became of them.

An input goes from the reader into a purchase, from there to the client, which looks at the task,
and ends on the shelf. Only a purchase has an asyncio.Task of this module's: a bought task calls
back when it is over.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from typing import Final

from apixo_async._bulk.ends import ended_by, error_of, not_bought
from apixo_async._bulk.items import Inputs, Item, items
from apixo_async._bulk.outcome import Outcome
from apixo_async._bulk.progress import Tally
from apixo_async._bulk.shelf import Shelf
from apixo_async._bulk.shop import Counter, StoppedError
from apixo_async._core.errors import ApixoError
from apixo_async._core.purchases import Luck, ends_buying, is_worth_another, pause_before
from apixo_async._core.task_errors import SubmitUncertainError
from apixo_async._core.values import Result
from apixo_async._task import Task
from apixo_async._track import Signal

#: Inputs read beyond the tasks at once, so that the next one stands ready when a slot comes back.
#: More would only stand in the way of the client's other callers.
AHEAD: Final = 32


class Run:
    """Buy for every input, hand out every outcome.

    Args:
        inputs: What to buy.
        open_counter: Opens where to buy; called at the start.
        rng: The source of the jitter.
        ordered: Whether outcomes are handed out in the order of the inputs.
        attempts: Tasks that may be bought for one input.
    """

    def __init__(
        self,
        inputs: Inputs,
        open_counter: Callable[[], Counter],
        rng: random.Random,
        *,
        ordered: bool,
        attempts: int,
    ) -> None:
        self._inputs = inputs
        self._open_counter = open_counter
        self._rng = rng
        self._attempts = attempts
        self._shelf = Shelf(ordered=ordered)
        self._luck = Luck()
        self._opened: Counter | None = None
        self._reader: asyncio.Task[None] | None = None
        self._purchases: set[asyncio.Task[Task]] = set()
        self._tasks: dict[asyncio.Future[Result], Item] = {}
        self._reason: ApixoError | None = None
        self._failure: BaseException | None = None
        self._room = Signal()
        self._news = Signal()
        self._is_read = self._is_given_away = False
        self.tally = Tally()
        self.stopped = False

    @property
    def is_over(self) -> bool:
        """Whether no outcome is to come beyond those on the shelf."""
        return self._is_read and not self.tally.in_progress

    @property
    def is_taken(self) -> bool:
        """Whether nothing is left to be handed out."""
        return self.is_over and not len(self._shelf)

    @property
    def _counter(self) -> Counter:
        assert self._opened is not None  # From the start on.
        return self._opened

    # --- handing out ---------------------------------------------------------------------

    async def take(self) -> Outcome:
        """Wait for the next outcome.

        Raises:
            StopAsyncIteration: There is none any more.
            Exception: What ended the buying, or the iterable's own; once, after all outcomes.
        """
        while (outcome := self._shelf.take()) is None:
            if self.is_over:
                raise self._end()
            await self._news.wait()
        self._room.fire()
        return outcome

    def _end(self) -> BaseException:
        reason, self._reason = self._reason, None
        if reason is not None and self._failure is None:
            self._failure = ended_by(reason, self.tally.progress())
        failure, self._failure = self._failure, None
        return StopAsyncIteration() if failure is None else failure

    # --- reading -------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to read and to buy, unless that was done already.

        Raises:
            ApixoError: The client is closed, or cannot be used here.
        """
        if self._reader is None and not self.stopped:
            self._opened = self._open_counter()
            self._reader = asyncio.get_running_loop().create_task(
                self._read_all(), name="apixo_async map"
            )
            self._reader.add_done_callback(self._has_read)

    async def _read_all(self) -> None:
        async with aclosing(items(self._inputs)) as found:
            await self._room_for_one()
            async for item in found:
                self._begin(item)
                await self._room_for_one()

    async def _room_for_one(self) -> None:
        # The purchase that was just begun joins its queue, and everybody else has a turn.
        await asyncio.sleep(0)
        if self.stopped:
            raise asyncio.CancelledError  # Again: the iterable has swallowed that of the stop.
        while not self._has_room():
            await self._room.wait()

    def _has_room(self) -> bool:
        tasks = self._counter.limiter.limits.concurrent_tasks
        ahead = min(tasks, AHEAD)
        held = self.tally.in_progress + len(self._shelf)
        if self.tally.in_progress >= tasks + ahead or held >= 2 * tasks + ahead:
            return False
        return len(self._purchases) < ahead or not self._counter.is_crowded(ahead)

    def _has_read(self, reader: asyncio.Task[None]) -> None:
        self._inputs = ()  # A long list need not stay until the last outcome.
        self._is_read = True
        if not reader.cancelled():
            self._failure = self._failure or reader.exception()
        elif not self.stopped:
            self._failure = asyncio.CancelledError("the reading of the inputs was cancelled")
        self._news.fire()

    # --- buying --------------------------------------------------------------------------

    def _begin(self, item: Item) -> None:
        self.tally.read += 1
        if item.refused is not None:
            self._finish(item, item.refused)
        else:
            self._buy(item)

    def _buy(self, item: Item, pause: float = 0.0) -> None:
        assert item.input is not None  # Otherwise it was refused.
        purchase = asyncio.get_running_loop().create_task(self._counter.buy(item.input, pause))
        self._purchases.add(purchase)
        purchase.add_done_callback(partial(self._has_bought, item))

    def _has_bought(self, item: Item, purchase: asyncio.Task[Task]) -> None:
        self._purchases.discard(purchase)
        error = error_of(purchase)
        if error is None:
            self._luck.bought()
            self.tally.bought += 1
            item.purchases += 1
            item.task = purchase.result()
            self._watch(item, item.task)
            return
        if isinstance(error, StoppedError):
            error = not_bought(self._reason)
        elif self._luck.ended(error):
            self._fail(error)
        if isinstance(error, SubmitUncertainError):
            self._finish(item, error)
        else:
            # Another purchase that came to nothing leaves the input as its last task left it.
            self._finish(item, item.failure or error)

    def _watch(self, item: Item, task: Task) -> None:
        over = task.as_future()
        self._tasks[over] = item
        over.add_done_callback(self._is_settled)
        self._room.fire()
        if self._is_given_away:
            self.give_away()

    def _is_settled(self, over: asyncio.Future[Result]) -> None:
        item = self._tasks.pop(over, None)
        if item is None:
            return  # It was given away.
        error = error_of(over)
        if error is None:
            self._finish(item, over.result())
            return
        if ends_buying(error):
            self._fail(error)
        if is_worth_another(error, item.purchases, self._attempts):
            item.failure = error
            self._buy(item, pause_before(error, item.purchases, self._rng))
        else:
            self._finish(item, error)

    def _finish(self, item: Item, ended: Result | ApixoError) -> None:
        error = ended if isinstance(ended, ApixoError) else None
        self.tally.ended(error, item.purchases)
        self._shelf.put(item.number, item.outcome(ended))
        self._news.fire()
        self._room.fire()
        if self._is_given_away:
            self.give_away()

    # --- stopping ------------------------------------------------------------------------

    def stop(self) -> None:
        """Read and buy no more; what was bought goes on, and POSTs under way get their answers."""
        self.stopped = True
        if self._reader is None:
            self._is_read = True
        else:
            self._reader.cancel()
        if self._opened is not None:
            self._opened.stop()
        self._news.fire()

    def _fail(self, error: ApixoError) -> None:
        """Stop, and raise this in the end; the first such error speaks for all."""
        if not self.stopped:
            self._reason = error
            self.stop()

    async def drained(self) -> None:
        """Wait until every input that was read has an outcome."""
        while not self.is_over:
            await self._news.wait()

    async def settled(self) -> None:
        """Wait until nothing is being bought; who is cancelled here leaves that to the client."""
        import anyio  # Late: an import of the package is to be quick.

        with anyio.CancelScope(shield=True):
            try:
                while owned := self._owned():
                    await asyncio.wait(owned)
            except asyncio.CancelledError:
                self._cut()
                raise

    def _owned(self) -> set[asyncio.Task[Task] | asyncio.Task[None]]:
        reading = () if self._reader is None or self._reader.done() else (self._reader,)
        return {*self._purchases, *reading}

    def _cut(self) -> None:
        for task in self._owned():
            task.cancel()

    def give_away(self) -> None:
        """Stop, and hand over all that was bought: nobody is there to take the outcomes.

        So is what is still to come: a purchase may have ended in this very instant.
        """
        self._is_given_away = True
        self.stop()
        self._cut()
        watched, self._tasks = self._tasks, {}
        for over in watched:
            over.cancel()
        tasks = [item.task for item in watched.values()]
        for outcome in self._shelf.clear():
            tasks.append(outcome.task)
            if isinstance(outcome.error, SubmitUncertainError):
                self._counter.hand_over(outcome.error)
        for task in tasks:
            if task is not None:
                self._counter.hand_over(task)

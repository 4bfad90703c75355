"""A map at work: one reader, the work on each input, and the outcomes until they are taken."""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Final

from apixo_async._map.buyer import Buyer
from apixo_async._map.errors import ended_by, not_bought
from apixo_async._map.items import Inputs, Item, Outcome, items
from apixo_async._map.options import Options
from apixo_async._map.pipeline import Pipeline
from apixo_async._map.progress import ProgressCounter
from apixo_async._map.store import MapStore
from apixo_async._sync import Signal
from apixo_async._types import Result
from apixo_async.errors import (
    ApixoError,
    BudgetExceededError,
    ConfigurationError,
    JournalError,
    SubmitUncertainError,
)


class OutcomeBuffer:
    """The outcomes that nobody has taken yet.

    Args:
        ordered: Whether they are taken in the order of their inputs.
    """

    __slots__ = ("_next", "_ordered", "_outcomes")

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._outcomes: OrderedDict[int, Outcome] = OrderedDict()
        self._next = 0

    def __len__(self) -> int:
        return len(self._outcomes)

    def put(self, number: int, outcome: Outcome) -> None:
        """Lay down the outcome of the input with this number."""
        self._outcomes[number] = outcome

    def take(self) -> Outcome | None:
        """Return the outcome whose turn it is, or None while it is not there."""
        number = self._next if self._ordered else next(iter(self._outcomes), None)
        if number is None or number not in self._outcomes:
            return None
        self._next += 1
        return self._outcomes.pop(number)

    def clear(self) -> list[Outcome]:
        """Return all that are left, and forget them."""
        left = list(self._outcomes.values())
        self._outcomes.clear()
        return left


#: Inputs read beyond the tasks at once, so that the next one stands ready when a slot comes back.
#: More would only stand in the way of the client's other callers.
AHEAD: Final = 32

#: Inputs that the journal is asked for at once: enough to share a transaction.
_ASKED: Final = 256


class MapRunner:
    """See every input through, hand out every outcome.

    Args:
        inputs: What to buy.
        open_counter: Opens where to buy; called at the start.
        rng: The source of the jitter.
        options: How.
    """

    def __init__(
        self,
        inputs: Inputs,
        open_counter: Callable[[], Buyer],
        rng: random.Random,
        options: Options,
    ) -> None:
        self._inputs = inputs
        self._open_counter = open_counter
        self._rng = rng
        self._options = options
        self._store = MapStore(options, self.fail)
        self._buffer = OutcomeBuffer(ordered=options.ordered)
        self._opened: tuple[Buyer, Pipeline] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reason: ApixoError | None = None
        self._failure: BaseException | None = None
        self._room = Signal()
        self._news = Signal()
        self._is_read = self._is_given_away = self._is_cut = False
        self.tally = ProgressCounter(options.spending)
        self.stopped = False

    @property
    def is_over(self) -> bool:
        """Whether no outcome is to come beyond those on the shelf."""
        return self._is_read and not self.tally.in_progress

    @property
    def is_taken(self) -> bool:
        """Whether nothing is left to be handed out."""
        return self.is_over and not len(self._buffer)

    @property
    def _buyer(self) -> Buyer:
        assert self._opened is not None  # From the start on.
        return self._opened[0]

    @property
    def _pipeline(self) -> Pipeline:
        assert self._opened is not None  # From the start on.
        return self._opened[1]

    # --- handing out ---------------------------------------------------------------------

    async def take(self) -> Outcome:
        """Wait for the next outcome.

        Raises:
            StopAsyncIteration: There is none any more.
            Exception: What ended the buying, or the iterable's own; once, after all outcomes.
        """
        while (outcome := self._buffer.take()) is None:
            if self.is_over:
                raise await self._end()
            await self._news.wait()
        self._room.fire()
        return outcome

    async def _end(self) -> BaseException:
        try:
            await self._store.aclose()
        except JournalError as error:
            self._failure = self._failure or error
        reason, self._reason = self._reason, None
        if reason is not None and (self._failure is None or isinstance(reason, JournalError)):
            self._failure = ended_by(reason, self.tally.progress())
        failure, self._failure = self._failure, None
        return StopAsyncIteration() if failure is None else failure

    # --- reading -------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to read and to buy, unless that was done already.

        Raises:
            ApixoError: The client is closed, or cannot be used here.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop:
            self._check_elsewhere(self._loop)
        elif self._reader is None and not self.stopped:
            self._loop = loop
            buyer = self._open_counter()
            self._opened = buyer, Pipeline(buyer, self._store, self._rng, self._options, self)
            self._reader = loop.create_task(self._read_all(), name="apixo_async map")
            self._reader.add_done_callback(self._has_read)

    def _check_elsewhere(self, own: asyncio.AbstractEventLoop) -> None:
        """Hand out on another loop only what needs no wait: nothing would wake the waiter."""
        if not self.is_over and not (own.is_closed() and len(self._buffer)):
            raise ConfigurationError(
                "this map began on another event loop: iterate over its outcomes there; where "
                "that loop has ended, call `map` anew with its journal, or `attach` to its tasks"
            )

    async def _read_all(self) -> None:
        async with aclosing(items(self._inputs)) as found:
            await self._pipeline.resume()
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
        work, tasks = self._pipeline, self._buyer.limiter.limits.concurrent_tasks
        ahead = min(tasks, AHEAD)
        held = self.tally.in_progress + len(self._buffer) - work.doubtful
        busy = self.tally.in_progress - work.doubtful - work.downloads
        if busy >= tasks + ahead or held >= 2 * tasks + ahead or work.entering >= _ASKED:
            return False
        return work.purchases < ahead or not self._buyer.is_crowded(ahead)

    def _has_read(self, reader: asyncio.Task[None]) -> None:
        self._inputs = ()  # A long list need not stay until the last outcome.
        self._is_read = True
        if not reader.cancelled():
            self._failure = self._failure or reader.exception()
        elif not self.stopped:
            self._failure = asyncio.CancelledError("the reading of the inputs was cancelled")
        self._close_in_the_end()
        self._news.fire()

    def _begin(self, item: Item) -> None:
        self.tally.read += 1
        if item.refused is not None:
            self.finish(item, None, item.refused)
        else:
            self._pipeline.take(item)

    # --- what the work tells -------------------------------------------------------------

    def bought(self) -> None:
        """Count a task that was bought."""
        self.tally.bought += 1

    def moved(self) -> None:
        """See whether there is room for another item."""
        self._room.fire()
        if self._is_given_away:
            self.give_away()

    def finish(self, item: Item, result: Result | None, error: ApixoError | None) -> None:
        """Lay down what an item came to."""
        self.tally.ended(error, item.purchases)
        self.tally.resumed += item.resumed and not item.bought_now
        self._buffer.put(item.number, item.outcome(result, error))
        self._close_in_the_end()
        self._news.fire()
        self.moved()

    def fail(self, error: ApixoError) -> None:
        """Stop, and raise this in the end; the first such error speaks for all."""
        if not self.stopped:
            self._reason = error
            # What the last of the money was reserved for is still bought.
            self._stop(queue_only=isinstance(error, BudgetExceededError))

    def not_bought(self) -> ApixoError:
        """Return the error of an item that had no turn."""
        return not_bought(self._reason)

    # --- stopping ------------------------------------------------------------------------

    def stop(self) -> None:
        """Read and buy no more; what was bought goes on, and POSTs under way get their answers."""
        self._stop(queue_only=False)

    def _stop(self, *, queue_only: bool) -> None:
        self.stopped = True
        if self._reader is None:
            self._is_read = True
        else:
            self._reader.cancel()
        if self._opened is not None:
            self._buyer.stop(queue_only=queue_only)
        self._news.fire()

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

    async def close(self) -> None:
        """Let go of the journal, when nothing is being bought; what goes on is for the next run.

        Who is cancelled here leaves that to the client.

        Raises:
            JournalError: Not everything could be written.
        """
        try:
            await self.settled()
        except asyncio.CancelledError:
            self._store.let_go(self._buyer.posts_ended)
            raise
        await self._store.aclose()

    def _owned(self) -> set[asyncio.Task[Any]]:
        reading = () if self._reader is None or self._reader.done() else (self._reader,)
        buying = set[asyncio.Task[Any]]() if self._opened is None else self._pipeline.buying
        return {*buying, *reading}

    def _close_in_the_end(self) -> None:
        """Let go of the journal, whether or not anybody takes the last outcome."""
        # After a cut there may be POSTs whose answers are to be noted.
        if self.is_over and not self._is_cut:
            self._store.begin_to_close()

    def _cut(self) -> None:
        self._is_cut = True
        if self._reader is not None:
            self._reader.cancel()
        if self._opened is not None:
            self._pipeline.cut()

    def give_away(self) -> None:
        """Stop, and hand over all that was bought: nobody is there to take the outcomes.

        So is what is still to come: a purchase may have ended in this very instant.
        """
        self._is_given_away = True
        self.stop()
        self._cut()
        orphans = self._pipeline.let_go()
        for outcome in self._buffer.clear():
            if isinstance(outcome.error, SubmitUncertainError):
                orphans.append(outcome.error)
            elif outcome.task is not None:
                orphans.append(outcome.task)
        for orphan in orphans:
            self._buyer.hand_over(orphan)
        self._store.let_go(self._buyer.posts_ended)

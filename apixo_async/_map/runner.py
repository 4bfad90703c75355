"""A map at work: one reader, one coroutine for each item in progress, and one end.

`_see_through` is the way of an item. `MapState` is the way of the map: what ends it, early or not,
is decided in `MapRunner` and nowhere else.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sized
from contextlib import aclosing, suppress
from decimal import Decimal
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from apixo_async._map.bar import Bar, open_bar
from apixo_async._map.buyer import Buyer, MapClient, StoppedError
from apixo_async._map.items import Inputs, Item, Outcome, OutcomeBuffer, Stage, items
from apixo_async._map.options import Options
from apixo_async._map.policy import (
    FailureStreak,
    ends_buying,
    is_retried,
    is_worth_another,
    pause_before,
)
from apixo_async._map.progress import Progress, ProgressCounter
from apixo_async._map.reconciliation import Reconciliation, reconciled
from apixo_async._map.store import MapStore
from apixo_async._reporting import guarded
from apixo_async._sync import Signal, fresh
from apixo_async._task import Task
from apixo_async._types import Result
from apixo_async.errors import (
    ApixoError,
    BudgetExceededError,
    ConfigurationError,
    JournalError,
    ResultExpiredError,
    SubmitUncertainError,
    TaskFailedError,
)

if TYPE_CHECKING:
    from apixo_async.journal._entry import Entry

T = TypeVar("T")

#: Inputs read beyond the tasks at once, so that the next one stands ready when a slot comes back.
#: More would only delay the client's other callers.
AHEAD: Final = 32

#: Items that the journal is asked for at once: enough to share a transaction.
_ASKED: Final = 256

#: Results in a row that could not be saved, after which nothing more is bought.
_UNSAVED: Final = 20


class MapState(IntEnum):
    """How far the end of a map has come; it only ever rises.

    Whether the inputs have been read is another matter: an open map whose inputs are all read ends
    by itself with the last item.

    Attributes:
        NEW: Nothing was read or bought.
        OPEN: Inputs are read and bought.
        STOPPED: No more is read, and no purchase begins; what was bought goes on.
        CUT: Purchases under way are left to the client, which hands what they buy to `on_orphan`.
        GIVEN_AWAY: What was bought is handed to `on_orphan`: the caller takes no outcome any more.
    """

    NEW = 0
    OPEN = 1
    STOPPED = 2
    CUT = 3
    GIVEN_AWAY = 4


class MapRunner:
    """See every input through, hand out every outcome, and end.

    Args:
        map_client: Where to buy; not used before `start`.
        inputs: What to buy.
        options: How.

    Attributes:
        counts: How far it is.
        ended_by: What ended it early, or None.
        state: How far its end has come.
    """

    def __init__(self, map_client: MapClient, inputs: Inputs, options: Options) -> None:
        self._map_client = map_client
        self._inputs = inputs
        self._options = options
        self._store = MapStore(options, self._fail)
        self._buffer = OutcomeBuffer(ordered=options.ordered)
        self._streak = FailureStreak()
        self._unsaved = 0
        self._opened: Buyer | None = None
        self._bar: Bar | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reader: asyncio.Task[None] | None = None  # While inputs are read.
        self._items: dict[asyncio.Task[None], Item] = {}
        self._at: Counter[Stage] = Counter()
        self._left: dict[int, tuple[Task, asyncio.Task[None]]] = {}
        self._reason: ApixoError | None = None
        self._failure: BaseException | None = None
        self.ended_by: ApixoError | None = None
        self._moved = Signal()
        self._news = Signal()
        self.counts = ProgressCounter()
        self.state = MapState.NEW

    @property
    def progress(self) -> Progress:
        """The counts of this instant."""
        budget = self._options.budget
        return self.counts.progress(budget.spent, budget.unpriced)

    @property
    def is_over(self) -> bool:
        """Whether no outcome is to come beyond those in the buffer."""
        return (
            self.state is not MapState.NEW and self._reader is None and not self.counts.in_progress
        )

    @property
    def is_taken(self) -> bool:
        """Whether nothing is left to be handed out."""
        return self.is_over and not len(self._buffer)

    @property
    def _buyer(self) -> Buyer:
        assert self._opened is not None  # From the start on.
        return self._opened

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
        self._moved.fire()
        return outcome

    async def reconcile(self, before: Decimal | None) -> Reconciliation:
        """Compare the balance with what was bought; `Outcomes.reconcile` says how."""
        if not self.is_over:
            raise ConfigurationError("reconcile: the map goes on: take all of its outcomes first")
        await self._buyer.posts_ended()
        charges = await self._store.charges(before, self.counts.bought)
        return reconciled(charges, await self._buyer.balance())

    async def _end(self) -> BaseException:
        try:
            await self._store.aclose()
        except JournalError as error:
            self._failure = self._failure or error
        reason, self._reason = self._reason, None
        if reason is not None and (self._failure is None or isinstance(reason, JournalError)):
            progress = self.progress
            self._failure = fresh(reason)
            self._failure.add_note(
                f"This ended the map: of the {progress.read} inputs that were read, nothing was "
                f"bought for {progress.unbought}; what follows them was not read."
            )
        failure, self._failure = self._failure, None
        if isinstance(failure, ApixoError):
            self.ended_by = failure
            if not self._options.raise_at_end:
                return StopAsyncIteration()
        return StopAsyncIteration() if failure is None else failure

    # --- reading -------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to read and to buy, unless that was done already.

        Raises:
            ApixoError: The client is closed, or cannot be used here.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop:
            # Another loop gets only what needs no wait: nothing would wake the waiter.
            if not self.is_over and not (self._loop.is_closed() and len(self._buffer)):
                raise ConfigurationError(
                    "this map began on another event loop: iterate over its outcomes there; where "
                    "that loop has ended, call `map` anew with its journal, or `attach` to its "
                    "tasks"
                )
        elif self.state is MapState.NEW:
            self._opened = Buyer(self._map_client, self._options.delivery, self._options.prices)
            if self._options.progress:
                total = len(self._inputs) if isinstance(self._inputs, Sized) else None
                self._bar = open_bar(total)
            self.state, self._loop = MapState.OPEN, loop
            self._reader = loop.create_task(self._read_all(), name="apixo_async map")
            self._reader.add_done_callback(self._has_read)

    async def _read_all(self) -> None:
        async with aclosing(items(self._inputs)) as found:
            await self._resume()
            await self._room_for_one()
            async for item in found:
                self._begin(item)
                await self._room_for_one()

    async def _room_for_one(self) -> None:
        # The purchase that was just begun joins its queue, and all else on the loop runs once.
        await asyncio.sleep(0)
        if self.state >= MapState.STOPPED:
            raise asyncio.CancelledError  # Again: the iterable has swallowed that of the stop.
        while not self._has_room():
            await self._moved.wait()

    def _has_room(self) -> bool:
        tasks, at = self._buyer.limiter.limits.concurrent_tasks, self._at
        ahead = min(tasks, AHEAD)
        # Until a callback comes, an uncertain submit may wait for hours: it delays no other item.
        progressing = self.counts.in_progress - at[Stage.DOUBTFUL]
        busy, held = progressing - at[Stage.SAVING], progressing + len(self._buffer)
        if busy >= tasks + ahead or held >= 2 * tasks + ahead or at[Stage.ENTERING] >= _ASKED:
            return False
        return at[Stage.BUYING] < ahead or not self._buyer.is_crowded(ahead)

    def _has_read(self, reader: asyncio.Task[None]) -> None:
        self._reader, self._inputs = None, ()  # A long list need not stay until the last outcome.
        if not reader.cancelled():
            self._failure = self._failure or reader.exception()
        elif self.state < MapState.STOPPED:
            self._failure = asyncio.CancelledError("the reading of the inputs was cancelled")
        self._moved.fire()
        self._has_news()

    # --- what earlier runs left ----------------------------------------------------------

    async def _resume(self) -> None:
        """Open the journal; poll the tasks of earlier runs, and wait for callbacks of others.

        Raises:
            JournalError: The journal cannot be used.
        """
        left = await self._store.open()
        if self._store.has_journal:  # It is held by now: no earlier POST is under way.
            self._store.note_balance(await self._buyer.balance_now())
        for entry in left:
            task = None
            with suppress(ConfigurationError):  # A damaged row: reported when its item is entered.
                task = self._task_of(entry)
            if task is not None:
                watching = asyncio.get_running_loop().create_task(self._watch_left(entry, task))
                self._left[entry.row] = task, watching

    def _task_of(self, entry: Entry) -> Task | None:
        if entry.state == "submitted" and entry.task_id is not None:
            return self._buyer.attach(entry.model, entry.task_id)
        return self._buyer.reopen(
            entry,
            self._store.record_of(entry),
            await_callback=not self._options.resubmits(entry.key),
        )

    async def _watch_left(self, entry: Entry, task: Task) -> None:
        with suppress(ApixoError):  # It is polled no more: the next run attaches to it.
            await task.wait()
            # Its item was not read, or not yet. The task stays in `_left`: the journal's answer for
            # the item may be on its way, and say that the task is not over.
            self._store.ended(entry, task.exception() or task.result())

    # --- the way of an item --------------------------------------------------------------

    def _begin(self, item: Item) -> None:
        self.counts.read += 1
        if item.refused is not None:
            self._finish(item, item.refused)
            return
        self._move(item, Stage.ENTERING if self._store.has_journal else Stage.BUYING)
        # In one line: an interrupt between two would leave a coroutine that is never awaited.
        walk = asyncio.get_running_loop().create_task(self._see_through(item))
        self._items[walk] = item
        walk.add_done_callback(self._has_ended)

    async def _see_through(self, item: Item) -> None:
        """Enter an item in the journal, buy it, maybe again, await its task, and save its result.

        Raises:
            ApixoError: Why there is no result, or none that is saved.
        """
        ended = await self._enter(item) if self._store.has_journal else None
        if item.task is not None:
            ended = await self._await_task(item)
        while not isinstance(ended, Result):
            pause = 0.0
            if ended is not None:
                if ends_buying(ended) and item.bought_now:
                    self._fail(ended)
                if not is_worth_another(ended, item.purchases, self._options.attempts):
                    raise ended
                item.failure = ended
                pause = pause_before(ended, item.purchases, self._map_client.rng)
            await self._buy(item, pause)
            ended = await self._await_task(item)
        item.result = ended
        if self._options.target is not None:
            await self._save(item, ended, self._options.target)

    async def _enter(self, item: Item) -> Result | ApixoError | None:
        """Ask the journal for an item, and take up the task that an earlier run bought.

        Returns:
            How its last task ended, or None where it goes on, or one is to be bought.

        Raises:
            ApixoError: That is not known, and none may be bought.
        """
        entry = item.entry = await self._store.enter(item)
        item.key, item.purchases, item.resumed = entry.key, entry.purchases, entry.purchases > 0
        left = self._left.pop(entry.row, None)
        if left is not None:  # Maybe it has ended since the journal answered.
            item.task, watching = left
            watching.cancel()
            item.doubt = entry.error if isinstance(entry.error, SubmitUncertainError) else None
            return None
        match entry.state, entry.result, entry.error:
            case "new", _, _:
                return None
            case "uncertain", _, _ if self._options.resubmits(entry.key):
                return None
            case "success", Result() as result, _:
                item.paths = entry.files
                return result
            case "failed", _, TaskFailedError() as error if is_retried(error, self._options.retry):
                item.failure = error
                return None
            case "failed", _, ApixoError() as error:
                return error
            case "uncertain", _, ApixoError() as error:
                raise error
            case "submitted", _, _ if entry.task_id is not None:
                try:
                    item.task = self._buyer.attach(entry.model, entry.task_id)
                except ApixoError as exc:  # Known as another model's task, or polled no more.
                    exc.bought = None
                    raise
                return None
            case _:
                raise JournalError(
                    f"the journal's row {entry.row} ({entry.key!r:.100}) is damaged: it is "
                    f"{entry.state!r} before this run's purchase"
                )

    async def _buy(self, item: Item, pause: float) -> None:
        """Buy a task for an item after `pause` seconds.

        Raises:
            ApixoError: None was bought, or this cannot be known.
        """
        assert item.input is not None  # Otherwise it was refused.
        record = self._store.record(item)
        self._move(item, Stage.BUYING)
        bought = await _end_of(self._buyer.buy(item.input, pause, record))
        if isinstance(bought, Task):
            self._streak.bought()
            self.counts.bought += 1
            item.purchases += 1
            item.task = bought
        else:
            if isinstance(bought, StoppedError):
                bought = ApixoError("nothing was bought: the map was stopped before this was sent")
                bought.bought, bought.__cause__ = False, self._reason
            elif self._streak.ended(bought):
                self._fail(bought)
            if not isinstance(bought, SubmitUncertainError):
                raise bought
            item.bought_now = True  # Or may have been.
            if not isinstance(bought.task, Task):
                raise bought
            item.doubt, item.task = bought, bought.task
        item.bought_now = True

    async def _await_task(self, item: Item) -> Result | ApixoError | None:
        """Wait until an item's task is over, and note how it ended.

        Returns:
            That; or None where no task was found, and another may be bought.

        Raises:
            SubmitUncertainError: None was found, and there may be one.
        """
        assert item.task is not None  # It was bought, or left by an earlier run.
        self._move(item, Stage.RUNNING if item.doubt is None else Stage.DOUBTFUL)
        ended = await _end_of(item.task)
        if item.doubt is not None:
            self._move(item, Stage.RUNNING)
            doubt = self._resolved(item, ended if isinstance(ended, ApixoError) else None)
            if doubt is not None:
                if self._options.resubmits(item.key) and not item.bought_now:
                    return None  # The task that a callback has named is not of this submit.
                raise doubt
        self._store.ended(item.entry, ended)
        return ended

    def _resolved(self, item: Item, error: ApixoError | None) -> SubmitUncertainError | None:
        """End the wait for what became of an uncertain submit; return it if it still is."""
        doubt, item.doubt = item.doubt, None
        if doubt is not None and (item.task is None or not item.task.id_known):
            doubt.__cause__, item.task = error, None
            return doubt
        if item.bought_now:  # Otherwise the journal has counted it.
            item.purchases += 1
            self.counts.bought += 1
        return None

    async def _save(self, item: Item, result: Result, target: Path) -> None:
        self._move(item, Stage.SAVING)
        name = self._options.name
        naming = None if name is None else item.naming(name)
        saved = await _end_of(self._buyer.download(result, target, naming))
        if isinstance(saved, ApixoError):
            if not isinstance(saved, ResultExpiredError):
                self._unsaved += 1
                if self._unsaved >= _UNSAVED:
                    self._fail(saved)
            raise saved
        self._unsaved = 0
        if item.paths != tuple(saved):
            item.paths = tuple(saved)
            self._store.downloaded(item.entry, saved)

    def _move(self, item: Item, stage: Stage) -> None:
        self._at[item.stage] -= 1
        self._at[stage] += 1
        item.stage = stage
        self._moved.fire()
        if self.state is MapState.GIVEN_AWAY:
            self._hand_over()

    def _has_ended(self, walk: asyncio.Task[None]) -> None:
        error: ApixoError | None = None
        if walk.cancelled():
            error = ApixoError(
                "cut off: the event loop ended, or the map was left without waiting for its "
                "purchases; what was bought meanwhile goes to `on_orphan`"
            )
        elif (raised := walk.exception()) is not None:
            error = _own(raised)
        item = self._items.pop(walk, None)
        if item is None:
            return  # It was handed over.
        if error is not None and item.doubt is not None:  # Interrupted before a callback came.
            error = self._resolved(item, error) or error
        elif item.stage is Stage.BUYING and not isinstance(error, SubmitUncertainError):
            # A purchase that came to nothing leaves the input as its last task left it.
            error = item.failure or error
        self._finish(item, error)

    def _finish(self, item: Item, error: ApixoError | None) -> None:
        self.counts.ended(error, item.purchases)
        self.counts.resumed += item.resumed and not item.bought_now
        self._buffer.put(item.number, item.outcome(error, self._options.delivery.tag))
        self._has_news()
        self._move(item, Stage.IDLE)

    def _has_news(self) -> None:
        """Wake the takers; close the journal with the last outcome, whether or not it is taken."""
        # After a cut there may be POSTs whose answers are to be noted.
        if self.is_over and self.state < MapState.CUT:
            self._store.begin_to_close()
        if self._bar is not None:
            guarded("progress", self._bar.show, self.progress)
            if self.is_over:
                self._close_bar()
        self._news.fire()

    # --- the end -------------------------------------------------------------------------

    def _fail(self, error: ApixoError) -> None:
        """Stop, and raise this in the end; the first such error speaks for all."""
        if self.state < MapState.STOPPED:
            self._reason = self.ended_by = error
            # What the last of the money was reserved for is still bought.
            self.stop(queue_only=isinstance(error, BudgetExceededError))

    def stop(self, *, queue_only: bool = False) -> None:
        """Read and buy no more; what was bought goes on, and POSTs under way get their answers.

        Args:
            queue_only: Whether purchases go on whose money is reserved.
        """
        self.state = max(self.state, MapState.STOPPED)
        if self._reader is not None:
            self._reader.cancel()
        if self._opened is not None:
            self._opened.stop(queue_only=queue_only)
        self._news.fire()

    async def drained(self) -> None:
        """Wait until every input that was read has an outcome."""
        while not self.is_over:
            await self._news.wait()

    async def close(self) -> None:
        """Close the journal once nothing is being bought; tasks that go on are for the next run.

        A caller that is cancelled here leaves what is being bought to the client.

        Raises:
            JournalError: Not everything could be written.
        """
        import anyio  # Late: an import of the package is to be quick.

        try:
            with anyio.CancelScope(shield=True):
                # An item that enters the journal may be bought in its next step.
                while self._reader or self._at[Stage.ENTERING] or self._at[Stage.BUYING]:
                    await self._moved.wait()
        except asyncio.CancelledError:
            self._cut()
            raise
        self._close_bar()
        await self._store.aclose()

    def _close_bar(self) -> None:
        bar, self._bar = self._bar, None
        if bar is not None:
            guarded("progress", lambda one: one.close(), bar)

    def _cut(self) -> None:
        if self.state >= MapState.CUT:
            return
        self.state = MapState.CUT
        self._close_bar()
        if self._reader is not None:
            self._reader.cancel()
        for walk, item in self._items.items():
            if item.stage <= Stage.BUYING:
                walk.cancel()
        self._store.close_after(self._buyer.posts_ended)

    def give_away(self) -> None:
        """Stop, and hand over all that was bought: the caller takes no outcome any more."""
        self.stop()
        self._cut()
        self.state = MapState.GIVEN_AWAY
        self._hand_over()

    def _hand_over(self) -> None:
        """Hand over what was bought, and later what is still to come of the items that were cut."""
        orphans = list[Task | SubmitUncertainError]()
        for walk, item in list(self._items.items()):
            # One that is done has its outcome in the next step of the loop.
            if item.stage > Stage.BUYING and not walk.done():
                del self._items[walk]
                walk.cancel()
                if item.task is not None:
                    doubt = None if item.task.id_known else item.doubt
                    orphans.append(doubt or item.task)
        for orphan in orphans:
            self._buyer.hand_over(orphan)
        self.hand_over_untaken()

    def hand_over_untaken(self) -> None:
        """Hand over what the outcomes hold that were not taken."""
        for outcome in self._buffer.clear():
            if isinstance(outcome.error, SubmitUncertainError):
                self._buyer.hand_over(outcome.error)
            elif outcome.task is not None:
                self._buyer.hand_over(outcome.task)


async def _end_of(work: Awaitable[T]) -> T | ApixoError:
    """Return what something brings, or how it failed, without the frames that it went through."""
    try:
        return await work
    except Exception as exc:
        return _own(exc)


def _own(error: BaseException) -> ApixoError:
    """Return an error of this package for any error, without the frames that it went through."""
    if isinstance(error, ApixoError):
        return error.with_traceback(None)
    defect = ApixoError(f"a defect: {type(error).__name__}: {error}")
    defect.__cause__ = error
    return defect

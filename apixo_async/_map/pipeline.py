"""What happens to each input of a map, from the journal's word to the last of its files.

An item is entered, bought, watched and downloaded. Only what waits for something of this module's
has an asyncio.Task here: a bought task calls back when it is over.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from apixo_async._map.buyer import Buyer, Orphan, StoppedError
from apixo_async._map.errors import error_of
from apixo_async._map.items import Item
from apixo_async._map.options import Options
from apixo_async._map.policy import FailureStreak, ends_buying, is_worth_another, pause_before
from apixo_async._map.store import MapStore
from apixo_async._task import Task
from apixo_async._types import Result
from apixo_async.errors import (
    ApixoError,
    ConfigurationError,
    JournalError,
    ResultExpiredError,
    SubmitUncertainError,
)

if TYPE_CHECKING:
    from apixo_async.journal._entry import Entry

T = TypeVar("T")

#: Results in a row that could not be saved, after which nothing more is bought.
_UNSAVED: Final = 20


class PipelineOwner(Protocol):
    """Who runs a map, and is told what its work comes to."""

    def bought(self) -> None:
        """Count a task that was bought."""
        ...

    def finish(self, item: Item, result: Result | None, error: ApixoError | None) -> None:
        """Take what an item came to."""
        ...

    def fail(self, error: ApixoError) -> None:
        """Stop buying: no later purchase would fare better."""
        ...

    def not_bought(self) -> ApixoError:
        """Return the error of an item that had no turn."""
        ...

    def moved(self) -> None:
        """See whether there is room for another item."""
        ...


class Pipeline:
    """See each item through.

    Args:
        buyer: Where to buy.
        store: What is kept of it.
        rng: The source of the jitter.
        options: Those of the map.
        manager: Told what comes of it.
    """

    def __init__(
        self,
        buyer: Buyer,
        store: MapStore,
        rng: random.Random,
        options: Options,
        manager: PipelineOwner,
    ) -> None:
        self._buyer = buyer
        self._store = store
        self._rng = rng
        self._options = options
        self._manager = manager
        self._streak = FailureStreak()
        self._unsaved = 0
        self._entering: set[asyncio.Task[Any]] = set()
        self._purchases: set[asyncio.Task[Any]] = set()
        self._downloads: set[asyncio.Task[Any]] = set()
        self._tasks: dict[asyncio.Future[Result], Item] = {}
        self._left: dict[int, tuple[Task, asyncio.Future[Result]]] = {}
        self.doubtful = 0

    @property
    def entering(self) -> int:
        """Items that the journal is being asked for."""
        return len(self._entering)

    @property
    def purchases(self) -> int:
        """Purchases that wait for their turn, or for the answer to their POST."""
        return len(self._purchases)

    @property
    def downloads(self) -> int:
        """Items whose result is being saved."""
        return len(self._downloads)

    @property
    def buying(self) -> set[asyncio.Task[Any]]:
        """What may still buy something."""
        return {*self._entering, *self._purchases}

    # --- what earlier runs left ----------------------------------------------------------

    async def resume(self) -> None:
        """Open the book; poll the tasks of earlier runs, and wait for callbacks of others.

        Raises:
            JournalError: The journal cannot be used.
        """
        for entry in await self._store.open():
            task = None
            with suppress(ConfigurationError):  # A damaged row: reported when its item is entered.
                task = self._task_of(entry)
            if task is not None:
                over = task.as_future()
                self._left[entry.row] = (task, over)
                over.add_done_callback(partial(self._is_left_over, entry))

    def _task_of(self, entry: Entry) -> Task | None:
        if entry.state == "submitted" and entry.task_id is not None:
            return self._buyer.attach(entry.model, entry.task_id)
        return self._buyer.reopen(
            entry,
            self._store.record_of(entry),
            await_callback=not self._options.resubmit_uncertain,
        )

    def _is_left_over(self, entry: Entry, over: asyncio.Future[Result]) -> None:
        if entry.row in self._left:
            # Nobody has asked for this item in this run, or not yet. It stays: the journal's answer
            # to who asks now may be on its way, and say that the task is not over.
            self._store.ended(entry, error_of(over) or over.result())

    # --- before a purchase ---------------------------------------------------------------

    def take(self, item: Item) -> None:
        """See an item through; where there is a journal, it is asked first."""
        if self._store.has_journal:
            self._start(self._entering, self._store.enter(item), partial(self._has_entered, item))
        else:
            self._buy(item)

    def _start(
        self,
        group: set[asyncio.Task[Any]],
        work: Coroutine[object, object, T],
        then: Callable[[asyncio.Task[T]], None],
    ) -> None:
        task = asyncio.get_running_loop().create_task(work)
        group.add(task)
        task.add_done_callback(group.discard)
        task.add_done_callback(then)

    def _has_entered(self, item: Item, entering: asyncio.Task[Entry]) -> None:
        self._manager.moved()
        error = error_of(entering)
        if error is not None:
            self._manager.finish(item, None, error)
            return
        entry = item.entry = entering.result()
        item.key, item.purchases, item.resumed = entry.key, entry.purchases, entry.purchases > 0
        left = self._left.pop(entry.row, None)
        if left is not None:
            item.doubt = entry.error if isinstance(entry.error, SubmitUncertainError) else None
            item.task = left[0]
            self._await(item, left[1])
            return
        try:
            self._go_on(item, entry)
        except ApixoError as exc:  # Its task is known as another model's, or no longer watched.
            exc.bought = None
            self._manager.finish(item, None, exc.with_traceback(None))

    def _go_on(self, item: Item, entry: Entry) -> None:
        match entry.state, entry.result, entry.error:
            case "new", _, _:
                self._buy(item)
            case "uncertain", _, _ if self._options.resubmit_uncertain:
                self._buy(item)
            case "success", Result() as result, _:
                item.paths = entry.files
                self._save(item, result)
            case "failed", _, ApixoError() as error:
                self._failed(item, error)
            case "uncertain", _, ApixoError() as error:
                self._manager.finish(item, None, error)
            case "submitted", _, _ if entry.task_id is not None:
                item.task = self._buyer.attach(entry.model, entry.task_id)
                self._await(item, item.task.as_future())
            case _:
                shown = f"row {entry.row} ({entry.key!r:.100})"
                why = f"the journal's {shown} is damaged: it is {entry.state!r} before this run's"
                self._manager.finish(item, None, JournalError(f"{why} purchase"))

    # --- buying --------------------------------------------------------------------------

    def _buy(self, item: Item, pause: float = 0.0) -> None:
        assert item.input is not None  # Otherwise it was refused.
        try:
            record = self._store.record(item)
        except ConfigurationError as error:
            self._manager.finish(item, None, error.with_traceback(None))
            return
        purchase = self._buyer.buy(item.input, pause, record)
        self._start(self._purchases, purchase, partial(self._has_bought, item))

    def _has_bought(self, item: Item, purchase: asyncio.Task[Task]) -> None:
        error = error_of(purchase)
        if error is None:
            self._streak.bought()
            self._manager.bought()
            item.bought_now = True
            item.purchases += 1
            item.task = purchase.result()
            self._await(item, item.task.as_future())
            return
        if isinstance(error, StoppedError):
            error = self._manager.not_bought()
        elif self._streak.ended(error):
            self._manager.fail(error)
        if not isinstance(error, SubmitUncertainError):
            # Another purchase that came to nothing leaves the input as its last task left it.
            self._manager.finish(item, None, item.failure or error)
            return
        item.bought_now = True  # Or may have.
        if isinstance(error.task, Task):
            item.doubt, item.task = error, error.task
            self._await(item, error.task.as_future())
        else:
            self._manager.finish(item, None, error)

    def _await(self, item: Item, over: asyncio.Future[Result]) -> None:
        self.doubtful += item.doubt is not None
        self._tasks[over] = item
        over.add_done_callback(self._is_settled)
        self._manager.moved()

    def _is_settled(self, over: asyncio.Future[Result]) -> None:
        item = self._tasks.pop(over, None)
        if item is None:
            return  # It was given away.
        error = error_of(over)
        if item.doubt is not None:
            self.doubtful -= 1
            doubt, item.doubt = item.doubt, None
            if item.task is None or not item.task.id_known:
                doubt.__cause__, item.task = error, None
                if self._options.resubmit_uncertain and not item.bought_now:
                    self._buy(item)  # What a callback had named is not of this submit.
                    return
                self._manager.finish(item, None, doubt)
                return
            if item.bought_now:  # Otherwise the journal has counted it.
                item.purchases += 1
                self._manager.bought()
        if error is None:
            self._store.ended(item.entry, over.result())
            self._save(item, over.result())
        else:
            self._store.ended(item.entry, error)
            self._failed(item, error)

    def _failed(self, item: Item, error: ApixoError) -> None:
        if ends_buying(error) and item.bought_now:
            self._manager.fail(error)
        if is_worth_another(error, item.purchases, self._options.attempts):
            item.failure = error
            self._buy(item, pause_before(error, item.purchases, self._rng))
        else:
            self._manager.finish(item, None, error)

    # --- saving --------------------------------------------------------------------------

    def _save(self, item: Item, result: Result) -> None:
        target = self._options.target
        if target is None:
            self._manager.finish(item, result, None)
        else:
            saving = self._buyer.download(result, target)
            self._start(self._downloads, saving, partial(self._has_saved, item, result))

    def _has_saved(self, item: Item, result: Result, saving: asyncio.Task[list[Path]]) -> None:
        error = error_of(saving)
        if error is None:
            self._unsaved = 0
            paths = item.paths
            item.paths = tuple(saving.result())
            if item.paths != paths:
                self._store.downloaded(item.entry, item.paths)
        elif not isinstance(error, ResultExpiredError):
            self._unsaved += 1
            if self._unsaved >= _UNSAVED:
                self._manager.fail(error)
        self._manager.finish(item, result, error)

    # --- the end -------------------------------------------------------------------------

    def cut(self) -> None:
        """Cancel what may still buy something; POSTs under way get their answers all the same."""
        for task in self.buying:
            task.cancel()

    def let_go(self) -> list[Orphan]:
        """Watch no task any more; return what was watched: tasks, and submits in doubt."""
        watched, self._tasks = self._tasks, {}
        for over in watched:
            over.cancel()
        for saving in self._downloads:
            saving.cancel()
        held = [(item.doubt, item.task) for item in watched.values()]
        return [
            task if doubt is None or task.id_known else doubt
            for doubt, task in held
            if task is not None
        ]

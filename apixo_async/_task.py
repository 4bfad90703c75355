"""The handle of one task: await it, poll it, watch it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from decimal import Decimal
from typing import NoReturn, Self

from apixo_async._catalog import PENDING, medium
from apixo_async._polling.poller import Poller
from apixo_async._polling.tracked_task import TaskIdentity, TrackedTask
from apixo_async._sync import Bound, bound_after
from apixo_async._text import counted, one_line
from apixo_async._types import Result, Snapshot, TaskRef
from apixo_async._validation import check_every
from apixo_async.errors import ApixoError, WaitTimeoutError


class Task:
    """A task at the service. `await task` gives its `Result`, or raises how it failed.

    It may be awaited any number of times, from any number of coroutines. The client polls it with
    or without waiters. A waiter that is cancelled or times out neither ends the task nor loses its
    id; a handle that is dropped leaks nothing. Until it is over, waiting for it on another event
    loop than its client's raises `ConfigurationError`.
    """

    __slots__ = ("__weakref__", "_poller", "_track")

    def __init__(self, track: TrackedTask, poller: Poller) -> None:
        self._track = track
        self._poller = poller

    @property
    def id(self) -> str:
        """The service's id of the task."""
        return self._track.ref.task_id

    @property
    def model(self) -> str:
        """The model's name."""
        return self._track.ref.model

    @property
    def ref(self) -> TaskRef:
        """The reference from which any process can attach to the task."""
        return self._track.ref

    @property
    def state(self) -> str:
        """The state that the last poll found: "pending" until one did."""
        snapshot = self._track.snapshot
        return PENDING if snapshot is None else snapshot.state

    @property
    def tag(self) -> str | None:
        """The `tag` of its submit."""
        return self._track.billing.tag

    @property
    def cost(self) -> Decimal | None:
        """USD by the documents or `AsyncClient(prices=...)`; None where neither gives a price.

        A task that failed has it as well: refunds are not documented.
        """
        return self._track.billing.cost

    @property
    def age(self) -> float | None:
        """Seconds since it was created, at its end those that it took; None while not known.

        Of an attached task it is known from the first answer on that has a `createTime`.
        """
        return self._poller.age(self._track)

    @property
    def polls(self) -> int:
        """Status requests that were sent for it so far; with webhooks often one."""
        return self._track.polls

    @property
    def expected(self) -> float:
        """Seconds that such a task takes: the median of recent ones, once eight have ended.

        Until then it is the middle of what the documents call typical.
        """
        return self._poller.registry.expected(self._track.kind)

    @property
    def id_known(self) -> bool:
        """Whether the service's id is known; that of an uncertain submit is not, with webhooks.

        It becomes known when a callback names the task and a poll finds it.
        """
        return self._track.identity is TaskIdentity.KNOWN

    @property
    def callback_received(self) -> bool:
        """Whether a callback of the task was received, with webhooks."""
        return self._track.callback_received

    def done(self) -> bool:
        """Return True if the task is over: succeeded, failed, not found or abandoned."""
        return self._track.outcome is not None

    def result(self) -> Result:
        """Return the result of a task that is over.

        Raises:
            asyncio.InvalidStateError: It is not over.
            TaskError: It ended without success.
        """
        outcome = self._over()
        if isinstance(outcome, ApixoError):
            raise self._track.error(outcome)
        return outcome

    def exception(self) -> ApixoError | None:
        """Return how a task that is over failed, or None if it succeeded.

        Raises:
            asyncio.InvalidStateError: It is not over.
        """
        outcome = self._over()
        return self._track.error(outcome) if isinstance(outcome, ApixoError) else None

    def _over(self) -> Result | ApixoError:
        if self._track.outcome is None:
            raise asyncio.InvalidStateError(f"{self.ref} is {self.state}: await it first")
        return self._track.outcome

    def __await__(self) -> Generator[None, None, Result]:
        return self._wait_for_result().__await__()

    async def _wait_for_result(self) -> Result:
        verdict = self._track.verdict()
        # In a loop: polls that were halted may go on before this waiter runs.
        while verdict is None:
            self._poller.check_loop(self._track)
            await self._track.over.wait()
            verdict = self._track.verdict()
        if isinstance(verdict, ApixoError):
            raise self._track.error(verdict)
        return verdict

    async def until(self, deadline: float | None) -> Result:
        """Await the result until a time of the loop's clock, or as long as it takes.

        Raises:
            WaitTimeoutError: The deadline has passed; the task goes on.
            ApixoError: As awaiting the task does.
        """
        try:
            with Bound(deadline):
                return await self._wait_for_result()
        except TimeoutError as exc:
            if isinstance(exc, ApixoError):
                raise  # The task's own error; this wait has not timed out.
            message = f"{self.ref} was not over within the timeout; it goes on: `attach` to it"
            raise self._track.error(WaitTimeoutError(message, ref=self.ref)) from None

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until the task is over; return False if it is not. Its own failure raises nothing.

        Args:
            timeout: Seconds to wait at most; None waits until the task's age limit.

        Raises:
            ApixoError: The task is no longer polled, so that waiting could not end.
        """
        try:
            with bound_after(timeout):
                while self._track.verdict() is None:
                    self._poller.check_loop(self._track)
                    await self._track.over.wait()
        except TimeoutError:
            return self.done()
        if self._track.outcome is None and self._track.halted is not None:
            raise self._track.error(self._track.halted)
        return True

    async def refresh(self) -> Snapshot:
        """Poll now, before all scheduled polls, and return what the service answered.

        Raises:
            ApixoError: This poll got no usable answer; the task goes on.
        """
        return await self._poller.refresh(self._track)

    async def updates(self, *, every: float | None = None) -> AsyncIterator[Snapshot]:
        """Yield the present snapshot at once, then one at each change, until the task is over.

        Args:
            every: Seconds after which one is yielded although nothing has changed; None yields
                only changes of state.

        Raises:
            ApixoError: The task is no longer polled. (The failure of the task raises nothing.)
        """
        check_every(every)
        track = self._track
        shown: str | None = None
        again_at: float | None = None
        while True:
            snapshot = track.snapshot
            if snapshot is None and track.outcome is None:
                snapshot = Snapshot(self.id, self.model, PENDING, {})
            if snapshot is not None and snapshot.state != shown:
                shown = snapshot.state
            elif track.outcome is not None:
                return
            elif track.halted is not None:
                raise track.error(track.halted)
            else:
                self._poller.check_loop(track)
                try:
                    with Bound(again_at):
                        await track.changed.wait()
                    continue
                except TimeoutError:
                    pass  # Nothing has changed, and it is time to say so.
            if snapshot is not None:
                yield snapshot
            again_at = None if every is None else asyncio.get_running_loop().time() + every

    def detach(self) -> TaskRef:
        """Stop polling the task, which goes on, and return its reference.

        For those that leave the rest to another program, or to `client.poll`. Who waits for this
        handle gets an error. The task keeps its slot until its age limit, or until this client
        sees it over. With a store it stays this process's: `find` with its key goes on with it, and
        once this process has ended, another one does.

        Raises:
            ConfigurationError: Its id is not known yet, or this is not its client's event loop.
        """
        self._poller.detach(self._track)
        return self.ref

    def as_future(self) -> asyncio.Future[Result]:
        """Return an asyncio.Task that ends as this task does; cancelling it ends only itself."""
        return asyncio.ensure_future(self._wait_for_result())

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} belongs to its client and its event loop: send `task.ref`, and `attach` to "
            "it there"
        )

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def _repr_html_(self) -> str:
        """Show how far it is, and its files, in a notebook."""
        from apixo_async import _html  # Here, since only notebooks need it.

        outcome = self._track.outcome
        urls, error = (outcome.urls, "") if isinstance(outcome, Result) else ((), outcome)
        note = str(error or one_line(self.state, 100))
        return _html.page(str(self.ref), urls, note=note, medium=medium(self.model))

    def __repr__(self) -> str:
        return f"<Task {self.ref} {self.state}, {counted(self._track.polls, 'poll')}>"

"""The client for code without an event loop: scripts, threads, sync views of Django, Flask."""

# The classes below are one thing, and use what is private in each other:
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from decimal import Decimal
from queue import SimpleQueue
from types import TracebackType
from typing import Concatenate, Generic, ParamSpec, Self, TypeAlias, TypeVar, overload

from anyio.from_thread import BlockingPortal, start_blocking_portal

import apixo_async
from apixo_async import (
    ApixoError,
    AsyncClient,
    ClientClosedError,
    ConfigurationError,
    Estimate,
    Input,
    Outcome,
    Progress,
    Result,
    Snapshot,
    Statistics,
    SubmitUncertainError,
    TaskRef,
)
from apixo_async._at_exit import open_things
from apixo_async._map.items import Given, Inputs, check_inputs
from apixo_async._validation import check_ref, check_timeout

__all__ = ["Client", "Outcomes", "Task"]

P = ParamSpec("P")
T = TypeVar("T")
#: Wakes a thread, once for each None. It waits in C: Ctrl-C in a wait for a `Future` or an `Event`
#: may come out as a RuntimeError of its condition, or leave that locked.
Changes: TypeAlias = "SimpleQueue[None]"


class _LoopClient(AsyncClient):
    """The client on the loop of the thread."""

    def hand_over(self, outcome: object) -> None:
        """Hand to `on_orphan` what came of a purchase whose caller was interrupted."""
        if isinstance(outcome, Result):
            outcome = self.attach(TaskRef(outcome.model, outcome.task_id))
        elif isinstance(outcome, Task):
            outcome = outcome._task
        if isinstance(outcome, apixo_async.Task | SubmitUncertainError):
            self._orphan(outcome)


def _ignore(_: object) -> None:
    pass


class _Call(Generic[T]):
    """One call, made on the loop and awaited in another thread.

    Args:
        function: What to call on the loop.
        unwanted: Takes what came of it on the loop, if the thread was interrupted meanwhile.
        changes: Where to say that it has ended.
    """

    def __init__(
        self,
        function: Callable[[], Awaitable[T]],
        unwanted: Callable[[object], None] = _ignore,
        changes: Changes | None = None,
    ) -> None:
        self._function = function
        self._unwanted = unwanted
        self._task: asyncio.Task[object] | None = None
        self._given_up = False
        self._values: list[T] = []  # what the call returned
        self._error: BaseException | None = None
        self._changes = changes or SimpleQueue()

    async def run(self) -> None:
        """Make the call, unless it was given up before."""
        if self._given_up:
            return
        self._task = asyncio.current_task()
        try:
            self._values.append(await self._function())
        except asyncio.CancelledError:
            self._error = _closed()
        except BaseException as error:
            self._error = error
        self._changes.put(None)
        self._hand_back()

    def give_up(self) -> None:
        """Cancel the call; it may be too late for that."""
        self._given_up = True
        if self._task is not None and not self.done():
            self._task.cancel()
        self._hand_back()

    def _hand_back(self) -> None:
        if self._given_up and self.done():
            self._unwanted(self._error or self._values[0])

    def done(self) -> bool:
        """Return True once the call has returned or raised."""
        return bool(self._values) or self._error is not None

    def result(self) -> T:
        """Wait for the end of the call, and return or raise what came of it."""
        while not self.done():
            self._changes.get()
        if self._error is not None:
            raise self._error
        return self._values[0]

    def raised(self, error: BaseException) -> bool:
        """Return True if this is the error of the call, and not an interrupt of the thread."""
        return self._error is error


def _closed() -> ClientClosedError:
    error = ClientClosedError("this client was closed: make a new one")
    error.bought = False
    return error


async def _on_loop(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return function(*args, **kwargs)


# Each function below makes a method of `Client` from one of `AsyncClient`: the arguments are the
# same, also for type checkers and `help`.


def _settings_of(
    make: Callable[P, _LoopClient],
) -> Callable[[Callable[[Client, _LoopClient], None]], Callable[Concatenate[Client, P], None]]:
    def decorated(
        init: Callable[[Client, _LoopClient], None],
    ) -> Callable[Concatenate[Client, P], None]:
        @functools.wraps(AsyncClient.__init__)
        def call(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> None:
            try:
                init(self, make(*args, **kwargs))
            except ConfigurationError as error:
                # The arguments hold the key, and crash reporters show frames (invariant 7).
                del args, kwargs
                raise error.with_traceback(None) from None

        return call

    return decorated


def _blocking(
    method: Callable[Concatenate[AsyncClient, P], Awaitable[T]],
) -> Callable[Concatenate[Client, P], T]:
    @functools.wraps(method)
    def call(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        function = functools.partial(method, self._client, *args, **kwargs)
        return self._run(_Call(function, self._client.hand_over))

    return call


def _blocking_task(
    method: Callable[Concatenate[AsyncClient, P], Awaitable[apixo_async.Task]],
) -> Callable[Concatenate[Client, P], Task]:
    @functools.wraps(method)
    def call(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Task:
        async def buy() -> Task:
            return Task(self, await method(self._client, *args, **kwargs))

        return self._run(_Call(buy, self._client.hand_over))

    return call


def _blocking_map(
    method: Callable[Concatenate[AsyncClient, Inputs, P], apixo_async.Outcomes],
) -> Callable[Concatenate[Client, Iterable[Given], P], Outcomes]:
    @functools.wraps(method)
    def call(
        self: Client, inputs: Iterable[Given], /, *args: P.args, **kwargs: P.kwargs
    ) -> Outcomes:
        feed = _Feed(inputs)
        return Outcomes(self, method(self._client, feed.read(), *args, **kwargs), feed)

    return call


class Client:
    """An `AsyncClient` for code without an event loop; any number of threads may use it at once.

    It takes the arguments of `AsyncClient`, whose methods of the same names say what each does.
    The client runs in a thread of its own from its first use until `close()`, or else until the
    main thread ends. `on_event` and `on_orphan` are called in that thread.

    Ctrl-C during a call cancels it as `AsyncClient` documents: a task that was bought, or may have
    been, is handed to `on_orphan`; keep its `ref`, and `attach` to it.

    Every method raises `ConfigurationError` where an event loop runs, since the loop would stand
    still meanwhile, and in a child process that was forked after the first use.
    """

    @_settings_of(_LoopClient)
    def __init__(self, client: _LoopClient) -> None:
        self._client = client
        # Reentrant: a signal handler may close the client in the middle of a call.
        self._lock = threading.RLock()
        self._portal: BlockingPortal | None = None
        self._stack = ExitStack()
        self._pid = 0
        self._closed = False

    submit = _blocking_task(AsyncClient.submit)
    generate = _blocking(AsyncClient.generate)
    resubmit = _blocking_task(AsyncClient.resubmit)
    download = _blocking(AsyncClient.download)
    read = _blocking(AsyncClient.read)
    balance = _blocking(AsyncClient.balance)
    map = _blocking_map(AsyncClient.map)

    @overload
    def attach(self, model: TaskRef, /, *, tag: str | None = None) -> Task: ...
    @overload
    def attach(self, model: str, task_id: str, /, *, tag: str | None = None) -> Task: ...
    def attach(
        self, model: str | TaskRef, task_id: str | None = None, /, *, tag: str | None = None
    ) -> Task:
        """Return the handle of a task that exists already, and poll it at once.

        Args:
            model: The model's name, or a `TaskRef`.
            task_id: The service's id, unless a `TaskRef` was given.
            tag: As for `submit`.
        """
        attach: Callable[..., apixo_async.Task] = self._client.attach
        return Task(self, self._call(_on_loop, attach, model, task_id, tag=tag))

    def find(self, key: str, /) -> Task | None:
        """Return the task that was bought under a key, or None; see `AsyncClient.find`."""
        task = self._call(self._client.find, key)
        return None if task is None else Task(self, task)

    @overload
    def poll(self, model: TaskRef, /) -> Snapshot: ...
    @overload
    def poll(self, model: str, task_id: str, /) -> Snapshot: ...
    def poll(self, model: str | TaskRef, task_id: str | None = None, /) -> Snapshot:
        """Ask the service once how a task is; see `AsyncClient.poll`."""
        return self._call(self._client.poll, check_ref(model, task_id))

    def estimate(self, inputs: Iterable[Input]) -> Estimate:
        """Add up the documented prices of inputs, and count the inputs without one."""
        return self._client.estimate(inputs)

    def statistics(self) -> Statistics:
        """Return the counts of this instant."""
        return self._call(_on_loop, self._client.statistics)

    @property
    def unfinished(self) -> tuple[TaskRef, ...]:
        """The tasks that are not over: those in flight, or after `close` those left unfinished."""
        try:
            return self._call(_on_loop, lambda: self._client.unfinished)
        except ClientClosedError:
            return self._client.unfinished

    def close(self, drain: float = 0.0) -> None:
        """Close the client and end its thread, in bounded time; see `AsyncClient.aclose`.

        Calls under way in other threads end with `ClientClosedError`. Closing twice, or in two
        threads at once, does nothing more.

        Args:
            drain: Seconds for which polls go on, so that tasks may still finish.
        """
        with suppress(ClientClosedError):
            self._call(self._client.aclose, drain)
        with self._lock:
            portal, self._portal = self._portal, None
            if portal is not None:
                self._closed = True
                portal.call(portal.stop, True)
                self._stack.close()
                open_things.discard(self)

    def __enter__(self) -> Self:
        self._call(self._client.__aenter__)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(_Call(functools.partial(function, *args, **kwargs)))

    def _run(self, call: _Call[T], meanwhile: Callable[[], None] = lambda: None) -> T:
        """Make a call on the loop, and wait in this thread for what comes of it."""
        portal: BlockingPortal | None = None
        try:
            # Under the lock, so that nothing is started on a loop that is about to end.
            with self._lock:
                portal = self._opened()
                portal.start_task_soon(call.run)
            meanwhile()
            return call.result()
        except BaseException as error:
            if portal is not None and not call.raised(error):
                with suppress(RuntimeError):  # It was closed meanwhile, and the call with it.
                    portal.start_task_soon(call.give_up)
            raise

    def _opened(self) -> BlockingPortal:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise ConfigurationError(
                "an event loop runs in this thread, and would stand still during this call: await "
                "an apixo_async.AsyncClient here, or call this in a thread, as in "
                "`await asyncio.to_thread(client.generate, ...)`"
            )
        if self._portal is None and not self._closed:
            portal = start_blocking_portal("asyncio", name="apixo_async")
            self._portal, self._pid = self._stack.enter_context(portal), os.getpid()
            open_things.add(self)
        if self._pid != os.getpid():
            raise ConfigurationError(
                "this client was used before the process forked: make a new one in the child"
            )
        if self._portal is None:
            raise _closed()
        return self._portal


class Task:
    """The handle of one task, for any thread. The client polls it with or without waiters."""

    __slots__ = ("_client", "_task")

    def __init__(self, client: Client, task: apixo_async.Task) -> None:
        self._client = client
        self._task = task

    @property
    def id(self) -> str:
        """The service's id of the task."""
        return self._task.id

    @property
    def model(self) -> str:
        """The model's name."""
        return self._task.model

    @property
    def ref(self) -> TaskRef:
        """The reference from which any process can attach to the task."""
        return self._task.ref

    @property
    def state(self) -> str:
        """The state that the last poll found: "pending" until one did."""
        return self._task.state

    @property
    def tag(self) -> str | None:
        """The `tag` of its submit."""
        return self._task.tag

    @property
    def cost(self) -> Decimal | None:
        """USD by the documents or `Client(prices=...)`; None where neither gives a price."""
        return self._task.cost

    def done(self) -> bool:
        """Return True if the task is over: succeeded, failed, not found or abandoned."""
        return self._task.done()

    def result(self, timeout: float | None = None) -> Result:
        """Wait for the result.

        Args:
            timeout: Seconds to wait at most; None waits until the task's age limit.

        Raises:
            WaitTimeoutError: The timeout has passed; the task goes on.
            TaskError: It ended without success.
        """
        check_timeout(timeout)

        async def until() -> Result:
            now = asyncio.get_running_loop().time()
            return await self._task.until(None if timeout is None else now + timeout)

        return self._client._call(until)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the task is over; return False if it is not. Its own failure raises nothing.

        Args:
            timeout: Seconds to wait at most; None waits until the task's age limit.

        Raises:
            ApixoError: The task is no longer polled, so that waiting could not end.
        """
        return self._client._call(self._task.wait, timeout)

    def refresh(self) -> Snapshot:
        """Poll now, before all scheduled polls, and return what the service answered.

        Raises:
            ApixoError: This poll got no usable answer; the task goes on.
        """
        return self._client._call(self._task.refresh)

    def __repr__(self) -> str:
        return repr(self._task)


class _Feed:
    """The inputs of a map: the loop asks for each, and the thread that waits there reads it."""

    def __init__(self, inputs: object) -> None:
        checked = check_inputs(inputs)
        if not isinstance(checked, Iterable):
            raise ConfigurationError("map: an async iterable given; AsyncClient.map takes it")
        self._inputs: Iterator[Given] = iter(checked)
        # It stays until it is answered: an interrupt of the thread may come at any line.
        self._question: Future[tuple[Given] | None] | None = None
        self.changes: Changes = SimpleQueue()

    async def read(self) -> AsyncGenerator[Given]:
        """Yield the inputs on the loop, as they are needed there."""
        while True:
            self._question = Future()
            self.changes.put(None)
            answer = await asyncio.wrap_future(self._question)
            if answer is None:
                return
            yield answer[0]

    def answer_until_done(self, call: _Call[Outcome | None]) -> None:
        """Read inputs as they are asked for, until a call on the loop is done."""
        while not call.done():
            question = self._question
            if question is None or question.done():
                self.changes.get()
            # One that was cancelled is not needed: the buying has ended.
            elif question.running() or question.set_running_or_notify_cancel():
                self._answer(question)

    def _answer(self, question: Future[tuple[Given] | None]) -> None:
        try:
            question.set_result((next(self._inputs),))
        except StopIteration:
            question.set_result(None)
        except Exception as error:
            question.set_exception(error)

    def close(self) -> None:
        """Close the inputs if they come from a generator, unless a thread is in it just now."""
        inputs = self._inputs
        if isinstance(inputs, Generator):
            with suppress(ValueError):
                inputs.close()


class Outcomes:
    """The outcomes of many inputs: an iterator, and a context manager.

    ::

        with client.map(inputs) as outcomes:
            for outcome in outcomes:
                ...

    As `AsyncClient.map` has it, but inputs are read by the thread that waits for an outcome, and
    only while it waits: they may come from its database connection. Several threads may take from
    one `Outcomes`. Leaving the context, by `break` too, stops the buying and waits until every
    bought task is over; an exception in its body waits only for the POSTs under way. Without the
    context, iterate to the end.
    """

    def __init__(self, client: Client, outcomes: apixo_async.Outcomes, feed: _Feed) -> None:
        self._client = client
        self._outcomes = outcomes
        self._feed = feed
        self._lock = threading.Lock()
        self._kept: list[Outcome] = []  # taken by a call that was interrupted just then

    @property
    def progress(self) -> Progress:
        """The counts of this instant."""
        return self._outcomes.progress

    @property
    def ended_by(self) -> ApixoError | None:
        """What ended the buying early, such as an empty account, or None."""
        return self._outcomes.ended_by

    def stop(self) -> None:
        """Read and buy no more; the outcomes of what was bought still come."""
        self._client._call(_on_loop, self._outcomes.stop)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Outcome:
        """Wait for the next outcome.

        Raises:
            ApixoError: What ended the buying, such as a wrong key or an empty account; raised
                once, after the outcomes of all that was bought.
            Exception: What the iterable of the inputs raised, likewise.
        """
        with self._lock:
            if self._kept:
                return self._kept.pop()
            call = _Call(self._take, self._keep, self._feed.changes)
            try:
                taken = self._client._run(call, lambda: self._feed.answer_until_done(call))
            except ClientClosedError as closed:
                try:  # What has ended before the close can still be taken, without its loop.
                    taken = asyncio.run(self._take())
                except ConfigurationError:
                    raise closed from None
        if taken is None:
            raise StopIteration
        return taken

    async def _take(self) -> Outcome | None:
        return await anext(self._outcomes, None)

    def _keep(self, taken: object) -> None:
        if isinstance(taken, Outcome):
            self._kept.append(taken)

    def __enter__(self) -> Self:
        self._client._call(self._outcomes.__aenter__)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._client._call(self._outcomes.__aexit__, exc_type, exc, traceback)
        finally:
            self._feed.close()

    def __repr__(self) -> str:
        return repr(self._outcomes)

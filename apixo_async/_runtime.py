"""The parts of a client, wired at its first use, bound to one loop and process, closed once."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Self

import httpx2

from apixo_async._budget import Budget
from apixo_async._catalog import timing
from apixo_async._config import Timeouts
from apixo_async._http.api import Api
from apixo_async._http.balance import ask_balance
from apixo_async._http.channel import tells_peer
from apixo_async._http.concurrency import ConcurrencyLimiter
from apixo_async._http.retry import RetryQuota
from apixo_async._polling.poller import Poller
from apixo_async._polling.registry import TaskRegistry
from apixo_async._polling.tracked_task import TaskIdentity, TrackedTask
from apixo_async._reporting import Reporter
from apixo_async._settings import Settings
from apixo_async._submit.callbacks import SubmitCallbacks
from apixo_async._submit.images import ReferenceImages
from apixo_async._submit.pending import PendingCalls
from apixo_async._submit.requests import SubmitRequests
from apixo_async._submit.submitter import Submitter
from apixo_async._sync import bound_after
from apixo_async._task import Task
from apixo_async._types import Billing, Result, Statistics, TaskRef
from apixo_async._validation import check_ref
from apixo_async.errors import (
    ApixoError,
    ClientClosedError,
    ConfigurationError,
    SubmitUncertainError,
)
from apixo_async.events import ClientClosed, ClientOpened, ResultDownloaded, TaskAttached

if TYPE_CHECKING:
    from apixo_async._downloads.downloader import Downloader
    from apixo_async._submit.keyed import KeyedSubmits

_NEW_LOOPS = (
    "`async_to_sync` (in a sync view of Django) and `asyncio.run` make a new loop for each call: "
    "use `apixo_async.blocking.Client` there, or an async view and a client for each loop"
)
_OTHER_LOOP = (
    "this client belongs to another event loop, which still runs: make one client for each loop. "
    + _NEW_LOOPS
)


class Binding:
    """The loop and process of a client: those of its first use, and a new loop once that is closed.

    A client that is used after `asyncio.run` returned, in a second `asyncio.run`, is legitimate;
    one that is used on two running loops would have its waiters never woken.
    """

    __slots__ = ("_loop", "_pid")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether the running loop is the one bound to."""
        try:
            return self._loop is not None and asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    @property
    def is_orphaned(self) -> bool:
        """Whether the loop bound to is closed."""
        return self._loop is not None and self._loop.is_closed()

    def check_elsewhere(self) -> None:
        """Refuse to go on if another loop, which still runs, is bound.

        Raises:
            ConfigurationError: It is, or this process is a fork of the one that used the client.
        """
        if self._loop is None:
            return
        self._check_process()
        if not self.is_here and not self._loop.is_closed():
            raise ConfigurationError(_OTHER_LOOP)

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ConfigurationError(
                "this client was used before the process forked: make a new one in the child"
            )

    def bind(self, unfinished: int) -> bool:
        """Bind to the running loop; return True if that is a new one.

        Args:
            unfinished: Tasks in flight on the loop bound to so far.

        Raises:
            ConfigurationError: No loop is running; another one is bound and alive, or was left
                with tasks in flight; or this process is a fork of the one that used the client.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigurationError(
                "no asyncio event loop is running here: call this from a coroutine, or use "
                "`apixo_async.blocking.Client`"
            ) from None
        if self._loop is None:
            self._loop, self._pid = loop, os.getpid()
            return True
        self._check_process()
        if loop is self._loop:
            return False
        if not self._loop.is_closed():
            raise ConfigurationError(_OTHER_LOOP)
        if unfinished:
            raise ConfigurationError(
                f"the event loop of this client was closed with {unfinished} tasks in flight: "
                "make a new client and attach to them (their refs are in `client.unfinished`). "
                + _NEW_LOOPS
            )
        self._loop = loop
        return True


#: Seconds that connections get to close.
_CLOSING = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class Engine:
    """The parts of a client on one loop."""

    transport: httpx2.AsyncBaseTransport
    api: Api
    poller: Poller
    requests: SubmitRequests
    submitter: Submitter
    downloader: Downloader
    report: Reporter
    quota: RetryQuota
    calls: PendingCalls
    callbacks: SubmitCallbacks | None
    keyed: KeyedSubmits | None
    prices: Mapping[str, Decimal]
    budget: Budget | None

    @classmethod
    def wired(
        cls,
        settings: Settings,
        report: Reporter,
        rng: random.Random,
        orphan: Callable[[Task | SubmitUncertainError], None],
    ) -> Self:
        """Wire the parts of a client. Needs a running loop."""
        # Imported here: large, and not needed to import the package.
        from apixo_async._downloads.downloader import Downloader
        from apixo_async._downloads.source import Reachable

        channel, limiter = settings.channel(), settings.limiter
        limits = limiter.limits
        concurrency = ConcurrencyLimiter(lambda: limiter.limits.requests_per_minute / 60)
        api = Api(channel, limiter, concurrency, report)
        timeouts = settings.timeouts
        # A poll may wait as long as submits and polls are closed by 429s, then for its answer.
        patience = timeouts.throttled + timeouts.exchange
        registry = TaskRegistry(settings.polling, limiter, report, rng, concurrency.limit)
        if settings.follows_speed:
            api.on_speed = registry.hasten
        poller = Poller(api, registry, report, patience)

        def hand_over(ended: TrackedTask | SubmitUncertainError) -> None:
            orphan(Task(ended, poller) if isinstance(ended, TrackedTask) else ended)

        calls = PendingCalls()
        quota = RetryQuota(asyncio.get_running_loop().time())
        callbacks = None
        if settings.webhooks is not None:
            callbacks = SubmitCallbacks(settings.webhooks.inbox(report), poller, timeouts.exchange)
        images = ReferenceImages(settings.webhooks.shared_files if settings.webhooks else None)
        requests = SubmitRequests(api, poller, report, hand_over, callbacks, images)
        if report not in limiter.listeners:  # A client that is bound to a new loop is there.
            limiter.listeners.append(report)
        poller.context.run(
            report,
            ClientOpened(settings.base_url, limits.concurrent_tasks, limits.requests_per_minute),
        )
        prices = settings.prices
        submitter = Submitter(
            api,
            requests,
            poller,
            report,
            timeouts,
            rng,
            quota,
            calls,
            prices=prices,
            budget=settings.budget,
        )
        keyed = None
        if settings.store is not None:
            # Here, as above.
            from apixo_async._submit.keyed import KeyedSubmits

            keyed = KeyedSubmits.wired(
                settings.store,
                limiter,
                submitter,
                poller,
                report,
                timeouts,
                rng,
                calls,
                callbacks,
                prices,
            )
        return cls(
            transport=channel.transport,
            api=api,
            poller=poller,
            requests=requests,
            submitter=submitter,
            downloader=Downloader(
                channel.transport,
                user_agent=channel.user_agent,
                rng=rng,
                reachable=Reachable.beside(
                    settings.base_url, in_process=not tells_peer(channel.transport)
                ),
            ),
            report=report,
            quota=quota,
            calls=calls,
            callbacks=callbacks,
            keyed=keyed,
            prices=prices,
            budget=settings.budget,
        )

    def attach(
        self,
        model: str | TaskRef,
        task_id: str | None = None,
        *,
        seen: bool = False,
        tag: str | None = None,
    ) -> Task:
        """Return the handle of a task that exists already; poll it at once if it is new here.

        Args:
            model: The model's name, or the reference of the task.
            task_id: The service's id of it, unless a reference is given.
            seen: Whether the id surely came from the service, so that it is not mistyped.
            tag: The caller's word for it.
        """
        registry, limiter = self.poller.registry, self.api.limiter
        ref = check_ref(model, task_id, registry.index.model_of)
        self.poller.check()
        track = registry.tracks.get(ref)
        # What a callback has claimed to be another submit's task is not believed: this task is
        # polled for itself, and neither gets the outcome of the other.
        if track is None or track.identity is TaskIdentity.CLAIMED:
            slot = limiter.slot_above()
            billing = Billing(tag, self.prices.get(ref.model))
            track = self.poller.track(ref, ref.model, slot, age=None, seen=seen, billing=billing)
            self.report(TaskAttached(ref.model, ref.task_id, tag))
        elif track.halted is not None:
            self.poller.poll_now(track)
        return Task(track, self.poller)

    @asynccontextmanager
    async def downloading(self, result: Result) -> AsyncGenerator[None]:
        """Receive files of a result: ended by the close, and its errors have the result's tag."""
        try:
            with self.calls.open():
                yield
        except ApixoError as error:
            error.tag = result.tag
            raise

    async def balance(self, timeouts: Timeouts, rng: random.Random) -> Decimal:
        """Return the USD left on the key; `AsyncClient.balance` says what is raised."""
        with self.calls.open():
            return await ask_balance(self.api, timeouts, rng, self.quota)

    def downloaded(self, result: Result, files: int) -> None:
        """Report that files of a result were received."""
        self.report(ResultDownloaded(result.model, result.task_id, files, result.tag))

    def statistics(self) -> Statistics:
        """Return the counts of this instant."""
        limiter, places, registry = (
            self.api.limiter,
            self.api.concurrency.limit,
            self.poller.registry,
        )
        return Statistics(
            slots_used=limiter.slots_used,
            slots_limit=limiter.limits.concurrent_tasks,
            effective_slots_limit=limiter.effective_slots_limit,
            slots_waiting=limiter.slots_waiting,
            requests_in_window=limiter.requests_used(asyncio.get_running_loop().time()),
            requests_limit=limiter.limits.requests_per_minute,
            effective_requests_limit=limiter.effective_requests_limit,
            requests_waiting=limiter.permits_waiting,
            tasks_tracked=len(registry.tracks),
            submits=self.requests.bought,
            polls=self.poller.polls,
            succeeded=registry.succeeded,
            failed=registry.failed,
            uncertain=self.requests.uncertain,
            uncertain_entries=limiter.uncertain_entries,
            throttled=self.api.throttled,
            latency=places.latency,
            requests_at_once_limit=places.size,
        )

    def leave_behind(self) -> None:
        """Leave a closed loop: its uncertain submits hold their slots, but await no callback."""
        self.forget_callbacks()
        for track in self.poller.registry.unresolved.tracks:
            # Its task may exist, and count against the account's limit (invariant 2).
            track.slot.hold(timing(track.kind).longest)

    def forget_callbacks(self) -> None:
        """Act on callbacks no more; they are still answered, so that the service stops."""
        if self.callbacks is not None:
            self.callbacks.close()

    async def aclose(self, *, drain: float, patience: float) -> None:
        """End everything in bounded time (invariant 8); unfinished tasks stay in the registry.

        Args:
            drain: Seconds for which polls go on, so that tasks may finish.
            patience: Seconds that the POSTs under way get, so that no id is lost.
        """
        try:
            # First the waits that have bought nothing yet: a drain must not buy.
            await self.calls.aclose(
                ClientClosedError("the client was closed before this was done: make a new one")
            )
            with bound_after(drain):
                await self.requests.settled()
                registry = self.poller.registry
                for track in (*registry.tracks.values(), *registry.unresolved.tracks):
                    while track.verdict() is None:
                        await track.over.wait()
        except TimeoutError:
            pass
        finally:
            await _to_its_end(self._end(patience))

    async def _end(self, patience: float) -> None:
        try:
            await self.requests.drain(patience)
        finally:  # A second cancellation ends the drain, but not what follows.
            self.forget_callbacks()
            if self.report in self.api.limiter.listeners:
                self.api.limiter.listeners.remove(self.report)
            import anyio  # Here, since only a close needs it, and it is slow to import.

            with anyio.move_on_after(_CLOSING):
                await self.poller.aclose(
                    ClientClosedError(
                        "the client was closed; `attach` to the task with another one to wait on"
                    )
                )
            if self.keyed is not None:
                await self.keyed.aclose()
            with anyio.move_on_after(_CLOSING):
                await self.transport.aclose()


async def _to_its_end(ending: Coroutine[object, object, None]) -> None:
    """Run a bounded end to its end although the caller is cancelled; then raise the cancellation.

    A second cancellation cancels the end as well.
    """
    import anyio  # Here, as above.

    task = asyncio.ensure_future(ending)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError as exc:
                if cancelled is not None:
                    task.cancel()
                cancelled = exc
    if cancelled is not None:
        raise cancelled


class Lifecycle:
    """Wire an engine when it is first needed, and end it.

    Args:
        wire: Builds the engine; called with a running loop.
        transport: The transport that the caller gave, closed even if it was never used.
        report: Where events go.
        patience: Seconds that POSTs under way get at the end.
    """

    def __init__(
        self,
        wire: Callable[[], Engine],
        *,
        transport: httpx2.AsyncBaseTransport | None,
        report: Reporter,
        patience: float,
    ) -> None:
        self._wire = wire
        self._transport = transport
        self._report = report
        self._patience = patience
        self._binding = Binding()
        self._engine: Engine | None = None
        self._closing: asyncio.Future[None] | None = None
        self.closed = False

    def engine(self) -> Engine:
        """Return the engine, wired for the running loop.

        Raises:
            ClientClosedError: The client was closed.
            ConfigurationError: It belongs to another loop or process.
        """
        if self.closed:
            raise ClientClosedError("this client was closed: make a new one")
        is_left = self._engine is not None and self._binding.is_orphaned
        if is_left and isinstance(self._transport, httpx2.AsyncHTTPTransport):
            # The connections in its pool belong to the closed loop: a POST on one would be lost.
            raise ConfigurationError(
                "the transport given to this client has connections of an event loop that is "
                "closed: make a new client and transport for each loop"
            )
        if self._binding.bind(len(self.unfinished)) or self._engine is None:
            if self._engine is not None:
                self._engine.leave_behind()
            self._engine = self._wire()
        return self._engine

    @property
    def engine_here(self) -> Engine | None:
        """The engine, if it is wired and its loop is the running one."""
        return self._engine if self._binding.is_here else None

    @property
    def unfinished(self) -> tuple[TaskRef, ...]:
        """The tasks in flight, or after the close those that were unfinished."""
        if self._engine is None:
            return ()
        return tuple({track.ref: None for track in self._engine.poller.registry.tracks.values()})

    async def aclose(self, drain: float) -> None:
        """Close once, in bounded time; a second call meanwhile waits for the same end.

        Raises:
            ConfigurationError: The client belongs to another loop, which still runs.
        """
        self._binding.check_elsewhere()
        if self._closing is not None:
            await asyncio.shield(self._closing)
        if self.closed:
            return
        self.closed = True  # Nothing new is bought from here on.
        self._closing = asyncio.get_running_loop().create_future()
        try:
            await self._end(drain)
        finally:
            self._closing.set_result(None)
            self._closing = None
            self._report(ClientClosed(tuple(map(str, self.unfinished))))

    async def _end(self, drain: float) -> None:
        engine = self.engine_here
        if engine is None:
            # Never used, or its loop is gone and its connections with it.
            if self._transport is not None and self._engine is None:
                import anyio  # Late, as above.

                with anyio.move_on_after(_CLOSING):
                    await self._transport.aclose()
            return
        await engine.aclose(drain=drain, patience=self._patience)

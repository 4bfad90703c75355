"""The parts of a client on one event loop, and how they are ended."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import httpx2

from apixo_async._bounds import bound_after
from apixo_async._callbacks import Callbacks
from apixo_async._calls import Calls
from apixo_async._checks import check_ref
from apixo_async._core.documents import timing
from apixo_async._core.errors import ClientClosedError
from apixo_async._core.events import ClientOpened, TaskAttached
from apixo_async._core.retry import RetryQuota
from apixo_async._core.task_errors import SubmitUncertainError
from apixo_async._core.values import Statistics, TaskRef
from apixo_async._gate import Gate
from apixo_async._ledger import Ledger
from apixo_async._line import Line
from apixo_async._poller import Poller
from apixo_async._posts import Posts
from apixo_async._reporting import Reporter
from apixo_async._settings import Settings
from apixo_async._submits import Submitter
from apixo_async._task import Task
from apixo_async._track import Track
from apixo_async._transport import tells_peer

if TYPE_CHECKING:
    from apixo_async._downloads.downloader import Downloader

#: Seconds that the connections get to close.
_CLOSING = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class Engine:
    """Everything that a client runs on one loop."""

    transport: httpx2.AsyncBaseTransport
    line: Line
    poller: Poller
    posts: Posts
    submitter: Submitter
    downloader: Downloader
    report: Reporter
    quota: RetryQuota
    calls: Calls
    callbacks: Callbacks | None

    @classmethod
    def wired(
        cls,
        settings: Settings,
        report: Reporter,
        rng: random.Random,
        orphan: Callable[[Task | SubmitUncertainError], None],
    ) -> Self:
        """Wire the parts: the only place where that is done. Needs a running loop."""
        # Not needed to import the package, and large.
        from apixo_async._downloads.downloader import Downloader
        from apixo_async._downloads.reachable import Reachable

        channel, limiter = settings.channel(), settings.limiter
        limits = limiter.limits
        gate = Gate(lambda: limiter.limits.requests_per_minute / 60)
        line = Line(channel, limiter, gate, report)
        timeouts = settings.timeouts
        patience = timeouts.throttled + timeouts.exchange
        ledger = Ledger(settings.polling, limiter, report, rng, gate.table)
        poller = Poller(line, ledger, report, patience)

        def hand_over(ended: Track | SubmitUncertainError) -> None:
            orphan(Task(ended, poller) if isinstance(ended, Track) else ended)

        calls = Calls()
        quota = RetryQuota(asyncio.get_running_loop().time())
        callbacks = None
        if settings.webhooks is not None:
            callbacks = Callbacks(settings.webhooks.desk(), poller, timeouts.exchange)
        posts = Posts(line, poller, report, hand_over, callbacks)
        if report not in limiter.listeners:  # A client that is bound anew has told it before.
            limiter.listeners.append(report)
        report(ClientOpened(settings.base_url, limits.concurrent_tasks, limits.requests_per_minute))
        return cls(
            transport=channel.transport,
            line=line,
            poller=poller,
            posts=posts,
            submitter=Submitter(line, posts, poller, report, timeouts, rng, quota, calls),
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
        )

    def attach(
        self, model: str | TaskRef, task_id: str | None = None, *, seen: bool = False
    ) -> Task:
        """Return the handle of a task that exists already; look at it at once if it is new here.

        Args:
            model: Its model, or its reference.
            task_id: The service's id of it, unless a reference is given.
            seen: Whether the id surely came from the service, so that it is not mistyped.
        """
        ledger, limiter = self.poller.ledger, self.line.limiter
        ref = check_ref(model, task_id, ledger.register.model_of)
        self.poller.check()
        track = ledger.tracks.get(ref)
        if track is None:
            slot = limiter.slot_above()
            track = self.poller.track(ref, ref.model, slot, at_once=True, seen=seen)
            self.report(TaskAttached(ref.model, ref.task_id))
        elif track.halted is not None:
            self.poller.look_now(track)
        return Task(track, self.poller)

    def statistics(self) -> Statistics:
        """Count everything, now."""
        limiter, places, ledger = self.line.limiter, self.line.gate.table, self.poller.ledger
        return Statistics(
            slots_used=limiter.slots_used,
            slots_limit=limiter.limits.concurrent_tasks,
            slots_ceiling=limiter.slots_ceiling,
            slots_waiting=limiter.slots_waiting,
            requests_in_window=limiter.requests_used(asyncio.get_running_loop().time()),
            requests_limit=limiter.limits.requests_per_minute,
            requests_ceiling=limiter.requests_ceiling,
            requests_waiting=limiter.permits_waiting,
            tasks_tracked=len(ledger.tracks),
            submits=self.posts.bought,
            looks=self.poller.looks,
            succeeded=ledger.succeeded,
            failed=ledger.failed,
            uncertain=self.posts.uncertain,
            throttled=self.line.throttled,
            latency=places.latency,
            places=places.size,
        )

    def leave_behind(self) -> None:
        """Let go of a closed loop's uncertain submits: no callback of theirs is heard any more."""
        self.forget_callbacks()
        for track in self.poller.ledger.claims.unnamed:
            track.slot.hold(timing(track.kind).longest)

    def forget_callbacks(self) -> None:
        """Act on callbacks no more; they are still answered."""
        if self.callbacks is not None:
            self.callbacks.close()

    async def aclose(self, *, drain: float, patience: float) -> None:
        """End everything in bounded time; what is unfinished stays in the poller's ledger.

        Args:
            drain: Seconds in which looks go on, so that tasks may finish.
            patience: Seconds that the POSTs under way get, so that no id is lost.
        """
        try:
            await self.calls.aclose(
                ClientClosedError("the client was closed before this was done: make a new one")
            )
            async with bound_after(drain):
                await self._drained()
        except TimeoutError:
            pass
        finally:
            await _to_its_end(self._end(patience))

    async def _drained(self) -> None:
        await self.posts.settled()
        ledger = self.poller.ledger
        for track in (*ledger.tracks.values(), *ledger.claims.unnamed):
            while track.verdict() is None:
                await track.over.wait()

    async def _end(self, patience: float) -> None:
        try:
            await self.posts.drain(patience)
        finally:  # Also where a second cancellation hurries the end.
            self.forget_callbacks()
            if self.report in self.line.limiter.listeners:
                self.line.limiter.listeners.remove(self.report)
            import anyio  # Late: nothing before the end needs it, and an import is to be quick.

            with anyio.move_on_after(_CLOSING):
                await self.poller.aclose(
                    ClientClosedError(
                        "the client was closed; `attach` to the task with another one to wait on"
                    )
                )
                await self.transport.aclose()


async def _to_its_end(ending: Coroutine[object, object, None]) -> None:
    """Run a bounded end although the caller is cancelled, who is told afterwards.

    A second cancellation hurries the end.
    """
    import anyio  # Late, as above.

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

"""The one poller of a client: an asyncio.Task that sends the polls which are due."""

from __future__ import annotations

import asyncio
import contextvars
import math
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from apixo_async import events
from apixo_async._http import verdicts
from apixo_async._http.api import Api
from apixo_async._http.channel import Unanswered
from apixo_async._http.wire import Answer
from apixo_async._limits.limiter import Permit, Slot
from apixo_async._limits.priority import Priority
from apixo_async._polling.registry import TaskRegistry
from apixo_async._polling.tracked_task import (
    PollState,
    SubmitTimes,
    TaskIdentity,
    TaskRecord,
    TrackedTask,
)
from apixo_async._reporting import Reporter
from apixo_async._sync import Alarm, Bound, bound_after, fresh
from apixo_async._types import UNBILLED, Billing, Result, Snapshot, TaskRef
from apixo_async.errors import (
    APIConnectionError,
    APITimeoutError,
    ApixoError,
    ConfigurationError,
    PollerDiedError,
    TaskError,
)

if TYPE_CHECKING:
    from apixo_async.webhooks._inbox import CallbackSubscription

#: Seconds for which a poll that was asked for waits in the class of such requests, before it waits
#: in the class of scheduled polls.
_ASKING: Final = 1.0


class Poller:
    """Poll all tasks of a client, in one asyncio.Task that the first of them starts.

    If it dies, every waiter and the next submit is given the cause (invariant 6).

    Args:
        api: The way to the service.
        registry: The tasks, and what polls change in them.
        report: Where events go.
        patience: Seconds that `refresh` waits for its poll to be sent and answered.
    """

    def __init__(self, api: Api, registry: TaskRegistry, report: Reporter, patience: float) -> None:
        self.registry = registry
        self.over: ApixoError | None = None
        self.polls = 0
        self._api = api
        self._report = report
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._queue = registry.queue
        self._alarm = Alarm()
        self._is_crowded = False
        #: Polls run in an empty context (invariant 6), but for what hooks put there.
        self.context = contextvars.Context()
        self._runner: asyncio.Task[None] | None = None
        # The loop holds tasks weakly: without this a poll in flight could be collected.
        self._exchanges: dict[asyncio.Task[None], Permit] = {}

    def check(self) -> None:
        """Raise what ended the poller, if it has ended."""
        if self.over is not None:
            raise fresh(self.over)

    def check_loop(self, track: TrackedTask) -> None:
        """Refuse to wait for a task on another loop, on which nothing would wake the waiter.

        Raises:
            ConfigurationError: The running loop is another one than the client's.
        """
        if asyncio.get_running_loop() is self._loop:
            return
        if self._loop.is_closed():
            why = "has an event loop that is closed: `attach` to it with a new client"
        else:
            why = (
                "belongs to a client on another event loop: await it there (from other threads "
                "by `asyncio.run_coroutine_threadsafe`), or `attach` to it with a client of this "
                "loop"
            )
        raise track.error(ConfigurationError(f"{track.ref} {why}; it goes on at the service"))

    def track(
        self,
        ref: TaskRef,
        kind: str,
        slot: Slot,
        *,
        age: float | None = 0.0,
        subscription: CallbackSubscription | None = None,
        seen: bool = True,
        record: TaskRecord | None = None,
        is_followed: bool = False,
        billing: Billing = UNBILLED,
    ) -> TrackedTask:
        """Poll a task from now on; its slot is given back when it is over.

        Args:
            ref: The task.
            kind: What its duration depends on.
            slot: The slot that the task takes.
            age: Seconds since it was created; None where that is not known: it is polled now.
            subscription: Where its callbacks arrive.
            seen: Whether its id surely came from the service: then it takes longer to count as
                gone than an id that may be mistyped.
            record: Where its end is noted.
            is_followed: Whether another process polls it; `ended_elsewhere` is called with its
                end.
            billing: Its tag and its cost.
        """
        now = asyncio.get_running_loop().time()
        return self._started(
            self.registry.open(
                ref,
                kind,
                slot,
                now=now,
                age=age,
                subscription=subscription,
                seen=seen,
                record=record,
                is_followed=is_followed,
                billing=billing,
            ),
            now,
        )

    def ended_elsewhere(self, track: TrackedTask, outcome: Result | TaskError) -> None:
        """Settle a task as another process saw it end."""
        self.registry.ended_elsewhere(track, outcome, asyncio.get_running_loop().time())
        self._wake()

    def adopt(self, track: TrackedTask, record: TaskRecord | None) -> None:
        """Poll a task that another process has polled so far."""
        self.registry.adopt(track, record, asyncio.get_running_loop().time())
        self._wake()

    def follow(self, track: TrackedTask) -> None:
        """Leave the polls of a task to another process."""
        self.registry.follow(track, asyncio.get_running_loop().time())
        self._wake()

    def await_callback(
        self,
        ref: TaskRef,
        kind: str,
        slot: Slot,
        subscription: CallbackSubscription | None,
        times: SubmitTimes,
    ) -> TrackedTask:
        """Wait for the callback that names the task of an uncertain submit.

        Args:
            ref: What stands for the task.
            kind: What its duration depends on.
            slot: Given back after the longest run time of such a task.
            subscription: Where callbacks arrive; None where none can arrive any more.
            times: When its POST was under way.
        """
        now = asyncio.get_running_loop().time()
        return self._started(
            self.registry.await_callback(ref, kind, slot, subscription, times), now
        )

    def _started(self, track: TrackedTask, now: float) -> TrackedTask:
        if self.over is not None:
            # Bought while the poller died: the task is tracked all the same, so that its waiters
            # get the reason and its id is not lost.
            self.registry.halt(track, self.over, now)
        self._wake()
        return track

    def called(self, track: TrackedTask, named: str | None = None) -> None:
        """Poll a task whose callback arrived, with a poll that is sent from now on."""
        self.registry.called(track, named, asyncio.get_running_loop().time())
        self._wake()

    def claimed(self, track: TrackedTask, named: str) -> None:
        """Poll the task that a callback to an earlier process named for its submit."""
        self.registry.claimed(track, named)
        self._wake()

    def age(self, track: TrackedTask) -> float | None:
        """Return the seconds since a task was created, until its end; None while not known."""
        if track.created == -math.inf:
            return None
        now = self._loop.time() if track.ended_at is None else track.ended_at
        return now - track.created

    def poll_now(self, track: TrackedTask) -> None:
        """Poll a task now, even if its polls were halted."""
        self.registry.resume(track)
        self._wake()

    async def refresh(self, track: TrackedTask) -> Snapshot:
        """Poll now, and return what the service answered.

        Raises:
            ApixoError: The poll got no usable answer; the task goes on.
        """
        if track.outcome is not None:
            if track.snapshot is not None:
                return track.snapshot
            assert isinstance(track.outcome, ApixoError)  # A result comes with a snapshot.
            raise track.error(track.outcome)
        self.check_loop(track)
        self.check()
        if track.is_detached and track.halted is not None:
            raise track.error(track.halted)
        if track.identity is TaskIdentity.UNRESOLVED:
            raise track.error(
                ApixoError(
                    f"{track.ref.model}: no callback has named the task of this uncertain submit, "
                    "so that there is nothing to poll; await it"
                )
            )
        future: asyncio.Future[Snapshot] = asyncio.get_running_loop().create_future()
        track.refreshers.append(future)
        # Concurrent callers share one poll, also one that is in flight already.
        if track.polling is not PollState.IN_FLIGHT:
            self._queue.ask(track)
            self._wake()
        try:
            with bound_after(self._patience):
                return await future
        except TimeoutError as exc:
            if isinstance(exc, ApixoError):
                raise  # The poll's own error, an APITimeoutError: this wait has not timed out.
            message = (
                f"{track.ref}: no poll was answered within {self._patience:.0f} s; the task goes "
                "on, and is polled again"
            )
            raise track.error(APITimeoutError(message)) from None

    async def ask(self, ref: TaskRef) -> Snapshot:
        """Send one poll of a task, and track nothing.

        Raises:
            ApixoError: It got no usable answer, or the service does not know the task.
        """
        self.check()
        deadline = asyncio.get_running_loop().time() + self._patience
        try:
            permit = await self._api.admit_asked(self._patience, deadline)
        except TimeoutError as exc:
            if isinstance(exc, ApixoError):
                raise
            raise APITimeoutError(
                f"{ref}: no poll could be sent within {self._patience:.0f} s: more requests are "
                "waiting than the limit admits; try again later",
                model=ref.model,
                task_id=ref.task_id,
            ) from None
        except ApixoError as error:
            error.model, error.task_id = ref.model, ref.task_id
            raise
        self.polls += 1
        verdict = await self._verdict(ref, permit)
        if not isinstance(verdict, verdicts.Over | verdicts.Running):
            raise verdict.error
        if isinstance(verdict, verdicts.Over):
            self._api.limiter.is_over(ref)
        return verdict.snapshot

    def detach(self, track: TrackedTask) -> None:
        """Poll a task no more, although it goes on.

        Raises:
            ConfigurationError: Its id is not known yet, or the running loop is not the client's.
        """
        if track.outcome is not None or track.is_detached:
            return
        self.check_loop(track)
        if track.identity is not TaskIdentity.KNOWN:
            raise track.error(
                ConfigurationError(f"{track.ref.model}: its id is not known yet: await it")
            )
        reason = ApixoError(f"{track.ref} was detached and goes on: `attach` to it, or `poll` it")
        self.registry.detach(track, reason, asyncio.get_running_loop().time())
        self._wake()

    async def aclose(self, reason: ApixoError) -> None:
        """Give the waiters the reason, and end the poller and every poll."""
        self.over = reason
        # First, since a transport may take long to cancel its exchanges, or never do (invariant 6).
        self.registry.halt_all(reason, asyncio.get_running_loop().time())
        owned = {task for task in (self._runner, *self._exchanges) if task is not None}
        for task in owned:
            task.cancel()
        if owned:
            await asyncio.wait(owned)

    def _wake(self) -> None:
        self._alarm.wake()
        if self._runner is None and self.over is None:
            # The caller whose task starts the poller may have context variables, such as a trace:
            # in an empty context they do not become those of every other caller's polls.
            self._runner = asyncio.get_running_loop().create_task(
                self._run(), name="apixo_async poller", context=self.context
            )
            self._runner.add_done_callback(self._ran)

    async def _run(self) -> None:
        # Without tasks there is no poller: a client that is never closed leaves nothing pending.
        loop = asyncio.get_running_loop()
        while self.registry.held:
            while self.registry.held and self._queue.next_due() > loop.time():
                await self._alarm.sleep(min(self._queue.next_due(), self._queue.next_expiry()))
                self.registry.abandon_expired(loop.time())
            if self._queue.next_due() <= loop.time():
                permit = await self._admitted()
                if permit is not None:
                    self._send_poll(permit)

    async def _admitted(self) -> Permit | None:
        """Wait for a permit and a place, or until a task expires.

        A poll that was asked for goes before the scheduled polls of other clients. If it waits for
        a second, too many callers ask: then it continues in the class of scheduled polls, which
        has half of all polls.
        """
        now, queue, until = asyncio.get_running_loop().time(), self._queue, math.inf
        if queue.has_asked and queue.next_scheduled() > now and not self._is_crowded:
            until = now + _ASKING
        priority = Priority.SCHEDULED if until == math.inf else Priority.ASKED
        permit = self._api.try_admit(priority)
        if permit is not None:  # Most often nothing waits, and a timeout would cost more than it.
            self._is_crowded = False
            return permit
        until = min(until, queue.next_expiry())
        bound = Bound(until if until < math.inf else None)
        try:
            with bound:
                permit = await self._api.admit(priority)
        except TimeoutError:
            if not bound.expired():
                raise  # Another one than this bound's: going on would spin.
            self._is_crowded = priority is Priority.ASKED
            self.registry.abandon_expired(asyncio.get_running_loop().time())
            return None
        self._is_crowded = False
        return permit

    def _send_poll(self, permit: Permit) -> None:
        loop = asyncio.get_running_loop()
        track = self.registry.next_due(loop.time())
        if track is None:
            # While the permit was awaited, the task was settled or its model went down.
            self._api.dismiss(permit)
            return
        self.polls += 1
        exchange = loop.create_task(self._poll(track, permit))
        self._exchanges[exchange] = permit
        exchange.add_done_callback(self._exchanged)

    async def _poll(self, track: TrackedTask, permit: Permit) -> None:
        verdict = await self._verdict(track.ref, permit)
        if self.over is not None:
            return  # Its waiters have the reason; an answer must not have them wait again.
        self.registry.apply(track, verdict, asyncio.get_running_loop().time())
        # The runner sleeps on unless it has to poll earlier than it expects, or to end: most polls
        # need no second wake-up.
        self._alarm.need(self._queue.next_due() if self.registry.held else -math.inf)

    async def _verdict(self, ref: TaskRef, permit: Permit) -> verdicts.PollVerdict:
        path = f"/statusTask/{quote(ref.model, safe='')}?taskId={quote(ref.task_id, safe='')}"
        try:
            answer = await self._api.get(permit, path)
        except Unanswered as exc:
            return verdicts.Faulty(_no_answer(ref, exc))
        except asyncio.CancelledError as exc:
            current = asyncio.current_task()
            if current is None or current.cancelling():
                raise
            # The transport raised it by itself: that is a fault of one poll, not the poller's end.
            return verdicts.Faulty(_no_answer(ref, Unanswered(repr(exc), True, False)))
        return _judged(answer, ref)

    def _exchanged(self, task: asyncio.Task[None]) -> None:
        # A poll that was cancelled before its first step has not given its permit back.
        try:
            self._api.dismiss(self._exchanges.pop(task))
        finally:
            self._check_end(task)

    def _ran(self, task: asyncio.Task[None]) -> None:
        self._runner = None
        self._check_end(task)
        if self.over is None and self.registry.held:
            self._wake()  # A task was added in the step in which the poller ended.

    def _check_end(self, task: asyncio.Task[None]) -> None:
        if self.over is not None:
            if not task.cancelled():
                task.exception()  # Retrieved, so that asyncio does not log it as never seen.
            return  # The first cause stays; what it cancels ends here as well.
        if task.cancelled():
            left = ", ".join(map(str, self.registry.tracks))
            why = f"cancelled from outside, or its event loop ended; left: {left}"
            self._die(asyncio.CancelledError(why))
        elif (cause := task.exception()) is not None:
            self._die(cause)

    def _die(self, cause: BaseException) -> None:
        """Give every waiter, and the next submit, the cause (invariant 6)."""
        reason = f"{type(cause).__name__}: {cause}"
        self.over = PollerDiedError(
            f"the poller died of {reason}; its tasks go on at the service: close this client, "
            "and attach to them with a new one"
        )
        self.over.__cause__ = cause
        for task in (self._runner, *self._exchanges):
            if task is not None:
                task.cancel()
        try:
            self.registry.halt_all(self.over, asyncio.get_running_loop().time())
        finally:  # Last: a hook that fails must not keep the reason from a waiter.
            self._report(events.PollerDied(reason))


def _judged(answer: Answer, ref: TaskRef) -> verdicts.PollVerdict:
    """Judge an answer; judging it may raise, which is a fault of this one poll (invariant 5)."""
    try:
        return verdicts.judge_poll(answer, ref)
    except Exception as exc:
        error = APIConnectionError(
            f"{ref}: reading the answer to a poll raised {type(exc).__name__}; a later poll may "
            "answer",
            model=ref.model,
            task_id=ref.task_id,
        )
        error.__cause__ = exc
        return verdicts.Faulty(error)


def _no_answer(ref: TaskRef, exc: Unanswered) -> APIConnectionError:
    cls = APITimeoutError if exc.timed_out else APIConnectionError
    return cls(
        f"{ref}: a poll got no answer ({exc.reason}); a later poll may answer",
        model=ref.model,
        task_id=ref.task_id,
    )

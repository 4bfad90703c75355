"""The POSTs under way, owned by the client: nobody's cancellation tears one from its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote

from apixo_async import events
from apixo_async._catalog import timing
from apixo_async._http.api import Api
from apixo_async._http.channel import Unanswered
from apixo_async._http.concurrency import ConcurrencyLimiter
from apixo_async._http.verdicts import (
    BODY_HEAD,
    Bought,
    Refused,
    SubmitVerdict,
    Uncertain,
    judge_submit,
)
from apixo_async._http.wire import Answer, encode_submit
from apixo_async._limits.limiter import Permit, Slot
from apixo_async._polling.poller import Poller
from apixo_async._polling.tracked_task import TrackedTask
from apixo_async._reporting import Reporter, guarded, logger
from apixo_async._submit.callbacks import SubmitCallbacks
from apixo_async._submit.observer import SubmitObserver
from apixo_async._submit.pending import PendingCalls
from apixo_async._task import Task
from apixo_async._types import Delivery, TaskInput, TaskRef
from apixo_async.errors import (
    APIConnectionError,
    APITimeoutError,
    ApixoError,
    SubmitUncertainError,
    reason_of,
)

if TYPE_CHECKING:
    from apixo_async.webhooks._inbox import CallbackSubscription

Ended: TypeAlias = TrackedTask | SubmitUncertainError | Refused


@dataclass(slots=True)
class SubmitAttempt:
    """One submit under way.

    Attributes:
        input: What is bought.
        delivery: Its options.
        slot: Belongs to the task as soon as there may be one.
        called_at: When the caller asked, on the loop's clock.
        record: Where it is noted, or None.
        sending: Whether its POST has begun, so that a task may exist.
        orphaned: Whether its caller was cancelled.
        expected: The callbacks of the POST, where they are waited for.
        ended: The task, or the doubt, that it came to, once that is known.
        check: Called before the POST is sent; what it raises prevents it.
        journal_places: Where it has a place while it is between its intent and its POST.
    """

    input: TaskInput
    delivery: Delivery
    slot: Slot
    called_at: float
    record: SubmitObserver | None = None
    sending: bool = False
    orphaned: bool = False
    expected: CallbackSubscription | None = None
    ended: TrackedTask | SubmitUncertainError | None = None
    check: Callable[[], object] = lambda: None
    journal_places: ConcurrencyLimiter | None = None

    def leave_journal(self, took: float | None = None) -> None:
        """Give back the place, if it has one: the POST is being sent, or never is.

        Args:
            took: Seconds from its permit to its first byte; None where nothing was sent.
        """
        places, self.journal_places = self.journal_places, None
        if places is not None:
            places.leave(took)

    @property
    def kind(self) -> str:
        """What drives how long the task takes: the input, and the route that it takes."""
        kind, provider = self.input.kind, self.delivery.provider
        return kind if provider is None else f"{kind}/{provider}"

    @property
    def kept(self) -> bool:
        """Whether it is noted where it outlives the process."""
        return self.record is not None and self.record.kept

    @property
    def mark(self) -> str | None:
        """What its callbacks are known by."""
        return None if self.expected is None else self.expected.id


class SubmitRequests:
    """Run each POST in an asyncio.Task of the client's, and act on how it ended.

    Args:
        api: The way to the service.
        poller: Takes up what was bought.
        report: Where events go.
        orphan: Told of a track or an uncertain submit whose caller was cancelled.
        callbacks: Waits for the callbacks of every submit that has no URL of the caller's own.
    """

    def __init__(
        self,
        api: Api,
        poller: Poller,
        report: Reporter,
        orphan: Callable[[TrackedTask | SubmitUncertainError], None],
        callbacks: SubmitCallbacks | None = None,
    ) -> None:
        self._callbacks = callbacks
        self._api = api
        self._poller = poller
        self._report = report
        self._orphan = orphan
        self._under_way: set[asyncio.Task[Ended]] = set()
        self.bought = self.uncertain = 0

    async def send(self, attempt: SubmitAttempt, permit: Permit, calls: PendingCalls) -> Ended:
        """Send one POST and return how it ended.

        From its permit on a purchase is under way: `drain` waits for it. A close or stop before
        its first byte ends it, and nothing is sent. A cancelled caller leaves at once: what was
        not sent never is, and a POST that was sent ends by itself and is handed to `orphan`.

        Raises:
            ApixoError: Nothing was sent: the client was closed, or the record refused. Or, with
                `bought` True, a task was bought that this client cannot track.
        """
        loop = asyncio.get_running_loop()
        # In one line: an interrupt between two would leave a coroutine that is never awaited.
        post = loop.create_task(self._see_through(attempt, permit, calls))
        self._under_way.add(post)
        post.add_done_callback(self._under_way.discard)
        post.add_done_callback(lambda _: attempt.leave_journal())
        try:
            return await asyncio.shield(post)
        except (asyncio.CancelledError, GeneratorExit):  # Cancelled, or closed as a coroutine.
            attempt.orphaned = True
            if not post.get_loop().is_closed():
                if not attempt.sending:
                    post.cancel()
                post.add_done_callback(lambda done: self._orphaned(attempt, permit, done))
            raise

    async def _see_through(
        self, attempt: SubmitAttempt, permit: Permit, calls: PendingCalls
    ) -> Ended:
        try:
            calls.check()
            attempt.check()
            body = self._body(attempt)
            if attempt.record is not None:
                await self._intend(attempt, attempt.record, permit, calls)
        except BaseException:
            self._api.dismiss(permit)
            _forget(attempt)
            raise
        attempt.sending = True

        def first_byte() -> None:
            calls.check()  # A close or stop may have come while it connected.
            attempt.check()
            attempt.leave_journal(asyncio.get_running_loop().time() - permit.taken_at)

        return await self._exchange(attempt, body, permit, first_byte)

    async def _intend(
        self, attempt: SubmitAttempt, record: SubmitObserver, permit: Permit, calls: PendingCalls
    ) -> None:
        """Have a record note the intent, at the last moment; what is raised prevents the POST."""
        noted = False
        try:
            async with calls.open():
                await record.intend(attempt.mark)
                noted = True
                await self._api.take_place(permit)
            calls.check()
        except BaseException:
            if noted:
                record.refused()
            raise

    def _body(self, attempt: SubmitAttempt) -> bytes:
        """Return what is sent: with webhooks, a URL that only this POST has."""
        if self._callbacks is None or attempt.delivery.callback_url is not None:
            return encode_submit(attempt.input, attempt.delivery)
        attempt.expected = self._callbacks.expect(attempt.input.model, attempt.kind, attempt.record)
        called_back = replace(attempt.delivery, callback_url=attempt.expected.url)
        return encode_submit(attempt.input, called_back)

    async def _exchange(
        self, attempt: SubmitAttempt, body: bytes, permit: Permit, first_byte: Callable[[], None]
    ) -> Ended:
        """Send the POST; from its first byte on, whatever is raised ends in what was bought."""
        sent_at = datetime.now(UTC)
        verdict: SubmitVerdict = Uncertain("the POST was interrupted")
        try:
            verdict = await self._verdict(attempt.input.model, body, permit, first_byte)
            return self._concluded(attempt, verdict, sent_at)
        except GeneratorExit:
            # Its loop was closed under it: nothing can be done there, but this can be said.
            doubt = Uncertain("the event loop was closed during the POST")
            self._orphan(_doubt(attempt, doubt, sent_at, None))
            raise
        except BaseException as exc:
            if isinstance(exc, ApixoError) or isinstance(verdict, Refused):
                raise
            ended = attempt.ended or self._made(attempt, verdict, sent_at)[0]
            if isinstance(exc, Exception):
                logger.error("a submit of %s met a %s", attempt.input.model, type(exc).__name__)
                return ended
            # The program is interrupted, at any line: what it bought is handed on before it ends.
            self._orphan(ended)
            raise

    def _concluded(
        self, attempt: SubmitAttempt, verdict: SubmitVerdict, sent_at: datetime
    ) -> Ended:
        if isinstance(verdict, Refused):
            if attempt.expected is None or not attempt.expected.received:
                return self._refused(attempt, verdict)
            # Only the service knows the URL: whatever its answer says, it has made a task.
            verdict = Uncertain(f"a callback came, yet the answer was: {verdict.error}")
        attempt.ended, event = self._made(attempt, verdict, sent_at)
        self._report(event)
        return attempt.ended

    def _made(
        self, attempt: SubmitAttempt, verdict: Bought | Uncertain, sent_at: datetime
    ) -> tuple[TrackedTask | SubmitUncertainError, events.Event]:
        if isinstance(verdict, Bought):
            return self._bought(attempt, verdict.task_id)
        return self._uncertain(attempt, verdict, sent_at)

    async def _verdict(
        self, model: str, body: bytes, permit: Permit, first_byte: Callable[[], None]
    ) -> SubmitVerdict:
        answer: Answer | None = None
        try:
            path = f"/generateTask/{quote(model, safe='')}"
            answer = await self._api.post(permit, path, body, first_byte)
            return judge_submit(answer, model)
        except Unanswered as exc:
            return _unanswered(model, exc)
        except asyncio.CancelledError:
            # Only the client cancels this, or the end of the loop. The caller is told what it
            # must know, that a task may exist, and not that somebody cancelled something.
            return Uncertain("the client was closed, or its event loop ended, during the POST")
        except Exception as exc:
            # A defect says nothing of what the service has done; its text may hold anything.
            head = None if answer is None else answer.body[:BODY_HEAD]
            return Uncertain(f"a defect: {type(exc).__name__}", head)

    def _refused(self, attempt: SubmitAttempt, verdict: Refused) -> Refused:
        _forget(attempt)
        if attempt.record is not None:
            attempt.record.refused()
        return verdict

    def _bought(
        self, attempt: SubmitAttempt, task_id: str
    ) -> tuple[TrackedTask, events.TaskSubmitted]:
        self.bought += 1
        if attempt.record is not None:
            guarded("the record of a purchase", attempt.record.bought, task_id)
        ref = TaskRef(attempt.input.model, task_id)
        waited = asyncio.get_running_loop().time() - attempt.called_at
        expected, slot = attempt.expected, attempt.slot.handed_on()
        try:
            track = self._poller.track(ref, attempt.kind, slot, subscription=expected)
            if self._callbacks is not None and expected is not None:
                self._callbacks.bought(expected, track)
        except Exception as exc:
            # Nothing un-buys a task whose id is known.
            slot.name(ref)
            slot.hold(timing(attempt.kind).longest)
            error = ApixoError(
                f"{ref}: it was bought, but {type(exc).__name__} keeps this client from polling "
                "it: `attach` to it with another client",
                model=ref.model,
                task_id=task_id,
            )
            error.bought = True
            logger.error("%s", error)
            raise error from exc
        return track, events.TaskSubmitted(ref.model, task_id, waited)

    def _uncertain(
        self, attempt: SubmitAttempt, verdict: Uncertain, sent_at: datetime
    ) -> tuple[SubmitUncertainError, events.SubmitUncertain]:
        self.uncertain += 1
        if attempt.record is not None:
            guarded("the record of a purchase", attempt.record.uncertain, verdict.reason)
        model, hold = attempt.input.model, timing(attempt.kind).longest
        task = self._task_of(attempt)
        attempt.slot.hold(hold)
        error = _doubt(attempt, verdict, sent_at, task)
        return error, events.SubmitUncertain(model, verdict.reason, hold)

    def _task_of(self, attempt: SubmitAttempt) -> Task | None:
        """Return the task that a callback may name; its slot is the poller's then."""
        if self._callbacks is None or attempt.expected is None:
            return None
        model, slot = attempt.input.model, attempt.slot.handed_on()
        track = self._callbacks.uncertain(attempt.expected, model, attempt.kind, slot)
        if attempt.record is not None:
            track.when_found = attempt.record.bought
        return Task(track, self._poller)

    def _orphaned(self, attempt: SubmitAttempt, permit: Permit, post: asyncio.Task[Ended]) -> None:
        if post.cancelled() or post.exception() is not None:
            # Nothing was sent, or what it bought has been handed on: each may be given back twice.
            self._api.dismiss(permit)
            attempt.slot.release()
            return
        ended = post.result()
        if isinstance(ended, Refused):
            attempt.slot.release()
            reason = reason_of(ended.error)
            self._report(events.SubmitRefused(attempt.input.model, reason, None))
            return
        if isinstance(ended, TrackedTask):
            self._report(events.TaskOrphaned(ended.ref.model, ended.ref.task_id))
        self._orphan(ended)

    async def settled(self) -> None:
        """Wait for the POSTs under way."""
        while live := self._live:
            await asyncio.wait(live)

    async def ended(self) -> None:
        """Wait for the POSTs that are under way now."""
        if live := self._live:
            await asyncio.wait(live)

    @property
    def _live(self) -> set[asyncio.Task[Ended]]:
        return {post for post in self._under_way if not post.done()}

    async def drain(self, timeout: float) -> None:
        """Wait for all that is under way until one deadline, in seconds, then cancel the rest."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        try:
            while (live := self._live) and loop.time() < deadline:
                await asyncio.wait(live, timeout=deadline - loop.time())
        finally:
            while live := self._live:
                for post in live:
                    post.cancel()
                await asyncio.wait(live)


def _doubt(
    attempt: SubmitAttempt, verdict: Uncertain, sent_at: datetime, task: Task | None
) -> SubmitUncertainError:
    model = attempt.input.model
    advice = "look at your account, then" if task is None else "await `error.task` to know;"
    error = SubmitUncertainError(
        f"{model}: a task may have been bought ({verdict.reason}); it is not sent again by "
        f"itself: {advice} `client.resubmit(error)` buys anew",
        model=model,
        input=attempt.input,
        sent_at=sent_at,
        body_head=verdict.body_head,
        delivery=attempt.delivery,
    )
    error.task = task
    return error


def _forget(attempt: SubmitAttempt) -> None:
    """Wait for no callback: nothing was bought."""
    if attempt.expected is not None:
        attempt.expected.close()


def _unanswered(model: str, exc: Unanswered) -> Refused | Uncertain:
    if exc.maybe_sent:
        return Uncertain(f"no answer came: {exc.reason}")
    cls = APITimeoutError if exc.timed_out else APIConnectionError
    message = f"{model}: the request was never sent ({exc.reason}); check network and base URL"
    return Refused(cls(message, model=model), None if exc.untrusted else "unsent")

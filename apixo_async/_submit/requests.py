"""The POSTs under way. The client owns them: a cancelled caller does not lose an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import quote

from apixo_async import events
from apixo_async._budget import Reservation
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
from apixo_async._submit.images import ImagesInUse, ReferenceImages
from apixo_async._submit.observer import SubmitObserver
from apixo_async._submit.pending import PendingCalls
from apixo_async._task import Task
from apixo_async._types import Billing, Delivery, TaskInput, TaskRef
from apixo_async.errors import (
    APIConnectionError,
    APITimeoutError,
    ApixoError,
    StoreError,
    SubmitUncertainError,
    reason_of,
)

if TYPE_CHECKING:
    from apixo_async.webhooks._inbox import CallbackSubscription

#: Seconds in which cancelled POSTs have to end.
CANCELLING: Final = 5.0

Ended: TypeAlias = TrackedTask | SubmitUncertainError | Refused


def kind_of(task_input: TaskInput, provider: str | None) -> str:
    """Return what the duration of a task depends on: the input, and the route."""
    return task_input.kind if provider is None else f"{task_input.kind}/{provider}"


@dataclass(slots=True)
class SubmitAttempt:
    """One submit under way.

    Attributes:
        input: What is bought.
        delivery: Its options.
        slot: The task takes it over as soon as there may be one.
        called_at: When the caller asked, on the loop's clock.
        slot_at: When it had a slot.
        permit_at: When its last POST had a permit.
        record: Where it is noted, or None.
        sending: Whether its POST has begun, so that a task may exist.
        orphaned: Whether its caller was cancelled.
        expected: The callbacks of the POST, where they are awaited.
        ended: The task or the error that it ended in, once that is known.
        check: Called before the POST is sent; an exception prevents it.
        journal_places: The limiter of open intents, while this attempt holds one of its places.
        cost: USD that the task costs, or None where that is not known.
        reserve: Sets that aside in the budget, or raises what prevents the POST.
        reserved: What was set aside for the present POST.
        images: The shared files that it names, until its task takes them over.
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
    cost: Decimal | None = None
    reserve: Callable[[], Reservation | None] = lambda: None
    reserved: Reservation | None = None
    images: ImagesInUse | None = None
    slot_at: float = 0.0
    permit_at: float = 0.0

    @property
    def billing(self) -> Billing:
        """The tag and the cost of its task."""
        return Billing(self.delivery.tag, self.cost)

    def give_back(self) -> None:
        """Give its money back: nothing was bought."""
        if self.reserved is not None:
            self.reserved.give_back()

    def release(self) -> None:
        """Give back what its task would have taken over: nothing was bought."""
        self.slot.release()
        if self.images is not None:
            self.images.end(again=True)

    def images_kept(self) -> ImagesInUse | None:
        """Return its shared files, which are kept from now on, as there may be a task."""
        images, self.images = self.images, None
        return images

    @property
    def waited(self) -> float:
        """Seconds since the caller asked."""
        return asyncio.get_running_loop().time() - self.called_at

    def refusal(self, error: ApixoError, again_in: float | None) -> events.SubmitRefused:
        """Return what is reported of a refusal, and when it is sent again."""
        return events.SubmitRefused(
            self.input.model,
            reason_of(error),
            again_in,
            self.delivery.tag,
            self.waited,
            error.category,
        )

    def leave_journal(self, took: float | None = None) -> None:
        """Give back the place, if it has one: the POST is being sent, or never will be.

        Args:
            took: Seconds from its permit to its first byte; None where nothing was sent.
        """
        places, self.journal_places = self.journal_places, None
        if places is not None:
            places.leave(took)

    @property
    def kind(self) -> str:
        """What the task's duration depends on: the input, and the route."""
        return kind_of(self.input, self.delivery.provider)

    @property
    def kept(self) -> bool:
        """Whether the record outlives the process."""
        return self.record is not None and self.record.kept

    @property
    def intent_id(self) -> str | None:
        """The id in the URL of its callbacks, with webhooks."""
        return None if self.expected is None else self.expected.id


class SubmitRequests:
    """Run each POST in an asyncio.Task of the client's, and act on how it ended.

    Args:
        api: The way to the service.
        poller: Polls what was bought.
        report: Where events go.
        orphan: Called with the task or error of a submit whose caller was cancelled.
        callbacks: Waits for the callbacks of every submit for which the caller gave no URL.
        images: Knows which images are served from here.
    """

    def __init__(
        self,
        api: Api,
        poller: Poller,
        report: Reporter,
        orphan: Callable[[TrackedTask | SubmitUncertainError], None],
        callbacks: SubmitCallbacks | None = None,
        images: ReferenceImages | None = None,
    ) -> None:
        self.images: Final = images or ReferenceImages()
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
        its first byte ends it, and nothing is sent. A cancelled caller leaves at once: a POST
        without its first byte is never sent, and any other ends by itself and goes to `orphan`.

        Raises:
            ApixoError: Nothing was sent: the client was closed, or the record raised it. Or, with
                `bought` True, a task was bought that this client cannot poll.
        """
        loop = asyncio.get_running_loop()
        # One statement: an interrupt between two would leave a coroutine that is never awaited.
        post = loop.create_task(self._see_through(attempt, permit, calls))
        self._under_way.add(post)
        post.add_done_callback(self._under_way.discard)
        post.add_done_callback(lambda _: attempt.leave_journal())
        try:
            # Shielded: a POST that is cut off from its answer would be uncertain for nothing.
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
            delivery = attempt.delivery
            if self._callbacks is not None and delivery.callback_url is None:
                # No other POST has this callback URL.
                attempt.expected = self._callbacks.expect(
                    attempt.input.model, attempt.kind, attempt.record
                )
                delivery = replace(delivery, callback_url=attempt.expected.url)
            urls = attempt.images.urls if attempt.images else {}
            body = encode_submit(attempt.input, delivery, urls)
            attempt.reserved = attempt.reserve()
            self._report.submitting(attempt.input)
            if attempt.record is not None:
                await self._intend(attempt, attempt.record, permit, calls)
        except BaseException:
            self._api.dismiss(permit)
            _unsubscribe(attempt)
            attempt.give_back()
            raise
        # From here on the POST may have been sent: a cancelled caller no longer cancels it.
        attempt.sending = True

        def first_byte() -> None:
            # Any of these may have come while it connected.
            if attempt.orphaned:
                raise ApixoError(
                    f"{attempt.input.model}: nothing was sent: its caller was cancelled"
                )
            calls.check()
            attempt.check()
            attempt.leave_journal(asyncio.get_running_loop().time() - permit.taken_at)

        ended = await self._exchange(attempt, body, permit, first_byte)
        if attempt.record is not None:
            with suppress(asyncio.CancelledError):  # At the close: how it ended is known.
                await attempt.record.written()
        return ended

    async def _intend(
        self, attempt: SubmitAttempt, record: SubmitObserver, permit: Permit, calls: PendingCalls
    ) -> None:
        """Note the intent as late as possible; an exception prevents the POST."""
        noted = False
        try:
            with calls.open():
                await record.intend(attempt.intent_id)
                noted = True
                await self._api.take_place(permit)
            calls.check()
        except BaseException:
            if noted:
                record.refused()  # Else a journal would take the intent for an uncertain submit.
            raise

    async def _exchange(
        self, attempt: SubmitAttempt, body: bytes, permit: Permit, first_byte: Callable[[], None]
    ) -> Ended:
        """Send the POST; whatever is raised after its first byte is uncertain (invariant 1)."""
        sent_at = datetime.now(UTC)
        verdict: SubmitVerdict = Uncertain("the POST was interrupted")
        try:
            verdict = await self._verdict(attempt.input.model, body, permit, first_byte)
            if isinstance(verdict, Refused) and attempt.expected and attempt.expected.received:
                # Only the service knows the URL: whatever its answer says, it has made a task.
                verdict = Uncertain(f"a callback arrived, but the answer was: {verdict.error}")
            return self._concluded(attempt, verdict, sent_at)
        except GeneratorExit:
            # The loop was closed under it: nothing can be awaited any more, but it is reported
            # (invariant 8).
            uncertain = Uncertain("the event loop was closed during the POST")
            self._orphan(_uncertain_error(attempt, uncertain, sent_at, None))
            raise
        except BaseException as exc:
            if isinstance(exc, ApixoError) or isinstance(verdict, Refused):
                raise
            ended = attempt.ended or self._made(attempt, verdict, sent_at)[0]
            if isinstance(exc, Exception):
                logger.error(
                    "%s: %s was raised after the POST; its outcome is kept",
                    attempt.input.model,
                    type(exc).__name__,
                )
                return ended
            # An interrupt can be raised at any line: the purchase is handed on before that ends
            # the program.
            self._orphan(ended)
            raise

    def _concluded(
        self, attempt: SubmitAttempt, verdict: SubmitVerdict, sent_at: datetime
    ) -> Ended:
        if isinstance(verdict, Refused):
            attempt.give_back()
            if attempt.expected is not None:
                attempt.expected.refuse()
            if attempt.record is not None:
                attempt.record.refused()
            return verdict
        attempt.ended, event = self._made(attempt, verdict, sent_at)
        if attempt.reserved is not None:
            attempt.reserved.keep()
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
            if exc.maybe_sent:
                return Uncertain(f"no answer came: {exc.reason}")
            if isinstance(exc.prevented, ApixoError):
                # A close, a stop, a lost lease or a cancelled caller, and no fault of the network.
                # Its traceback goes: it has frames of the HTTP stack, whose locals hold the key
                # (invariant 7).
                lost = isinstance(exc.prevented, StoreError)
                return Refused(exc.prevented.with_traceback(None), "unsent" if lost else None)
            cls = APITimeoutError if exc.timed_out else APIConnectionError
            never = f"the request was never sent ({exc.reason}); check network and base URL"
            error = cls(f"{model}: {never}", model=model)
            return Refused(error, None if exc.untrusted else "unsent")
        except asyncio.CancelledError:
            # Only the client cancels this, or the end of the loop. What matters to the caller is
            # that a task may exist, not what was cancelled.
            return Uncertain("the client was closed, or its event loop ended, during the POST")
        except Exception as exc:
            # A defect of this package shows nothing of what the service has done. Only its type
            # is reported, since its text may hold anything, the key included (invariant 7).
            head = None if answer is None else answer.body[:BODY_HEAD]
            return Uncertain(f"a defect: {type(exc).__name__}", head)

    def _bought(
        self, attempt: SubmitAttempt, task_id: str
    ) -> tuple[TrackedTask, events.TaskSubmitted]:
        self.bought += 1
        images = attempt.images_kept()
        if attempt.record is not None:
            # Guarded: a record that fails must not lose the id of a paid task.
            guarded("the record of a purchase", attempt.record.bought, task_id)
        ref = TaskRef(attempt.input.model, task_id)
        waited = attempt.waited
        expected, slot = attempt.expected, attempt.slot.handed_on()
        try:
            track = self._poller.track(
                ref,
                attempt.kind,
                slot,
                subscription=expected,
                record=attempt.record,
                billing=attempt.billing,
            )
            track.images = track.images or images
            if self._callbacks is not None and expected is not None:
                self._callbacks.bought(expected, track)
        except Exception as exc:
            # The task is paid for and its id is known: the error carries both.
            slot.name(ref)
            slot.hold(timing(attempt.kind).longest)
            error = ApixoError(
                f"{ref}: it was bought, but {type(exc).__name__} keeps this client from polling "
                "it: `attach` to it with another client",
                model=ref.model,
                task_id=task_id,
            )
            error.bought, error.tag = True, attempt.delivery.tag
            logger.error("%s", error)
            raise error from exc
        return track, events.TaskSubmitted(
            ref.model,
            task_id,
            waited,
            attempt.delivery.tag,
            kind=attempt.kind,
            cost=attempt.cost,
            slot_wait=attempt.slot_at - attempt.called_at,
            permit_wait=attempt.permit_at - attempt.slot_at,
        )

    def _uncertain(
        self, attempt: SubmitAttempt, verdict: Uncertain, sent_at: datetime
    ) -> tuple[SubmitUncertainError, events.SubmitUncertain]:
        self.uncertain += 1
        images = attempt.images_kept()
        model, hold = attempt.input.model, timing(attempt.kind).longest
        task: Task | None = None
        if self._callbacks is not None and attempt.expected is not None:
            # A callback may name the task: the poller gives its slot back from now on.
            slot = attempt.slot.handed_on()
            track = self._callbacks.uncertain(attempt.expected, model, attempt.kind, slot)
            track.record, track.billing = attempt.record, attempt.billing
            track.images = images
            task = Task(track, self._poller)
        attempt.slot.hold(hold)
        error = _uncertain_error(attempt, verdict, sent_at, task)
        if attempt.record is not None:
            note = partial(attempt.record.uncertain, verdict.reason)
            guarded("the record of a purchase", note, error)
        tag, waited = attempt.delivery.tag, attempt.waited
        return error, events.SubmitUncertain(model, verdict.reason, hold, tag, waited)

    def _orphaned(self, attempt: SubmitAttempt, permit: Permit, post: asyncio.Task[Ended]) -> None:
        if post.cancelled() or post.exception() is not None:
            # Nothing was sent, or the purchase has been handed on; both are safe to give back
            # twice.
            self._api.dismiss(permit)
            attempt.release()
            return
        ended = post.result()
        if isinstance(ended, Refused):
            attempt.release()
            self._report(attempt.refusal(ended.error, None))
            return
        if isinstance(ended, TrackedTask):
            self._report(events.TaskOrphaned(ended.ref.model, ended.ref.task_id, ended.billing.tag))
        self._orphan(ended)

    async def settled(self) -> None:
        """Wait until no POST is under way, those included that begin meanwhile."""
        while live := self._live:
            await asyncio.wait(live)

    async def ended(self) -> None:
        """Wait for the POSTs that are under way now, and no others."""
        if live := self._live:
            await asyncio.wait(live)

    @property
    def _live(self) -> set[asyncio.Task[Ended]]:
        return {post for post in self._under_way if not post.done()}

    async def drain(self, timeout: float) -> None:
        """Wait at most `timeout` seconds for the POSTs under way, then cancel the rest.

        Those that do not end within another `CANCELLING` seconds are left to the event loop.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        try:
            while (live := self._live) and loop.time() < deadline:
                await asyncio.wait(live, timeout=deadline - loop.time())
        finally:
            # A cancelled POST still ends with a verdict, and is waited for; but a transport that
            # swallows cancellations must not hold the close for ever (invariant 8).
            until = loop.time() + CANCELLING
            while (live := self._live) and loop.time() < until:
                for post in live:
                    post.cancel()
                await asyncio.wait(live, timeout=until - loop.time())
            if live:
                logger.error(
                    "%d POSTs did not end when they were cancelled, and may have bought tasks: the "
                    "transport ignores cancellation; look at your account",
                    len(live),
                )


def _uncertain_error(
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
    error.task, error.tag = task, attempt.delivery.tag
    return error


def _unsubscribe(attempt: SubmitAttempt) -> None:
    """Wait for no callback: nothing was bought."""
    if attempt.expected is not None:
        attempt.expected.close()

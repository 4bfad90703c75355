"""What callbacks say of a POST before its outcome is known, and of tasks from then on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from apixo_async._catalog import timing
from apixo_async._limits.limiter import Slot
from apixo_async._polling.outcomes import placeholder
from apixo_async._polling.poller import Poller
from apixo_async._polling.tracked_task import SubmitTimes, TrackedTask
from apixo_async._submit.observer import SubmitObserver
from apixo_async.webhooks._tokens import REDELIVERY

if TYPE_CHECKING:
    from apixo_async.webhooks._inbox import CallbackInbox, CallbackSubscription


class ExpectedCallback:
    """The callbacks of one POST: kept until it is known how that ended, then passed on.

    Attributes:
        subscription: Where they come in.
        opened_at: When it was made, on the loop's clock: before the POST was sent.
        came: Whether one came.
        named: The task's id that the last one claimed, or None.
    """

    __slots__ = ("_act", "_record", "came", "named", "opened_at", "subscription")
    subscription: CallbackSubscription

    def __init__(self, opened_at: float, record: SubmitObserver | None = None) -> None:
        self.opened_at = opened_at
        self._record = record
        self._act: Callable[[str | None], None] | None = None
        self.came = False
        self.named: str | None = None

    async def note(self, task_id: str | None) -> bool:
        """Have a record know what a callback claims; return True if it may be so."""
        self.came = True
        return self._record is not None and await self._record.claimed(
            self.subscription.id, task_id
        )

    def poll(self, task_id: str | None) -> None:
        """Note a callback, and act on it once it is known how the POST ended."""
        self.came, self.named = True, task_id or self.named
        if self._act is not None:
            self._act(self.named)

    def ended(self, act: Callable[[str | None], None]) -> None:
        """Say what callbacks cause from now on, those included that came already."""
        self._act = act
        if self.came:
            act(self.named)


class SubmitCallbacks:
    """Wait for the callbacks of one client's submits.

    Args:
        inbox: The client's side of a receiver.
        poller: Polls what they tell of.
        patience: Seconds that a POST takes at most.
    """

    def __init__(self, inbox: CallbackInbox, poller: Poller, patience: float) -> None:
        self._inbox = inbox
        self._poller = poller
        self._patience = patience

    def expect(
        self, model: str, kind: str, record: SubmitObserver | None = None
    ) -> ExpectedCallback:
        """Open a place for the callbacks of a POST that is about to be sent.

        A record is told what a callback claims before the service is told that it was received.

        Raises:
            ConfigurationError: The model's name does not fit in a URL.
        """
        return self._open(model, kind, record, None)

    def reopen(
        self, model: str, slot: Slot, mark: str, times: SubmitTimes, record: SubmitObserver
    ) -> TrackedTask:
        """Go on waiting for the callback of an uncertain submit of an earlier process.

        Args:
            model: Its model.
            slot: Given back after the model's longest time.
            mark: The id of its subscription.
            times: When its POST was under way.
            record: Notes what callbacks claim.
        """
        return self._await(self._open(model, model, record, mark), model, model, slot, times)

    def _open(
        self, model: str, kind: str, record: SubmitObserver | None, mark: str | None
    ) -> ExpectedCallback:
        expected = ExpectedCallback(asyncio.get_running_loop().time(), record)
        lifetime = self._patience + timing(kind).age_limit + REDELIVERY
        note = expected.note if record is not None and record.kept else None
        expected.subscription = self._inbox.open(
            model, lifetime, expected.poll, intent_id=mark, note=note
        )
        return expected

    def bought(self, expected: ExpectedCallback, track: TrackedTask) -> None:
        """Have callbacks cause polls of a task."""
        expected.ended(lambda _: self._poller.called(track))

    def uncertain(
        self, expected: ExpectedCallback, model: str, kind: str, slot: Slot
    ) -> TrackedTask:
        """Return what stands for the task of an uncertain submit until a callback names it."""
        times = SubmitTimes(expected.opened_at, asyncio.get_running_loop().time())
        return self._await(expected, model, kind, slot, times)

    def _await(
        self, expected: ExpectedCallback, model: str, kind: str, slot: Slot, times: SubmitTimes
    ) -> TrackedTask:
        subscription = expected.subscription
        ref = placeholder(model, subscription.id)
        track = self._poller.await_callback(ref, kind, slot, subscription, times)
        expected.ended(lambda named: self._poller.called(track, named))
        return track

    def close(self) -> None:
        """Have later callbacks answered, and nothing else."""
        self._inbox.close()

"""What the callbacks of a POST cause: polls of the task that it bought, or may have bought."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from apixo_async._catalog import REDELIVERY, timing
from apixo_async._limits.limiter import Slot
from apixo_async._polling.outcomes import placeholder
from apixo_async._polling.poller import Poller
from apixo_async._polling.tracked_task import SubmitTimes, TrackedTask
from apixo_async._submit.observer import SubmitObserver

if TYPE_CHECKING:
    from apixo_async.webhooks._inbox import CallbackInbox, CallbackSubscription, Note


def reopened(
    poller: Poller,
    callbacks: SubmitCallbacks | None,
    model: str,
    slot: Slot,
    intent_id: str,
    times: SubmitTimes,
    record: SubmitObserver,
    claims: Sequence[str],
) -> TrackedTask:
    """Return what stands for the task of an uncertain submit of a process that has ended.

    Args:
        poller: Polls the task that callbacks name.
        callbacks: Waits for them; None where none can arrive.
        model: Its model.
        slot: Given back after the model's longest run time.
        intent_id: The id of its intent, which is in the URL of its callbacks.
        times: When its POST was under way.
        record: Notes what callbacks claim, and the task.
        claims: The tasks that some have named already.
    """
    if callbacks is None:
        ref = placeholder(model, intent_id)
        track = poller.await_callback(ref, model, slot, None, times)
    else:
        track = callbacks.reopen(model, slot, intent_id, times, record)
    track.record, track.reopened = record, True
    for claim in claims:
        poller.claimed(track, claim)
    return track


class SubmitCallbacks:
    """Expect the callbacks of one client's submits.

    Args:
        inbox: The client's side of a receiver.
        poller: Polls the tasks that callbacks are about.
        patience: The most seconds that a POST takes.
    """

    def __init__(self, inbox: CallbackInbox, poller: Poller, patience: float) -> None:
        self._inbox = inbox
        self._poller = poller
        self._patience = patience

    def share(self, note: Note) -> None:
        """Have callbacks for other processes noted; False means that there is no such submit."""
        self._inbox.for_others = note

    def received(self, intent_id: str, named: Sequence[str | None]) -> bool:
        """Act on callbacks that came to another process; return False if nothing awaits them.

        Args:
            intent_id: The id of the POST.
            named: The tasks that they named.
        """
        subscription = self._inbox.subscriptions.get(intent_id)
        if subscription is None or subscription.inbox is not self._inbox:
            return False
        for task_id in named or (None,):
            subscription.receive(task_id, is_reported=False)  # By that process.
        return True

    def expect(
        self,
        model: str,
        kind: str,
        record: SubmitObserver | None = None,
        intent_id: str | None = None,
    ) -> CallbackSubscription:
        """Open a subscription for a POST that is about to be sent.

        A record that outlives the process notes what a callback claims before the callback is
        answered: the service repeats a callback only until it is answered.

        Args:
            model: Its model.
            kind: What the duration of its task depends on.
            record: Notes what callbacks claim.
            intent_id: The id of a subscription of an earlier process, which this one continues.

        Raises:
            ConfigurationError: The model's name does not fit in a URL.
        """
        # The task may end at its age limit, and the last delivery of its callback comes later.
        lifetime = self._patience + timing(kind).age_limit + REDELIVERY
        note = record.claimed if record is not None and record.kept else None
        return self._inbox.open(model, lifetime, intent_id=intent_id, note=note)

    def reopen(
        self, model: str, slot: Slot, intent_id: str, times: SubmitTimes, record: SubmitObserver
    ) -> TrackedTask:
        """Wait for the callback of an uncertain submit of an earlier process.

        Args:
            model: Its model.
            slot: Given back after the model's longest run time.
            intent_id: The id of its intent, which is in the URL of its callbacks.
            times: When its POST was under way.
            record: Notes what callbacks claim.
        """
        # The kind is not known here: by the model alone the longest documented time counts.
        subscription = self.expect(model, model, record, intent_id)
        return self.uncertain(subscription, model, model, slot, times)

    def bought(self, subscription: CallbackSubscription, track: TrackedTask) -> None:
        """Poll a task whenever a callback of it arrives, whichever id that claims."""
        subscription.resolved(lambda _: self._poller.called(track))

    def uncertain(
        self,
        subscription: CallbackSubscription,
        model: str,
        kind: str,
        slot: Slot,
        times: SubmitTimes | None = None,
    ) -> TrackedTask:
        """Return what stands for the task of an uncertain submit until a callback names it.

        Args:
            subscription: Where its callbacks arrive.
            model: Its model.
            kind: What the duration of its task depends on.
            slot: Given back after the longest run time of such a task.
            times: When its POST was under way; None for one that has ended just now.
        """
        if times is None:
            times = SubmitTimes(subscription.opened_at, asyncio.get_running_loop().time())
        ref = placeholder(model, subscription.id)
        track = self._poller.await_callback(ref, kind, slot, subscription, times)
        subscription.resolved(lambda claimed: self._poller.called(track, claimed))
        return track

    def close(self) -> None:
        """Act on callbacks no more; they are still answered, so that the service stops."""
        self._inbox.close()

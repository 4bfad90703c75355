"""One client's side of a receiver: the callbacks of each of its submits, and what they cause."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, MutableMapping
from contextlib import suppress
from enum import Enum
from typing import Final, TypeAlias

import anyio

from apixo_async._reporting import guarded, logger
from apixo_async._text import counted
from apixo_async.events import CallbackReceived, Event

#: Called on the client's loop when a callback came: poll now. The argument is the task's id that
#: the body claims, or None; only a poll proves it.
Poll: TypeAlias = Callable[[str | None], None]

#: Awaited on the client's loop, with the intent's id and what a callback claims, before the service
#: gets the answer 200: the claim is durable then. Returns True if it may be right. If this raises,
#: the answer is 503, and the service sends the callback again.
Note: TypeAlias = Callable[[str, str | None], Coroutine[object, object, bool]]

#: Makes the id and the URL of an intent, from the model, the seconds for which the URL holds, the
#: id of an intent of an earlier process or None, and whether a journal keeps the submit.
Issue: TypeAlias = Callable[[str, float, str | None, bool], tuple[str, str]]

#: Seconds between two polls of one task that callbacks cause.
SPACING: Final = 1.0
#: Seconds for which a callback's answer waits until what it claims is durable.
NOTING: Final = 10.0
#: How many claims of callbacks for intents unknown here are kept, and how many intents that were
#: left: without a bound, a stream of them would fill the memory.
MOST_KNOWN: Final = 10_000
#: Polls of one task that callbacks may cause; after that only its schedule does.
MOST: Final = 20


def next_poll(caused: int, last: float, now: float) -> float | None:
    """Return when a callback may cause a poll, or None if its task had enough of them.

    Args:
        caused: Polls that callbacks caused so far.
        last: When the last of them was.
        now: The time.
    """
    return None if caused >= MOST else max(now, last + SPACING)


class CallbackState(Enum):
    """What a callback of one submit causes."""

    KEPT = "kept"  # The outcome of the POST is unknown: the callback is kept until it is known.
    POLLED = "polled"
    CLOSED = "closed"  # Nothing: the task is over, or another process may open the intent again.


class CallbackSubscription:
    """The callbacks of one POST, from before it is sent until its task is over.

    Attributes:
        inbox: The client's, to which it belongs.
        id: The intent's id, with which another process can open the subscription again.
        url: The `callback_url` of the submit.
        opened_at: When it was opened, on the loop's clock: before the POST was sent.
        received: Whether a callback came. Only the service knows the URL, so a task exists then.
        claimed: The task's id that the last callback claimed, or None.
    """

    __slots__ = (
        "_caused",
        "_last",
        "_note",
        "_poll",
        "_state",
        "_timer",
        "claimed",
        "id",
        "inbox",
        "opened_at",
        "received",
        "url",
    )

    def __init__(
        self, inbox: CallbackInbox, poll: Poll | None, intent_id: str, url: str, note: Note | None
    ) -> None:
        self.id = intent_id
        self.url = url
        self.opened_at = inbox.loop.time()
        self.received = False
        self.claimed: str | None = None
        self.inbox = inbox
        self._poll = poll
        self._note = note
        self._state = CallbackState.KEPT if poll is None else CallbackState.POLLED
        self._caused = 0
        self._last = -SPACING
        self._timer: asyncio.TimerHandle | None = None

    def resolved(self, poll: Poll) -> None:
        """Have callbacks cause polls from now on, as it is known how the POST ended.

        Those that came already cause one at once: a quick task may end before its submit is
        answered.
        """
        self._poll = poll
        if self._state is CallbackState.KEPT:
            self._state = CallbackState.POLLED
        if self.received:
            poll(self.claimed)

    def receive(self, task_id: str | None, *, is_reported: bool = True) -> None:
        """Pass a callback on to the client's loop, from any thread. Returns at once."""
        loop = self.inbox.loop
        if _is_running(loop):
            self._received(task_id, is_reported)
        else:
            with suppress(RuntimeError):  # The client's loop is closed.
                loop.call_soon_threadsafe(self._received, task_id, is_reported)

    async def accept(self, task_id: str | None) -> bool:
        """Act on a callback, from any thread; return True if it need not come again.

        Where claims are noted, the poll that it causes does not wait for the disk, but the claim
        counts only once it is noted: after a crash the journal must know what was believed.
        """
        note = self._note
        if note is None:
            self.receive(task_id)
            return True
        self.receive(None)
        may_be_right = await _noted(self.inbox.loop, note, self.id, task_id)
        if may_be_right:
            self.receive(task_id, is_reported=False)
        return may_be_right is not None

    @property
    def is_left(self) -> bool:
        """Whether its loop is closed, so that this process can act on no callback of it."""
        return self.inbox.loop.is_closed()

    @property
    def is_shared(self) -> bool:
        """Whether callbacks of another process came here, so that its own may go there."""
        return self.inbox.is_shared()

    @property
    def is_alone(self) -> bool:
        """Whether no other process receives callbacks for this one, so that none can be missed."""
        return not self.is_shared and self.inbox.for_others is None

    def leave(self) -> None:
        """Close it unsettled: a later run of this process, or of another one, may open it again."""
        self.close()
        _remember(self.inbox.left, self.id)

    def refuse(self) -> None:
        """Close it, as its submit was refused. A callback that comes all the same is reported."""
        self.close()
        _remember(self.inbox.refused, self.id)

    def close(self) -> None:
        """Have later callbacks answered, and nothing else. Closing twice does nothing more."""
        # A later subscription of the same intent is not this one's to close.
        if self.inbox.subscriptions.get(self.id) is self:
            del self.inbox.subscriptions[self.id]
        self._state = CallbackState.CLOSED
        self._note = None
        if self._timer is not None:
            self._timer.cancel()

    def _received(self, task_id: str | None, is_reported: bool) -> None:
        outcome = self._outcome(task_id)
        if is_reported and outcome is not None:
            self.inbox.report(CallbackReceived(outcome))

    def _outcome(self, task_id: str | None) -> str | None:
        """Act on a callback; return what it causes, or None where its task is over."""
        # A callback may be on its way from another thread when the subscription is closed.
        if self._state is CallbackState.CLOSED:
            if self.id not in self.inbox.refused:
                return None
            report_bought(task_id)
            return "refused"
        self.received, self.claimed = True, task_id or self.claimed
        if self._timer is not None:
            return "repeated"  # The poll that waits serves this callback, too.
        now = self.inbox.loop.time()
        due = next_poll(self._caused, self._last, now)
        if due is None:
            return "repeated"
        if due <= now:
            self._poll_now()
        else:
            self._timer = self.inbox.loop.call_at(due, self._poll_now)
        return "early" if self._state is CallbackState.KEPT else "polled"

    def _poll_now(self) -> None:
        self._timer = None
        self._caused += 1
        self._last = self.inbox.loop.time()
        if self._poll is not None:
            guarded("the poll for a callback", self._poll, self.claimed)

    def __repr__(self) -> str:
        # Neither the URL nor its token: whatever knows them can post callbacks.
        caused = counted(self._caused, "poll")
        return f"<CallbackSubscription {self.id[:8]}, {self._state.value}, {caused}>"


class CallbackInbox:
    """The open subscriptions of one client, on its loop.

    Args:
        subscriptions: Those of every client of the receiver, by intent.
        issue: Makes ids and URLs.
        early: What callbacks claimed for intents that were not open here, by intent.
        left: The intents that clients left unsettled when they were closed.
        refused: The intents whose submits were refused.
        is_shared: Returns True if callbacks of another process came to this receiver.
        report: Where the client's events go.

    Attributes:
        for_others: Notes a callback in a store that other processes share, if the client has one;
            False means that the store knows no such submit.
    """

    for_others: Note | None = None

    def __init__(
        self,
        subscriptions: dict[str, CallbackSubscription],
        issue: Issue,
        early: MutableMapping[str, str],
        left: MutableMapping[str, None],
        refused: MutableMapping[str, None],
        is_shared: Callable[[], bool] = lambda: False,
        report: Callable[[Event], None] = lambda _: None,
    ) -> None:
        self.subscriptions = subscriptions
        self.left = left
        self.refused = refused
        self.is_shared = is_shared
        self.report = report
        self.loop = asyncio.get_running_loop()
        self._early = early
        self._issue = issue
        # The loop itself holds its tasks by weak references only.
        self._accepting: set[asyncio.Task[bool]] = set()

    def open(
        self,
        model: str,
        lifetime: float,
        poll: Poll | None = None,
        *,
        intent_id: str | None = None,
        note: Note | None = None,
    ) -> CallbackSubscription:
        """Open a subscription to the callbacks of one submit.

        Args:
            model: The model's name.
            lifetime: Seconds for which its URL holds.
            poll: Called for callbacks, at most `MOST` times and once in `SPACING` seconds; must
                not block. None while the POST is under way: `resolved` gives it then.
            intent_id: The id of a subscription of an earlier process, which this one continues.
            note: Awaited with what a callback claims, before that is answered with 200.

        Raises:
            ConfigurationError: The name does not fit in a URL, or the lifetime is not above 0.
        """
        intent_id, url = self._issue(model, lifetime, intent_id, note is not None)
        subscription = CallbackSubscription(self, poll, intent_id, url, note)
        self.subscriptions[intent_id] = subscription
        self.left.pop(intent_id, None)
        claimed = self._early.pop(intent_id, None)
        if claimed is not None:
            accepting = self.loop.create_task(subscription.accept(claimed))
            self._accepting.add(accepting)
            accepting.add_done_callback(self._accepting.discard)
        return subscription

    async def accept_for_others(self, intent_id: str, task_id: str | None) -> bool | None:
        """Have the process that polls a task hear of its callback, from any thread.

        Returns:
            True if it will, and False if the callback has to come again. None where the client has
            no store, or that knows no such submit.
        """
        if self.for_others is None or self.loop.is_closed():
            return None
        noted = await _noted(self.loop, self.for_others, intent_id, task_id)
        return False if noted is None else noted or None

    def close(self) -> None:
        """Close every subscription of this client; their callbacks are answered as unknown ones."""
        self.for_others = None
        for subscription in tuple(self.subscriptions.values()):
            if subscription.inbox is self:
                subscription.leave()


def _remember(intents: MutableMapping[str, None], intent_id: str) -> None:
    intents[intent_id] = None
    if len(intents) > MOST_KNOWN:
        del intents[next(iter(intents))]


def report_bought(task_id: str | None) -> None:
    """Log that a submit was bought although its answer was a refusal.

    Only the service knows the URL of a callback, so it has made a task. The submit may have been
    sent again since, and that cannot be undone.
    """
    logger.error(
        "a callback came for a submit that the service had refused: task %s was made for it, and "
        "may be one too many; look at your account",
        task_id or "(unnamed)",
    )


async def _noted(
    loop: asyncio.AbstractEventLoop, note: Note, intent_id: str, task_id: str | None
) -> bool | None:
    """Return what a note says, or None where that failed; in bounded time, from any thread."""
    try:
        with anyio.fail_after(NOTING):
            return await _on_loop(loop, note(intent_id, task_id))
    except Exception as exc:
        logger.warning(
            "the claim of a callback could not be noted, so that the service is asked to send "
            "it again: %r",
            exc,
        )
        return None


async def _on_loop(
    loop: asyncio.AbstractEventLoop, noting: Coroutine[object, object, bool]
) -> bool:
    if _is_running(loop):
        return await noting
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(noting, loop))


def _is_running(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False

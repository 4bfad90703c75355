"""One client's side of a receiver: the submits that await callbacks, and whom to tell of one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, MutableMapping
from contextlib import suppress
from typing import Final, TypeAlias

import anyio

from apixo_async._reporting import guarded, logger

#: Told, on the client's loop, that a callback came: poll now. The argument is the task's id that
#: the body claims, or None; only a poll proves it.
Poll: TypeAlias = Callable[[str | None], None]

#: Awaited, on the client's loop, before the service is told that a callback was received: what it
#: claims is durable then. Returns whether that may be so. What it raises has the service send it
#: again.
Note: TypeAlias = Callable[[str | None], Coroutine[object, object, bool]]

#: Makes the id and the URL of an intent: of a model, for so many seconds, with a known id or not,
#: kept beyond the end of the process or not.
Issue: TypeAlias = Callable[[str, float, str | None, bool], tuple[str, str]]

#: Seconds between two polls of one task that callbacks cause.
SPACING: Final = 1.0
#: Seconds for which a callback's answer waits until what it claims is durable.
NOTING: Final = 10.0
#: Callbacks for intents unknown here, and intents that were left, of which so many are known.
MOST_KNOWN: Final = 10_000
#: Polls of one task that callbacks may cause; after that it has its scheduled ones.
MOST: Final = 20


def next_poll(caused: int, last: float, now: float) -> float | None:
    """Return when a callback may cause a poll, or None if its task had enough of them.

    Args:
        caused: Polls that callbacks caused so far.
        last: When the last of them was.
        now: The time.
    """
    return None if caused >= MOST else max(now, last + SPACING)


class CallbackSubscription:
    """One submit's place for callbacks, until it is closed.

    Attributes:
        id: The intent's id; another process that opens it again is told of later callbacks.
        url: The `callback_url` of the submit.
    """

    __slots__ = ("_caused", "_claimed", "_inbox", "_last", "_note", "_poll", "_timer", "id", "url")

    def __init__(
        self, inbox: CallbackInbox, poll: Poll, intent_id: str, url: str, note: Note | None = None
    ) -> None:
        self._note = note
        self.id = intent_id
        self.url = url
        self._inbox = inbox
        self._poll = poll
        self._claimed: str | None = None
        self._caused = 0
        self._last = -SPACING
        self._timer: asyncio.TimerHandle | None = None

    def tell(self, task_id: str | None) -> None:
        """Pass a callback on, from any thread. Returns at once."""
        loop = self._inbox.loop
        if _is_running(loop):
            self._called(task_id)
        else:
            with suppress(RuntimeError):  # Its loop is closed: nobody awaits the task there.
                loop.call_soon_threadsafe(self._called, task_id)

    async def heard(self, task_id: str | None) -> bool:
        """Act on a callback, from any thread; return True if it need not come again.

        Where it is noted, it causes a poll at once, and names a task only once that is noted.
        """
        if self._note is None:
            self.tell(task_id)
            return True
        self.tell(None)
        try:
            with anyio.fail_after(NOTING):
                may_be = await _on_loop(self._inbox.loop, self._note(task_id))
        except Exception as exc:
            logger.warning("a callback could not be noted, it is to come again: %r", exc)
            return False
        if may_be:
            self.tell(task_id)
        return True

    def belongs_to(self, inbox: CallbackInbox) -> bool:
        """Return True if this inbox opened it."""
        return self._inbox is inbox

    @property
    def is_left(self) -> bool:
        """Whether its loop is closed, so that this process can act on no callback of it."""
        return self._inbox.loop.is_closed()

    @property
    def is_shared(self) -> bool:
        """Whether callbacks of another process came here, so that its own may go there."""
        return self._inbox.is_shared()

    def leave(self) -> None:
        """Close it unsettled: a later run of this process, or of another one, may open it again."""
        self.close()
        left = self._inbox.left
        left[self.id] = None
        if len(left) > MOST_KNOWN:
            del left[next(iter(left))]

    def close(self) -> None:
        """Have later callbacks answered, and nothing else. Closing twice does nothing more."""
        if self._inbox.subscriptions.get(self.id) is self:
            del self._inbox.subscriptions[self.id]
        self._caused = MOST  # For callbacks that are on their way from another thread.
        self._note = None
        if self._timer is not None:
            self._timer.cancel()

    def _called(self, task_id: str | None) -> None:
        self._claimed = task_id or self._claimed
        if self._timer is not None:
            return  # The poll that waits serves this callback, too.
        now = self._inbox.loop.time()
        due = next_poll(self._caused, self._last, now)
        if due is None:
            return
        if due <= now:
            self._poll_now()
        else:
            self._timer = self._inbox.loop.call_at(due, self._poll_now)

    def _poll_now(self) -> None:
        self._timer = None
        self._caused += 1
        self._last = self._inbox.loop.time()
        guarded("the poll for a callback", self._poll, self._claimed)

    def __repr__(self) -> str:
        return f"<Ticket {self.id[:8]}, {self._caused} polls>"  # Neither its URL nor its token.


class CallbackInbox:
    """The open subscriptions of one client, on its loop.

    Args:
        subscriptions: Those of every client of the receiver, by intent.
        issue: Makes ids and URLs.
        early: What callbacks claimed for intents that nobody had opened here.
        left: The intents that clients left unsettled when they were closed.
        is_shared: Tells whether callbacks of another process came to this receiver.
    """

    def __init__(
        self,
        subscriptions: dict[str, CallbackSubscription],
        issue: Issue,
        early: MutableMapping[str, str],
        left: MutableMapping[str, None],
        is_shared: Callable[[], bool] = lambda: False,
    ) -> None:
        self.subscriptions = subscriptions
        self.left = left
        self.is_shared = is_shared
        self._early = early
        self._hearing: set[asyncio.Task[bool]] = set()
        self.loop = asyncio.get_running_loop()
        self._issue = issue

    def open(
        self,
        model: str,
        lifetime: float,
        poll: Poll,
        *,
        intent_id: str | None = None,
        note: Note | None = None,
    ) -> CallbackSubscription:
        """Open a place for the callbacks of one submit.

        Args:
            model: The model's name.
            lifetime: Seconds for which its URL holds.
            poll: Called for callbacks, at most `MOST` times and once in `SPACING` seconds; must
                not block.
            intent_id: The id of a subscription of an earlier process, which this one continues.
            note: Awaited with what a callback claims, before that is answered with 200.

        Raises:
            ConfigurationError: The name does not fit in a URL, or the lifetime is none.
        """
        intent_id, url = self._issue(model, lifetime, intent_id, note is not None)
        subscription = self.subscriptions[intent_id] = CallbackSubscription(
            self, poll, intent_id, url, note
        )
        self.left.pop(intent_id, None)
        claimed = self._early.pop(intent_id, None)
        if claimed is not None:
            hearing = self.loop.create_task(subscription.heard(claimed))
            self._hearing.add(hearing)
            hearing.add_done_callback(self._hearing.discard)
        return subscription

    def close(self) -> None:
        """Close every subscription of this client; their callbacks are answered as unknown ones."""
        for subscription in tuple(self.subscriptions.values()):
            if subscription.belongs_to(self):
                subscription.leave()


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

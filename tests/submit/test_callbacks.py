"""What callbacks say of a POST before its outcome is known, and what they cause from then on."""

from __future__ import annotations

import asyncio
from typing import Any

from apixo_async import WebhookReceiver
from apixo_async._submit.callbacks import SubmitCallbacks


class Calls:
    """A poller that notes what it is asked."""

    def __init__(self) -> None:
        self.made: list[tuple[Any, ...]] = []

    def called(self, *args: Any) -> None:
        """Note a poll for a callback."""
        self.made.append(args)

    def await_callback(self, ref: Any, kind: str, slot: Any, _subscription: Any, times: Any) -> str:
        """Note an uncertain submit."""
        self.made.append((ref.model, kind, slot, times.sent_at, times.ended_at))
        return "track"


def callbacks_of(poller: Calls) -> SubmitCallbacks:
    """Return the callbacks of a client with that poller."""
    receiver = WebhookReceiver("https://app.example.com/apixo", secret="0123456789abcdef")
    return SubmitCallbacks(receiver.inbox(), poller, 90.0)  # type: ignore[arg-type]  # as it is used


async def test_a_purchase() -> None:
    """Callbacks of a bought task have it polled, whichever id they claim."""
    poller = Calls()
    callbacks = callbacks_of(poller)
    subscription = callbacks.expect("gpt-image-1", "gpt-image-1/1")
    subscription.receive("task_2")
    assert poller.made == []
    callbacks.bought(subscription, "track")  # type: ignore[arg-type]  # it is handed on
    assert poller.made == [("track",)]


async def test_a_doubt() -> None:
    """A callback names the task of an uncertain submit: it began after the subscription did."""
    poller, start = Calls(), asyncio.get_running_loop().time()
    callbacks = callbacks_of(poller)
    subscription = callbacks.expect("gpt-image-1", "gpt-image-1/1")
    await asyncio.sleep(5.0)
    subscription.receive("task_1")
    callbacks.uncertain(subscription, "gpt-image-1", "gpt-image-1/1", "slot")  # type: ignore[arg-type]  # it is handed on
    assert poller.made == [
        ("gpt-image-1", "gpt-image-1/1", "slot", start, start + 5.0),
        ("track", "task_1"),
    ]

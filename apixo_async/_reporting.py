"""The way of events: to one logger, and to the caller's `on_event`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

from apixo_async.events import Event

T = TypeVar("T")

logger: Final = logging.getLogger("apixo_async")


class Reporter:
    """Hand every event to the log and to `on_event`, whose failures never reach the engine."""

    def __init__(self, *hooks: Callable[[Event], None] | None) -> None:
        self._hooks = [hook for hook in hooks if hook is not None]

    def __call__(self, event: Event) -> None:
        # A handler of the caller's may raise, and would end the poller (invariant 6).
        with suppress(Exception):
            logger.log(event.level, "%s", event)
        for hook in self._hooks:
            guarded("on_event", hook, event)


def guarded(name: str, hook: Callable[[T], None], value: T) -> None:
    """Call a hook of the caller's, and log what it raises: no hook may end the poller."""
    try:
        hook(value)
    except Exception:
        with suppress(Exception):
            # The value is left out of the message: a hook may be handed a caller's input.
            logger.exception("%s raised; the client goes on", name)

"""The way of events: to one logger, and to the caller's `on_event`."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from apixo_async._types import TaskInput
    from apixo_async.events import Event

T = TypeVar("T")

logger: Final = logging.getLogger("apixo_async")


#: A `traceparent` of W3C's Trace Context, version 00; ids of zeros only are none.
_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@runtime_checkable
class SubmitHook(Protocol):
    """What a hook may have beside being called, as `Instrument` of `apixo_async.otel` does.

    Both are called before each POST, in the context in which `TaskSubmitted` is reported.
    """

    def submitting(self, task_input: TaskInput, /) -> None:
        """Learn what is bought: no event says it (invariant 7)."""
        ...

    def traceparent(self) -> str | None:
        """Return what a store keeps with the task, for spans of other processes to link to."""
        ...


def checked_traceparent(given: object) -> str | None:
    """Return what is a `traceparent`, and None for everything else: it may be anybody's."""
    return given if isinstance(given, str) and _TRACEPARENT.fullmatch(given) else None


class Reporter:
    """Hand every event to the log and to `on_event`, whose failures never reach the engine."""

    def __init__(self, *hooks: Callable[[Event], None] | None) -> None:
        self._hooks = [hook for hook in hooks if hook is not None]
        given: list[object] = [*self._hooks]
        self._submit_hooks = [hook for hook in given if isinstance(hook, SubmitHook)]

    def __call__(self, event: Event) -> None:
        # A handler of the caller's may raise, and would end the poller (invariant 6).
        with suppress(Exception):
            logger.log(event.level, "%s", event)
        for hook in self._hooks:
            guarded("on_event", hook, event)

    def is_heard(self, event: type[Event]) -> bool:
        """Return True if anything hears such events; most polls need build none."""
        return bool(self._hooks) or logger.isEnabledFor(event.level)

    def submitting(self, task_input: TaskInput) -> None:
        """Tell those hooks what is bought that have asked for it."""
        for hook in self._submit_hooks:
            guarded("on_event", hook.submitting, task_input)

    def traceparent(self) -> str | None:
        """Return the first `traceparent` that a hook knows of the present context."""
        for hook in self._submit_hooks:
            with suppress(Exception):
                if (known := checked_traceparent(hook.traceparent())) is not None:
                    return known
        return None


def guarded(name: str, hook: Callable[[T], None], value: T) -> None:
    """Call a hook of the caller's, and log what it raises: no hook may end the poller."""
    try:
        hook(value)
    except Exception:
        with suppress(Exception):
            # The value is left out of the message: a hook may be handed a caller's input.
            logger.exception("%s raised; the client goes on", name)

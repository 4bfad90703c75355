"""What happens in a run that somebody may want to know at once, however often it happens."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from rich.text import Text

from apixo_async import ApixoError, events
from apixo_async._cli.console import Screen
from apixo_async._cli.exits import lines
from apixo_async._text import one_line

#: Lines below the live picture.
_SHOWN: Final = 4

#: Failures that are printed where nothing moves; all of them are in the report.
_PRINTED: Final = 20

#: Seconds in which an event of one kind is said once: a thousand tasks meet the same outage.
_QUIET: Final = 30.0

#: What makes a run slower, or ends that.
_TOLD: Final = (
    events.EffectiveLimitLowered,
    events.LimitReached,
    events.ServiceRecovered,
    events.ServiceDown,
)


class Notices:
    """Keep the latest lines for the live picture, or print them where nothing moves.

    Args:
        screen: Where to print.
        clock: Seconds, to tell what was said a moment ago.

    Attributes:
        shown: The latest lines.
    """

    def __init__(self, screen: Screen, clock: Callable[[], float] = time.monotonic) -> None:
        self._screen = screen
        self._clock = clock
        self._said: dict[type[events.Event], float] = {}
        self._failures = 0
        self.shown: deque[Text] = deque(maxlen=_SHOWN)

    def event(self, event: events.Event) -> None:
        """Take an event of the client; of each kind one in half a minute is told."""
        if isinstance(event, events.SubmitRefused):
            if event.again_in is None:
                return  # It is the failure of its row.
        elif not isinstance(event, _TOLD):
            return
        now, kind = self._clock(), type(event)
        if now - self._said.get(kind, -_QUIET) >= _QUIET:
            self._said[kind] = now
            self._tell(str(event), "yellow")

    def failure(self, where: str, error: ApixoError) -> None:
        """Tell that a row has no result.

        Args:
            where: The row.
            error: Why.
        """
        self._failures += 1
        if self._screen.live or self._failures <= _PRINTED:
            self._tell(f"{where}: {next(lines(error))}", "red")
        elif self._failures == _PRINTED + 1:
            self._tell("more rows fail; results.jsonl will have them all", "")

    def _tell(self, words: str, style: str) -> None:
        if self._screen.live:
            text = Text(one_line(words), style=style, no_wrap=True, overflow="ellipsis")
            self.shown.append(text)
            return
        # Nobody may be there to read it any more, which is no reason to buy less.
        with suppress(BrokenPipeError):
            self._screen.note(words, style=style)

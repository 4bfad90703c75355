"""Whether callbacks come at all: a receiver that nobody reaches must not keep the news back."""

from __future__ import annotations

import math
from typing import Final

#: So many tasks in a row that were over before any callback told of them: nobody reaches the
#: receiver. Where one callback in ten is lost, this happens once in a hundred million tasks.
SILENT_AFTER: Final = 8


class Trust:
    """What became of the callbacks of late.

    Attributes:
        came_at: When the last one came; minus infinity before the first.
    """

    __slots__ = ("_missed", "came_at")

    def __init__(self) -> None:
        self._missed = 0
        self.came_at = -math.inf

    @property
    def is_silent(self) -> bool:
        """Whether tasks are looked at as if there were no callbacks."""
        return self._missed >= SILENT_AFTER

    def came(self, now: float) -> bool:
        """Note a callback; say whether it ends a silence."""
        was_silent = self.is_silent
        self._missed, self.came_at = 0, now
        return was_silent

    def missed(self) -> bool:
        """Note a task that was over before a callback came; say whether a silence begins."""
        self._missed += 1
        return self._missed == SILENT_AFTER

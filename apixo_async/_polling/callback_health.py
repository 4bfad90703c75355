"""Whether callbacks come: a receiver that is not reached delays no result, and proves nothing."""

from __future__ import annotations

import math
from typing import Final

from apixo_async._catalog import RESULT_LIFETIME

#: After this many tasks in a row that were over before any callback came for them, the receiver
#: counts as unreachable. Where one callback in ten is lost, this happens once in a hundred million
#: tasks. Before the first callback one such task says as much.
SILENT_AFTER: Final = 8

#: Seconds without any callback after which deliveries may have been lost. By the documents a
#: callback is sent again after 30 s, 2 min and 10 min: while some callback comes at least as often
#: as in the second of these pauses, no outage of the receiver swallows all four deliveries.
LONGEST_PAUSE: Final = 120.0

#: Seconds after its end in which a task's callback may still be on its way.
ON_ITS_WAY: Final = 1.0

#: Seconds by which the service's clock and stamps, and this machine's, may disagree.
CLOCK_ERROR: Final = 60.0


class CallbackHealth:
    """What became of the callbacks so far.

    Until one has come, and after a silence until one comes again, tasks are polled as if there
    were none: then no result comes later than without a receiver.

    Times come twice: on the loop's clock, which stands still while the machine sleeps, and as
    seconds since the epoch, which do not.

    Attributes:
        is_proved: Whether callbacks reach this process.
        missed_in_a_row: Tasks in a row that were over before a callback came for them.
    """

    __slots__ = ("_came", "_is_reported", "_steady_since", "is_proved", "missed_in_a_row")

    def __init__(self) -> None:
        self.is_proved = False
        self.missed_in_a_row = 0
        self._is_reported = False
        self._came: tuple[float, float] | None = None
        self._steady_since = math.inf

    def came(self, now: float, wall: float) -> bool:
        """Note a callback; return True if it ends a silence that was reported."""
        pause, slept = self._pause(now, wall)
        if pause > LONGEST_PAUSE or self._steady_since == math.inf:
            # By as much longer was the pause before it as the machine slept.
            self._steady_since = now + slept
        ends, self._is_reported = self._is_reported, False
        self.is_proved, self.missed_in_a_row, self._came = True, 0, (now, wall)
        return ends

    def missed(self, ended_for: float = math.inf) -> bool:
        """Note a task that was over before a callback came; return True if a silence begins.

        Args:
            ended_for: Seconds since its end.
        """
        self._steady_since = math.inf
        if ended_for < ON_ITS_WAY:
            return False
        self.missed_in_a_row += 1
        if self.missed_in_a_row < SILENT_AFTER and self.is_proved:
            return False
        begins = not self._is_reported
        self.is_proved, self._is_reported = False, True
        return begins

    def is_steady(self, since: float, now: float, wall: float) -> bool:
        """Return True if none went missing since a time, and no longer pause was without any."""
        is_early = self._steady_since - since <= LONGEST_PAUSE
        return is_early and self._pause(now, wall)[0] <= LONGEST_PAUSE

    def _pause(self, now: float, wall: float) -> tuple[float, float]:
        """Return the seconds since the last callback, and those in which the machine slept."""
        if self._came is None:
            return math.inf, 0.0
        awake = now - self._came[0]
        slept = max(0.0, wall - self._came[1] - awake)
        return awake + slept, slept


def may_be_of(
    created: float | None, at: float, age: float, *, noted_at: float | None = None
) -> bool:
    """Return True if a task may be the one that a submit made.

    Args:
        created: When it was created, in seconds since the epoch by the service's clock, or None.
        at: The present by that clock, or by this machine's where the service did not say.
        age: Seconds since the submit was sent.
        noted_at: When an earlier process says that it was sent, in seconds since the epoch. A clock
            that was set since makes `age` wrong, and a clock that was wrong then makes this wrong.
    """
    if created is None or not at - RESULT_LIFETIME < created <= at + CLOCK_ERROR:
        return True  # It does not say, or says what cannot be.
    is_newer = noted_at is not None and created >= noted_at - CLOCK_ERROR
    return is_newer or at - created <= age + CLOCK_ERROR

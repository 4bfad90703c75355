"""Whether callbacks arrive: an unreachable receiver must neither delay nor prove anything."""

from __future__ import annotations

import math
from typing import Final

from apixo_async._catalog import RESULT_LIFETIME

#: After this many consecutive tasks that were over before their callback arrived, the receiver
#: counts as unreachable. If one callback in ten is lost, that happens by chance once in a hundred
#: million tasks. Before the first callback, one such task is enough.
SILENT_AFTER: Final = 8

#: The share of callbacks that counts as lost at first, and the tasks for which that stands.
_LOST_AT_FIRST: Final = 0.1
_AS_OF: Final = 5

#: The recent tasks that count, with exponential forgetting, and the least share. Without the
#: latter, a silence would mean nothing after many tasks without a loss.
_RECENT: Final = 500
_LEAST_LOST: Final = 1e-4

#: Seconds without any callback after which deliveries may have been lost. By the documents a
#: callback is sent again after 30 s, 2 min and 10 min: while callbacks arrive with pauses no
#: longer than the second of these, no outage of the receiver can swallow all four deliveries.
LONGEST_PAUSE: Final = 120.0

#: Seconds after the end of a task in which its callback may still be on its way, where callbacks
#: come at once; and how much longer than recent ones took the next may take.
ON_ITS_WAY: Final = 1.0
_LATER: Final = 1.5

#: The longest delay of callbacks that polls wait for, in seconds, and what is left of the longest
#: one seen, for each callback that came sooner.
_LONGEST_DELAY: Final = 10.0
_FADING: Final = 0.98

#: Seconds by which the service's clock and stamps, and this machine's, may disagree.
CLOCK_ERROR: Final = 60.0


class CallbackHealth:
    """Which callbacks have arrived so far, and which were missed.

    Until the first one, and during a silence, tasks are polled as if there were no callbacks: no
    result is later than without a receiver.

    Times are given twice: on the loop's clock, which stops while the machine sleeps, and in
    seconds since the epoch, which goes on.

    Attributes:
        is_proved: Whether callbacks reach this process.
        missed_in_a_row: Consecutive tasks that were over before their callback arrived.
        lost: The share of recent tasks whose callback did not come while others did, above zero.
        delay: Seconds after the end of a task that callbacks have lately taken to come, at most.
    """

    __slots__ = (
        "_is_reported",
        "_received",
        "_steady_since",
        "_tasks",
        "delay",
        "is_proved",
        "lost",
        "missed_in_a_row",
    )

    def __init__(self) -> None:
        self.is_proved = False
        self.missed_in_a_row = 0
        self.lost = _LOST_AT_FIRST
        self.delay = 0.0
        self._tasks = _AS_OF
        self._is_reported = False
        self._received: tuple[float, float] | None = None
        self._steady_since = math.inf

    def received(self, now: float, wall: float) -> bool:
        """Note a callback; return True if it ends a silence that was reported."""
        pause, slept = self._pause(now, wall)
        if pause > LONGEST_PAUSE or self._steady_since == math.inf:
            # The loop's clock stood still while the machine slept: the pause before this callback
            # was longer by that time.
            self._steady_since = now + slept
        ends, self._is_reported = self._is_reported, False
        self.is_proved, self.missed_in_a_row, self._received = True, 0, (now, wall)
        return ends

    def announced(self, ended_for: float = math.inf) -> None:
        """Note a task that is over, and whose callback arrived before a poll found that.

        Args:
            ended_for: Seconds since its end, or infinity where that is not known.
        """
        self._count(0.0)
        if ended_for < math.inf:
            self.delay = min(_LONGEST_DELAY, max(ended_for, _FADING * self.delay))

    def missed(self, ended_for: float = math.inf) -> bool:
        """Note a task that was over before its callback arrived; return True if a silence begins.

        Args:
            ended_for: Seconds since its end.
        """
        self._steady_since = math.inf
        if ended_for < max(ON_ITS_WAY, _LATER * self.delay):
            return False
        if self.is_proved:
            self._count(1.0)
        self.missed_in_a_row += 1
        if self.missed_in_a_row < SILENT_AFTER and self.is_proved:
            return False
        begins = not self._is_reported
        self.is_proved, self._is_reported = False, True
        return begins

    def _count(self, lost: float) -> None:
        self._tasks = min(self._tasks + 1, _RECENT)
        self.lost = max(_LEAST_LOST, self.lost + (lost - self.lost) / self._tasks)

    def is_steady(self, since: float, now: float, wall: float) -> bool:
        """Return True if no callback was missed since a time, and no pause was too long."""
        is_early = self._steady_since - since <= LONGEST_PAUSE
        return is_early and self._pause(now, wall)[0] <= LONGEST_PAUSE

    def _pause(self, now: float, wall: float) -> tuple[float, float]:
        """Return the seconds since the last callback, and those in which the machine slept."""
        if self._received is None:
            return math.inf, 0.0
        awake = now - self._received[0]
        slept = max(0.0, wall - self._received[1] - awake)
        return awake + slept, slept


def may_be_of(
    created: float | None, at: float, age: float, *, noted_at: float | None = None
) -> bool:
    """Return True if a task may be the one that a submit made.

    Args:
        created: When it was created, in seconds since the epoch by the service's clock, or None.
        at: The time by that clock, or by this machine's where the answer has no date.
        age: Seconds since the submit was sent.
        noted_at: When the submit was sent by the clock of an earlier process, in seconds since the
            epoch. If that clock was set since, `age` is wrong; if it was wrong, this is.
    """
    if created is None or not at - RESULT_LIFETIME < created <= at + CLOCK_ERROR:
        return True  # The service gives no time, or an impossible one.
    is_newer = noted_at is not None and created >= noted_at - CLOCK_ERROR
    return is_newer or at - created <= age + CLOCK_ERROR

"""Whether the service is down, as looks show it: then one look at a time asks if it is back."""

from __future__ import annotations

import random
from typing import Final

from apixo_async._core.throttle import Throttle

#: Looks in a row that told nothing, of whatever tasks, until the service counts as down.
FAILURES: Final = 5

#: The longest pause between two probes, in seconds: so late is the end of an outage noticed.
LONGEST_PROBE_PAUSE: Final = 5.0


class Outage:
    """Let scheduled looks pass, but while the service is down only a probe now and then.

    Args:
        rng: The source of the jitter.
    """

    def __init__(self, rng: random.Random) -> None:
        self._gate = Throttle(rng, longest=LONGEST_PROBE_PAUSE)
        self._failures = 0

    @property
    def is_on(self) -> bool:
        """Whether the service counts as down."""
        return not self._gate.is_open

    def ready_at(self, now: float) -> float:
        """Return when a scheduled look may go: `now`, a later time, or infinity."""
        return self._gate.ready_at(now)

    def passed(self, now: float) -> None:
        """Note that a look goes out now; during an outage, once its pause is over, the probe."""
        self._gate.passed(now)

    def failed(self, now: float, *, sent_at: float) -> bool:
        """Note a look that told nothing; say whether with it the outage begins."""
        self._failures += 1
        begins = self._gate.is_open
        # While it lasts each probe counts, even after a late answer to an older look.
        if begins and self._failures < FAILURES:
            return False
        self._gate.refused(now, sent_at=sent_at, retry_after=None)
        return begins and self.is_on

    def told(self, *, sent_at: float) -> bool:
        """Note a look that the service answered; say whether that ends the outage."""
        self._failures = 0
        return self._gate.answered(sent_at=sent_at)

    def unclear(self, *, sent_at: float) -> None:
        """Note a look that says nothing of an outage, such as one that met a 429."""
        self._gate.lost(sent_at=sent_at)

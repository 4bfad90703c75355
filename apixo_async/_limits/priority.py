"""Whose turn it is: submits before polls, though waiting polls keep a quarter of the permits.

Of the polls, those that callers asked for go first, though scheduled ones that wait keep a half:
otherwise many callers of `refresh` or `balance` would delay the results of all tasks.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import Final


class Priority(Enum):
    """The classes of requests, in the order in which they are served."""

    SUBMIT = "submit"
    ASKED = "asked"
    SCHEDULED = "scheduled"

    # Members are singletons; hashing their names would take as long as a whole permit.
    __hash__ = object.__hash__


#: Of as many permits in a row, one is for a poll if any waits (invariant 3).
_TURN: Final = 4


class FairPicker:
    """Choose the class that is served next."""

    def __init__(self) -> None:
        self._submits_in_a_row = 0
        self._last_poll: Priority | None = None

    @property
    def is_polls_turn(self) -> bool:
        """Whether a poll is next if one waits, after three submits in a row."""
        return self._submits_in_a_row >= _TURN - 1

    def choose(self, *, submit: bool, asked: bool, scheduled: bool) -> Priority | None:
        """Return the class to serve among those that may be served, or None."""
        polls_turn = (asked or scheduled) and self.is_polls_turn
        if submit and not polls_turn:
            return Priority.SUBMIT
        if asked and not (scheduled and self._last_poll is Priority.ASKED):
            return Priority.ASKED
        return Priority.SCHEDULED if scheduled else None

    def served(self, priority: Priority) -> None:
        """Note that a permit went to this class."""
        if priority is Priority.SUBMIT:
            self._submits_in_a_row += 1
        else:
            self._submits_in_a_row, self._last_poll = 0, priority


class RateMeter:
    """The recent rate of something that happens, with exponential forgetting.

    Args:
        memory: Seconds after which an event counts for a third.
    """

    def __init__(self, memory: float = 10.0) -> None:
        self._memory = memory
        self._weight = 0.0
        self._at = 0.0

    def count(self, now: float) -> None:
        """Note that it happened now."""
        self._weight = self._faded(now) + 1
        self._at = now

    def per_second(self, now: float) -> float:
        """Return how often it happened a second recently."""
        return self._faded(now) / self._memory

    def _faded(self, now: float) -> float:
        return self._weight * math.exp(min(0.0, self._at - now) / self._memory)

"""Callbacks: what becomes of those of each task, by chance or by script, their log and counts."""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

from apixo_async.testing.options import SimulatorOptions

#: Seconds from a failed attempt to the next one, before ``speed``, as the documentation has them.
REDELIVERY: Final = (30.0, 120.0, 600.0)
#: Seconds, before ``speed``, in which a receiver must answer, as the documentation has it.
LIMIT: Final = 30.0
#: ``speed`` makes that limit no shorter than this: receivers do not become faster.
SHORTEST_LIMIT: Final = 5.0


@dataclass(frozen=True, slots=True)
class Callback:
    """What becomes of the callbacks of one task, instead of one post at its end.

    Attributes:
        lost: No callback of the task is ever posted.
        early: The submit is answered only after the first attempt; unless its duration is
            scripted, the task is over at once.
        copies: How many times the callback is posted; each copy is redelivered by itself.
        processing: Whether another callback, with ``processing``, is posted when the task starts.
        delay: Seconds, before ``speed``, from the start or end of the task to the first attempt to
            post it; drawn unless given, and none for an early callback.

    Raises:
        ValueError: A number is out of its bounds, or a lost callback is early.
    """

    lost: bool = False
    early: bool = False
    copies: int = 1
    processing: bool = False
    delay: float | None = None

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise ValueError(f"copies: {self.copies} given; allowed is 1 or more")
        if self.delay is not None and not self.delay >= 0:
            raise ValueError(f"delay: {self.delay} given; allowed is 0 or more")
        if self.lost and self.early:
            raise ValueError(
                "lost and early given; allowed is one of them: what is lost is never posted"
            )


@dataclass(frozen=True, slots=True)
class Attempt:
    """One post of a callback and what became of it; times are seconds of the service's clock.

    Attributes:
        at: When it began.
        ended_at: When its answer was there, or it had failed.
        task_id: The task that it is about.
        state: The task's state in it: ``processing``, ``success`` or ``failed``.
        copy: 1, or more for a duplicate.
        number: 1 for the first attempt, up to 4 with all redeliveries.
        url: Where it was posted to.
        status: The HTTP status; None without an answer in time.
        error: Why there was none.
    """

    at: float
    ended_at: float
    task_id: str
    state: str
    copy: int
    number: int
    url: str
    status: int | None = None
    error: str | None = None

    @property
    def delivered(self) -> bool:
        """Whether the receiver answered in time, with exactly 200 as the documentation demands."""
        return self.status == 200


@dataclass(frozen=True, slots=True)
class CallbackCounts:
    """Totals since the beginning, of attempts that the log no longer keeps too.

    Attributes:
        tasks: How many tasks were submitted in callback mode.
        lost: How many of them have no callback posted.
        early: How many of them have it posted before their submit's answer.
        duplicated: How many of them have it posted more than once.
        delivered: How many attempts were answered with 200 in time.
        failed: How many attempts were not.
        given_up: How many callbacks failed with the last redelivery as well.
    """

    tasks: int = 0
    lost: int = 0
    early: int = 0
    duplicated: int = 0
    delivered: int = 0
    failed: int = 0
    given_up: int = 0


class CallbackLog:
    """Decide what becomes of each task's callbacks: the script's next turn, else chance.

    Chance is seeded, and draws in the order of the submits.
    """

    def __init__(self, options: SimulatorOptions) -> None:
        self._options = options
        self._source = random.Random(f"{options.seed}/callbacks")
        self._turns: deque[Callback | None] = deque()
        self._log: deque[Attempt] = deque(maxlen=options.keep_log)
        self._counts: Counter[str] = Counter()

    def next(self, *turns: Callback | None) -> None:
        """Script the callbacks of the next tasks in callback mode; None leaves one to chance."""
        self._turns.extend(turns)

    def clear(self) -> None:
        """Forget all turns."""
        self._turns.clear()

    @property
    def left(self) -> int:
        """How many scripted turns no task has taken yet."""
        return len(self._turns)

    @property
    def log(self) -> list[Attempt]:
        """The attempts in the order in which they ended; the last ``keep_log`` of them."""
        return list(self._log)

    @property
    def counts(self) -> CallbackCounts:
        """The totals so far."""
        return CallbackCounts(**self._counts)

    def of_next_task(self) -> Callback:
        """Return what becomes of the callbacks of the task that is created now."""
        drawn = self._draw()  # for a scripted task too, so that a script changes no other task
        found = (self._turns.popleft() if self._turns else None) or drawn
        self._counts["tasks"] += 1
        self._counts["lost"] += found.lost
        self._counts["early"] += found.early
        self._counts["duplicated"] += found.copies > 1 and not found.lost
        return found

    def delay_of(self, callback: Callback) -> float:
        """Return the seconds, before ``speed``, that a post waits for its first attempt."""
        if callback.delay is not None:
            return callback.delay
        if callback.early:
            return 0.0
        return self._options.callback_delay + self._options.callback_spread * self._source.random()

    def add(self, attempt: Attempt) -> None:
        """Log an attempt that has ended."""
        self._log.append(attempt)
        self._counts["delivered" if attempt.delivered else "failed"] += 1
        self._counts["given_up"] += not attempt.delivered and attempt.number > len(REDELIVERY)

    def _draw(self) -> Callback:
        options = self._options
        lost = options.lost_callbacks
        early = lost + options.early_callbacks
        duplicate = early + options.duplicate_callbacks
        chance = self._source.random()
        processing = self._source.random() < options.processing_callbacks
        if chance < lost:
            return Callback(lost=True)
        if chance < early:
            return Callback(early=True, processing=processing)
        return Callback(copies=2 if chance < duplicate else 1, processing=processing)

"""Callbacks: what becomes of those of each task, by chance or by script, and what was counted."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

#: Seconds from a failed attempt to the next one, before ``speed``, as the documents say.
REDELIVERY: Final = (30.0, 120.0, 600.0)
#: Seconds, before ``speed``, in which a receiver must answer, as the documents say.
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
        processing: Whether another callback says ``processing`` when the task starts.
        delay: Seconds, before ``speed``, from what a callback tells to its first attempt; drawn
            unless given, and none for an early one.

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
            raise ValueError("lost and early given; what is never posted cannot come early")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One post of a callback and what became of it; times are seconds of the service's clock.

    Attributes:
        at: When it began.
        ended_at: When its answer was there, or it had failed.
        task_id: The task that it told of.
        state: What it told of the task: ``processing``, ``success`` or ``failed``.
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
        """Whether the receiver answered as the service wants it: with 200, and in time."""
        return self.status == 200


@dataclass(frozen=True, slots=True)
class CallbackCounts:
    """What became of the callbacks since the beginning, whatever of it the log still keeps.

    Attributes:
        tasks: How many tasks were submitted in callback mode.
        lost: How many of them were never told of.
        early: How many of them were told of before their submit's answer.
        duplicated: How many of them were told of more than once.
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

    Args:
        seed: Replays what is drawn, in the order of the submits.
        lost: The part of the tasks, 0 to 1, that lose their callbacks.
        early: The part that is told of before the submit's answer.
        duplicate: The part that is told of twice. None of them meets two of these three.
        processing: The part, of all, with a callback more.
        delay: Seconds, before ``speed``, until the first attempt.
        spread: Up to how many seconds more are drawn.
        keep_log: How many attempts are kept; None keeps all.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        lost: float = 0.0,
        early: float = 0.0,
        duplicate: float = 0.0,
        processing: float = 0.0,
        delay: float = 0.0,
        spread: float = 0.0,
        keep_log: int | None = None,
    ) -> None:
        self._lost, self._early, self._duplicate = lost, lost + early, lost + early + duplicate
        self._processing = processing
        self._delay = delay
        self._spread = spread
        self._source = random.Random(f"{seed}/callbacks")
        self._turns: deque[Callback | None] = deque()
        self._log: deque[Attempt] = deque(maxlen=keep_log)
        self._counts: Counter[str] = Counter()

    def next(self, *turns: Callback | None) -> None:
        """Script the callbacks of the next tasks in callback mode; None leaves one to chance."""
        self._turns.extend(turns)

    def clear(self) -> None:
        """Forget all turns."""
        self._turns.clear()

    @property
    def left(self) -> int:
        """Say how many scripted turns no task has taken yet."""
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
        drawn = self._drawn()  # for a scripted task too: the others stay as they are
        scripted = self._turns.popleft() if self._turns else None
        found = scripted or drawn
        told = {"lost": found.lost, "early": found.early, "duplicated": _is_duplicate(found)}
        self._counts.update(["tasks", *(name for name, is_so in told.items() if is_so)])
        return found

    def delay_of(self, callback: Callback) -> float:
        """Return how long a post waits for its first attempt, in seconds before ``speed``."""
        if callback.delay is not None:
            return callback.delay
        if callback.early:
            return 0.0
        return self._delay + self._spread * self._source.random()

    def add(self, attempt: Attempt) -> None:
        """Log an attempt that has ended."""
        self._log.append(attempt)
        self._counts["delivered" if attempt.delivered else "failed"] += 1
        self._counts["given_up"] += not attempt.delivered and attempt.number > len(REDELIVERY)

    def _drawn(self) -> Callback:
        chance, processing = self._source.random(), self._source.random() < self._processing
        if chance < self._lost:
            return Callback(lost=True)
        if chance < self._early:
            return Callback(early=True, processing=processing)
        copies = 2 if chance < self._duplicate else 1
        return Callback(copies=copies, processing=processing)


def _is_duplicate(callback: Callback) -> bool:
    return callback.copies > 1 and not callback.lost


def check_parts(parts: Mapping[str, float]) -> None:
    """Check that no task would have to meet two of these.

    Raises:
        ValueError: Together they are more than 1.
    """
    if sum(parts.values()) > 1 + 1e-9:  # three times a third, in floats
        raise ValueError(f"{' + '.join(parts)}: {sum(parts.values()):g} given; allowed is 0 to 1")

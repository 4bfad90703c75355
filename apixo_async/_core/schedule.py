"""When to look at a task: the documented plan, its jitter, and its stretching under load."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from apixo_async._core.documents import timing
from apixo_async._core.errors import ConfigurationError
from apixo_async._core.values import as_seconds

#: Looks come up to this share of the interval later than planned, so that crowds disperse.
JITTER: Final = 0.1

#: A look that failed is repeated after its interval, doubled up to this many seconds.
FAULT_CEILING: Final = 60.0

#: Looks that answer 404, and the seconds that they must span, until a task counts as gone.
MISSES: Final = 5
MISSES_SPAN: Final = 10.0

#: The part of all requests that looks may use, however many submits there are.
LOOKS_SHARE: Final = 0.25


@dataclass(frozen=True, slots=True)
class Plan:
    """When to look at one task.

    Attributes:
        first: Seconds from creation to the first look.
        interval: Seconds from one look to the next.
    """

    first: float
    interval: float


@dataclass(frozen=True, slots=True)
class Polling:
    """How a client looks at its tasks. Build one with `documented()` or `fixed(...)`.

    Attributes:
        plan: The plan for every task, or None for the plan that the documents give its kind.
    """

    plan: Plan | None = None

    @classmethod
    def documented(cls) -> Polling:
        """Look when the documents say: by model, and for gpt-image-2 by resolution."""
        return cls()

    @classmethod
    def fixed(cls, first: float, interval: float) -> Polling:
        """Look at every task `first` seconds after its creation, then every `interval` seconds.

        Raises:
            ConfigurationError: `first` is negative, `interval` is not above zero, or either is
                no finite number.
        """
        return cls(Plan(_seconds("first", first, 0.0), _seconds("interval", interval, 0.001)))

    def plan_for(self, kind: str) -> Plan:
        """Return the plan for a kind of task, such as "gpt-image-2/4k"."""
        if self.plan is not None:
            return self.plan
        times = timing(kind)
        return Plan(times.first, times.interval)


def _seconds(name: str, value: object, low: float) -> float:
    seconds = as_seconds(value)
    if seconds is None or seconds < low:
        raise ConfigurationError(
            f"Polling.fixed: {name}={value!r}; a number of seconds, {low:g} or more"
        )
    return seconds


def next_look(
    plan: Plan, *, created: float, now: float, stretch: float, rng: random.Random
) -> float:
    """Return when to look next at a task that still runs.

    Args:
        plan: The plan of the task.
        created: When the task was created.
        now: The present.
        stretch: From `stretching`; 1 or more.
        rng: The source of the jitter.
    """
    interval = plan.interval * stretch
    late = interval * JITTER * rng.random()
    return max(created + plan.first, now + interval) + late


def first_look(plan: Plan, *, created: float, rng: random.Random) -> float:
    """Return when to look at a task for the first time."""
    return created + plan.first + plan.interval * JITTER * rng.random()


def after_fault(plan: Plan, *, faults: int, now: float, rng: random.Random) -> float:
    """Return when to look again after so many looks in a row that told nothing."""
    doubled = plan.interval * 2.0 ** min(faults - 1, 16)
    pause = min(doubled, max(FAULT_CEILING, plan.interval))
    return now + pause * (1 + JITTER * rng.random())


def stretching(load: float, submits: float, requests: float) -> float:
    """Return the factor by which intervals grow so that looks and submits fit the limit.

    Args:
        load: Looks a second that all plans together ask for, the sum of 1 / interval.
        submits: Submits a second of late.
        requests: Requests a second that the limit allows.
    """
    room = max(requests * LOOKS_SHARE, requests - submits)
    return max(1.0, load / room)


def is_gone(misses: int, span: float) -> bool:
    """Say whether a task that answered 404 so often, over so many seconds, counts as gone."""
    return misses >= MISSES and span >= MISSES_SPAN

"""When a plan says to look at a task: its jitter, its stretching under load, and after faults."""

from __future__ import annotations

import random
from typing import Final, NamedTuple

#: Looks come up to this share of the interval later than planned, so that crowds disperse.
JITTER: Final = 0.1

#: A look that failed is repeated after its interval, doubled up to this many seconds.
FAULT_CEILING: Final = 60.0

#: Intervals beyond the plan's first look after which a callback counts as lost. By the documents
#: nearly every task is over then: 50 s for gpt-image-1, 210 s for videos.
LATE: Final = 10

#: Looks that answer 404, and the seconds that they must span, until a task counts as gone.
MISSES: Final = 5
MISSES_SPAN: Final = 10.0

#: The part of all requests that looks may use, however many submits there are.
LOOKS_SHARE: Final = 0.25


class Plan(NamedTuple):
    """When to look at one task.

    Attributes:
        first: Seconds from creation to the first look.
        interval: Seconds from one look to the next.
    """

    first: float
    interval: float


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


def late_look(plan: Plan, created: float) -> float:
    """Return when to look for the first time at a task of which a callback is to tell."""
    return created + plan.first + LATE * plan.interval


def late_again(plan: Plan, *, age: float, now: float) -> float:
    """Return when to look again at such a task that was running, so many seconds old."""
    return now + max(plan.interval, age / 2)


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

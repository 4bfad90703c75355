"""What the state machines share: their choices, the service's count of requests, how they run."""

from __future__ import annotations

from collections.abc import MutableSequence
from itertools import takewhile
from operator import itemgetter
from typing import Final, TypeVar

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

T = TypeVar("T")

WINDOW: Final = 60.0
DELAYS: Final = st.one_of(st.floats(0.0, 2.0), st.floats(0.0, 90.0), st.just(60.02))
PICKS: Final = st.integers(0, 1_000)
SHARES: Final = st.sampled_from((0.0, 0.5, 1.0))


class Arrivals:
    """When the service counts requests: at the worst moment between sending and answer.

    Where the limit changes, a window may hold what the limit allowed when the last of its requests
    was let go: what had been sent before is not taken back.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._requests: list[tuple[float, float, int]] = []

    def add(self, time: float, *, taken_at: float = 0.0, limit: int | None = None) -> None:
        """Count a request."""
        self._requests.append((time, taken_at, self._limit if limit is None else limit))

    def check(self) -> None:
        """No window of 60 s holds more than the limit."""
        requests = sorted(self._requests)
        for index, (first, _, _) in enumerate(requests):
            held = list(takewhile(lambda r, end=first + WINDOW: r[0] <= end, requests[index:]))
            for count in range(2, len(held) + 1):
                last_let_go = max(held[:count], key=itemgetter(1, 2))
                assert count <= last_let_go[2]


def picked(things: MutableSequence[T], pick: int) -> T:
    """Take one out."""
    thing = things[pick % len(things)]
    things.remove(thing)
    return thing


def run_machine(machine: type[RuleBasedStateMachine], examples: int) -> None:
    """Run a machine so many times, the same each time this is called."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=60,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

"""What all simulated lives share: their bounds, and how the service and the callbacks are drawn."""

from __future__ import annotations

import random
from typing import Final

from apixo_async import Timeouts
from apixo_async.testing import Simulator
from apixo_async.testing.options import DurationOf
from apixo_async.testing.virtual_time import START

from .callers import Crowd
from .clocks import WallClock
from .workers import Balancer, task_before

TIMEOUTS: Final = Timeouts(connect=2, read=6, write=2, exchange=8, retry=20, throttled=40)
CLOSING: Final = 5.0  # what `aclose` gives the connections
#: After which even a task at which nobody may poll has given its slot up, and one of an uncertain
#: submit that a callback named.
AGE_LIMIT: Final = 2_800.0
LONGEST: Final = 10 * AGE_LIMIT  # of a life: the callers queue for the slots of such tasks


def durations(rng: random.Random) -> DurationOf:
    """Decide how long tasks take: anything, or nearly the same with outliers among them."""
    outliers = rng.choice((0.0, 0.05, 0.2))
    longest = rng.choice((1_200, 1_200, 4_000))

    def usual(_: object, __: object, source: random.Random) -> float:
        if source.random() < outliers:
            return source.uniform(300, longest)
        return 30 * source.lognormvariate(0, 0.2)

    return rng.choice((lambda *given: given[2].uniform(0, 100), usual))


def balancer_of(
    simulator: Simulator, rng: random.Random, clock: WallClock, crowd: Crowd
) -> Balancer | None:
    """Decide whether there are webhooks, and how their callbacks come; None without them."""
    if rng.random() < 0.55:
        return None
    task_before(simulator, rng, START)
    balancer = Balancer(simulator, rng, clock, crowd.problems, crowd.met)
    balancer.script()
    simulator.deliver_to(balancer)
    return balancer

"""Does the limiter keep the limit where it counts, at the server, use all of it, and stay cheap?

Greedy callers in virtual time, a thousand at once, 10,000 requests in 60 s allowed. A request
reaches the server a random part of its latency after it was sent; latencies are log-normal, 0.3 s
in the mean with a tail to 5 s; one answer in a hundred never comes, and its caller gives up after
10 s. The server's clock decides what lay in one window. Every limiter sees the same draws.

The cost is CPU in real time: 25,000 callers stand in line, and each whose turn has come gives its
permit back and lines up again. What the loop takes for one timer and one future is in all figures.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import math
import random
import selectors
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from benchmarks import Options, Row, unanswered
from benchmarks.limiters import LIMIT, PEERS, WINDOW, Acquire, ours
from benchmarks.measuring import interleaved, is_installed, median, progress

QUESTION: Final = "Limiter: is the limit kept at the server, and used?"
MINUTES: Final = 8
CALLERS: Final = 1_000
MEAN: Final = 0.3
TAIL: Final = 5.0
SPREAD: Final = 1.0  # sigma of the logarithm
LOST: Final = 0.01
GIVE_UP: Final = 10.0
STANDING: Final = 25_000
GRANTS: Final = 10_000

# --- virtual time ----------------------------------------------------------------------------


class Jump(selectors.SelectSelector):
    """Poll no file, and pass the time until the next timer at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Pass the time."""
        if timeout is None:
            raise RuntimeError("nothing is ready and no timer is set: a limiter lost its callers")
        self.now += timeout
        return []


class JumpingLoop(asyncio.SelectorEventLoop):
    """Virtual time that costs next to nothing, for what is measured here is the limiters.

    A nanosecond passes whenever somebody reads the clock, as on any real one: on a clock that
    stands still, a timer that fires a rounding error too early is set again for ever.
    """

    def __init__(self) -> None:
        self._jump = Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        self._jump.now += 1e-9
        return self._jump.now


# --- what the server sees --------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What arrived at the server, in seconds from the start, in order.

    Attributes:
        arrived: Every request.
        answered: Those whose answer came.
    """

    arrived: Sequence[float]
    answered: Sequence[float]

    @property
    def share(self) -> float:
        """The part of the limit that was used, from the middle of the second window on.

        Counted in whole limits, so that no burst and no pause is cut in two.
        """
        times = self.arrived[LIMIT * 3 // 2 :: LIMIT]
        return WINDOW * (len(times) - 1) / (times[-1] - times[0])

    @property
    def silence(self) -> float:
        """The longest time without a request."""
        return max(later - at for at, later in itertools.pairwise(self.arrived))


def most_in_window(times: Sequence[float]) -> int:
    """Return the most of these ordered times that lie in one window, one of its ends excluded."""
    first = most = 0
    for last, at in enumerate(times):
        while times[first] <= at - WINDOW:
            first += 1
        most = max(most, last - first + 1)
    return most


def greedy(make: Callable[[], Acquire]) -> Seen:
    """Send as much as a limiter allows, for some minutes."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(_greedy(make()))


async def _greedy(acquire: Acquire) -> Seen:
    loop, rng = asyncio.get_running_loop(), random.Random(1)
    start = loop.time()
    arrived: list[float] = []
    answered: list[float] = []

    async def call() -> None:
        while True:
            release = await acquire()
            latency = min(TAIL, rng.lognormvariate(math.log(MEAN) - SPREAD**2 / 2, SPREAD))
            at, lost = loop.time() - start + rng.random() * latency, rng.random() < LOST
            arrived.append(at)
            if not lost:
                answered.append(at)
            await asyncio.sleep(GIVE_UP if lost else latency)
            release(not lost)

    with suppress(TimeoutError):
        async with asyncio.timeout(WINDOW * MINUTES), asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(call())
    return Seen(sorted(arrived), sorted(answered))


# --- what a turn costs -----------------------------------------------------------------------


def cost(make: Callable[[], Acquire]) -> float:
    """Return the µs of CPU for one acquire and release while thousands stand in line."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(_cost(make())) * 1e6


async def _cost(acquire: Acquire) -> float:
    for _ in range(LIMIT):  # until the limiter gives no more at once
        (await acquire())(True)
    passed = asyncio.Event()
    turns = itertools.count(1)

    async def call() -> None:
        while True:
            (await acquire())(True)
            if next(turns) == GRANTS:
                passed.set()

    async with asyncio.TaskGroup() as group:
        api = [group.create_task(call()) for _ in range(STANDING)]
        await asyncio.sleep(0)
        gc.collect()
        started = time.process_time()
        await passed.wait()
        took = time.process_time() - started
        for caller in api:
            caller.cancel()
    return took / GRANTS


# --- the answer ------------------------------------------------------------------------------


def run(options: Options) -> Iterator[Row]:
    """Answer for ours and whichever peers are installed."""
    makers: dict[str, Callable[[], Acquire]] = {"ours": ours}
    for name, (module, make) in PEERS.items():
        if is_installed(module):
            makers[name] = make
        else:
            yield unanswered(QUESTION, name)
    seen: dict[str, Seen] = {}
    for name, make in makers.items():
        progress(f"  {MINUTES} virtual minutes of {name}")
        seen[name] = greedy(make)
    yield from _kept(seen)
    costs = interleaved(
        options.rounds, {name: partial(cost, make) for name, make in makers.items()}
    )
    yield from _cheap({name: median(each) for name, each in costs.items()})
    _draw(options, seen)


def _kept(seen: Mapping[str, Seen]) -> Iterator[Row]:
    most = {name: most_in_window(one.arrived) for name, one in seen.items()}
    answered = most_in_window(seen["ours"].answered)
    yield Row(
        QUESTION,
        "most requests in any 60 s on the server's clock, against the limit",
        f"{most['ours'] / LIMIT:.3f}x",
        f"{_each(most, '{:,}')}; of ours answered {answered:,}",
        f"at most {LIMIT:,}",
        most["ours"] <= LIMIT,
    )
    share = {name: one.share for name, one in seen.items()}
    yield Row(
        QUESTION,
        "share of the limit used, from the second window on",
        f"{share['ours']:.4f}",
        _each(share, "{:.4f}"),
        "at least 0.99",
        share["ours"] >= 0.99,
    )
    silence = {name: one.silence for name, one in seen.items()}
    yield Row(
        QUESTION,
        "longest silence at the server, of greedy callers",
        f"{silence['ours'] / WINDOW:.2f} of a window",
        _each(silence, "{:.1f} s"),
        "at most 7 s",
        silence["ours"] <= 7,
    )


def _cheap(costs: Mapping[str, float]) -> Iterator[Row]:
    targets = {"aiolimiter": 0.5}
    for peer in (name for name in PEERS if name in costs):
        ratio, target = costs["ours"] / costs[peer], targets.get(peer)
        yield Row(
            QUESTION,
            f"CPU per acquire and release, {STANDING:,} waiters, against {peer}",
            f"{ratio:.2f}x",
            f"{costs['ours']:.1f} against {costs[peer]:.1f} µs",
            "" if target is None else f"at most {target}x",
            None if target is None else ratio <= target,
        )


def _each(figures: Mapping[str, float], form: str) -> str:
    return ", ".join(f"{name} {form.format(figure)}" for name, figure in figures.items())


def _draw(options: Options, seen: Mapping[str, Seen]) -> None:
    from benchmarks import plots

    seconds = range(180)
    points: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
    for name, one in seen.items():
        counts = Counter(int(at) for at in one.arrived)
        points[name] = (seconds, [counts[second] for second in seconds])
    figure, (panel,) = plots.new("10,000 requests in 60 s, greedy callers")
    plots.curves(panel, points, "", "seconds from the start", "requests arrived in the second")
    # The ignore: matplotlib's keyword arguments have no types.
    panel.set_yscale("symlog")  # pyright: ignore[reportUnknownMemberType]
    plots.save(figure, options, "limiter")

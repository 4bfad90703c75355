"""What does a journal cost a map: throughput, freezes of the event loop, memory?

Throughput is measured in real time, each map in a process of its own, with and without ``journal=``
in turns, on a file in the directory of the results. The service only takes time: its answers cost
no HTTP, so that the journal's share shows. Once at the documented limits, where tasks are so quick
that requests are scarce, and once with limits beyond the machine. Counting begins when the first
burst is over.

Memory is that of 100,000 different inputs, bought in virtual time, beside the other runs; and of
the same map once more, in real time, when every outcome comes from the journal.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from apixo_async import AsyncClient, GptImage1, Limits, Polling
from apixo_async.testing import VirtualTimeLoop
from benchmarks import Options, Row
from benchmarks.counting_service import KEY, client_of
from benchmarks.measuring import in_child, interleaved, median, metered, progress
from benchmarks.memory import EARLY, FLAT, INPUTS, SLOTS, resident
from benchmarks.virtual_service import VirtualService, lognormal

QUESTION: Final = "What does a journal cost?"
ROUNDS: Final = 1  # the request limit sets the pace: rates differ by 1 % from round to round
LEAST: Final = 0.95
MOST_FROZEN: Final = 0.1
DEADLINE: Final = 300.0  # real seconds for one process: the long run takes 60 of CPU


class Pace(NamedTuple):
    """How fast tasks can come, and which are counted.

    Attributes:
        limits: Of the client.
        latency: Seconds of an exchange.
        duration: Seconds of a task.
        polled_at: Seconds to its first poll, which is its last.
        skipped: Outcomes of the first burst.
        counted: Outcomes after those.
    """

    limits: Limits
    latency: float
    duration: float
    polled_at: float
    skipped: int
    counted: int


#: The first burst fills every slot; from its last outcome on a task costs two requests.
DOCUMENTED: Final = Pace(Limits(), 0.2, 1.0, 1.5, skipped=SLOTS, counted=300)
BEYOND: Final = Pace(Limits(SLOTS, 10_000_000), 0.0, 0.1, 0.2, skipped=SLOTS, counted=4_000)


class Sample(NamedTuple):
    """What one map came to.

    Attributes:
        rate: Tasks a minute.
        cpu: Seconds of CPU per task, the first ones' included.
        freeze: The worst freeze of the event loop, in seconds.
    """

    rate: float
    cpu: float
    freeze: float


class Growth(NamedTuple):
    """What many inputs cost.

    Attributes:
        early: Resident bytes after an early outcome.
        end: Resident bytes after the last one.
        cpu: Seconds of CPU.
        wall: Seconds.
        freeze: The worst freeze of the event loop, in seconds; 0 in virtual time.
    """

    early: int
    end: int
    cpu: float
    wall: float
    freeze: float


# --- throughput ------------------------------------------------------------------------------


class EnoughError(Exception):
    """Leave a map at once, whatever is in flight."""


def prompts(numbers: Iterator[int]) -> Iterator[GptImage1]:
    """Yield inputs that differ, as a real list's do."""
    for number in numbers:
        prompt = f"a small cafe by the sea, no. {number}"
        yield GptImage1(prompt=prompt, aspect_ratio="1:1", num_images=1)


def mapped(pace: Pace, journal: str | None) -> Sample:
    """Map inputs without an end, and count some."""
    logging.getLogger("apixo_async").setLevel(logging.CRITICAL)  # Much is left in flight.
    return asyncio.run(_mapped(pace, journal))


async def _mapped(pace: Pace, journal: str | None) -> Sample:
    client = AsyncClient(
        KEY,
        transport=VirtualService(lognormal(pace.duration, 0.0), 0, pace.latency),
        limits=pace.limits,
        polling=Polling.fixed(pace.polled_at, pace.polled_at),
    )
    started = taken = 0.0
    async with metered() as meter, client:
        with suppress(EnoughError):
            async with client.map(prompts(count()), journal=journal) as outcomes:
                async for outcome in outcomes:
                    assert outcome.ok
                    taken += 1
                    if taken == pace.skipped:
                        started = time.monotonic()
                    elif taken == pace.skipped + pace.counted:
                        raise EnoughError
        rate = 60 * pace.counted / (time.monotonic() - started)
    return Sample(rate, meter.cpu / taken, meter.freeze)


# --- memory ----------------------------------------------------------------------------------


class CoarseTimeLoop(VirtualTimeLoop):
    """Virtual time in steps: what comes within one is journalled together, as on a busy loop."""

    STEP: Final = 2.0

    def advance(self, delay: float | None) -> None:
        """Move the clock by a step at least."""
        super().advance(None if delay is None else max(delay, self.STEP))


def bought(journal: str, inputs: int, early: int) -> Growth:
    """Map so many inputs to a new journal, in virtual time."""
    with asyncio.Runner(loop_factory=CoarseTimeLoop) as runner:
        return runner.run(_grown(journal, inputs, early, resuming=False))


def resumed(journal: str, inputs: int, early: int) -> Growth:
    """Map the same inputs again, in real time; nothing is left to be bought."""
    return asyncio.run(_grown(journal, inputs, early, resuming=True))


async def _grown(journal: str, inputs: int, early: int, *, resuming: bool) -> Growth:
    client = client_of(SLOTS, duration=3.0, polling=Polling.fixed(4.0, 4.0))
    at_first = taken = 0
    started = time.monotonic()
    given = prompts(iter(range(inputs)))
    async with metered() as meter, client, client.map(given, journal=journal) as outcomes:
        async for outcome in outcomes:
            assert outcome.ok
            assert outcome.resumed is resuming
            taken += 1
            at_first = resident() if taken == early else at_first
        at_end = resident()
    assert taken == inputs
    freeze = meter.freeze if resuming else 0.0
    return Growth(at_first, at_end, meter.cpu, time.monotonic() - started, freeze)


# --- the answer ------------------------------------------------------------------------------


def run(options: Options) -> Iterator[Row]:
    """Answer; the long run goes on beside short ones that leave the machine idle."""
    options.out.mkdir(parents=True, exist_ok=True)
    # Not in the system's own temporary directory, which often lies in memory.
    with tempfile.TemporaryDirectory(dir=options.out) as name, ThreadPoolExecutor(1) as beside:
        where, long = Path(name), str(Path(name) / "long.db")
        kept, plain = _samples("limits beyond the machine", BEYOND, options.rounds, where)
        beyond = _rate("limits beyond the machine", kept, plain)
        buying = beside.submit(in_child, DEADLINE, bought, long, INPUTS, EARLY)
        kept, plain = _samples("the documented limits", DOCUMENTED, options.rounds, where)
        yield _rate(f"the documented limits (file on {file_system(where)})", kept, plain, LEAST)
        yield _freeze(kept, plain)
        yield beyond
        progress(f"  {INPUTS:,} inputs through a map with a journal, and once more")
        new = buying.result()
        again = in_child(DEADLINE, resumed, long, INPUTS, EARLY)
    yield from _growths(new, again)


def file_system(path: Path) -> str:
    """Return the kind of file system that holds a path, as far as Linux tells it."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "unknown file system"
    lines = [line.split() for line in mounts.read_text().splitlines()]
    real = PurePosixPath(path.resolve())
    holding = [(len(at), kind) for _, at, kind, *_ in lines if real.is_relative_to(at)]
    return max(holding)[1]


def _samples(name: str, pace: Pace, rounds: int, where: Path) -> Sequence[list[Sample]]:
    def one(*, journal: bool) -> Sample:
        file = where / "short.db"
        file.unlink(missing_ok=True)  # That of the round before.
        return in_child(DEADLINE, mapped, pace, str(file) if journal else None)

    candidates: dict[str, Callable[[], Sample]] = {
        f"{name}, with a journal": partial(one, journal=True),
        f"{name}, without": partial(one, journal=False),
    }
    return list(interleaved(rounds, candidates).values())


def _rate(
    name: str, kept: Sequence[Sample], plain: Sequence[Sample], least: float | None = None
) -> Row:
    rates = [median(one.rate for one in samples) for samples in (kept, plain)]
    costs = [median(one.cpu for one in samples) * 1e6 for samples in (kept, plain)]
    ratio = rates[0] / rates[1]
    return Row(
        QUESTION,
        f"tasks a minute through `map` at {name}, against without a journal",
        f"{ratio:.3f}x",
        f"{rates[0]:,.0f} against {rates[1]:,.0f}; CPU {costs[0]:,.0f} against {costs[1]:,.0f} µs",
        f"at least {least}x" if least else "",
        ratio >= least if least else None,
    )


def _freeze(kept: Sequence[Sample], plain: Sequence[Sample]) -> Row:
    ours, other = (median(one.freeze for one in samples) for samples in (kept, plain))
    return Row(
        QUESTION,
        "worst freeze of the event loop there",
        f"{ours / other:.2f}x",
        f"{ours * 1e3:.0f} against {other * 1e3:.0f} ms",
        f"at most {MOST_FROZEN * 1e3:.0f} ms",
        ours <= MOST_FROZEN,
    )


def _growths(new: Growth, again: Growth) -> Iterator[Row]:
    for name, growth in (("bought", new), ("resumed from a finished journal", again)):
        ratio = growth.end / growth.early
        yield Row(
            QUESTION,
            f"resident memory after {INPUTS:,} inputs {name}, against after {EARLY:,}",
            f"{ratio:.2f}x",
            f"{growth.end / 2**20:.1f} against {growth.early / 2**20:.1f} MB",
            f"flat: at most {FLAT}x",
            ratio <= FLAT,
        )
    yield Row(
        QUESTION,
        "CPU to resume a finished input, against to buy it",
        f"{again.cpu / new.cpu:.2f}x",
        f"{again.cpu / INPUTS * 1e6:.0f} against {new.cpu / INPUTS * 1e6:.0f} µs; "
        f"all in {again.wall:.1f} s, worst freeze {again.freeze * 1e3:.0f} ms",
        f"freeze of at most {MOST_FROZEN * 1e3:.0f} ms",
        again.freeze <= MOST_FROZEN,
    )

"""One random life of a client and its callers in virtual time, replayed from its seed alone.

`python -m tests.stories.simulation 17` lives seed 17 again and prints what went wrong.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import sys
import warnings
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from unittest.mock import patch

from apixo_async import AsyncClient, Limiter, Limits, Polling, TaskNotFoundError, Timeouts
from apixo_async.testing import Exchange, Simulator, StuckError, VirtualTimeLoop

from .callers import Crowd
from .trouble import script_trouble

TIMEOUTS: Final = Timeouts(connect=2, read=6, write=2, exchange=8, retry=20, throttled=40)
CLOSING: Final = 5.0  # what `aclose` gives the connections
AGE_LIMIT: Final = 1_900.0  # after which even a task at which nobody may look has given its slot up
LONGEST: Final = 10 * AGE_LIMIT  # of a life: the callers queue for the slots of such tasks
EPOCH: Final = 1_700_000_000.0
MISSING: Final = (400, 404, 410, 422)


@dataclass(frozen=True, slots=True)
class Report:
    """What one life came to.

    Attributes:
        seed: Replays it.
        problems: The rules that were broken.
        log: What the service saw.
        met: How often what happened.
    """

    seed: int
    problems: tuple[str, ...]
    log: tuple[Exchange, ...]
    met: Counter[str]

    def __str__(self) -> str:
        replay = f"python -m tests.stories.simulation {self.seed}"
        return "\n  ".join((replay, *self.problems))


class Life:
    """A service, a client, a crowd of callers, and an heir that takes up what the client left."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        tasks, requests = rng.randint(1, 8), rng.choice((6, 12, 30, 60, 200, 1000))
        self.limits = Limits(tasks, requests)
        # A service with tighter limits than the client was told answers 429.
        self.told_right = rng.random() < 0.7
        tighter = 1 if self.told_right else 2
        self.simulator = Simulator(
            seed=seed,
            concurrent_tasks=max(1, tasks // tighter),
            requests_per_minute=requests // tighter,
            failure_rate=rng.choice((0.0, 0.1, 0.5)),
            durations=lambda *given: given[2].uniform(0, 100),
        )
        script_trouble(self.simulator, rng)
        self.crowd = Crowd(self.simulator)
        self.problems, self.met = self.crowd.problems, self.crowd.met
        self.limiter = Limiter(self.limits, seed=seed)
        self.clients: list[AsyncClient] = []
        self.slowest = rng.choice((0.05, 0.5, 1.5))
        fixed = Polling.fixed(rng.uniform(0, 10), rng.uniform(1, 10))
        self.polling = rng.choice((Polling.adaptive(), Polling.documented(), fixed))

    async def live(self) -> None:
        """Live to the end, and leave in `problems` whatever broke a rule."""
        loop, rng = asyncio.get_running_loop(), self.rng
        client = self.client()
        callers = [
            loop.create_task(self.crowd.call(client, random.Random(rng.random())))
            for _ in range(rng.randint(4, 12))
        ]
        if rng.random() < 0.6:
            await self.crowd.moment(rng, 200)
            self.met["closed early"] += 1
            await self.close(client)
        ended, late = await asyncio.wait(callers, timeout=LONGEST)
        self.problems += [f"never ended: {caller}" for caller in late]
        for caller in ended:
            caller.result()
        await self.close(client)
        self.problems += self.crowd.books.problems(client.unfinished)
        await self.inherit(client)
        self.check_service()
        await self.check_leaks()

    def client(self) -> AsyncClient:
        """Make a client; all of them share one limiter."""
        steady = self.rng.random() < 0.3
        client = AsyncClient(
            "test-key",
            limiter=self.limiter,
            polling=self.polling,
            transport=self.simulator.transport(
                0.05 if steady else lambda source: source.uniform(0, self.slowest)
            ),
            timeout=TIMEOUTS,
            on_event=self.crowd.noted,
            on_orphan=self.crowd.orphaned,
            seed=self.rng.randrange(1000),
        )
        self.clients.append(client)
        return client

    async def close(self, client: AsyncClient) -> None:
        """Close the client, twice at once, and the first cancelled at times: in bounded time."""
        loop, drain = asyncio.get_running_loop(), self.rng.choice((0.0, 0.0, 5.0, 60.0))
        start = loop.time()
        first = loop.create_task(client.aclose(drain))
        second = loop.create_task(client.aclose())
        if self.rng.random() < 0.2:
            await self.crowd.moment(self.rng, 5)
            first.cancel()
        await asyncio.wait((first, second))
        second.result()
        if not first.cancelled():
            first.result()
        if loop.time() - start > TIMEOUTS.exchange + drain + CLOSING + 0.001:
            self.problems.append(f"closing took {loop.time() - start} s, {drain=}")

    async def inherit(self, client: AsyncClient) -> None:
        """Have a second client end what the first one left."""
        async with self.client() as heir:
            for task in [heir.attach(ref) for ref in client.unfinished]:
                self.crowd.handles.append(task)
                self.met["inherited"] += 1
                await self.crowd.do(self.rng, task.wait(), 0.0)

    # --- the rules -----------------------------------------------------------------------

    def check_service(self) -> None:
        """Compare with what the service saw: its limits, its tasks, their ends."""
        service, limits = self.simulator, self.limits
        self.problems += self.crowd.books.lies(self.crowd.handles)
        self.problems += self.gone_too_soon()
        if service.most_in_window() > limits.requests_per_minute:
            self.problems.append(f"{service.most_in_window()} requests in a window, {limits}")
        if self.told_right and not self.met["gone"]:
            refused = [e for e in service.log if e.status == 429 and e.fault is None]
            self.problems += [f"answered 429 within the limits: {e}" for e in refused]
        if service.most_concurrent > limits.concurrent_tasks and not self.met["gone"]:
            self.problems.append(f"{service.most_concurrent} tasks at once, {limits}")

    def gone_too_soon(self) -> list[str]:
        """Return the tasks that were given up as gone without five answers that said so."""
        found: list[str] = []
        for task in self.crowd.handles:
            exists = task.done() and task.id in self.simulator.tasks
            if exists and isinstance(task.exception(), TaskNotFoundError):
                self.met["gone"] += 1
                said = [e for e in self.simulator.log if e.task_id == task.id and e.code in MISSING]
                if len(said) < 5:
                    found.append(f"given up after {len(said)} answers: {task}")
        return found

    async def check_leaks(self) -> None:
        """Look for what is left behind once everything is closed."""
        engines = [client._life._engine for client in self.clients]
        places = [engine.line.gate.table.used for engine in engines if engine is not None]
        own = asyncio.current_task()
        left = {
            "pending": [task for task in asyncio.all_tasks() if task is not own],
            "places": [used for used in places if used],
            "permits in flight": self.limiter._permits.in_flight,
            "waiting for permits": self.limiter.permits_waiting,
            "waiting for slots": self.limiter.slots_waiting,
        }
        self.problems += [f"left behind: {what}: {n}" for what, n in left.items() if n]
        # Nobody looks at what was left unfinished: its slots come back with its age limit.
        await asyncio.sleep(AGE_LIMIT)
        async with asyncio.timeout(1):
            (await self.limiter.slot()).release()
        if self.limiter.slots_used:
            self.problems.append(f"left behind: slots: {self.limiter.slots_used}")


def simulate(seed: int, *, collect: bool = False) -> Report:
    """Live one life.

    Args:
        seed: Decides everything.
        collect: Whether to collect garbage in the end, so that it can complain.
    """
    life, loop = Life(seed), VirtualTimeLoop()
    loop.set_exception_handler(lambda _, context: life.problems.append(f"loop: {context}"))
    with _heard(life.problems), patch("time.time", lambda: EPOCH + loop.time()):
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(life.live())
        except (StuckError, TimeoutError) as error:
            life.problems.append(repr(error))
        if collect:
            gc.collect()
    return Report(seed, tuple(life.problems), tuple(life.simulator.log), life.met)


@contextmanager
def _heard(problems: list[str]) -> Generator[None]:
    """Take warnings, errors in the log and exceptions that nobody could catch for problems."""

    class Ears(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info:
                problems.append(self.format(record))

    logger, ears = logging.getLogger("apixo_async"), Ears(logging.ERROR)
    logger.addHandler(ears)
    try:
        with (
            warnings.catch_warnings(record=True) as warned,
            patch.object(logger, "propagate", new=False),
            patch("sys.unraisablehook", lambda hook: problems.append(repr(hook))),
        ):
            warnings.simplefilter("always")
            yield
        problems += map(str, warned)
    finally:
        logger.removeHandler(ears)


def main(seeds: Sequence[str]) -> int:
    """Live the lives of these seeds; return how many broke a rule."""
    reports = [simulate(int(seed), collect=True) for seed in seeds]
    for report in reports:
        told = report if report.problems else f"{report.seed}: no rule was broken"
        sys.stdout.write(f"{told}\n")
    return sum(bool(report.problems) for report in reports)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

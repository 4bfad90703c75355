"""One random life of a client and its callers in virtual time, replayed from its seed alone.

`python -m tests.support.simulation.life 17` lives seed 17 again and prints what went wrong.
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
from functools import partial
from unittest.mock import patch

from apixo_async import AsyncClient, Limiter, Limits, Polling, TaskRef
from apixo_async.testing import Exchange, Simulator, StuckError, VirtualTimeLoop
from apixo_async.testing.virtual_time import START
from apixo_async.webhooks import WebhookReceiver

from ..open_points import drawn
from ..watchdog import FrozenError, watchdog
from . import rules
from .callers import Crowd
from .clocks import EPOCH, WallClock, wall_clock
from .journals import JournalLife
from .settings import AGE_LIMIT, CLOSING, LONGEST, TIMEOUTS, balancer_of, durations
from .trouble import script_trouble
from .watched import Watched, watched_by
from .workers import new_receiver


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
        replay = f"python -m tests.support.simulation.life {self.seed}"
        return "\n  ".join((replay, *self.problems))


class Process:
    """A process behind the public URL: a client, and where its callbacks come in.

    Attributes:
        receiver: None without webhooks.
        client: Another one after each restart.
    """

    def __init__(self, receiver: WebhookReceiver | None, client: AsyncClient) -> None:
        self.receiver = receiver
        self.client = client


class Life:
    """A service, one or two processes, a crowd of callers, and an heir to what was left."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.loop = VirtualTimeLoop()
        tasks, requests = rng.randint(1, 8), rng.choice((6, 12, 30, 60, 200, 1000))
        self.limits = Limits(tasks, requests)
        # A service with tighter limits than the client was told answers 429.
        self.told_right = rng.random() < 0.7
        tighter = 1 if self.told_right else 2
        self.clock = WallClock(rng, self.loop.time, START)
        self.simulator = Simulator(
            seed=seed,
            concurrent_tasks=max(1, tasks // tighter),
            requests_per_minute=requests // tighter,
            failure_rate=rng.choice((0.0, 0.1, 0.5)),
            durations=durations(rng),
            clock=self.loop.time,
            epoch=EPOCH,
            **drawn(random.Random(f"{seed}/open points")),
        )
        script_trouble(self.simulator, rng)
        # As does one at which a task counts after its end.
        self.told_right &= not self.simulator.options.open_points.places_linger
        self.crowd = Crowd(self.simulator)
        self.problems, self.met = self.crowd.problems, self.crowd.met
        self.balancer = balancer_of(self.simulator, rng, self.clock, self.crowd)
        self.limiter = Limiter(self.limits, seed=seed)
        self.clients: list[AsyncClient] = []
        self.processes: list[Process] = []
        self.slowest = rng.choice((0.05, 0.5, 1.5))
        fixed = Polling.fixed(rng.uniform(0, 10), rng.uniform(1, 10))
        self.polling = rng.choice((Polling.adaptive(), Polling.documented(), fixed))

    def run(self) -> None:
        """Live to the end, on one loop."""
        self.loop.set_exception_handler(lambda _, what: self.problems.append(f"loop: {what}"))
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self.live())

    async def live(self) -> None:
        """Live to the end, and leave in `problems` whatever broke a rule."""
        loop, rng = asyncio.get_running_loop(), self.rng
        for _ in range(1 if self.balancer is None else rng.choice((1, 2))):
            self.begin()
        noise = None if self.balancer is None else loop.create_task(self.balancer.make_noise())
        most = rng.choice((3, 3, 8))
        callers = [
            loop.create_task(
                self.crowd.call(rng.choice(self.processes), random.Random(rng.random()), most)
            )
            for _ in range(rng.randint(4, 12))
        ]
        while rng.random() < 0.5 and self.balancer is not None:
            await self.crowd.moment(rng, 200)
            await self.restart(rng.choice(self.processes))
        if rng.random() < 0.6:
            await self.crowd.moment(rng, 200)
            self.met["closed early"] += 1
            await self.close(self.processes[0].client)
        ended, late = await asyncio.wait(callers, timeout=LONGEST)
        self.problems += [f"never ended: {caller}" for caller in late]
        for caller in ended:
            caller.result()
        for doubt in tuple(self.crowd.doubts):
            await self.crowd.resolve(doubt, rng, 0.2)
        for process in self.processes:
            await self.close(process.client)
        left = [ref for client in self.clients for ref in client.unfinished]
        self.problems += self.crowd.books.problems(left)
        await self.inherit(left)
        if noise is not None:
            await noise
        self.check_service()
        await self.check_leaks()

    def begin(self) -> None:
        """Begin a process."""
        receiver = None if self.balancer is None else new_receiver()
        if self.balancer is not None and receiver is not None:
            self.balancer.workers.append(receiver)
        self.processes.append(Process(receiver, self.client(receiver)))

    async def restart(self, process: Process) -> None:
        """Have another process take over from one, before or after that has ended."""
        self.met["restarted"] += 1
        old, gone = process.client, process.receiver
        assert self.balancer is not None
        assert gone is not None
        rolling = self.rng.random() < 0.5
        if not rolling:
            self.balancer.workers.remove(gone)
            await self.close(old)
            await asyncio.sleep(self.rng.choice((0, self.rng.uniform(0, 60))))
        process.receiver = new_receiver()
        process.client = self.client(process.receiver)
        self.balancer.workers.append(process.receiver)
        if rolling:
            await self.close(old)
            self.balancer.workers.remove(gone)
        for ref in old.unfinished:
            self.crowd.handles.append(process.client.attach(ref))

    def client(self, receiver: WebhookReceiver | None = None) -> AsyncClient:
        """Make a client; all of them share one limiter."""
        steady = self.rng.random() < 0.3
        transport = self.simulator.transport(
            0.05 if steady else lambda source: source.uniform(0, self.slowest)
        )
        client = AsyncClient(
            "test-key",
            limiter=self.limiter,
            polling=self.polling,
            webhooks=receiver,
            transport=Watched(transport, self.problems),
            timeout=TIMEOUTS,
            on_event=partial(self.crowd.noted, len(self.clients)),
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
        watched_by(client).closed = True
        if loop.time() - start > TIMEOUTS.exchange + drain + CLOSING + 0.001:
            self.problems.append(f"closing took {loop.time() - start} s, {drain=}")

    async def inherit(self, left: Sequence[TaskRef]) -> None:
        """Have another client end what the others left."""
        heir = self.client()
        for task in [heir.attach(ref) for ref in left]:
            self.crowd.handles.append(task)
            self.met["inherited"] += 1
            await self.crowd.do(self.rng, task.wait(), 0.0)
        await heir.aclose()
        watched_by(heir).closed = True

    # --- the rules -----------------------------------------------------------------------

    def check_service(self) -> None:
        """Compare with what the service saw: its limits, its tasks, their ends."""
        service, limits, crowd = self.simulator, self.limits, self.crowd
        self.problems += crowd.books.lies(crowd.handles)
        self.problems += rules.gone_too_soon(service, crowd.witness)
        self.problems += rules.given_up_too_soon(service, crowd.witness)
        self.problems += rules.denied_too_soon(service, crowd.denied)
        self.problems += rules.incomplete(service, crowd.results)
        if service.most_in_window() > limits.requests_per_minute:
            self.problems.append(f"{service.most_in_window()} requests in a window, {limits}")
        excused = rules.excused(service, crowd.books.uncertain, crowd.witness)
        if self.told_right and not excused:
            refused = [e for e in service.log if 429 in (e.status, e.code) and e.fault is None]
            self.problems += [f"answered 429 within the limits: {e}" for e in refused]
        most = rules.most_at_once(service.tasks.values(), excused)
        if most > limits.concurrent_tasks:
            self.problems.append(f"{most} tasks at once, {limits}")
        self.met["excused"] += len(excused)
        self.met["wall clock wrong"] += not self.clock.is_right

    async def check_leaks(self) -> None:
        """Look for what is left behind once everything is closed."""
        while self.simulator.deliveries.waiting:  # noqa: ASYNC110  # not to be told
            await asyncio.sleep(60)
        engines = [client._life._engine for client in self.clients]
        places = [engine.api.concurrency.limit.used for engine in engines if engine is not None]
        own = asyncio.current_task()
        left = {
            "pending": [task for task in asyncio.all_tasks() if task is not own],
            "places": [used for used in places if used],
            "permits in flight": self.limiter._permits.in_flight,
            "waiting for permits": self.limiter.permits_waiting,
            "waiting for slots": self.limiter.slots_waiting,
        }
        self.problems += [f"left behind: {what}: {n}" for what, n in left.items() if n]
        # Nobody polls what was left unfinished: its slots come back with its age limit.
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
    kinds = (Life, Life, JournalLife)
    life = kinds[random.Random(f"{seed}/kind").randrange(len(kinds))](seed)
    with heard(life.problems), wall_clock(life.clock):
        try:
            with watchdog():
                life.run()
        except (StuckError, TimeoutError, FrozenError) as error:
            life.problems.append(repr(error))
        if collect:
            gc.collect()
    life.met.update(f"fault: {e.fault}" for e in life.simulator.log if e.fault is not None)
    return Report(seed, tuple(life.problems), tuple(life.simulator.log), life.met)


@contextmanager
def heard(problems: list[str]) -> Generator[None]:
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

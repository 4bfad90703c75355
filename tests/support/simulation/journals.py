"""One random life of a map with a journal: ended at any moment, and run again until it is done."""

from __future__ import annotations

import asyncio
import gc
import random
import sqlite3
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from apixo_async import (
    ApixoError,
    AsyncClient,
    FluxKontext,
    JournalError,
    Limiter,
    Limits,
    Outcome,
    Outcomes,
    SubmitUncertainError,
)
from apixo_async.journal import _journal  # noqa: F401  # its clock is patched
from apixo_async.testing import Simulator
from apixo_async.testing.exchanges import most_in_window
from apixo_async.testing.virtual_time import START

from ..open_points import drawn
from . import rules
from .callers import Crowd
from .clocks import EPOCH, WallClock
from .disks import PATIENCE, Disk, DiskLoop
from .settings import AGE_LIMIT, CLOSING, LONGEST, TIMEOUTS, balancer_of, durations
from .trouble import script_trouble
from .watched import Watched, watched_by
from .workers import new_receiver

#: How a run ends. There is one more, "loop": its whole process is gone, and nothing was closed.
ENDS: Final = ("end", "stop", "stop", "break", "raise", "aclose", "cancel")

_MEMORY: Final = Path("/dev/shm")


class Row(NamedTuple):
    """An item of the journal."""

    state: str
    task_id: str | None
    purchases: int
    intent_at: float | None


class JournalLife:
    """A list of inputs, and the processes that map it one after the other, with one journal.

    Only the last run meets a service, a disk and a way for callbacks that are well.
    """

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.now = START
        self.seed = seed
        self.limits = Limits(rng.randint(1, 6), rng.choice((30, 60, 200, 1000)))
        self.clock = WallClock(rng, self.time, START)
        # The service grants more than the limits, so that whoever goes beyond them is seen.
        self.simulator = Simulator(
            seed=seed,
            failure_rate=rng.choice((0.0, 0.0, 0.3)),
            durations=durations(rng),
            clock=self.time,
            epoch=EPOCH,
            **drawn(random.Random(f"{seed}/open points")),
        )
        script_trouble(self.simulator, rng, within=rng.choice((10, 100, 1_000)))
        self.crowd = Crowd(self.simulator)
        self.problems, self.met = self.crowd.problems, self.crowd.met
        self.balancer = balancer_of(self.simulator, rng, self.clock, self.crowd)
        self.disk = Disk(rng)
        self.met[f"disk: {self.disk.kind}"] += 1
        self.met["wall clock wrong"] += not self.clock.is_right
        self.prompts = [f"castle {number}" for number in range(rng.randint(1, 12))]
        self.keyed = rng.random() < 0.5
        self.attempts = rng.choice((1, 1, 1, 3))
        self.is_last = False
        self.clients: list[AsyncClient] = []
        #: By prompt: the submits of which a run left a doubt in the journal.
        self.doubts: dict[str, set[object]] = {prompt: set() for prompt in self.prompts}
        self.again: Counter[str] = Counter()
        self.latest: dict[str, Outcome] = {}
        self.spans: list[tuple[float, float]] = []

    def time(self) -> float:
        """Return the virtual time, which goes on from loop to loop."""
        with suppress(RuntimeError):
            self.now = asyncio.get_running_loop().time()
        return self.now

    def run(self) -> None:
        """Live in one process after the other."""
        where = _MEMORY if _MEMORY.is_dir() else None
        with tempfile.TemporaryDirectory(dir=where) as directory:
            self.path = Path(directory) / "run.db"
            processes = self.rng.choice((1, 2, 3, 4))
            for number in range(processes):
                loop = DiskLoop(self.disk, self.now)
                loop.set_exception_handler(lambda _, what: self.problems.append(f"loop: {what}"))
                with asyncio.Runner(loop_factory=lambda loop=loop: loop) as runner:
                    runner.run(self.process(last=number == processes - 1))
                if self.crowd.loop_ends:
                    # A process that ends frees its journal. Here garbage holds it: without this,
                    # the moment of the next collection would decide how the next process fares.
                    gc.collect()
                self.note_doubts()
                self.now = loop.time() + self.rng.choice((0.0, self.rng.uniform(0, 1_000)))
                self.met["processes"] += 1
            self.check()

    async def process(self, *, last: bool) -> None:
        """Run the map once or twice in one process."""
        rng = self.rng
        self.simulator.deliveries.go_on()
        limiter = Limiter(self.limits, seed=self.seed)
        begun = self.time()
        if self.balancer is not None:
            self.balancer.workers[:] = [new_receiver()]
        noise = None if self.balancer is None else asyncio.create_task(self.balancer.make_noise())
        for number in range(runs := rng.choice((1, 2, 2))):
            if last and number == runs - 1:
                self.mend()
                self.is_last = True
                await self.map("end", limiter)
            else:
                end = rng.choice(ENDS)
                if number == runs - 1 and not last and rng.random() < 0.4:
                    end = "loop"
                await self.map(end, limiter)
                await asyncio.sleep(rng.choice((0, 0, rng.uniform(0, 300))))
        self.spans.append((begun, self.time()))
        if noise is not None and last:
            await noise
        if last:
            await self.check_leaks(limiter)
        if self.balancer is not None:
            self.balancer.workers.clear()
        self.simulator.deliveries.pause()  # What began while the loop ends would never be over.

    def mend(self) -> None:
        """Have everything go well from now on."""
        self.simulator.faults.clear()
        self.disk.kind = "fast"
        if self.balancer is not None:
            self.balancer.mend()

    # --- one run -------------------------------------------------------------------------

    async def map(self, end: str, limiter: Limiter) -> None:
        """Map the inputs once, until this end."""
        rng, loop = self.rng, asyncio.get_running_loop()
        self.met[f"run: {end}"] += 1
        client = self.client(limiter)
        again = rng.random() < 0.15
        outcomes = client.map(
            self.inputs(),
            journal=self.path,
            ordered=rng.random() < 0.3,
            attempts=self.attempts,
            resubmit_uncertain=again,
        )
        if again:
            self.met["resubmit_uncertain"] += 1
            self.again.update(self.prompts)
        created = len(self.simulator.tasks)
        taken: list[Outcome] = []
        work = loop.create_task(self.take(outcomes, taken, end, watched_by(client), limiter))
        if end in ("aclose", "cancel", "loop", "stop"):
            await self.crowd.moment(rng, rng.choice((5, 100, 400)))
        if end == "stop":
            self.stop(outcomes, watched_by(client), limiter)
        if end == "cancel":
            work.cancel()
        if end == "aclose":
            await self.close(client)
        self.crowd.loop_ends = end == "loop"
        if end != "loop":
            await asyncio.wait((work,), timeout=LONGEST)
            if not work.done():
                self.problems.append(f"a map never ended, {end}")
            await self.close(client)
            self.note_doubts()
        self.told(taken, created)

    def client(self, limiter: Limiter) -> AsyncClient:
        transport = self.simulator.transport(lambda source: source.uniform(0, 1.5))
        workers = None if self.balancer is None else self.balancer.workers
        client = AsyncClient(
            "test-key",
            limiter=limiter,
            webhooks=workers[0] if workers else None,
            transport=Watched(transport, self.problems),
            timeout=TIMEOUTS,
            on_event=partial(self.crowd.noted, len(self.clients)),
            on_orphan=self.crowd.orphaned,
            seed=self.rng.randrange(1000),
        )
        self.clients.append(client)
        return client

    async def inputs(self) -> AsyncIterator[FluxKontext | tuple[str, FluxKontext]]:
        slow = self.rng.random() < 0.2
        for number, prompt in enumerate(self.prompts):
            if slow:
                await asyncio.sleep(self.rng.uniform(0, 20))
            castle = FluxKontext(mode="pro", prompt=prompt)
            yield (f"key {number}", castle) if self.keyed else castle

    async def take(
        self,
        outcomes: Outcomes,
        taken: list[Outcome],
        end: str,
        watched: Watched,
        limiter: Limiter,
    ) -> None:
        """Take the outcomes, until the map ends or is left, and judge what it raises."""
        try:
            await self.take_all(outcomes, taken, end, watched, limiter)
        except Exception as error:
            self.ended(error)

    async def take_all(
        self,
        outcomes: Outcomes,
        taken: list[Outcome],
        end: str,
        watched: Watched,
        limiter: Limiter,
    ) -> None:
        leave_at = self.rng.randrange(len(self.prompts) + 1)
        async with outcomes:
            if end == "raise":
                await self.crowd.moment(self.rng, 100)
                raise OSError("the disk for the results is full")
            async for outcome in outcomes:
                taken.append(outcome)
                if end == "break" and len(taken) >= leave_at:
                    break
            if end == "break":
                self.stop(outcomes, watched, limiter)
        async for outcome in outcomes:
            taken.append(outcome)  # noqa: PERF401  # what comes before an exception counts

    def stop(self, outcomes: Outcomes, watched: Watched, limiter: Limiter) -> None:
        """Stop a map; nothing but what has its permit may be bought from now on."""
        watched.most_posts = watched.posts + limiter._permits.in_flight
        outcomes.stop()

    async def close(self, client: AsyncClient) -> None:
        start, drain = self.time(), self.rng.choice((0.0, 0.0, 30.0))
        await client.aclose(drain)
        watched_by(client).closed = True
        if self.time() - start > TIMEOUTS.exchange + drain + CLOSING + 0.001:
            self.problems.append(f"closing took {self.time() - start} s, {drain=}")

    def ended(self, error: Exception) -> None:
        """Judge what a map raised in the end."""
        self.met[f"map: {type(error).__name__}"] += 1
        # To open a journal two things are waited for, one after the other.
        if isinstance(error, JournalError) and self.disk.longest_wait > PATIENCE / 2:
            return  # It says that the disk does not answer.
        expected = isinstance(error, ApixoError | OSError) and not isinstance(error, JournalError)
        if self.is_last or not expected:
            self.problems.append(f"a map raised {error!r}")

    # --- the rules -----------------------------------------------------------------------

    def told(self, taken: list[Outcome], created: int) -> None:
        """Note what one run told of its items."""
        made = [*self.simulator.tasks.values()][created:]
        new = Counter(task.prompt for task in made)
        for outcome in taken:
            prompt, error = str(getattr(outcome.input, "prompt", "")), outcome.error
            self.latest[prompt] = outcome
            self.met["outcome"] += 1
            self.met["outcome resumed"] += outcome.resumed
            if isinstance(error, SubmitUncertainError):
                self.check_cause(prompt, error.__cause__)
            elif error is not None:
                self.met[f"outcome: {type(error).__name__}"] += 1
                if error.bought is False and new[prompt]:
                    self.problems.append(f"bought, and told that it was not: {outcome}")
            if outcome.result is not None:
                self.crowd.results.append(outcome.result)
                owner = self.simulator.tasks.get(outcome.result.task_id)
                if owner is None or owner.prompt != prompt:
                    self.problems.append(f"{outcome} has the result of {owner}")

    def check_cause(self, prompt: str, cause: BaseException | None) -> None:
        presumed = isinstance(cause, ApixoError) and cause.bought is False
        made = rules.told_of(self.simulator, prompt)
        if presumed and made and self.attempts == 1 and not self.again[prompt]:
            self.problems.append(f"bought, and presumed that it was not: {prompt!r}")

    def check(self) -> None:
        """Compare the journal, the outcomes and the service when all is over."""
        for prompt in self.prompts:
            if prompt not in self.latest:
                self.problems.append(f"no outcome of {prompt!r}")
        self.check_rows()
        service, crowd = self.simulator, self.crowd
        self.problems += rules.gone_too_soon(service, crowd.witness)
        self.problems += rules.given_up_too_soon(service, crowd.witness)
        self.problems += rules.incomplete(service, crowd.results)
        for begun, ended in self.spans:
            most = most_in_window(e for e in service.log if begun <= e.at < ended)
            if most > self.limits.requests_per_minute:
                self.problems.append(f"{most} requests in a window, {self.limits}")
        uncertain = Counter({prompt: len(doubts) for prompt, doubts in self.doubts.items()})
        excused = rules.excused(service, uncertain, crowd.witness)
        most = rules.most_at_once(service.tasks.values(), excused)
        if most > self.limits.concurrent_tasks:
            self.problems.append(f"{most} tasks at once over all runs, {self.limits}")

    def rows(self) -> dict[str, Row]:
        """Return what the journal says, by prompt; nobody may use it now."""
        if not self.path.exists():
            return {}
        asked = f"SELECT json_extract(payload, '$.prompt'), {', '.join(Row._fields)} FROM item"
        try:
            with closing(sqlite3.connect(self.path, timeout=1)) as journal:
                return {prompt: Row(*row) for prompt, *row in journal.execute(asked)}
        except sqlite3.Error as error:
            self.problems.append(f"the journal was not let go of: {error!r}")
            return {}

    def note_doubts(self) -> None:
        """Note the submits of which the last run could not know what they bought."""
        for prompt, row in self.rows().items():
            if row.state in ("uncertain", "intent"):
                self.doubts[prompt].add(row.intent_at)

    def check_rows(self) -> None:
        """Find every task of the service in the journal, or a doubt that stands for it."""
        rows = self.rows()
        for prompt in self.prompts:
            made = [task for task in self.simulator.tasks.values() if task.prompt == prompt]
            row = rows.get(prompt, Row("missing", None, 0, None))
            most = 1 + self.again[prompt] if self.attempts == 1 else row.purchases
            if len(made) > min(most, row.purchases):
                self.problems.append(f"{prompt!r} was bought too often: {made}, {row}")
            lost = [task for task in made if task.id != row.task_id]
            told = len(self.doubts[prompt]) + (row.purchases if self.attempts > 1 else 0)
            if len(lost) > told:
                self.problems.append(f"lost: {lost} of {prompt!r}, {row}")

    async def check_leaks(self, limiter: Limiter) -> None:
        """Look for what is left behind once everything is closed."""
        while self.simulator.deliveries.waiting:  # noqa: ASYNC110  # not to be told
            await asyncio.sleep(60)
        pending = asyncio.all_tasks() - {asyncio.current_task()}
        self.problems += [f"left behind: {task}" for task in pending]
        await asyncio.sleep(AGE_LIMIT)
        if limiter.slots_used:
            self.problems.append(f"left behind: slots: {limiter.slots_used}")

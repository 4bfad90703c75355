"""Processes that share an account's slots: what they buy, what is left when they die, who takes it.

The requests, exchanges, kills and stops are those of `sharing`; the store keeps an entry for each
purchase. The service only notes when tasks run; whether they were too many is counted in the end.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from apixo_async._limits.window import MARGIN, PermitOutcome
from apixo_async.stores._protocol import State
from apixo_async.testing.memory_store import MemoryStore, OpenMemoryStore
from apixo_async.testing.store_contract import purchase

from .sharing import Process, Sharing, Value, World

T = TypeVar("T")

#: Intents of a process that may be under way at once.
FEWEST = 4


@dataclass(frozen=True)
class TaskWorld:
    """What is bought.

    Attributes:
        world: The processes, and what goes wrong with them.
        shortest: Seconds of the shortest task.
        longest: Seconds of the longest one, which the catalogue knows.
        refused: The part of the submits that the service refuses.
        slow: The longest time that a write to the store takes.
    """

    world: World
    shortest: float = 3.0
    longest: float = 20.0
    refused: float = 0.0
    slow: float = 0.01


class Store(OpenMemoryStore):
    """Entries with the clock of the value, which may be set."""

    def __init__(self, value: Value, time: Callable[[], float]) -> None:
        super().__init__(MemoryStore()._tables, "account")
        self._value = value
        self._time = time

    @property
    def _now(self) -> float:
        return self._value.now(self._time())


def done(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    raise AssertionError("it waits")


@dataclass(frozen=True, slots=True)
class Intent:
    """One submit, from its permit to its first byte."""

    world: SharingTasks
    process: Process
    own: str
    owner: str

    def write(self) -> None:
        """Make the intent durable; the answer to that may be lost."""
        world, rng = self.world, self.world.rng
        before, after = (rng.random() < world.world.lost / 2 for _ in range(2))
        back = world.t + rng.uniform(0, world.tasks.slow)
        if before or world.value.is_away(world.t):
            world.in_process(self.process, back + 1.0, self.take_back)
            return
        intended = done(
            world.store.intend(
                purchase(self.own),
                self.own,
                self.owner,
                slots=world.world.slots,
                hold=world.hold,
            )
        )
        if after:
            world.in_process(self.process, back + 1.0, self.take_back)
        elif intended.done:
            world.in_process(self.process, back, self.check)
        else:
            world.in_process(self.process, back, lambda: world.full(self))

    def take_back(self) -> None:
        """Send nothing, and have it forgotten that it was intended."""
        self.world.intended(self, is_sent=False)
        self.world.store_soon(self.process, lambda: done(self.world.store.refused(self.own)))

    def check(self) -> None:
        """See whether the lease is over, as after each commit that took long."""
        if self.world.may_send(self.process):
            gap = self.world.rng.choice((0.0, 0.0, self.world.rng.uniform(0, 0.05)))
            self.world.in_process(self.process, self.world.t + gap, self.first_byte)
        else:
            self.take_back()

    def first_byte(self) -> None:
        """See once more, and send."""
        if self.world.may_send(self.process):
            self.world.intended(self, is_sent=True)
            self.world.post(self.process, self.own, self.owner)
        else:
            self.take_back()


class SharingTasks(Sharing):
    """Run a world of tasks.

    Attributes:
        ran: When each task began and ended at the service.
        bought: The tasks that the store knows.
        noted: Those whose end it knows; their entries are removed.
    """

    def __init__(self, tasks: TaskWorld, seed: int) -> None:
        super().__init__(tasks.world, seed)
        self.tasks = tasks
        self.store = Store(self.value, lambda: self.t)
        self.ran: dict[str, tuple[float, float]] = {}
        self.bought: set[str] = set()
        self.noted: set[str] = set()
        self._intents = Counter[Process]()
        self._full: dict[Process, float] = {}
        self._attempts = itertools.count(1)

    # --- buying --------------------------------------------------------------------------

    def _waiting(self, process: Process) -> int:
        grant = process.window.grant
        room = 0 if grant is None else grant.tasks - self._tasks(process)
        if self.t < self._full.get(process, 0.0):
            room = 0
        return max(0, min(process.waiting, room, FEWEST - self._intents[process]))

    def _tasks(self, process: Process) -> int:
        return len(process.tracked) + self._intents[process]

    def _taken(self, process: Process) -> None:
        self._intents[process] += 1

    def _wants_tasks(self, process: Process) -> int:
        return process.waiting

    def _open_tasks(self) -> int:
        return self.store._open_tasks()

    def may_send(self, process: Process) -> bool:
        """Return True if the lease of a process is not over."""
        return self._clock(process) < process.window.usable_until

    @property
    def hold(self) -> float:
        """Seconds for which an intent has its slot if nothing else is heard."""
        # A POST goes at most a lease after its intent, arrives within a margin of its end, and its
        # task runs for the longest time.
        return self.world.lease + MARGIN + 10.0 + self.tasks.longest

    def store_soon(self, process: Process, write: Callable[[], object]) -> None:
        """Have something written, however often that has to be tried; the process may die."""

        def attempt() -> None:
            if self.value.is_away(self.t) or self.rng.random() < self.world.lost:
                self.in_process(process, self.t + 0.5, attempt)
            else:
                write()

        self.in_process(process, self.t + self.rng.uniform(0, self.tasks.slow), attempt)

    def _send(self, process: Process) -> None:
        own = f"{next(self._attempts)}"
        intent = Intent(self, process, own, process.window.member)
        # The message is on its way: a process that is stopped now has sent it.
        self.at(self.t + self.rng.uniform(0, self.tasks.slow), intent.write)

    def full(self, intent: Intent) -> None:
        """Wait for an end, or the next exchange, before another one is tried."""
        self._full[intent.process] = self.t + 0.25
        self.intended(intent, is_sent=False)

    def intended(self, intent: Intent, *, is_sent: bool) -> None:
        """Note that an intent is no longer under way."""
        self._intents[intent.process] -= 1
        if is_sent:
            intent.process.tracked.add(intent.own)
        else:
            clock = self._clock(intent.process)
            intent.process.window.report(PermitOutcome.UNUSED, clock)
            self._serve(intent.process)

    def post(self, process: Process, own: str, owner: str) -> None:
        """Send a submit: it is answered, refused, or neither."""
        rng, world, tasks = self.rng, self.world, self.tasks
        latency = rng.uniform(0.2, 1.8) * world.latency
        is_answered = rng.random() >= world.unanswered
        is_refused = rng.random() < tasks.refused
        arrives = self.t + rng.uniform(0, latency if is_answered else latency + MARGIN)

        def begin() -> None:
            if not is_refused:
                self.arrived.append(self.t)
                length = rng.uniform(tasks.shortest, tasks.longest)
                self.ran[own] = (self.t, self.t + length)

        def answered() -> None:
            outcome = PermitOutcome.ANSWERED if is_answered else PermitOutcome.UNANSWERED
            process.window.report(outcome, self._clock(process))
            if not is_answered:
                process.tracked.discard(own)
                hold = MARGIN + tasks.longest
                self.store_soon(process, lambda: done(self.store.uncertain(own, hold=hold)))
            elif is_refused:
                process.tracked.discard(own)
                self.store_soon(process, lambda: done(self.store.refused(own)))
            else:
                self.store_soon(process, lambda: self._note_bought(own, owner))
                self._track(process, own)

        self.at(arrives, begin)
        self.in_process(process, self.t + latency, answered)

    def _note_bought(self, own: str, owner: str) -> None:
        done(self.store.bought(purchase(own), own, owner, f"task {own}", hold=1800.0))
        self.bought.add(own)

    def _track(self, process: Process, own: str) -> None:
        """Poll a task: its end is seen a while after it, and noted then."""
        process.tracked.add(own)

        def over() -> None:
            process.tracked.discard(own)
            self._full.pop(process, None)
            self.store_soon(process, lambda: self._note_over(own))
            self._serve(process)

        end = max(self.t, self.ran[own][1])
        self.in_process(process, end + self.rng.uniform(0, 2.0), over)

    def _note_over(self, own: str) -> None:
        done(self.store.over(own, State.SUCCESS, None))
        entry = self.store._tables.entries.get(own)
        if entry is not None and entry.entry.state is State.SUCCESS:
            del self.store._tables.entries[own]
            self.noted.add(own)

    # --- what dead ones left -------------------------------------------------------------

    def _failed(self, process: Process) -> None:
        grant = process.window.grant
        if grant is not None and grant.living is not None and process.window.usable_until > 0:
            living = {*grant.living, process.window.member}
            settled = process.window.lease
            taken = done(
                self.store.take_over(process.window.member, living, most=4, settled=settled)
            )
            for entry in taken:
                if entry.attempt not in process.tracked:
                    self._track(process, entry.attempt)
        super()._failed(process)

    # --- what came of it -----------------------------------------------------------------

    def most_at_once(self) -> int:
        """Return the most tasks that ran at the same time."""
        changes = sorted(
            change for began, ended in self.ran.values() for change in ((began, 1), (ended, -1))
        )
        running = most = 0
        for _, change in changes:
            running += change
            most = max(most, running)
        return most

    def used(self, since: float) -> float:
        """Return the part of the slots that were used from a time on."""
        end = self.world.seconds
        busy = sum(
            max(0.0, min(ended, end) - max(began, since)) for began, ended in self.ran.values()
        )
        return busy / (self.world.slots * (end - since))

    def unseen(self, before: float) -> set[str]:
        """Return the tasks that ended before a time, and whose end the store does not know."""
        return {own for own in self.bought - self.noted if self.ran[own][1] < before}


def any_task_world(seed: int) -> TaskWorld:
    """Draw a world of tasks in which any of it goes wrong, or several at once."""
    rng = random.Random(seed)
    world = World(
        limit=rng.choice((600, 3000)),
        slots=rng.choice((1, 5, 20, 50)),
        processes=rng.choice((1, 2, 3, 6)),
        seconds=90.0,
        lease=rng.choice((2.0, 3.0, 10.0)),
        latency=rng.choice((0.05, 0.3, 1.0)),
        unanswered=rng.choice((0.0, 0.01, 0.05)),
    )
    faults: list[Callable[[World], World]] = [
        lambda w: replace(w, lost=rng.choice((0.02, 0.1))),
        lambda w: replace(w, kills=rng.choice((1.0, 5.0))),
        lambda w: replace(w, stops=(rng.choice((2.0, 5.0)), rng.choice((4.0, 40.0)))),
        lambda w: replace(w, away=(rng.uniform(5, 90), rng.choice((4.0, 30.0)))),
        lambda w: replace(w, losses=(rng.uniform(1, 100),)),
        lambda w: replace(w, rates=tuple(rng.choice((None, 0.5, 2.0)) for _ in range(w.processes))),
        lambda w: replace(w, joins=tuple(rng.uniform(0, 60) for _ in range(w.processes))),
    ]
    for fault in rng.sample(faults, rng.choice((0, 1, 1, 2, 3))):
        world = fault(world)
    return TaskWorld(
        world,
        longest=rng.choice((6.0, 20.0)),
        refused=rng.choice((0.0, 0.1)),
        slow=rng.choice((0.01, 0.2)),
    )

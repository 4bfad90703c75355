"""Processes that share an account through one value, event by event, with all that goes wrong.

One true time drives the processes, their clocks, the store and the service. The service only notes
when requests arrive; whether they were too many is counted in the end.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import pytest

from apixo_async._limits.leased import Asked, LeasedWindow
from apixo_async._limits.shared import SharedLimits
from apixo_async._limits.window import MARGIN, PermitOutcome
from apixo_async._types import Limits


def most_within(seconds: float, times: Iterable[float]) -> int:
    """Return the most times in any closed span of so many seconds."""
    stamps, most, first = sorted(times), 0, 0
    for last, at in enumerate(stamps):
        while at - stamps[first] > seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


#: Requests that wait in a process that sends as many as it can.
MANY = 100_000


@dataclass(frozen=True)
class World:
    """What happens to the processes of an account.

    Attributes:
        limit: Requests a minute.
        slots: Tasks at once.
        processes: How many there are.
        seconds: For how long they run.
        lease: That of each process.
        latency: The mean time to an answer, in seconds.
        tail: The part of the answers that take up to 5 s.
        unanswered: The part of the requests without an answer.
        lost: The part of the messages to the store that are lost, before or after they are done.
        hiccup: The part of the messages that take up to 1.5 s.
        kills: Seconds between two kills, on average; each process is replaced within a second.
        stops: Seconds between two stops, on average, and the longest of them.
        away: When the store is away, and for how long.
        losses: When the value is lost.
        sets: When the store's clock is set, and by how much.
        moves: Seconds after which the demand moves to another process; 0 where all are greedy.
        rates: Requests a second that processes want, None for as many as they can.
        joins: When each process starts.
        counted_from: From when on it is counted who has sent how many.
    """

    limit: int = 600
    slots: int = 1000
    processes: int = 3
    seconds: float = 150.0
    lease: float = 10.0
    latency: float = 0.3
    tail: float = 0.0
    unanswered: float = 0.0
    lost: float = 0.0
    hiccup: float = 0.0
    kills: float = math.inf
    stops: tuple[float, float] = (math.inf, 0.0)
    away: tuple[float, float] = (math.inf, 0.0)
    losses: tuple[float, ...] = ()
    sets: tuple[tuple[float, float], ...] = ()
    moves: float = 0.0
    rates: tuple[float | None, ...] = ()
    joins: tuple[float, ...] = ()
    counted_from: float = 0.0


class Value:
    """The shared value as a store keeps it: with compare-and-set, and a clock of its own."""

    def __init__(self, world: World, clock: float) -> None:
        self.world = world
        self.version = 0
        self.body: bytes | None = SharedLimits.fresh(clock).dump()
        self._ahead = clock

    def now(self, t: float) -> float:
        """Return the time of the store, which may have been set."""
        sets = self.world.sets
        return t + self._ahead + (sum(by for at, by in sets if at <= t) if sets else 0.0)

    def is_away(self, t: float) -> bool:
        """Return True if nothing reaches it."""
        at, seconds = self.world.away
        return at <= t < at + seconds

    def load(self, t: float) -> tuple[SharedLimits, int, float]:
        """Return the value, its version and the time."""
        if self.body is None:
            shared = SharedLimits.lost(self.now(t), self.world.limit)
        else:
            shared = SharedLimits.load(self.body)
        return shared, self.version, self.now(t)

    def save(self, shared: SharedLimits, version: int) -> bool:
        """Keep a value if no other was kept since."""
        return version == self.version and self.keep(shared)

    def keep(self, shared: SharedLimits) -> bool:
        """Keep a value, whatever was kept meanwhile."""
        self.body, self.version = shared.dump(), self.version + 1
        return True


@dataclass(eq=False)
class Process:
    """One process: the permits that it has, and whether it lives."""

    window: LeasedWindow
    ahead: float
    rate: float | None
    number: int = 0
    waiting: int = 0
    tracked: set[str] = field(default_factory=set[str])
    alive: bool = True
    stopped_until: float = -math.inf
    is_asking: bool = False
    wakes_at: float = math.inf
    asks_at: float = math.inf


class Sharing:
    """Run a world.

    Attributes:
        arrived: When requests arrived at the service.
        sent_by: How many each process has sent, by its number.
        exchanges: How many were begun.
    """

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.rng = random.Random(seed)
        self.t = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.value = Value(world, self.rng.uniform(1e4, 1e9))
        self.arrived: list[float] = []
        self.sent_by: Counter[int] = Counter()
        self.exchanges = self.conflicts = 0
        self._names = itertools.count(1)
        self.processes: list[Process] = []

    # --- events --------------------------------------------------------------------------

    def at(self, t: float, do: Callable[[], None]) -> None:
        """Do something at a time."""
        heapq.heappush(self._events, (t, next(self._order), do))

    def in_process(self, process: Process, t: float, do: Callable[[], None]) -> None:
        """Do something at a time in a process; later if it is stopped, never if it is killed."""

        def run() -> None:
            if not process.alive:
                return
            if self.t < process.stopped_until:
                self.at(process.stopped_until, run)
            else:
                do()

        self.at(t, run)

    def run(self) -> Sharing:
        """Let it all happen."""
        world = self.world
        for place in range(world.processes):
            join = world.joins[place] if place < len(world.joins) else self.rng.uniform(0, 0.2)
            self.at(join, lambda place=place: self._start(place))  # type: ignore[misc]  # mypy sees no type of the default
        for at in world.losses:
            self.at(at, self._lose)
        if world.kills < math.inf:
            self.at(self._soon(world.kills), self._kill)
        if world.stops[0] < math.inf:
            self.at(self._soon(world.stops[0]), self._stop)
        if world.moves:
            self.at(world.moves, self._move)
        while self._events and self._events[0][0] <= world.seconds:
            self.t, _, do = heapq.heappop(self._events)
            do()
        return self

    def _soon(self, mean: float) -> float:
        return self.t + self.rng.expovariate(1 / mean)

    def _lose(self) -> None:
        # As a server that comes back after a crash: empty, and every version unknown.
        self.value.body = None
        self.value.version += 1

    # --- processes -----------------------------------------------------------------------

    def _start(self, place: int) -> None:
        world, number = self.world, next(self._names)
        rate = world.rates[place] if place < len(world.rates) else None
        if world.moves:
            rate = 0.0 if any(each.alive and each.rate is None for each in self.processes) else None
        window = LeasedWindow(
            Limits(world.slots, world.limit),
            self.rng,
            (f"{number}-{life}" for life in itertools.count()).__next__,
            lease=world.lease,
        )
        process = Process(window, self.rng.uniform(0, 1e6), rate)
        if place < len(self.processes):
            self.processes[place] = process
        else:
            self.processes.append(process)
        process.number = number
        window.rebind(self._clock(process))
        if rate is None:
            process.waiting = MANY
        elif rate:
            self.in_process(process, self._soon(1 / rate), lambda: self._want(process))
        self._ask_when_due(process)

    def _want(self, process: Process) -> None:
        assert process.rate
        process.waiting += 1
        self.in_process(process, self._soon(1 / process.rate), lambda: self._want(process))
        self._serve(process)
        self._ask_when_due(process)

    def _move(self) -> None:
        live = [each for each in self.processes if each.alive]
        for process in live:
            process.rate, process.waiting = 0.0, 0
        if live:
            chosen = self.rng.choice(live)
            chosen.rate, chosen.waiting = None, MANY
            self._ask_when_due(chosen)
        self.at(self.t + self.world.moves, self._move)

    def _kill(self) -> None:
        live = [place for place, process in enumerate(self.processes) if process.alive]
        if live:
            place = self.rng.choice(live)
            self.processes[place].alive = False
            self.at(self.t + self.rng.uniform(0.2, 1.0), lambda: self._start(place))
        self.at(self._soon(self.world.kills), self._kill)

    def _stop(self) -> None:
        if self.processes:
            process = self.rng.choice(self.processes)
            process.stopped_until = self.t + self.rng.uniform(0.1, self.world.stops[1])
        self.at(self._soon(self.world.stops[0]), self._stop)

    def _clock(self, process: Process) -> float:
        return self.t + process.ahead

    # --- requests ------------------------------------------------------------------------

    def _serve(self, process: Process) -> None:
        window, now = process.window, self._clock(process)
        while self._waiting(process) and window.ready_at(now) <= now:
            window.take(now)
            self._taken(process)
            process.waiting -= process.rate is not None
            # Between a permit and the first byte there is a place, a disk, a connection.
            gap = self.rng.choice((0.0, 0.0, 0.0, self.rng.uniform(0, 0.05)))
            self.in_process(process, self.t + gap, lambda: self._send(process))
        if waiting := self._waiting(process):
            ready = window.worth_waking_at(now, min(waiting, 1000))
            at = ready - process.ahead
            if ready < math.inf and not (self.t < process.wakes_at <= at):
                process.wakes_at = max(at, self.t + 1e-9)
                self.in_process(process, process.wakes_at, lambda: self._serve(process))

    def _send(self, process: Process) -> None:
        window = process.window
        if self._clock(process) >= window.usable_until:
            window.report(PermitOutcome.UNUSED, self._clock(process))
            return
        world, rng = self.world, self.rng
        if self.t >= self.world.counted_from:
            self.sent_by[process.number] += 1
        latency = rng.uniform(0.2, 1.8) * world.latency
        if rng.random() < world.tail:
            latency = rng.uniform(1.0, 5.0)
        if rng.random() < world.unanswered:
            arrives = self.t + rng.uniform(0, latency + MARGIN)
            outcome = PermitOutcome.UNANSWERED
        else:
            arrives = self.t + rng.uniform(0, latency)
            outcome = PermitOutcome.ANSWERED
        self.at(arrives, lambda: self.arrived.append(self.t))
        self.in_process(process, self.t + latency, lambda: self._ended(process, outcome))

    def _ended(self, process: Process, outcome: PermitOutcome) -> None:
        process.window.report(outcome, self._clock(process))
        self._serve(process)

    # --- exchanges -----------------------------------------------------------------------

    def _ask_when_due(self, process: Process) -> None:
        if process.is_asking:
            return
        due = process.window.exchange_at(self._waiting(process), self._wants_tasks(process))
        due = max(self.t, due - process.ahead)
        if due < process.asks_at or process.asks_at <= self.t:
            process.asks_at = due
            self.in_process(process, due, lambda: self._begin(process, due))

    def _begin(self, process: Process, due: float) -> None:
        if process.is_asking or process.asks_at != due:
            return
        process.is_asking, process.asks_at = True, math.inf
        self.exchanges += 1
        self._load(process)

    def _delay(self) -> float:
        if self.rng.random() < self.world.hiccup:
            return self.rng.uniform(0.0, 1.5)
        return self.rng.uniform(0.0005, 0.003)

    def _load(self, process: Process) -> None:
        sent = self._clock(process)
        reads_at = self.t + self._delay()
        lost = self.rng.random() < self.world.lost

        def read() -> None:
            if lost or self.value.is_away(self.t):
                self.in_process(process, self.t + 0.5, lambda: self._failed(process))
                return
            shared, version, now = self.value.load(self.t)
            came = self.t + self._delay()
            self.in_process(
                process, came, lambda: self._loaded(process, shared, version, now, sent)
            )

        self.at(reads_at, read)

    def _loaded(
        self, process: Process, shared: SharedLimits, version: int, now: float, sent: float
    ) -> None:
        asked = Asked(now, sent, self._clock(process), self.t)
        process.window.exchange(
            shared,
            asked,
            waiting=self._waiting(process),
            tasks=self._tasks(process),
            wants_tasks=self._wants_tasks(process),
            open_tasks=self._open_tasks(),
        )
        before = self.rng.random() < self.world.lost / 2
        after = self.rng.random() < self.world.lost / 2

        def write() -> None:
            if before or self.value.is_away(self.t):
                self.in_process(process, self.t + 0.5, lambda: self._failed(process))
                return
            kept = self.value.save(shared, version)
            if after:
                self.in_process(process, self.t + 0.5, lambda: self._failed(process))
                return
            self.in_process(process, self.t + self._delay(), lambda: self._saved(process, kept))

        self.at(self.t + self._delay(), write)

    def _waiting(self, process: Process) -> int:
        """Return how many requests wait for a permit."""
        return process.waiting

    def _taken(self, process: Process) -> None:
        """Note that a permit was taken."""

    def _tasks(self, _: Process) -> int:
        """Return how many tasks a process has."""
        return 0

    def _wants_tasks(self, _: Process) -> int:
        """Return how many submits wait for a slot."""
        return 0

    def _open_tasks(self) -> int:
        """Return how many tasks the store knows."""
        return 0

    def _saved(self, process: Process, kept: bool) -> None:
        if not kept:
            self.conflicts += 1
            self._load(process)
            return
        process.window.kept()
        self._failed(process)

    def _failed(self, process: Process) -> None:
        process.is_asking = False
        self._serve(process)
        self._ask_when_due(process)

    # --- what came of it -----------------------------------------------------------------

    def fullest(self) -> int:
        """Return the most requests that arrived in any 60 s."""
        return most_within(60.0, self.arrived)

    def use(self, since: float) -> float:
        """Return the part of the limit that arrived from a time on."""
        count = sum(at >= since for at in self.arrived)
        return count / (self.world.limit * (self.world.seconds - since) / 60)


def any_world(seed: int) -> World:
    """Draw a world in which any of it goes wrong, or several at once."""
    rng = random.Random(seed)
    limit = rng.choice((10, 60, 100, 300, 600))
    world = World(
        limit=limit,
        processes=rng.choice((1, 2, 3, 6)),
        lease=rng.choice((2.0, 3.0, 10.0)),
        latency=rng.choice((0.05, 0.3, 1.0)),
        tail=rng.choice((0.0, 0.02)),
        unanswered=rng.choice((0.0, 0.005, 0.05)),
    )
    faults: list[Callable[[World], World]] = [
        lambda w: replace(w, lost=rng.choice((0.02, 0.1))),
        lambda w: replace(w, hiccup=rng.choice((0.02, 0.1))),
        lambda w: replace(w, kills=rng.choice((0.5, 2.0, 5.0))),
        lambda w: replace(w, stops=(rng.choice((2.0, 5.0)), rng.choice((4.0, 25.0)))),
        lambda w: replace(w, away=(rng.uniform(5, 90), rng.choice((4.0, 30.0)))),
        lambda w: replace(w, losses=tuple(rng.uniform(1, 140) for _ in range(rng.choice((1, 3))))),
        lambda w: replace(
            w, sets=((rng.uniform(3, 90), rng.choice((-300.0, -30.0, -5.0, 5.0, 30.0, 300.0))),)
        ),
        lambda w: replace(w, moves=7.0),
        lambda w: replace(
            w, rates=tuple(rng.choice((None, 0.1, 1.0, 5.0)) for _ in range(w.processes))
        ),
        lambda w: replace(w, joins=tuple(rng.uniform(0, 60) for _ in range(w.processes))),
    ]
    for fault in rng.sample(faults, rng.choice((0, 1, 1, 2, 3))):
        world = fault(world)
    return world


def nothing_ends_with_the_lease(patch: pytest.MonkeyPatch) -> None:
    """Break the fence: what was granted once may be used for ever."""
    really = LeasedWindow.kept

    def kept(window: LeasedWindow) -> None:
        really(window)
        window.usable_until = math.inf

    patch.setattr(LeasedWindow, "kept", kept)

"""The permits of one account, shared by processes: a small value, and the rule that changes it.

Processes take permits ahead, many at a time: each reads the value, puts it through `exchange`, and
keeps the result if no other process kept one meanwhile. A permit counts as occupied from its grant
until a window after its answer, and never more than the limit are occupied (invariant 3). Since a
grant is counted a little before it may be used, and a stamp bears the age of its answer, neither
the time between two exchanges nor the time that one takes costs any permit.

Times in the value are those of the clock of the store that keeps it. A process converts its own by
the moments at which it asked for the value and got it, each to the safe side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter

from apixo_async._catalog import WINDOW
from apixo_async._limits.breaker import LimitScope, PauseGrant, PauseReport
from apixo_async._limits.shared_pauses import SharedPause, exchange_pauses
from apixo_async._limits.window import BURST, MARGIN, SLACK

#: Seconds that stamps are rounded up to. A stamp so is late by half of it on average, which costs
#: 0.08 % of the permits; and a minute of stamps has 600 counts, some 1.5 KB.
TICK: Final = 0.1

#: Seconds between two exchanges of a busy process, where few processes share the account; and by
#: how much more for each process, so that all together make no more than 40 a second.
INTERVAL: Final = 0.25
INTERVAL_EACH: Final = 1 / 40

#: Permits are granted as many intervals before they may be used, so that none waits for a process.
AHEAD: Final = 2

#: The most seconds between two exchanges of a busy process. That bounds how far permits are granted
#: ahead, and so what a lost value may hide.
LONGEST_INTERVAL: Final = 2.0

#: Seconds for which a value that was lost grants nothing. Up to then, a window may be full of
#: requests that are not known: a burst, and from there on the allowed rate, up to the last grant.
QUIET: Final = WINDOW * BURST + AHEAD * LONGEST_INTERVAL + 1.0

#: How far two clocks may drift apart, in seconds a second, beyond which one of them was set; and
#: how far apart two may be that run on different machines.
DRIFT: Final = 0.001
CLOCKS_APART: Final = 1.0

#: More than any burst: the next exchange cuts it down to one.
_MANY: Final = 1e9

_Count = Annotated[int, Field(ge=0)]
#: Seconds of a clock; a value that claims more is none of ours.
_Time = Annotated[float, Field(ge=-1e12, le=1e12)]


@dataclass(slots=True)
class Member:
    """A process that shares the account.

    Attributes:
        asked: Which of its exchanges the last report was of.
        at: When that was.
        lease: Seconds after a report for which it may use what it has.
        held: Permits that it has: unused, or in flight.
        wants: Permits that it could use now, beyond those.
        requests_per_minute: The limit that it was given.
        concurrent_tasks: The limit that it was given.
        tasks: Its tasks at the service.
        wants_tasks: Submits that wait for a slot.
    """

    asked: _Count
    at: _Time
    lease: Annotated[float, Field(ge=0.0, le=86_400.0)]
    held: _Count
    wants: _Count
    requests_per_minute: Annotated[int, Field(ge=1)]
    concurrent_tasks: Annotated[int, Field(ge=1)]
    tasks: _Count
    wants_tasks: _Count


@dataclass(slots=True)
class SharedLimits:
    """What processes know together of an account's permits.

    Attributes:
        at: When it was last changed.
        born_at: When it was made. For a lease after that, a process that is not in it may live all
            the same.
        tokens: Requests that may go at once; below 0 where later ones are granted already.
        first_tick: The tick of the first of `stamps`.
        stamps: How many requests leave the window at each tick.
        members: The processes, by their names.
        pauses: What 429s hold back.
        paused: How many pauses there have been.
        other_clock: What another clock than the store's showed when it was last changed.
        version: The layout of this value.
    """

    at: _Time
    born_at: _Time
    tokens: float
    first_tick: int = 0
    stamps: list[_Count] = field(default_factory=list[int])
    members: dict[str, Member] = field(default_factory=dict[str, Member])
    pauses: dict[LimitScope, SharedPause] = field(default_factory=dict[LimitScope, SharedPause])
    paused: _Count = 0
    other_clock: _Time = 0.0
    version: Literal[1] = 1

    @classmethod
    def fresh(cls, now: float) -> SharedLimits:
        """Return the value of an account that no process has used within the last window."""
        return cls(now, now, _MANY, math.ceil(now / TICK))

    @classmethod
    def lost(cls, now: float, requests_per_minute: int) -> SharedLimits:
        """Return a value in the place of one that was lost: the requests before it are not known.

        They are taken for a window full of them, that began to leave after `QUIET`.
        """
        shared = cls.fresh(now)
        shared.lose(now, requests_per_minute)
        return shared

    def lose(self, now: float, requests_per_minute: int) -> None:
        """Begin as `lost` does: no time in it means anything any more."""
        self.at = self.born_at = now
        self.tokens, self.first_tick, self.stamps = 0.0, math.ceil(now / TICK), []
        self.members, self.pauses = {}, {}
        for number in range(requests_per_minute):
            self.stamp(now + QUIET + WINDOW * number / requests_per_minute, 1)

    @classmethod
    def load(cls, body: bytes) -> SharedLimits:
        """Read what `dump` has written.

        Raises:
            ValueError: It is something else.
        """
        return _adapter.validate_json(body)

    def dump(self) -> bytes:
        """Return it as JSON."""
        return _adapter.dump_json(self)

    def is_doubtful(self, other_clock: float, now: float) -> bool:
        """Return True if the clock has run back, or was set since no process lives that knows."""
        passed = now - self.at
        if passed < -SLACK:
            return True
        if any(member.at + member.lease >= now for member in self.members.values()):
            return False  # That one finds out.
        by_other = other_clock - self.other_clock
        if min(passed, by_other) > 2 * WINDOW:
            return False  # Whichever is right, no request from before still counts.
        wrong = abs(by_other - passed)
        return bool(self.members) and wrong > CLOCKS_APART + DRIFT * passed

    @property
    def requests_per_minute(self) -> int:
        """The limit: the lowest that was given to a process."""
        return min(member.requests_per_minute for member in self.members.values())

    @property
    def concurrent_tasks(self) -> int:
        """The limit: the lowest that was given to a process."""
        return min(member.concurrent_tasks for member in self.members.values())

    @property
    def occupied(self) -> int:
        """The permits that count against the limit: held ones, and those in the window."""
        return sum(self.stamps) + sum(member.held for member in self.members.values())

    def stamp(self, until: float, count: int) -> None:
        """Count requests until a time."""
        place = max(0, math.ceil(until / TICK - 1e-6) - self.first_tick)
        if place >= len(self.stamps):
            self.stamps += [0] * (place + 1 - len(self.stamps))
        self.stamps[place] += count

    def forget(self, now: float) -> None:
        """Drop the stamps that have left the window, and count what dead processes may have sent.

        A process uses nothing after its lease. What it has sent by then may still arrive, and the
        clock of its lease began a little before the time that is known here.
        """
        over = math.floor(now / TICK + 1e-6) + 1 - self.first_tick
        if over > 0:
            del self.stamps[:over]
            self.first_tick += over
        for name, member in [*self.members.items()]:
            if member.at + member.lease < now:
                del self.members[name]
                self.stamp(member.at + member.lease + MARGIN + WINDOW + SLACK, member.held)

    def refill(self, now: float, limit: int) -> None:
        """Count the requests that the pace allows since the last exchange."""
        burst = max(1.0, limit * BURST)
        gained = max(0.0, now - self.at) * limit / WINDOW
        self.tokens = min(burst, self.tokens + gained)
        self.at = now


_adapter: Final = TypeAdapter(SharedLimits)


@dataclass(frozen=True, slots=True)
class Report:
    """What a process tells in an exchange. Each number is absolute: none depends on the last one.

    Attributes:
        member: Its name; another one after each expulsion.
        number: 1 for its first report, and one more for each that was kept.
        asked: How many exchanges it has asked for: by that it finds out which report was kept,
            where the answer was lost.
        lease: Seconds after this for which it may use what it has.
        limits: Requests a minute, and tasks at once, that it was given.
        held: Permits that it has, unused or in flight, without those in `free_in`.
        free_in: In how many seconds each permit is free again that was not reported yet.
        wants: Permits that it could use, beyond those that it has.
        tasks: Its tasks at the service.
        wants_tasks: Submits that wait for a slot.
        spends_burst: Whether permits are to come evenly from here on.
        clock_was_set: Whether the clock of the store has not gone with its own.
        pauses: What it has to say of 429s.
        other_clock: What a clock shows that is not set together with that of the store.
    """

    member: str
    number: int
    lease: float
    limits: tuple[int, int]
    held: int = 0
    free_in: Sequence[float] = ()
    wants: int = 0
    tasks: int = 0
    wants_tasks: int = 0
    spends_burst: bool = False
    clock_was_set: bool = False
    asked: int = 0
    pauses: Mapping[LimitScope, PauseReport] = field(default_factory=dict[LimitScope, PauseReport])
    other_clock: float = 0.0


@dataclass(frozen=True, slots=True)
class Grant:
    """What a process gets in an exchange.

    Attributes:
        permits: Seconds after which each permit may be used, in order.
        requests_per_minute: The limit that holds for all.
        concurrent_tasks: The limit that holds for all.
        rate: The requests a second that are its part.
        tasks: The most tasks that it should have: a hint, which may be old.
        interval: Seconds to its next exchange while it is busy.
        is_short: Whether it wanted more permits.
        living: The processes that live, by their names; None where that is not known yet.
        pauses: What 429s hold back.
    """

    permits: tuple[float, ...]
    requests_per_minute: int
    concurrent_tasks: int
    rate: float
    tasks: int
    interval: float
    is_short: bool
    living: frozenset[str] | None
    pauses: Mapping[LimitScope, PauseGrant]


def exchange(shared: SharedLimits, report: Report, now: float, open_tasks: int = 0) -> Grant | None:
    """Take in what a process reports, and grant what is its part. The value is changed.

    Args:
        shared: What is known of the account.
        report: What the process tells.
        now: The time of the store.
        open_tasks: The tasks of all processes, those of dead ones included.

    Returns:
        Its part, or None: it is not known any more, for its lease has passed or the value was lost.
        It has no permit then, and comes again by another name.
    """
    member = shared.members.get(report.member)
    if report.clock_was_set or shared.is_doubtful(report.other_clock, now):
        # Also by the word of one that was taken for dead: it may be the only one that knows.
        known = [each.requests_per_minute for each in shared.members.values()]
        shared.lose(now, max([report.limits[0], *known]))
        member = None
    if member is None and report.number > 1:
        return None
    now = max(now, shared.at)
    if member is not None:
        member.at = now  # It lives, however late it comes, as long as no other has buried it.
    shared.forget(now)
    shared.other_clock = report.other_clock
    requests, tasks = report.limits
    member = shared.members[report.member] = Member(
        asked=report.asked,
        at=now,
        lease=report.lease,
        held=report.held,
        wants=report.wants,
        requests_per_minute=requests,
        concurrent_tasks=tasks,
        tasks=report.tasks,
        wants_tasks=report.wants_tasks,
    )
    for seconds in report.free_in:
        shared.stamp(now + seconds, 1)
    limit = shared.requests_per_minute
    shared.refill(now, limit)
    if report.spends_burst:
        shared.tokens = min(shared.tokens, 1.0)
    interval = min(LONGEST_INTERVAL, max(INTERVAL, INTERVAL_EACH * len(shared.members)))
    wanting = sum(each.wants > 0 for each in shared.members.values())
    granted = _granted(shared, member.wants, wanting, limit, now, now + AHEAD * interval)
    member.held += len(granted)
    member.wants -= len(granted)
    pauses = exchange_pauses(
        shared.pauses, report.pauses, report.member, shared.members, now, shared.paused + 1
    )
    shared.paused = max([shared.paused, *(pause.number for pause in shared.pauses.values())])
    return Grant(
        permits=tuple(at - now for at in granted),
        requests_per_minute=limit,
        concurrent_tasks=shared.concurrent_tasks,
        rate=limit / WINDOW / max(1, wanting),
        tasks=_part_of_tasks(shared, report.member, open_tasks),
        interval=interval,
        is_short=member.wants > 0,
        living=_living(shared, now),
        pauses=pauses,
    )


def leave(shared: SharedLimits, report: Report, now: float) -> None:
    """Take in the last report of a process that ends; what it holds may still arrive."""
    if report.member in shared.members and now >= shared.at:
        del shared.members[report.member]
        shared.stamp(now + MARGIN + WINDOW + SLACK, report.held)
        for seconds in report.free_in:
            shared.stamp(now + seconds, 1)


def _living(shared: SharedLimits, now: float) -> frozenset[str] | None:
    longest = max(member.lease for member in shared.members.values())
    return frozenset(shared.members) if now > shared.born_at + longest else None


def _granted(
    shared: SharedLimits, wants: int, wanting: int, limit: int, now: float, horizon: float
) -> list[float]:
    """Occupy permits for a process, as many as are its part; return when each may be used.

    One that is granted before it is free takes the place of a stamp.
    """
    if not wants:
        return []
    free = limit - shared.occupied
    rate = limit / WINDOW
    # Ticks in which stamps leave, the first of them for what is above a limit that was lowered.
    soon = shared.stamps[: max(0, math.floor(horizon / TICK) + 1 - shared.first_tick)]
    leaving = max(0, sum(soon) + min(free, 0))
    paced = math.floor(shared.tokens + rate * (horizon - now) + 1e-9)
    available = min(max(free, 0) + leaving, paced)
    count = min(wants, math.ceil(available / wanting))
    granted = [now] * min(max(free, 0), count)
    skipped = max(0, -free)
    for place, stamps in enumerate(soon):
        passed = min(stamps, skipped)
        skipped -= passed
        taken = min(stamps - passed, count - len(granted))
        shared.stamps[place] -= taken
        granted += [(shared.first_tick + place) * TICK] * taken
    tokens = shared.tokens
    shared.tokens -= len(granted)
    return [
        max(at, now + max(0.0, needed - tokens) / rate)
        for needed, at in enumerate(granted, start=1)
    ]


def _part_of_tasks(shared: SharedLimits, name: str, open_tasks: int) -> int:
    """Return how many tasks a process should have at most, so that each gets what is its part.

    Who wants less than an equal part gets that, and leaves the rest to the others. Where there is
    enough for all, what is left goes to the one that asks for it first. Equal parts are rounded up:
    of a single slot, each may have one, and the store gives it to the first.
    """
    members = shared.members
    known = sum(member.tasks for member in members.values())
    room = max(0, shared.concurrent_tasks - max(0, open_tasks - known))
    own = members[name]
    wish, left = own.tasks + own.wants_tasks, room
    wishes = sorted(member.tasks + member.wants_tasks for member in members.values())
    for place, other in enumerate(wishes):
        equal = max(1, math.ceil(left / (len(wishes) - place)))
        if other > equal:
            part = min(wish, equal)
            break
        left = max(0, left - other)
    else:
        part = wish + left
    return max(0, min(part, room - (known - own.tasks)))

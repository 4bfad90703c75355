from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest

from apixo_async import (
    AsyncClient,
    Event,
    FluxKontext,
    Limiter,
    PollerDied,
    PollerDiedError,
    Result,
    Snapshot,
    Task,
)
from apixo_async._http.api import Api
from apixo_async._http.channel import Channel
from apixo_async._http.concurrency import ConcurrencyLimiter
from apixo_async._limits.allowance import Allowance
from apixo_async._limits.limiter import Slot
from apixo_async._polling import poller as poller_module
from apixo_async._polling.adaptive import AdaptiveSchedule
from apixo_async._polling.poller import Poller
from apixo_async._polling.queue import PollQueue
from apixo_async._polling.registry import TaskRegistry
from apixo_async._polling.tracked_task import TrackedTask
from apixo_async._reporting import Reporter
from apixo_async.testing import Fault, Simulator

ClientOf = Callable[..., AsyncClient]
CASTLE: Final = FluxKontext(mode="pro", prompt="a castle")
#: Longer than any age limit, in virtual seconds.
LONG: Final = 10_000.0


class DefectError(Exception):
    """What a broken part raises."""


@dataclass(frozen=True)
class Place:
    """Where something breaks.

    Attributes:
        owner: Whose method it is.
        name: The method, property or function.
        polls: What every poll meets; None for polls that go well.
        lasts: Seconds that the tasks take.
        asked: Whether a poll that somebody asks for comes here too.
    """

    owner: Any
    name: str
    polls: Fault | None = None
    lasts: float = 60.0
    asked: bool = True

    def __str__(self) -> str:
        owner = getattr(self.owner, "__name__", "").rpartition(".")[2]
        return f"{owner}.{self.name}{f' {self.polls.name}' if self.polls else ''}"


DOWN: Final = Fault.status(500)
PLACES: Final = [
    # The poller itself.
    Place(Poller, "_admitted"),
    Place(Poller, "_send_poll"),
    Place(Poller, "_poll"),
    Place(poller_module, "quote"),
    Place(poller_module, "_no_answer", polls=Fault.reset_before()),
    # The agenda.
    Place(PollQueue, "next_due"),
    Place(PollQueue, "next_expiry"),
    Place(PollQueue, "has_asked"),
    Place(PollQueue, "pop_due"),
    Place(PollQueue, "schedule"),
    Place(PollQueue, "pop_expired", lasts=LONG, asked=False),
    Place(PollQueue, "expect", lasts=LONG, asked=False),
    Place(PollQueue, "forget", lasts=10.0, asked=False),
    Place(PollQueue, "_advance"),
    # What is learned.
    Place(AdaptiveSchedule, "again"),
    Place(AdaptiveSchedule, "learn", lasts=10.0, asked=False),
    Place(AdaptiveSchedule, "running"),
    # The ledger.
    Place(TaskRegistry, "next_due"),
    Place(TaskRegistry, "apply"),
    Place(TaskRegistry, "abandon_expired", lasts=LONG, asked=False),
    Place(TaskRegistry, "_still_running"),
    Place(TaskRegistry, "_next_poll"),
    Place(TaskRegistry, "_poll_failed", polls=DOWN),
    Place(TaskRegistry, "_poll_failed", polls=Fault.status(401)),
    Place(TaskRegistry, "_next_poll", polls=Fault.status(429)),
    Place(TaskRegistry, "_missed", polls=Fault.status(404)),
    Place(TaskRegistry, "_settle", lasts=10.0, asked=False),
    # The way to the service.
    Place(Api, "try_admit"),
    Place(Api, "get"),
    Place(Api, "_account"),
    Place(Limiter, "try_permit"),
    Place(Limiter, "serve"),
    Place(Limiter, "report"),
    Place(Limiter, "report", polls=Fault.status(429)),
    Place(Limiter, "report", polls=Fault.reset_after()),
    Place(Slot, "release", lasts=10.0, asked=False),
    Place(Allowance, "report"),
    Place(ConcurrencyLimiter, "has_place"),
    Place(ConcurrencyLimiter, "leave"),
    Place(Channel, "get"),
    # What a poll means, and who is told.
    Place(Reporter, "__call__"),
    Place(Reporter, "__call__", polls=DOWN),
    Place(TrackedTask, "wake"),
    Place(TrackedTask, "answer_refreshers"),
]

#: Through these the end itself is told: broken for good, nobody can be told.
TELLERS: Final = (TrackedTask, "wake"), (TrackedTask, "answer_refreshers")


class Breakage:
    """A part that raises instead of working, and notes when it first did."""

    def __init__(self, place: Place, *, once: bool) -> None:
        self.place = place
        self.once = once
        self.working: Any = vars(place.owner)[place.name]
        self.at: float | None = None

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if self.at is not None and self.once:
            return self.work(*arguments, **options)
        if self.at is None:
            self.at = asyncio.get_running_loop().time()
        raise DefectError(str(self.place))

    def work(self, *arguments: Any, **options: Any) -> Any:
        working = self.working.fget if isinstance(self.working, property) else self.working
        return working(*arguments, **options)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put it where the working part was."""

        def broken(*arguments: Any, **options: Any) -> Any:
            return self(*arguments, **options)

        instead = property(broken) if isinstance(self.working, property) else broken
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.place.owner, self.place.name, instead)
            yield


async def watching(task: Task) -> list[Snapshot]:
    return [snapshot async for snapshot in task.updates()]


async def timed(waiting: Any) -> tuple[BaseException | object, float]:
    """Wait, and say how that ended and when."""
    try:
        ended: BaseException | object = await waiting
    except Exception as error:
        ended = error
    return ended, asyncio.get_running_loop().time()


def cases() -> Iterator[Any]:
    for place in PLACES:
        for once in (True, False):
            for asked in (False, True):
                if (asked and not place.asked) or (
                    not once and (place.owner, place.name) in TELLERS
                ):
                    continue
                words = f"{place} {'once' if once else 'always'} {'asked' if asked else 'due'}"
                yield pytest.param(place, once, asked, id=words)


@pytest.fixture
async def _callbacks_may_fail() -> AsyncIterator[None]:
    """Let the loop's own callbacks fail in silence: what is broken for good breaks them as well."""
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _loop, _context: None)
    yield
    loop.set_exception_handler(handler)


@pytest.mark.heavy
@pytest.mark.usefixtures("_callbacks_may_fail")
@pytest.mark.parametrize(("place", "once", "asked"), list(cases()))
async def test_wherever_the_poller_dies(
    simulator: Simulator,
    client_of: ClientOf,
    events: list[Event],
    place: Place,
    once: bool,
    asked: bool,
) -> None:
    """Whatever breaks under the poller, every waiter has the cause within a second."""
    assert len({(one.owner, one.name) for one in PLACES}) >= 35
    simulator.faults.submit(Fault.repeat(4, Fault.task_lasts(place.lasts)))
    client = client_of(simulator)
    tasks = [await client.submit(CASTLE) for _ in range(4)]
    await asyncio.sleep(5.0)
    if place.polls is not None:
        simulator.faults.during(-math.inf, math.inf, place.polls, "poll")
    breakage = Breakage(place, once=once)
    with breakage.in_place():
        waits = [tasks[0], tasks[1].wait(), watching(tasks[2]), tasks[3].as_future()]
        waits += [tasks[0].refresh()] if asked else []
        waiting = [asyncio.create_task(timed(one)) for one in waits]
        await asyncio.wait(waiting, timeout=2 * LONG)
        assert breakage.at is not None, "the broken part was never used"
        assert [one.done() for one in waiting] == [True] * len(waiting)
        unfinished = set(client.unfinished)
        for ended, at in (one.result() for one in waiting):
            # One that was settled in the very moment of the death has its result.
            if isinstance(ended, Exception):
                assert isinstance(ended, PollerDiedError), repr(ended)
                assert isinstance(ended.__cause__, DefectError)
                assert at - breakage.at <= 1.0
        dead = sum(isinstance(one.result()[0], PollerDiedError) for one in waiting)
        assert dead >= len(waiting) - 1
        with pytest.raises(PollerDiedError, match=r"attach to them with a new one") as caught:
            await client.submit(CASTLE)
        assert caught.value.bought is False
    assert simulator.created == 4
    assert {task.ref for task in tasks if not task.done()} == unfinished
    died = [event for event in events if isinstance(event, PollerDied)]
    assert len(died) == (0 if place.owner is Reporter and not once else 1)
    await client.aclose()


@pytest.mark.usefixtures("_callbacks_may_fail")
async def test_a_log_that_raises(simulator: Simulator, client_of: ClientOf) -> None:
    """A filter of the caller's on the log that raises leaves no waiter hanging."""

    def broken(_: logging.LogRecord) -> bool:
        raise DefectError

    logger = logging.getLogger("apixo_async")
    client = client_of(simulator)
    task = await client.submit(CASTLE)
    logger.addFilter(broken)
    logger.setLevel(logging.DEBUG)
    try:
        async with asyncio.timeout(120.0):
            ended, _ = await timed(task)
    finally:
        logger.removeFilter(broken)
        logger.setLevel(logging.NOTSET)
    assert isinstance(ended, Result | PollerDiedError)


async def test_a_death_while_the_client_closes(
    simulator: Simulator, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A poller that dies during a drain ends the drain, and the ids are kept."""
    client = client_of(simulator)
    tasks = [await client.submit(CASTLE) for _ in range(3)]
    waiter = asyncio.ensure_future(tasks[0])
    closing = asyncio.create_task(client.aclose(drain=LONG))
    await asyncio.sleep(1.0)
    monkeypatch.setattr(TaskRegistry, "apply", Breakage(Place(TaskRegistry, "apply"), once=False))
    start = asyncio.get_running_loop().time()
    await closing
    assert asyncio.get_running_loop().time() - start < 30.0
    assert client.unfinished == tuple(task.ref for task in tasks)
    with pytest.raises(PollerDiedError):
        await waiter


async def test_a_dead_client_closes(
    simulator: Simulator, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client whose poller died closes at once, keeps its ids, and leaves no asyncio.Task."""
    before = asyncio.all_tasks()
    client = client_of(simulator)
    task = await client.submit(CASTLE)
    monkeypatch.setattr(Api, "try_admit", Breakage(Place(Api, "try_admit"), once=False))
    with pytest.raises(PollerDiedError):
        await task
    await client.aclose(drain=LONG)
    assert client.unfinished == (task.ref,)
    assert asyncio.all_tasks() == before

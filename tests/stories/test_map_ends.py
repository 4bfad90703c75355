"""How a map ends before its time: left, cancelled, refused for good, or with its client."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import warnings
from collections.abc import AsyncIterator, Callable, Iterator

import anyio
import pytest

from apixo_async import (
    APIConnectionError,
    ApixoError,
    AsyncClient,
    AuthenticationError,
    ClientClosedError,
    FluxKontext,
    InsufficientBalanceError,
    Limiter,
    Limits,
    Outcome,
    Outcomes,
    PermissionDeniedError,
    PollerDiedError,
    SubmitUncertainError,
    Task,
    TaskFailedError,
    Timeouts,
)
from apixo_async.testing import Fault, Simulator, VirtualTimeLoop

from ..support.inside import break_poller, in_flight
from ..support.maps import castle, castles, mapped, until_raised
from ..support.stepping import cuts

ClientOf = Callable[..., AsyncClient]

FIVE = {"limits": Limits(concurrent_tasks=5)}


async def all_of(outcomes: Outcomes) -> list[Outcome]:
    return [outcome async for outcome in outcomes]


# --- left by the caller ----------------------------------------------------------------------


async def test_break(simulator: Simulator, client_of: ClientOf) -> None:
    """A `break` stops the buying and drains; what was bought can be taken afterwards."""
    client = client_of(simulator, **FIVE)
    async with mapped(client, castles(100)) as outcomes:
        async for one in outcomes:
            first = one
            break
    made = simulator.created
    assert made < 20
    assert client.statistics().tasks_tracked == 0
    rest = await all_of(outcomes)
    bought = [one for one in (first, *rest) if one.purchases]
    assert all(one.ok for one in bought)
    assert {one.task.id for one in bought if one.task} == simulator.tasks.keys()
    unbought = [one for one in rest if not one.purchases]
    assert [one.error and one.error.bought for one in unbought] == [False] * len(unbought)
    assert len(rest) + 1 == outcomes.progress.read
    await asyncio.sleep(1_000)
    assert simulator.created == made


async def test_exception_in_the_body(simulator: Simulator, client_of: ClientOf) -> None:
    """An exception of the caller's leaves as soon as the POSTs under way are answered."""
    client, loop = client_of(simulator, latency=2.0), asyncio.get_running_loop()
    outcomes, start = mapped(client, castles(30)), loop.time()
    with pytest.raises(OSError, match="disk"):
        async with outcomes:
            await _fails_after(0.5)
    assert loop.time() - start == pytest.approx(2.0)
    assert simulator.created == outcomes.progress.bought > 10
    assert {ref.task_id for ref in client.unfinished} == simulator.tasks.keys()
    assert sum(one.ok for one in await all_of(outcomes)) == simulator.created


async def _fails_after(seconds: float) -> None:
    await asyncio.sleep(seconds)
    raise OSError("the disk is full")


async def test_cancelled_body(simulator: Simulator, client_of: ClientOf) -> None:
    """A cancelled body waits for its POSTs too, inside of an anyio scope as well."""
    client = client_of(simulator, latency=2.0, **FIVE)
    outcomes = mapped(client, castles(30))
    with anyio.move_on_after(0.5) as scope:
        async with outcomes:
            await asyncio.sleep(1_000)
    assert scope.cancelled_caught
    assert simulator.created == outcomes.progress.bought == 5
    assert outcomes.progress.in_progress == 5
    assert sum(one.ok for one in await all_of(outcomes)) == 5


async def test_cancelled_twice(simulator: Simulator, client_of: ClientOf) -> None:
    """A second cancellation leaves at once; the client hands over what its POSTs buy."""
    orphans: list[Task | SubmitUncertainError] = []
    client = client_of(simulator, latency=2.0, on_orphan=orphans.append, **FIVE)
    outcomes = mapped(client, castles(30))

    async def body() -> None:
        async with outcomes:
            await asyncio.sleep(1_000)

    caller = asyncio.create_task(body())
    await asyncio.sleep(0.5)
    caller.cancel()
    await asyncio.sleep(0.5)
    assert not caller.done()
    caller.cancel()
    start = asyncio.get_running_loop().time()
    await asyncio.wait((caller,))
    assert (caller.cancelled(), asyncio.get_running_loop().time()) == (True, start)
    left = await all_of(outcomes)
    assert [one.purchases for one in left] == [0] * 10
    await asyncio.sleep(2)
    assert {one.id for one in orphans if isinstance(one, Task)} == simulator.tasks.keys()
    assert len(orphans) == 5


async def test_cancelled_while_it_drains(simulator: Simulator, client_of: ClientOf) -> None:
    """A drain that is cancelled ends at once, and what was bought can still be taken."""
    outcomes = mapped(client_of(simulator, **FIVE), castles(30))
    with anyio.move_on_after(3) as scope:
        async with outcomes:
            await asyncio.sleep(1)
    assert scope.cancelled_caught
    assert sum(one.ok for one in await all_of(outcomes)) == simulator.created == 5


@pytest.mark.heavy
@pytest.mark.parametrize("ordered", [False, True])
async def test_cut_everywhere(ordered: bool) -> None:
    """A run cancelled at any await of its taker loses no task, and leaves nothing behind."""
    points, before = 0, asyncio.all_tasks()
    for cut in cuts():
        simulator, limiter = Simulator(seed=1, durations=10.0), Limiter(Limits(2, 60))
        simulator.faults.submit(Fault.task_fails("RateLimited"), None, Fault.status(503))
        orphans: list[Task | SubmitUncertainError] = []
        client = AsyncClient(
            "test-key",
            limiter=limiter,
            transport=simulator.transport(1.0),
            on_orphan=orphans.append,
            seed=1,
        )
        taken: list[Outcome] = []

        async def take(client: AsyncClient = client, taken: list[Outcome] = taken) -> None:
            async with mapped(client, castles(4), ordered=ordered, attempts=2) as outcomes:
                async for one in outcomes:
                    taken.append(one)
                    if len(taken) == 3:
                        break

        await cut(take())
        cut.ended = None
        gc.collect()
        await asyncio.sleep(300)
        known = {one.task.id for one in taken if one.task}
        known |= {one.id for one in orphans if isinstance(one, Task)}
        # The first task failed and was bought again: only its successor may be known.
        assert simulator.tasks.keys() - known <= {next(iter(simulator.tasks), "")}
        assert (limiter.slots_used, limiter.slots_waiting) == (0, 0)
        assert (in_flight(limiter), limiter.permits_waiting) == (0, 0)
        await client.aclose()
        assert asyncio.all_tasks() == before
        points = max(points, cut.points)
    assert points >= 4


# --- iterables -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_iterable_that_raises(simulator: Simulator, client_of: ClientOf, kind: str) -> None:
    """What the iterable raises is raised once, after the outcomes of all inputs before it."""

    def rows() -> Iterator[FluxKontext]:
        yield from castles(20)
        raise OSError("the disk is gone")

    async def async_rows() -> AsyncIterator[FluxKontext]:
        for one in rows():
            yield one

    given = rows() if kind == "sync" else async_rows()
    outcomes = mapped(client_of(simulator, **FIVE), given)
    taken, error = await until_raised(outcomes)
    assert isinstance(error, OSError)
    assert sum(one.ok for one in taken) == simulator.created == 20
    assert await all_of(outcomes) == []


async def test_iterable_that_is_cancelled(simulator: Simulator, client_of: ClientOf) -> None:
    """A cancellation that comes out of the iterable ends the reading, and nobody hangs."""

    async def rows() -> AsyncIterator[FluxKontext]:
        yield castle(0)
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lost.cancel()
        await lost

    outcomes = mapped(client_of(simulator), rows())
    assert (await anext(outcomes)).ok
    with pytest.raises(asyncio.CancelledError, match="reading"):
        await anext(outcomes)
    assert await all_of(outcomes) == []


async def test_iterable_that_waits_is_left(simulator: Simulator, client_of: ClientOf) -> None:
    """A map whose async generator waits for ever can be left; the generator is closed."""
    closed: list[bool] = []

    async def rows() -> AsyncIterator[FluxKontext]:
        try:
            yield castle(0)
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    async with mapped(client_of(simulator), rows()) as outcomes:
        assert (await anext(outcomes)).ok
    assert closed == [True]


async def test_iterable_that_swallows_its_cancellation(
    simulator: Simulator, client_of: ClientOf
) -> None:
    """A generator that goes on although it was cancelled is read no further."""
    read: list[int] = []

    async def rows() -> AsyncIterator[FluxKontext]:
        for number in range(100):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(10)
            read.append(number)
            yield castle(number)

    async with mapped(client_of(simulator), rows()) as outcomes:
        await asyncio.sleep(35)
    assert (read, simulator.created) == ([0, 1, 2, 3], 3)
    assert [one.purchases for one in await all_of(outcomes)].count(0) == 1


# --- refused for good ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "cls"),
    [
        (Fault.status(401), AuthenticationError),
        (Fault.status(402), InsufficientBalanceError),
        (Fault.status(400, message="Insufficient credits"), InsufficientBalanceError),
    ],
)
async def test_account_that_is_refused(
    simulator: Simulator, client_of: ClientOf, fault: Fault, cls: type[ApixoError]
) -> None:
    """A wrong key or an empty account ends the buying; what was bought is handed out first."""
    simulator.faults.submit(*[None] * 7, Fault.repeat(1_000, fault))
    rows = iter(castles(10_000))
    outcomes = mapped(client_of(simulator, **FIVE), rows)
    taken, error = await until_raised(outcomes)
    assert type(error) is cls
    assert sum(one.ok for one in taken) == simulator.created == 7
    assert simulator.count("submit") < 7 + 5
    progress = outcomes.progress
    assert progress.read == len(taken) == 10_000 - len(list(rows))
    (note,) = error.__notes__
    assert f"of the {progress.read} inputs that were read" in note
    assert f"nothing was bought for {progress.unbought};" in note
    assert await all_of(outcomes) == []
    unbought = [one.error for one in taken if not one.ok]
    assert {one.bought for one in unbought if one} == {False}
    assert {type(one) for one in unbought} <= {cls, ApixoError}


async def test_tasks_that_fail_for_the_balance(simulator: Simulator, client_of: ClientOf) -> None:
    """A task that failed because the account is empty ends the buying as well."""
    simulator.faults.submit(None, Fault.task_fails("INSUFFICIENT_BALANCE"))
    outcomes = mapped(client_of(simulator, **FIVE), castles(1_000), attempts=3)
    taken, error = await until_raised(outcomes)
    assert isinstance(error, TaskFailedError)
    assert simulator.created < 20
    assert len(taken) == outcomes.progress.read


async def test_an_end_that_is_not_raised(simulator: Simulator, client_of: ClientOf) -> None:
    """Where the end is not to be raised, a list of all outcomes is complete, and says why."""
    simulator.faults.submit(None, None, Fault.repeat(1_000, Fault.status(401)))
    outcomes = mapped(client_of(simulator, **FIVE), castles(1_000), raise_at_end=False)
    taken = await all_of(outcomes)
    assert sum(one.ok for one in taken) == 2
    assert len(taken) == outcomes.progress.read
    assert isinstance(outcomes.ended_by, AuthenticationError)
    complete = mapped(client_of(Simulator()), castles(3), raise_at_end=False)
    assert len(await all_of(complete)) == 3
    assert complete.ended_by is None


async def test_an_end_that_is_raised_is_kept(simulator: Simulator, client_of: ClientOf) -> None:
    """What was raised at the end stays with the outcomes; an error of the iterable is no end."""
    simulator.faults.submit(Fault.repeat(1_000, Fault.status(401)))
    outcomes = mapped(client_of(simulator, **FIVE), castles(10))
    _, error = await until_raised(outcomes)
    assert outcomes.ended_by is error

    def broken() -> Iterator[FluxKontext]:
        yield castles(1)[0]
        raise LookupError("row 2")

    with pytest.raises(LookupError, match="row 2"):
        await all_of(mapped(client_of(Simulator()), broken(), raise_at_end=False))


async def test_model_that_is_denied(simulator: Simulator, client_of: ClientOf) -> None:
    """A model that the key may not use is not asked for ten thousand times."""
    simulator.faults.submit(Fault.repeat(10_000, Fault.status(403)))
    outcomes = mapped(client_of(simulator, **FIVE), castles(10_000))
    taken, error = await until_raised(outcomes)
    assert isinstance(error, PermissionDeniedError)
    assert 20 <= simulator.count("submit") < 30
    assert len(taken) == outcomes.progress.unbought == outcomes.progress.read


async def test_bad_inputs_by_the_hundred(simulator: Simulator, client_of: ClientOf) -> None:
    """However many inputs are wrong, the next one may be right."""
    simulator.faults.submit(Fault.repeat(100, Fault.status(400)))
    taken = await all_of(mapped(client_of(simulator), castles(110)))
    assert sum(one.ok for one in taken) == simulator.created == 10


async def test_service_that_is_down(simulator: Simulator, client_of: ClientOf) -> None:
    """A service that stays down ends the map after the client's patience, inputs left unread."""
    simulator.faults.during(1_030.0, 1e9, Fault.refused())
    client = client_of(simulator, timeout=Timeouts(retry=30), **FIVE)
    rows = iter(castles(1_000))
    taken, error = await until_raised(mapped(client, rows))
    assert isinstance(error, APIConnectionError)
    assert len(list(rows)) > 900
    assert sum(one.ok for one in taken) > 0


async def test_answers_that_are_lost_in_a_row(simulator: Simulator, client_of: ClientOf) -> None:
    """When answer after answer is lost, each of which may be paid for, the buying ends."""
    simulator.faults.submit(Fault.repeat(1_000, Fault.lost_answer()))
    outcomes = mapped(client_of(simulator), castles(1_000))
    taken, error = await until_raised(outcomes)
    assert isinstance(error, SubmitUncertainError)
    assert outcomes.progress.uncertain == simulator.created
    assert len(taken) == outcomes.progress.read < 1_000


# --- with its client -------------------------------------------------------------------------


async def test_client_closed_in_the_middle(simulator: Simulator, client_of: ClientOf) -> None:
    """The close of the client ends its map: what was bought names its task, then it raises."""
    client = client_of(simulator, **FIVE)
    rows = iter(castles(1_000))
    outcomes = mapped(client, rows)
    first = await anext(outcomes)
    await client.aclose()
    taken, error = await until_raised(outcomes)
    assert isinstance(error, ClientClosedError)
    told = [one for one in (first, *taken) if one.task]
    assert {one.task.id for one in told if one.task} == simulator.tasks.keys()
    unfinished = {ref.task_id for ref in client.unfinished}
    assert {one.task.id for one in told if one.task and not one.ok} == unfinished
    assert all(isinstance(one.error, ApixoError) for one in taken if not one.ok)
    assert len(list(rows)) > 900


async def test_client_closed_under_a_full_shelf(simulator: Simulator, client_of: ClientOf) -> None:
    """A map that had no room to go on when its client was closed hands out what it has."""
    client = client_of(simulator, **FIVE)
    async with mapped(client, castles(1_000)) as outcomes:
        await asyncio.sleep(1_000)
        await client.aclose()
        taken, error = await until_raised(outcomes)
    assert isinstance(error, ClientClosedError)
    assert sum(one.ok for one in taken) == simulator.created == 15


async def test_key_that_is_revoked(simulator: Simulator, client_of: ClientOf) -> None:
    """Polls that are denied for the key end the buying; the tasks go on, and can be attached."""
    client = client_of(simulator, **FIVE)
    simulator.faults.during(1_000.0, 1e9, Fault.status(401), "poll")
    taken, error = await until_raised(mapped(client, castles(100)))
    assert isinstance(error, AuthenticationError)
    denied = [one for one in taken if one.task]
    assert [one.error.bought for one in denied if one.error] == [True] * 5
    assert {one.task.ref for one in denied if one.task} == set(client.unfinished)


async def test_poller_that_dies(
    simulator: Simulator, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the poller dies, the map ends with the cause and names every task."""
    client = client_of(simulator, **FIVE)
    async with mapped(client, castles(100)) as outcomes:
        await asyncio.sleep(2)
        break_poller(monkeypatch)
        taken, error = await until_raised(outcomes)
    assert isinstance(error, PollerDiedError)
    assert {one.task.id for one in taken if one.task} == simulator.tasks.keys()


async def test_defect_of_a_purchase(
    simulator: Simulator, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect in one purchase is that input's outcome, with the cause attached."""

    def payload(self: FluxKontext) -> dict[str, object]:
        if self.prompt == "castle 1":
            raise ZeroDivisionError("a defect")
        return {"mode": "pro", "prompt": self.prompt}

    monkeypatch.setattr(FluxKontext, "payload", payload)
    taken = await all_of(mapped(client_of(simulator), castles(3), ordered=True))
    assert [one.ok for one in taken] == [True, False, True]
    assert isinstance(taken[1].error, ApixoError)
    assert isinstance(taken[1].error.__cause__, ZeroDivisionError)


def test_loop_that_ends_in_the_middle(simulator: Simulator) -> None:
    """A loop that is torn down under a map leaves nothing pending, and no id unknown."""
    orphans: list[Task | SubmitUncertainError] = []
    client = AsyncClient("test-key", transport=simulator.transport(0.05), on_orphan=orphans.append)

    async def main() -> None:
        outcomes = mapped(client, castles(5))
        waiter = asyncio.create_task(anext(outcomes))  # type: ignore[arg-type]
        await asyncio.wait((waiter,), timeout=1)

    with warnings.catch_warnings(), asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        # Whether the map goes before its loop does is the interpreter's matter.
        warnings.simplefilter("ignore", ResourceWarning)
        runner.run(main())
    assert {ref.task_id for ref in client.unfinished} == simulator.tasks.keys()

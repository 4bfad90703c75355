"""Maps with a journal: what a run finds there, what it leaves, and what is never bought twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from apixo_async import (
    AsyncClient,
    BadRequestError,
    BudgetExceededError,
    ClientClosedError,
    ConfigurationError,
    DownloadError,
    FluxKontext,
    JournalError,
    Limits,
    OtherModel,
    Outcome,
    PresumedNotBoughtError,
    SubmitUncertainError,
    TaskAbandonedError,
    TaskFailedError,
)
from apixo_async.testing import Callback, Fault, Simulator
from apixo_async.webhooks import WebhookReceiver

from ..support.inside import Journal
from ..support.maps import castle, castles, until_raised

ClientOf = Callable[..., AsyncClient]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Return where the journal is to be."""
    return tmp_path / "run.db"


@pytest.fixture
def receiver() -> WebhookReceiver:
    """Receive callbacks."""
    return WebhookReceiver("https://app.example.com/apixo", "a secret of sixteen bytes or more")


async def mapped(client: AsyncClient, inputs: Any, journal: Path, **options: Any) -> list[Outcome]:
    """Take all outcomes of a map, in order."""
    async with client.map(inputs, journal=journal, ordered=True, **options) as outcomes:
        return [outcome async for outcome in outcomes]


def rows(journal: Path) -> list[tuple[Any, ...]]:
    """Return what a journal holds that nobody has open."""
    asked = "SELECT key, state, purchases, task_id FROM item ORDER BY row"
    with contextlib.closing(sqlite3.connect(journal)) as file:
        return file.execute(asked).fetchall()


def states(journal: Path) -> Counter[str]:
    """Count the states of a journal that nobody has open."""
    return Counter(state for _, state, *_ in rows(journal))


# --- again -----------------------------------------------------------------------------------


async def test_the_same_again(simulator: Simulator, client_of: ClientOf, journal: Path) -> None:
    """A second run of the same inputs buys nothing, polls nothing and has the same outcomes."""
    first = await mapped(client_of(simulator), castles(10), journal)
    asked = simulator.count("poll")
    again = await mapped(client_of(simulator), castles(10), journal)
    assert [one.result for one in again] == [one.result for one in first]
    assert [one.key for one in again] == [one.key for one in first]
    assert all(one.resumed and one.ok and one.purchases == 1 for one in again)
    assert not any(one.resumed for one in first)
    assert simulator.created == 10
    assert simulator.count("poll") == asked
    assert states(journal) == {"success": 10}


async def test_a_row_on_top(simulator: Simulator, client_of: ClientOf, journal: Path) -> None:
    """Keys are of the input and not of its place: a new row buys itself, and nothing else."""
    await mapped(client_of(simulator), castles(5), journal)
    again = await mapped(client_of(simulator), [castle(99), *castles(5)], journal)
    assert [one.resumed for one in again] == [False, True, True, True, True, True]
    assert simulator.created == 6


async def test_equal_rows(simulator: Simulator, client_of: ClientOf, journal: Path) -> None:
    """The second of two equal inputs is number 2, in the next run too."""
    first = await mapped(client_of(simulator), [castle(1)] * 3, journal)
    assert [one.key[-2:] for one in first] == ["-1", "-2", "-3"]
    again = await mapped(client_of(simulator), [castle(1)] * 4, journal)
    assert [one.resumed for one in again] == [True, True, True, False]
    assert simulator.created == 4


async def test_keys_of_the_caller(simulator: Simulator, client_of: ClientOf, journal: Path) -> None:
    """Another input under an old key is its own error, as is a key that comes twice."""
    await mapped(client_of(simulator), [("a", castle(1)), ("b", castle(2))], journal)
    given = [("a", castle(7)), ("b", castle(2)), ("b", castle(2)), ("c", castle(3))]
    changed, known, twice, new = await mapped(client_of(simulator), given, journal)
    assert isinstance(changed.error, JournalError)
    assert "belongs to another input" in str(changed.error)
    assert isinstance(twice.error, JournalError)
    assert "twice" in str(twice.error)
    assert changed.error.bought is twice.error.bought is False
    assert (known.ok, new.ok, simulator.created) == (True, True, 3)


async def test_a_failure_stays(simulator: Simulator, client_of: ClientOf, journal: Path) -> None:
    """A failed item is handed out as it was, and bought again only where attempts are left."""
    simulator.faults.submit(Fault.task_fails("Timeout"))
    [first] = await mapped(client_of(simulator), castles(1), journal)
    [again] = await mapped(client_of(simulator), castles(1), journal)
    assert isinstance(first.error, TaskFailedError)
    assert isinstance(again.error, TaskFailedError)
    assert (again.error.family, again.error.ref) == (first.error.family, first.error.ref)
    assert (simulator.created, again.resumed, again.purchases) == (1, True, 1)
    [third] = await mapped(client_of(simulator), castles(1), journal, attempts=2)
    assert (third.ok, third.purchases, simulator.created) == (True, 2, 2)
    [fourth] = await mapped(client_of(simulator), castles(1), journal, attempts=2)
    assert (fourth.result, simulator.created) == (third.result, 2)


async def test_a_failure_that_is_retried(
    simulator: Simulator, client_of: ClientOf, journal: Path
) -> None:
    """Failures of earlier runs are bought anew once in a run, by their categories."""
    simulator.faults.submit(
        *(Fault.task_fails(code) for code in ("TIMEOUT", "NSFW", "UPSTREAM_ERROR"))
    )
    await mapped(client_of(simulator), castles(4), journal)
    simulator.faults.submit(Fault.task_fails("NSFW"))
    again = await mapped(client_of(simulator), castles(4), journal, retry=["content"])
    assert [one.error and one.error.category for one in again] == [
        "timeout",
        "content",
        "upstream",
        None,
    ]
    assert [one.purchases for one in again] == [1, 2, 1, 1]
    assert [one.resumed for one in again] == [True, False, True, True]
    last = await mapped(client_of(simulator), castles(4), journal, retry=True)
    assert [(one.ok, one.purchases) for one in last] == [(True, 2), (True, 3), (True, 2), (True, 1)]
    assert simulator.created == 4 + 1 + 3


async def test_a_retry_that_buys_nothing(
    simulator: Simulator, client_of: ClientOf, journal: Path
) -> None:
    """Where the new purchase is refused, the item keeps the failure that it had."""
    simulator.faults.submit(Fault.task_fails("TIMEOUT"))
    [first] = await mapped(client_of(simulator), castles(1), journal)
    simulator.faults.submit(Fault.status(400))
    [again] = await mapped(client_of(simulator), castles(1), journal, retry=True)
    assert again.error is not None
    assert first.error is not None
    assert (again.error.ref, states(journal)) == (first.error.ref, {"failed": 1})
    assert simulator.created == 1


async def test_failures_for_the_balance(
    simulator: Simulator, client_of: ClientOf, journal: Path
) -> None:
    """What failed for want of balance, bought or not, is tried again by the next run itself."""
    simulator.faults.submit(
        None, Fault.task_fails("INSUFFICIENT_BALANCE"), Fault.status(402), *[Fault.status(402)] * 3
    )
    run = client_of(simulator).map(
        castles(4), journal=journal, ordered=True, max_cost=5, raise_at_end=False
    )
    first = [one async for one in run]
    assert run.ended_by is not None
    assert run.ended_by.category == "balance"
    assert [one.ok for one in first] == [True, False, False, False]
    simulator.faults.clear()
    again = await mapped(client_of(simulator), castles(4), journal)
    assert all(one.ok for one in again)
    assert simulator.created == 5


async def test_refused_items_are_new(
    simulator: Simulator, client_of: ClientOf, journal: Path
) -> None:
    """What the service refused was not bought, and is tried in the next run."""
    simulator.faults.submit(Fault.status(400))
    [first] = await mapped(client_of(simulator), castles(1), journal)
    assert isinstance(first.error, BadRequestError)
    assert rows(journal)[0][1:] == ("new", 0, None)
    [again] = await mapped(client_of(simulator), castles(1), journal)
    assert (again.ok, again.resumed) == (True, False)


async def test_a_repeat_after_503(simulator: Simulator, client_of: ClientOf, journal: Path) -> None:
    """A submit that is sent again is one purchase."""
    simulator.faults.submit(Fault.status(503), Fault.status(429), Fault.refused())
    [one] = await mapped(client_of(simulator), castles(1), journal)
    assert one.ok
    assert rows(journal)[0][1:3] == ("success", 1)


async def test_left_in_the_middle(simulator: Simulator, client_of: ClientOf, journal: Path) -> None:
    """A run that is left leaves tasks that the next one attaches to, before it buys anything."""
    client = client_of(simulator, limits=Limits(concurrent_tasks=5))
    with contextlib.suppress(ZeroDivisionError):
        async with client.map(castles(20), journal=journal) as outcomes:
            await anext(outcomes)
            raise ZeroDivisionError
    await client.aclose()
    made = simulator.created
    before = states(journal)
    assert before["submitted"] >= 1
    assert before["intent"] == before["uncertain"] == 0
    again = await mapped(
        client_of(simulator, limits=Limits(concurrent_tasks=5)), castles(20), journal
    )
    assert [one.ok for one in again] == [True] * 20
    assert sum(one.resumed for one in again) == made
    assert simulator.created == 20
    assert not any(one.status == 429 for one in simulator.log)


async def test_tasks_of_inputs_that_come_no_more(
    simulator: Simulator, client_of: ClientOf, journal: Path
) -> None:
    """What an earlier run bought is polled although its input is gone from the list."""
    client = client_of(simulator)
    async with client.map(castles(3), journal=journal) as outcomes:
        await asyncio.sleep(2)
        outcomes.stop()
        await client.aclose()
        left = [one async for one in outcomes]
    assert all(isinstance(one.error, ClientClosedError) for one in left)
    assert states(journal) == {"submitted": 3}
    [other] = await mapped(client_of(simulator), [castle(77)], journal)
    assert other.ok
    assert states(journal)["success"] >= 3
    assert simulator.created == 4


async def test_past_the_age_limit(client_of: ClientOf, journal: Path) -> None:
    """A task that is given up is polled again by the next run."""
    simulator = Simulator(seed=1, durations=2_500.0)
    [first] = await mapped(client_of(simulator), castles(1), journal)
    assert isinstance(first.error, TaskAbandonedError)
    assert states(journal) == {"submitted": 1}
    [again] = await mapped(client_of(simulator), castles(1), journal)
    assert (again.ok, again.resumed, simulator.created) == (True, True, 1)


async def test_without_the_context(
    simulator: Simulator, client_of: ClientOf, journal: Path
) -> None:
    """Iterating to the end lets go of the journal as well."""
    client = client_of(simulator)
    assert len([one async for one in client.map(castles(3), journal=journal)]) == 3
    assert states(journal) == {"success": 3}
    assert not journal.with_name("run.db-wal").exists()


async def test_dropped(simulator: Simulator, client_of: ClientOf, journal: Path) -> None:
    """A map that is dropped in the middle lets go of its journal by itself."""
    orphans: list[Any] = []
    client = client_of(simulator, latency=4.0, on_orphan=orphans.append)

    async def begin() -> None:
        taking = asyncio.ensure_future(anext(client.map(castles(3), journal=journal)))
        await asyncio.sleep(7)  # The balance took 4 s.
        taking.cancel()
        await asyncio.wait((taking,))

    with pytest.warns(ResourceWarning):
        await begin()
    await asyncio.sleep(60)
    assert len(orphans) == 3
    assert states(journal) == {"submitted": 3}  # The POSTs under way were waited for.


# --- uncertain -------------------------------------------------------------------------------


async def test_uncertain_items(simulator: Simulator, client_of: ClientOf, journal: Path) -> None:
    """An uncertain item is reported in every run, and bought anew only when asked."""
    simulator.faults.submit(Fault.lost_answer())
    [first] = await mapped(client_of(simulator), castles(1), journal)
    [again] = await mapped(client_of(simulator), castles(1), journal)
    for one in (first, again):
        assert isinstance(one.error, SubmitUncertainError)
        assert one.error.input == castle(0)
    assert (simulator.created, again.purchases) == (1, 1)
    [asked] = await mapped(client_of(simulator), castles(1), journal, resubmit_uncertain=True)
    assert (asked.ok, asked.purchases, simulator.created) == (True, 2, 2)


async def test_a_death_during_the_post(
    simulator: Simulator, client_of: ClientOf, journal: Path
) -> None:
    """An intent without an end is uncertain in the next run, and not bought again."""
    file = await Journal.open(journal)
    entry = await file.enter(None, castle(0))
    await file.intend(entry, None, Decimal("0.06"))
    await file.aclose()
    zero, one = await mapped(client_of(simulator), castles(2), journal)
    assert isinstance(zero.error, SubmitUncertainError)
    assert (zero.resumed, one.ok, simulator.created) == (True, True, 1)


async def test_callback_of_an_uncertain_item(
    simulator: Simulator, client_of: ClientOf, journal: Path, receiver: WebhookReceiver
) -> None:
    """With webhooks the run waits for the callback, and the item has its result."""
    simulator.deliver_to(receiver.asgi())
    simulator.faults.submit(Fault.lost_answer())
    zero, one = await mapped(client_of(simulator, webhooks=receiver), castles(2), journal)
    assert zero.ok
    assert zero.task is not None
    assert one.ok
    assert (simulator.created, zero.purchases, zero.resumed) == (2, 1, False)
    assert states(journal) == {"success": 2}


async def test_callback_of_an_uncertain_item_of_an_earlier_run(
    simulator: Simulator, client_of: ClientOf, journal: Path, receiver: WebhookReceiver
) -> None:
    """The URL outlives the process: the next run hears what was bought, and has its result."""
    simulator.faults.submit(Fault.lost_answer(), Fault.lost_answer())
    simulator.deliver_to(receiver.asgi())
    client = client_of(simulator, webhooks=receiver)
    with contextlib.suppress(ZeroDivisionError):
        async with client.map(castles(2), journal=journal):
            await asyncio.sleep(5)
            raise ZeroDivisionError
    await client.aclose()
    assert states(journal) == {"uncertain": 2}
    # Another process: nothing of the first receiver is left but its secret.
    again = WebhookReceiver(receiver.public_url, "a secret of sixteen bytes or more")
    simulator.deliver_to(again.asgi())
    outcomes = await mapped(client_of(simulator, webhooks=again), castles(2), journal)
    assert [one.ok for one in outcomes] == [True, True]
    assert {one.result.task_id for one in outcomes if one.result} == set(simulator.tasks)
    assert simulator.created == 2
    assert all(one.resumed and one.purchases == 1 for one in outcomes)


async def test_callback_before_the_answer_and_the_death(
    simulator: Simulator, client_of: ClientOf, journal: Path, receiver: WebhookReceiver
) -> None:
    """What a callback named is in the journal before the service is told that it was heard."""
    simulator.deliver_to(receiver.asgi())
    simulator.callbacks.next(Callback(early=True))
    simulator.faults.submit(Fault.delay(30.0, Fault.lost_answer()))
    client = client_of(simulator, webhooks=receiver)
    outcomes = client.map(castles(1), journal=journal)
    taking = asyncio.ensure_future(anext(outcomes))
    await asyncio.sleep(5)
    assert simulator.callbacks.counts.delivered == 1
    # As after a SIGKILL: the file as it is now, without what the process would still do.
    copy = journal.with_name("copy.db")
    for suffix in ("", "-wal"):
        source = journal.with_name(journal.name + suffix)
        if source.exists():
            copy.with_name(copy.name + suffix).write_bytes(source.read_bytes())
    [one] = await mapped(client_of(simulator), castles(1), copy)
    assert (one.ok, one.resumed, simulator.created) == (True, True, 1)
    assert (await taking).ok
    assert [one async for one in outcomes] == []


async def test_no_callback_ever(
    simulator: Simulator, client_of: ClientOf, journal: Path, receiver: WebhookReceiver
) -> None:
    """An item of which no callback tells is uncertain for good, and is not bought again."""
    simulator.faults.submit(Fault.lost_answer())
    simulator.callbacks.next(Callback(lost=True))
    simulator.deliver_to(receiver.asgi())
    client = client_of(simulator, webhooks=receiver)
    zero, one = await mapped(client, castles(2), journal)
    assert isinstance(zero.error, SubmitUncertainError)
    assert isinstance(zero.error.__cause__, PresumedNotBoughtError)
    assert zero.task is None
    assert one.ok
    assert states(journal) == {"uncertain": 1, "success": 1}
    [again, _] = await mapped(client_of(simulator, webhooks=receiver), castles(2), journal)
    assert isinstance(again.error, SubmitUncertainError)
    assert simulator.created == 2


# --- money -----------------------------------------------------------------------------------


async def test_max_cost(simulator: Simulator, client_of: ClientOf, journal: Path) -> None:
    """Nothing is bought beyond the most, and the next run goes on where that was raised."""
    client = client_of(simulator)
    price = castle(0).price
    assert price is not None
    outcomes = client.map(castles(50), journal=journal, max_cost=price * 7)
    taken, error = await until_raised(outcomes)
    assert isinstance(error, BudgetExceededError)
    assert sum(one.ok for one in taken) == simulator.created == 7
    assert outcomes.progress.spent == price * 7 == error.spent
    assert all(one.error is None or one.error.bought is False for one in taken)
    again = client.map(castles(50), journal=journal, max_cost=price * 20)
    with pytest.raises(BudgetExceededError):
        async for _ in again:
            pass
    assert simulator.created == 20
    assert (again.progress.spent, again.progress.resumed) == (price * 20, 7)


async def test_refused_purchases_cost_nothing(simulator: Simulator, client_of: ClientOf) -> None:
    """What is given back can be spent on another item."""
    simulator.faults.submit(*[Fault.status(400)] * 3)
    price = castle(0).price
    assert price is not None
    client = client_of(simulator, limits=Limits(concurrent_tasks=1))
    outcomes = client.map(castles(5), max_cost=price * 2)
    assert sum([one.ok async for one in outcomes]) == 2
    assert outcomes.progress.spent == price * 2


async def test_uncertain_purchases_count(simulator: Simulator, client_of: ClientOf) -> None:
    """What may have been bought is counted as spent."""
    simulator.faults.submit(Fault.lost_answer())
    price = castle(0).price
    assert price is not None
    outcomes = client_of(simulator).map(castles(2), max_cost=price * 2)
    assert [one.ok async for one in outcomes].count(True) == 1
    assert outcomes.progress.spent == price * 2


async def test_a_price_that_nobody_knows(simulator: Simulator, client_of: ClientOf) -> None:
    """With a most, an item without a price is refused; with a price given it is bought."""
    video = OtherModel("sora-2", prompt="waves")
    client = client_of(simulator)
    [one] = [one async for one in client.map([video], max_cost=5)]
    assert isinstance(one.error, ConfigurationError)
    assert simulator.created == 0
    outcomes = client.map([video, video], max_cost=5, prices={"sora-2": 2})
    assert [one.ok async for one in outcomes] == [True, True]
    assert outcomes.progress.spent == 4
    outcomes = client.map([video])
    assert [one.ok async for one in outcomes] == [True]
    assert (outcomes.progress.spent, outcomes.progress.unpriced) == (0, 1)


# --- files -----------------------------------------------------------------------------------


async def test_files(
    simulator: Simulator, client_of: ClientOf, journal: Path, tmp_path: Path
) -> None:
    """Results are saved as tasks end; the next run asks only for files that are gone."""
    out = tmp_path / "out"
    first = await mapped(client_of(simulator), castles(4), journal, download_to=out)
    assert all(len(one.paths) == 1 and one.paths[0].exists() for one in first)
    for one in first:  # The tasks' clock, which is virtual, runs ahead of that of files.
        os.utime(one.paths[0], (time.time() + 3_600,) * 2)
    saved = simulator.count("download")
    again = await mapped(client_of(simulator), castles(4), journal, download_to=out)
    assert [one.paths for one in again] == [one.paths for one in first]
    assert simulator.count("download") == saved
    first[2].paths[0].unlink()
    again = await mapped(client_of(simulator), castles(4), journal, download_to=out)
    assert [one.paths for one in again] == [one.paths for one in first]
    assert simulator.count("download") == saved + 1
    assert simulator.created == 4


async def test_a_result_that_cannot_be_saved(
    simulator: Simulator, client_of: ClientOf, journal: Path, tmp_path: Path
) -> None:
    """A file that fails leaves the result in the outcome, and is saved by the next run."""
    simulator.faults.download(*[Fault.status(404)] * 9)
    out = tmp_path / "out"
    zero, one = await mapped(client_of(simulator), castles(2), journal, download_to=out)
    assert isinstance(zero.error, DownloadError)
    assert zero.result is not None
    assert not zero.ok
    simulator.faults.clear()
    zero, one = await mapped(client_of(simulator), castles(2), journal, download_to=out)
    assert zero.ok
    assert zero.paths[0].exists()
    assert (one.ok, simulator.created) == (True, 2)


async def test_nothing_can_be_saved(
    simulator: Simulator, client_of: ClientOf, tmp_path: Path
) -> None:
    """Where result after result cannot be saved, no more are bought."""
    out = tmp_path / "out"
    out.write_text("no directory")
    client = client_of(simulator, limits=Limits(concurrent_tasks=10))
    with pytest.raises(DownloadError):
        async for _ in client.map(castles(500), download_to=out / "x"):
            pass
    assert simulator.created < 100


# --- trouble with the journal ----------------------------------------------------------------


async def test_a_journal_that_cannot_be_opened(
    simulator: Simulator, client_of: ClientOf, tmp_path: Path
) -> None:
    """Nothing is read and nothing is bought; the message names the file."""
    client = client_of(simulator)
    with pytest.raises(JournalError, match=r"run\.db"):
        async for _ in client.map(castles(3), journal=tmp_path / "nowhere" / "run.db"):
            pass
    with pytest.raises(JournalError, match=str(tmp_path)):
        async with client.map(castles(3), journal=tmp_path) as outcomes:
            await anext(outcomes)
    assert simulator.created == 0


async def test_two_runs_at_once(simulator: Simulator, client_of: ClientOf, journal: Path) -> None:
    """A second map on the same journal is refused, and the first one goes on."""
    client = client_of(simulator)
    async with client.map(castles(3), journal=journal) as outcomes:
        first = await anext(outcomes)
        with pytest.raises(JournalError, match="another"):
            async for _ in client.map(castles(3), journal=journal):
                pass
        rest = [one async for one in outcomes]
    assert first.ok
    assert all(one.ok for one in rest)
    assert simulator.created == 3


async def test_a_journal_that_breaks(
    simulator: Simulator, client_of: ClientOf, journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a write fails the buying ends; what was bought has its outcome and is not lost."""

    def fail(name: str) -> None:
        if name == "submitted:before-commit" and simulator.created >= 5:
            raise sqlite3.OperationalError("database or disk is full")

    open_ = Journal.open
    monkeypatch.setattr(Journal, "open", lambda path, **kw: open_(path, **kw, hook=fail))
    client = client_of(simulator, limits=Limits(concurrent_tasks=3))
    taken, error = await until_raised(client.map(castles(50), journal=journal))
    assert isinstance(error, JournalError)
    assert "run.db" in str(error)
    bought = simulator.created
    assert sum(one.ok for one in taken) == bought < 15
    monkeypatch.undo()
    again = await mapped(client_of(simulator), castles(50), journal)
    # What the journal could not be told is uncertain, and nothing is bought for it.
    unknown = [one for one in again if isinstance(one.error, SubmitUncertainError)]
    assert 0 < len(unknown) <= bought
    assert sum(one.ok for one in again) == 50 - len(unknown)
    assert simulator.created == 50


@pytest.mark.heavy
async def test_thousands(client_of: ClientOf, journal: Path) -> None:
    """More items than slots go through a journal with few of them in memory at once."""
    simulator = Simulator(seed=1, durations=1.0)
    client = client_of(simulator)
    made = (FluxKontext(mode="pro", prompt=f"castle {n}") for n in range(1_300))
    most = count = 0
    async with client.map(made, journal=journal) as outcomes:
        async for one in outcomes:
            assert one.ok
            count += 1
            most = max(most, outcomes.progress.in_progress)
    assert count == simulator.created == 1_300
    assert most <= 1_032
    assert states(journal) == {"success": 1_300}

"""Submits in doubt, of maps and of callers: what a callback, a close, a second run make of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apixo_async import (
    AsyncClient,
    ConfigurationError,
    FluxKontext,
    Limits,
    PresumedNotBoughtError,
    SubmitUncertainError,
)
from apixo_async.testing import Callback, Fault, Simulator
from apixo_async.webhooks import WebhookReceiver

from ..support.inside import Entry, Journal
from ..support.maps import castle, castles
from ..support.requests import status_of

ClientOf = Callable[..., AsyncClient]
CASTLE = FluxKontext(mode="pro", prompt="a castle")
URL = "https://app.example.com/apixo"
SECRET = "a secret of sixteen bytes or more"


@pytest.fixture
def receiver(simulator: Simulator) -> WebhookReceiver:
    """Receive the simulator's callbacks."""
    made = WebhookReceiver(URL, SECRET)
    simulator.deliver_to(made.asgi())
    return made


async def uncertain(client: AsyncClient) -> SubmitUncertainError:
    with pytest.raises(SubmitUncertainError) as caught:
        await client.submit(CASTLE)
    return caught.value


async def call(receiver: WebhookReceiver, url: str | None, body: bytes) -> int:
    assert url is not None
    return await status_of(receiver.asgi(), "/" + url.rpartition("/")[2], body)


# --- maps ------------------------------------------------------------------------------------


async def test_attempts_hold_for_what_callbacks_found(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver, tmp_path: Path
) -> None:
    """A purchase of this run that a callback had to name counts, whatever earlier runs bought."""
    journal = tmp_path / "run.db"
    simulator.faults.submit(Fault.task_fails("Timeout"))
    async for one in client_of(simulator, webhooks=receiver).map(castles(1), journal=journal):
        assert one.purchases == 1
    simulator.faults.submit(*[Fault.task_fails("Timeout", then=Fault.lost_answer())] * 12)
    outcomes = client_of(simulator, webhooks=receiver).map(castles(1), journal=journal, attempts=3)
    [again] = [one async for one in outcomes]
    assert again.purchases == simulator.created == 3
    assert outcomes.progress.bought == 2


async def test_taken_but_not_to_the_end(
    simulator: Simulator, client_of: ClientOf, tmp_path: Path
) -> None:
    """A journal is let go of with the last outcome, whether or not anybody asks for another."""
    journal, client = tmp_path / "run.db", client_of(simulator)
    outcomes = client.map(castles(2), journal=journal)
    assert (await anext(outcomes)).ok
    assert (await anext(outcomes)).ok
    await asyncio.sleep(1)
    assert [one.resumed async for one in client.map(castles(2), journal=journal)] == [True, True]


async def test_a_dropped_map_hands_over_its_doubts(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver
) -> None:
    """What nobody can name is handed over as the error that has the input, and not as a task."""
    simulator.faults.submit(Fault.lost_answer())
    simulator.callbacks.next(Callback(lost=True))
    orphans: list[Any] = []
    client = client_of(simulator, webhooks=receiver, on_orphan=orphans.append)

    async def begin() -> None:
        taking = asyncio.ensure_future(anext(client.map(castles(1))))
        await asyncio.sleep(3)
        taking.cancel()
        await asyncio.wait((taking,))

    with pytest.warns(ResourceWarning):
        await begin()
    await asyncio.sleep(1)
    [orphan] = orphans
    assert isinstance(orphan, SubmitUncertainError)
    assert orphan.input == castle(0)


async def test_a_callback_after_the_client_was_closed(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver, tmp_path: Path
) -> None:
    """In an application that lives on, the next run of a map that was left hears of its doubts."""
    journal = tmp_path / "run.db"
    simulator.faults.submit(Fault.lost_answer())
    client = client_of(simulator, webhooks=receiver)
    with contextlib.suppress(ZeroDivisionError):
        async with client.map(castles(1), journal=journal):
            await asyncio.sleep(3)
            raise ZeroDivisionError
    await client.aclose()
    await asyncio.sleep(60)
    assert simulator.callbacks.counts.failed > 0  # It is to come again.
    again = client_of(simulator, webhooks=receiver)
    [one] = [one async for one in again.map(castles(1), journal=journal)]
    assert one.ok
    assert simulator.created == 1


async def test_a_callback_of_what_the_journal_has(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver, tmp_path: Path
) -> None:
    """After a map was left, callbacks of tasks that its journal names need not come again."""
    client = client_of(simulator, webhooks=receiver)
    with contextlib.suppress(ZeroDivisionError):
        async with client.map(castles(3), journal=tmp_path / "run.db"):
            await asyncio.sleep(3)
            raise ZeroDivisionError
    await asyncio.sleep(60)
    counts = simulator.callbacks.counts
    assert (counts.delivered, counts.failed) == (3, 0)


async def test_a_claim_for_an_older_purchase(tmp_path: Path) -> None:
    """What a callback says of one purchase is not written down for the next one."""
    journal = await Journal.open(tmp_path / "run.db")
    entry = await journal.enter("a", castle(0))
    await journal.intend(entry, "first", None)
    journal.refused(entry)
    await journal.intend(entry, "second", None)
    assert not await journal.claimed(entry, "first", "task_1")
    journal.uncertain(entry, "no answer")
    assert await journal.claimed(entry, "second", "task_2")
    other = await journal.enter("b", castle(1))
    await journal.intend(other, "third", None)
    journal.submitted(other, "task_3")
    assert not await journal.claimed(entry, "second", "task_3")  # It is another item's.
    kept, _ = [one async for one in journal.entries()]
    assert (kept.state, kept.task_id, kept.claim) == ("uncertain", None, "task_2")
    await journal.aclose()


async def doubtful(client: AsyncClient, journal: Path, seconds: float = 3.0) -> None:
    """Map one input for some seconds, and leave it in doubt."""
    with contextlib.suppress(ZeroDivisionError):
        async with client.map(castles(1), journal=journal):
            await asyncio.sleep(seconds)
            raise ZeroDivisionError
    await client.aclose()


async def entry_in(journal: Path) -> Entry:
    """Return the only item of a journal."""
    opened = await Journal.open(journal)
    [entry] = [one async for one in opened.entries()]
    await opened.aclose()
    return entry


async def claimed(receiver: WebhookReceiver, task_id: str, then: float = 0.0) -> None:
    """Call the URL of the only submit in doubt, and name a task."""
    await asyncio.sleep(2.0)
    [subscription] = receiver._subscriptions.values()
    body = b'{"code": 200, "data": {"taskId": "%s"}}' % task_id.encode()
    assert await call(receiver, subscription.url, body) == 200
    await asyncio.sleep(then)


@pytest.mark.parametrize("webhooks", [True, False])
async def test_a_false_claim(
    simulator: Simulator,
    client_of: ClientOf,
    receiver: WebhookReceiver,
    tmp_path: Path,
    webhooks: bool,
) -> None:
    """What a callback claims is proved by a poll or is worth nothing: the item stays uncertain."""
    journal = tmp_path / "run.db"
    simulator.faults.submit(Fault.reset_before())
    first = asyncio.create_task(doubtful(client_of(simulator, webhooks=receiver), journal, 60))
    await claimed(receiver, "task_of_nobody")
    await first
    entry = await entry_in(journal)
    assert (entry.state, entry.task_id, entry.claim) == ("uncertain", None, "task_of_nobody")
    options = {"webhooks": receiver} if webhooks else {}
    [again] = [
        one async for one in client_of(simulator, **options).map(castles(1), journal=journal)
    ]
    assert isinstance(again.error, SubmitUncertainError)
    assert simulator.created == 0
    [bought] = [
        one
        async for one in client_of(simulator, **options).map(
            castles(1), journal=journal, resubmit_uncertain=True
        )
    ]
    assert bought.ok
    assert simulator.created == 1


@pytest.mark.parametrize("webhooks", [True, False])
@pytest.mark.parametrize("resubmit", [True, False])
async def test_a_true_claim(
    simulator: Simulator,
    client_of: ClientOf,
    receiver: WebhookReceiver,
    tmp_path: Path,
    webhooks: bool,
    resubmit: bool,
) -> None:
    """What a callback claimed is found by the next run, with webhooks or without."""
    journal = tmp_path / "run.db"
    simulator.faults.submit(Fault.lost_answer())
    simulator.faults.poll(Fault.repeat(50, Fault.status(503)))
    first = asyncio.create_task(doubtful(client_of(simulator, webhooks=receiver), journal, 4))
    await asyncio.sleep(1.0)
    [made] = simulator.tasks
    await claimed(receiver, made)
    await first
    assert (await entry_in(journal)).claim == made
    simulator.faults.clear()
    options = {"webhooks": receiver} if webhooks else {}
    [again] = [
        one
        async for one in client_of(simulator, **options).map(
            castles(1), journal=journal, resubmit_uncertain=resubmit
        )
    ]
    assert again.ok
    assert again.task is not None
    assert again.task.id == made
    assert simulator.created == 1
    assert (await entry_in(journal)).task_id == made


@pytest.mark.parametrize("resubmit", [True, False])
async def test_doubts_of_an_earlier_run_hold_slots(
    simulator: Simulator, client_of: ClientOf, tmp_path: Path, resubmit: bool
) -> None:
    """What may run since an earlier run counts against the limit, as long as it may run."""
    journal, limits = tmp_path / "run.db", Limits(concurrent_tasks=20)
    simulator = Simulator(seed=1, durations=60.0, concurrent_tasks=100)
    simulator.faults.submit(*[Fault.lost_answer()] * 7)
    client = client_of(simulator, limits=limits)
    async with client.map(castles(7), journal=journal) as outcomes:
        taken = [one async for one in outcomes]
    assert [type(one.error) for one in taken] == [SubmitUncertainError] * 7
    await client.aclose()
    again = client_of(simulator, limits=limits)
    outcomes = again.map(castles(60), journal=journal, resubmit_uncertain=resubmit)
    assert sum([one.ok async for one in outcomes]) == (60 if resubmit else 53)
    assert simulator.most_concurrent == 20


# --- callers ---------------------------------------------------------------------------------


async def test_told_and_not_found(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver
) -> None:
    """A callback that came and named nothing that can be found leaves doubt for good."""
    simulator.faults.submit(Fault.lost_answer())
    simulator.callbacks.next(Callback(lost=True))
    client = client_of(simulator, webhooks=receiver)
    error = await uncertain(client)
    [task] = simulator.tasks.values()
    assert await call(receiver, task.callback_url, b'{"code": 200, "data": null}') == 200
    assert error.task is not None
    assert error.task.callback_received
    with pytest.raises(ConfigurationError, match="bought twice"):
        await client.resubmit(error)  # The callback was of this very submit.
    with pytest.raises(PresumedNotBoughtError, match="one arrived that named no task") as caught:
        await error.task
    assert caught.value.bought is None


async def test_nobody_listened_for_a_while(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver, tmp_path: Path
) -> None:
    """Where a process was down for some of the time, nobody presumes that nothing was bought."""
    journal = tmp_path / "run.db"
    simulator.faults.submit(Fault.lost_answer())
    simulator.callbacks.next(Callback(lost=True))
    client = client_of(simulator, webhooks=receiver)
    with contextlib.suppress(ZeroDivisionError):
        async with client.map(castles(1), journal=journal):
            await asyncio.sleep(3)
            raise ZeroDivisionError
    await client.aclose()
    await asyncio.to_thread(lambda: None)
    again = client_of(simulator, webhooks=receiver)
    zero, one = [one async for one in again.map(castles(2), journal=journal, ordered=True)]
    assert one.ok
    assert isinstance(zero.error, SubmitUncertainError)
    cause = zero.error.__cause__
    assert isinstance(cause, PresumedNotBoughtError)
    assert cause.bought is None
    assert "did not receive callbacks for all of that time" in str(cause)


async def test_drain_waits_for_doubts(
    simulator: Simulator, client_of: ClientOf, receiver: WebhookReceiver
) -> None:
    """A close with time to spare hears what an uncertain submit bought."""
    simulator.faults.submit(Fault.lost_answer())
    client = client_of(simulator, webhooks=receiver)
    error = await uncertain(client)
    await client.aclose(drain=300)
    assert error.task is not None
    assert error.task.done()
    assert (await error.task).urls

"""Callbacks that land on another process: noted in the store, and their owner polls at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from apixo_async import (
    ApixoError,
    CallbackReceived,
    FluxKontext,
    PresumedNotBoughtError,
    Result,
    StoreError,
    SubmitUncertainError,
    Task,
    TaskNotFoundError,
    UncertainSubmitResolved,
)
from apixo_async._limits.leased import LEASE
from apixo_async._submit.following import OWN
from apixo_async.stores import State, StoreEntry
from apixo_async.testing import Callback, Fault, Simulator
from apixo_async.testing.memory_store import MemoryStore, OpenMemoryStore
from apixo_async.webhooks import WebhookReceiver
from apixo_async.webhooks._inbox import MOST

from ..support.processes import Process, processes
from ..support.requests import BODY, status_of

CASTLE = FluxKontext(mode="pro", prompt="a castle")
LATENCY = 0.05


def receiver(**options: Any) -> WebhookReceiver:
    """Return the receiver of one worker; all have the same address and secret."""
    return WebhookReceiver("https://app.example.com/apixo", "a secret of sixteen bytes", **options)


class Workers:
    """Two processes with a receiver each; a balancer leads every callback to the second one."""

    def __init__(self, **options: Any) -> None:
        self.simulator = Simulator(seed=1, **{"durations": 25.0, **options})
        self.store = MemoryStore()
        self.unknown: list[Any] = []
        own, other = receiver(), receiver(on_unknown=self.unknown.append)
        self.owner = Process(self.simulator, self.store, webhooks=own)
        self.other = Process(self.simulator, self.store, webhooks=other, seed=2)
        self.app: Any = other.asgi()
        self.simulator.deliver_to(lambda *asgi: self.app(*asgi))

    async def begin(self) -> None:
        """Have both take part, and a callback come, so that more are awaited."""
        await self.other.client.find("nothing")
        self.simulator.faults.submit(Fault.task_lasts(5.0))
        await self.owner.client.generate(CASTLE, key="first")

    async def doubted(self) -> SubmitUncertainError:
        """Return what the owner got for a submit whose answer was lost."""
        self.simulator.faults.submit(Fault.lost_answer())
        with pytest.raises(SubmitUncertainError) as caught:
            await self.owner.client.submit(CASTLE, key="k")
        return caught.value

    async def call_of_a_stranger(self) -> int:
        """Return what a callback is answered with whose submit is in no store."""
        stranger = receiver().inbox().open("flux-kontext", 60.0, print)
        path = stranger.url.removeprefix("https://app.example.com")
        return await status_of(self.app, path, BODY)

    async def entry(self) -> StoreEntry:
        """Return the entry of the key."""
        [entry] = [each async for each in self.other.client.entries() if each.purchase.key == "k"]
        return entry


async def test_the_owner_polls_at_once() -> None:
    """One poll a task, and the news is an exchange old; the callback comes once."""
    workers = Workers()
    async with processes(workers.owner, workers.other):
        await workers.begin()
        before = workers.simulator.count("poll")
        task = await workers.owner.client.submit(CASTLE, key="k")
        await task
        ended = workers.simulator.tasks[task.id].ends
        assert asyncio.get_running_loop().time() == pytest.approx(ended, abs=4 * LATENCY)
        assert workers.simulator.count("poll") - before == 1
        counts = workers.simulator.callbacks.counts
        assert (counts.delivered, counts.failed) == (2, 0)
        assert not workers.unknown
        assert await workers.call_of_a_stranger() == 503
        received = [
            [event.outcome for event in process.events if isinstance(event, CallbackReceived)]
            for process in (workers.owner, workers.other)
        ]
        assert received == [[], ["passed on", "passed on", "unknown"]]


async def test_a_follower_is_woken_as_well() -> None:
    """The process to which the callback comes follows the task that it is about."""
    workers = Workers()
    async with processes(workers.owner, workers.other):
        await workers.begin()
        task = await workers.owner.client.submit(CASTLE, key="k")
        followed = await workers.other.client.submit(CASTLE, key="k")
        assert (await followed).urls == (await task).urls
        ended = workers.simulator.tasks[task.id].ends
        assert asyncio.get_running_loop().time() == pytest.approx(ended, abs=0.3)


async def test_a_doubt_is_settled() -> None:
    """The callback of a submit whose answer was lost names its task to the process that waits."""
    workers = Workers()
    async with processes(workers.owner, workers.other):
        await workers.begin()
        doubt = await workers.doubted()
        assert doubt.task is not None
        result = await doubt.task
        assert result.task_id in workers.simulator.tasks
        assert workers.simulator.created == 2
        await asyncio.sleep(0.5)  # Until it is written.
        assert (await workers.other.client.submit(CASTLE, key="k")).id == result.task_id


async def test_a_doubt_of_a_dead_process() -> None:
    """The callback names its task, and whichever process lives finds out whether that is so."""
    workers = Workers()
    async with processes(workers.owner, workers.other):
        await workers.begin()
        workers.owner.stops_at = "answered"
        buying = asyncio.create_task(workers.owner.client.submit(CASTLE, key="k"))
        await asyncio.sleep(LEASE + 30)
        task = await workers.other.client.find("k")
        assert task is not None
        assert (await task).task_id == (await workers.entry()).task_id
        assert sum(isinstance(e, UncertainSubmitResolved) for e in workers.other.events) == 1
        assert workers.simulator.created == 2
        buying.cancel()


async def test_a_callback_for_a_dead_process() -> None:
    """Whichever process takes the task over polls it at once, and not only when it is due."""
    workers = Workers(durations=2.0)
    async with processes(workers.owner, workers.other):
        await workers.begin()
        task = await workers.owner.client.submit(CASTLE, key="k")
        workers.owner.stop()
        followed = await workers.other.client.submit(CASTLE, key="k")
        assert (await followed).task_id == task.id
        made = workers.simulator.tasks[task.id].created
        assert asyncio.get_running_loop().time() - made <= LEASE + 4


async def test_a_false_name() -> None:
    """It proves nothing: the entry stays uncertain, and it is not asked for again and again."""
    workers = Workers()
    workers.simulator.callbacks.next(Callback(), Callback(lost=True), Callback(lost=True))
    async with processes(workers.owner, workers.other):
        await workers.begin()
        workers.owner.stops_at = "connecting"
        buying = asyncio.create_task(workers.owner.client.submit(CASTLE, key="k"))
        await asyncio.sleep(1)
        attempt = (await workers.entry()).attempt
        opened = await workers.store.open("anybody")
        for claim in ("task_of_nobody", _first(workers)):
            assert await opened.called(attempt, claim)
            await asyncio.sleep(LEASE + 600)
            entry = await workers.entry()
            assert (entry.state, entry.task_id) == (State.UNCERTAIN, None)
            assert entry.owner is not None
        polls = workers.simulator.count("poll")
        await asyncio.sleep(600)
        assert workers.simulator.count("poll") == polls
        buying.cancel()


async def test_without_a_way_to_the_store() -> None:
    """The callback is refused, and comes again."""
    workers = Workers()
    async with processes(workers.owner, workers.other):
        await workers.begin()
        task = await workers.owner.client.submit(CASTLE, key="k")
        workers.other.stop()
        await task
        await asyncio.sleep(12)
        assert workers.simulator.callbacks.counts.failed == 1
        workers.other.go_on()
        await asyncio.sleep(40)
        assert workers.simulator.callbacks.counts.delivered == 2


async def test_news_that_do_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """A poll that is late, or a look at what is owned, finds what was not heard of."""
    monkeypatch.setattr(OpenMemoryStore, "listen", lambda *_: None)
    workers = Workers()
    async with processes(workers.owner, workers.other):
        await workers.begin()
        doubt = await workers.doubted()
        assert doubt.task is not None
        result = await doubt.task
        ended = workers.simulator.tasks[result.task_id].ends
        assert asyncio.get_running_loop().time() <= ended + OWN + 1


async def test_a_callback_of_a_submit_that_no_store_knows() -> None:
    """As without a store: it has to come again, and is reported."""
    workers = Workers()
    async with processes(workers.owner, workers.other):
        await workers.begin()
        assert await workers.call_of_a_stranger() == 503
        assert [ref.task_id for ref in workers.unknown] == ["task_1"]


@pytest.mark.parametrize("where", ["owner", "other"])
async def test_the_word_of_a_person(where: str) -> None:
    """Given here or in another process, it wakes those who wait for the task of the doubt."""
    workers = Workers()
    workers.simulator.callbacks.next(Callback(), Callback(lost=True))
    async with processes(workers.owner, workers.other):
        await workers.begin()
        doubt = await workers.doubted()
        assert doubt.task is not None
        waiting = asyncio.ensure_future(doubt.task.wait())
        await asyncio.sleep(30)
        [made] = [each for each in workers.simulator.tasks if each != _first(workers)]
        client = getattr(workers, where).client
        resolved = await client.resolve("k", task_id=made)
        assert isinstance(resolved, Task)
        assert (await resolved).task_id == made
        await waiting
        assert doubt.task.result().task_id == made


@pytest.mark.parametrize("where", ["owner", "other"])
async def test_the_word_that_nothing_was_bought(where: str) -> None:
    """The same; the key may be bought."""
    workers = Workers()
    async with processes(workers.owner, workers.other):
        await workers.begin()
        workers.simulator.faults.submit(Fault.reset_before())
        with pytest.raises(SubmitUncertainError) as caught:
            await workers.owner.client.submit(CASTLE, key="k")
        assert caught.value.task is not None
        waiting = asyncio.ensure_future(caught.value.task.wait())
        await asyncio.sleep(1)
        await getattr(workers, where).client.resolve("k", bought=False)
        async with asyncio.timeout(2):
            await waiting
        with pytest.raises(PresumedNotBoughtError, match="word") as presumed:
            caught.value.task.result()
        assert presumed.value.bought is False
        assert isinstance(await workers.owner.client.generate(CASTLE, key="k"), Result)


async def test_a_process_that_was_taken_for_dead() -> None:
    """Its tasks are another one's: callbacks that still come to it are passed on."""
    workers = Workers(durations=100.0)
    async with processes(workers.owner, workers.other):
        await workers.begin()
        own = workers.app
        task = await workers.owner.client.submit(CASTLE, key="k")
        workers.owner.stop()
        await asyncio.sleep(LEASE + 10)
        assert (await workers.entry()).owner is not None
        workers.owner.go_on()
        await asyncio.sleep(15)
        workers.app = own
        await task
        ended = workers.simulator.tasks[task.id].ends
        assert asyncio.get_running_loop().time() == pytest.approx(ended, abs=0.5)


def _first(workers: Workers) -> str:
    return next(iter(workers.simulator.tasks))


async def test_a_claim_that_cannot_be_written(caplog: pytest.LogCaptureFixture) -> None:
    """The callback of an own doubt counts only once its name is in the store."""
    workers = Workers()
    async with processes(workers.owner, workers.other):
        await workers.begin()
        doubt = await workers.doubted()

        async def fails(*_: object) -> bool:
            raise StoreError("no room")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(OpenMemoryStore, "called", fails)
            await asyncio.sleep(30)
        assert workers.simulator.callbacks.counts.failed >= 1
        assert "no room" in caplog.text
        assert doubt.task is not None
        assert (await doubt.task).urls


# --- what would do harm --------------------------------------------------------------------------


async def test_nothing_is_presumed_beside_other_processes() -> None:
    """The callback of an uncertain submit may have gone to another one, and be missed there."""
    workers = Workers(durations=1.0)
    own = workers.owner.client._settings.webhooks
    assert own is not None
    workers.app = own.asgi()
    async with processes(workers.owner, workers.other):
        await workers.begin()
        workers.simulator.faults.submit(Fault.lost_answer())
        workers.simulator.callbacks.next(Callback(lost=True))
        with pytest.raises(SubmitUncertainError) as caught:
            await workers.owner.client.submit(CASTLE, key="k")
        assert caught.value.task is not None
        waiting = asyncio.ensure_future(caught.value.task.wait())
        while not waiting.done():
            await workers.owner.client.generate(CASTLE)
            await asyncio.sleep(60)
        with pytest.raises(PresumedNotBoughtError, match="another process receives") as presumed:
            caught.value.task.result()
        assert presumed.value.bought is None
        assert (await workers.entry()).state is State.UNCERTAIN


async def test_the_task_of_another_key() -> None:
    """Whoever knows a URL can name one, to any process: no key gets the task of another."""
    workers = Workers(durations=300.0)
    async with processes(workers.owner, workers.other):
        await workers.begin()
        stranger = await workers.other.client.submit(CASTLE, key="another customer's")
        workers.simulator.faults.submit(Fault.reset_before())
        with pytest.raises(SubmitUncertainError):
            await workers.owner.client.submit(CASTLE, key="k")
        own = workers.owner.client._settings.webhooks
        assert own is not None
        [subscription] = own._subscriptions.values()
        path = subscription.url.removeprefix("https://app.example.com")
        body = BODY.replace(b"task_1", stranger.id.encode())
        for app in (workers.app, own.asgi()):
            assert await status_of(app, path, body) == 200
            await asyncio.sleep(30)
            entry = await workers.entry()
            assert (entry.state, entry.task_id, entry.claimed) == (State.UNCERTAIN, None, ())


async def test_a_false_name_before_the_right_one() -> None:
    """Several names are kept, and each is looked at, while the process that bought is gone."""
    workers = Workers()
    async with processes(workers.owner, workers.other):
        await workers.begin()
        workers.owner.stops_at = "answered"
        buying = asyncio.create_task(workers.owner.client.submit(CASTLE, key="k"))
        await asyncio.sleep(1)
        attempt = (await workers.entry()).attempt
        opened = await workers.store.open("anybody")
        for number in range(3):
            await opened.called(attempt, f"task_of_nobody_{number}")
        await asyncio.sleep(LEASE + 200)
        task = await workers.other.client.find("k")
        assert task is not None
        assert (await task).task_id in workers.simulator.tasks
        buying.cancel()


async def test_a_refusal_that_was_none() -> None:
    """The callback is noted, but heard of after the answer: the key has its task all the same."""
    workers = Workers(durations=3.0)
    async with processes(workers.owner, workers.other):
        await workers.begin()
        workers.simulator.faults.submit(Fault.html(400, carried_out=True))
        buying = asyncio.create_task(workers.owner.client.submit(CASTLE, key="k"))
        await asyncio.sleep(0.02)
        opened = await workers.store.open("anybody")
        await opened.called((await workers.entry()).attempt, None)
        with pytest.raises(ApixoError):
            await buying
        await asyncio.sleep(30)
        task = await workers.other.client.find("k")
        assert task is not None
        assert (await task).task_id in workers.simulator.tasks
        assert workers.simulator.created == 2


async def test_a_flood_for_a_task_that_was_taken_over() -> None:
    """As few polls as for one that was bought here."""
    workers = Workers(durations=600.0)
    async with processes(workers.owner, workers.other):
        await workers.begin()
        await workers.owner.client.submit(CASTLE, key="k")
        attempt = (await workers.entry()).attempt
        workers.owner.stop()
        await asyncio.sleep(LEASE + 10)
        opened, before = await workers.store.open("anybody"), workers.simulator.count("poll")
        for _ in range(400):
            await opened.called(attempt, None)
            await asyncio.sleep(0.2)
        assert workers.simulator.count("poll") - before <= MOST + 80 / 3  # And its schedule.


async def test_a_store_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for once in a while, with webhooks as well."""
    opened: list[float] = []

    async def fails(*_: object) -> object:
        opened.append(asyncio.get_running_loop().time())
        raise StoreError("away")

    monkeypatch.setattr(MemoryStore, "open", fails)
    workers = Workers()
    async with processes(workers.owner):
        with pytest.raises(StoreError):
            await workers.owner.client.submit(CASTLE, key="k")
        await asyncio.sleep(20)
    assert len(opened) <= 3 * (opened[-1] - opened[0]) + 10


async def test_a_callback_whose_entry_is_gone() -> None:
    """It is no callback of another process, which would change when tasks are polled."""
    workers = Workers()
    async with processes(workers.owner, workers.other):
        await workers.begin()
        assert await workers.call_of_a_stranger() == 503
        other = workers.other.client._settings.webhooks
        assert other is not None
        assert not other._is_shared


async def test_a_word_that_was_wrong() -> None:
    """The handle of a task that does not exist ends; which one it was may be said anew."""
    workers = Workers()
    workers.simulator.callbacks.next(Callback(), Callback(lost=True))
    async with processes(workers.owner, workers.other):
        await workers.begin()
        await workers.doubted()
        wrong = await workers.owner.client.resolve("k", task_id="task_of_nobody")
        with pytest.raises(TaskNotFoundError):
            async with asyncio.timeout(400):
                await wrong
        assert (await workers.entry()).state is State.LOST
        [made] = [each for each in workers.simulator.tasks if each != _first(workers)]
        right = await workers.owner.client.resolve("k", task_id=made)
        assert (await right).task_id == made

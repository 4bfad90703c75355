"""Callbacks complete the awaited task: lost ones, doubled, early, forged, and none at all."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from copy import copy
from datetime import UTC, datetime
from typing import Any

import pytest

from apixo_async import (
    APIConnectionError,
    ApixoError,
    AsyncClient,
    CallbacksLost,
    CallbacksRestored,
    ConfigurationError,
    FluxKontext,
    Limits,
    OtherModel,
    PresumedNotBoughtError,
    SubmitUncertainError,
    TaskAbandonedError,
    TaskFailedError,
    TaskSettled,
    UncertainSubmitResolved,
)
from apixo_async.testing import Callback, Fault, Simulator, VirtualTimeLoop
from apixo_async.webhooks import WebhookReceiver

ClientOf = Callable[..., AsyncClient]
CASTLE = FluxKontext(mode="pro", prompt="a castle")
LATENCY = 0.05


@pytest.fixture
def receiver() -> WebhookReceiver:
    """Receive callbacks in this process."""
    return WebhookReceiver("https://app.example.com/apixo", "a secret of sixteen bytes or more")


@pytest.fixture
def webhooks_of(
    client_of: ClientOf, receiver: WebhookReceiver
) -> Callable[..., tuple[Simulator, AsyncClient]]:
    """Make a simulator that calls the receiver back, and a client that waits for it."""

    def make(**options: Any) -> tuple[Simulator, AsyncClient]:
        simulator = Simulator(seed=1, **options)
        simulator.deliver_to(receiver.asgi())
        return simulator, client_of(simulator, latency=LATENCY, webhooks=receiver)

    return make


WebhooksOf = Callable[..., tuple[Simulator, AsyncClient]]


def polls(simulator: Simulator) -> int:
    return simulator.count("poll")


async def proved(simulator: Simulator, client: AsyncClient) -> int:
    """Have a callback come, so that more are awaited; return the polls so far."""
    simulator.faults.submit(Fault.task_lasts(5.0))
    await client.generate(CASTLE)
    return polls(simulator)


async def uncertain(client: AsyncClient) -> SubmitUncertainError:
    with pytest.raises(SubmitUncertainError) as caught:
        await client.submit(CASTLE)
    return caught.value


def post(receiver: WebhookReceiver, url: str, body: bytes) -> asyncio.Task[int]:
    """Call a URL as anybody could who knows it."""

    async def call() -> int:
        status = 0

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": body}

        async def send(message: dict[str, object]) -> None:
            nonlocal status
            status = int(str(message.get("status", status)))

        path = url.removeprefix("https://app.example.com")
        scope = {"type": "http", "method": "POST", "path": path, "headers": []}
        await receiver.asgi()(scope, receive, send)
        return status

    return asyncio.create_task(call())


async def test_one_poll_a_task(webhooks_of: WebhooksOf) -> None:
    """A task is polled at once, when its callback comes, and the news is an exchange old."""
    simulator, client = webhooks_of(durations=25.0)
    loop = asyncio.get_running_loop()
    before = await proved(simulator, client)
    assert before == 1
    task = await client.submit(CASTLE)
    result = await task
    assert result.urls
    assert loop.time() == pytest.approx(simulator.tasks[task.id].ends + LATENCY, abs=LATENCY)
    assert polls(simulator) - before == 1
    assert client.statistics().slots_used == 0


async def test_a_thousand_tasks(webhooks_of: WebhooksOf, events: list[Any]) -> None:
    """With a tenth each lost, doubled and early, every task is told of once, for 1.3 polls."""
    simulator, client = webhooks_of(
        lost_callbacks=0.1, duplicate_callbacks=0.1, early_callbacks=0.1, failure_rate=0.05
    )
    tasks = await asyncio.gather(*(client.submit(CASTLE) for _ in range(1000)))
    assert all(await asyncio.gather(*(task.wait() for task in tasks)))
    assert len({task.id for task in tasks}) == simulator.created == 1000
    settled = [event.task_id for event in events if isinstance(event, TaskSettled)]
    assert sorted(settled) == sorted(simulator.tasks)
    assert polls(simulator) <= 1300
    counts = simulator.callbacks.counts
    assert counts.lost > 70
    assert counts.early > 70
    assert counts.duplicated > 70
    assert counts.failed == 0
    assert client.statistics().slots_used == 0


async def test_lost_callback(webhooks_of: WebhooksOf) -> None:
    """A task of which no callback tells is found over by a late poll."""
    simulator, client = webhooks_of(durations=25.0)
    before = await proved(simulator, client)
    simulator.callbacks.next(Callback(lost=True))
    start = asyncio.get_running_loop().time()
    await client.generate(CASTLE)
    assert polls(simulator) - before == 1
    # The documents' plan of flux-kontext is 20 s and 3 s: ten intervals beyond its first poll.
    assert asyncio.get_running_loop().time() - start == pytest.approx(50.0, abs=1.0)


async def test_lost_callback_of_a_kind_that_is_known(webhooks_of: WebhooksOf) -> None:
    """The late poll follows how long tasks take."""
    simulator, client = webhooks_of(durations=10.0)
    await asyncio.gather(*(client.generate(CASTLE) for _ in range(40)))
    simulator.callbacks.next(Callback(lost=True))
    start = asyncio.get_running_loop().time()
    await client.generate(CASTLE)
    assert asyncio.get_running_loop().time() - start == pytest.approx(11.0, abs=1.0)


async def test_lost_callback_after_an_outlier(webhooks_of: WebhooksOf) -> None:
    """One task of 20 minutes delays the late polls of no others, and makes none be abandoned."""
    simulator, client = webhooks_of(durations=30.0)
    simulator.faults.submit(Fault.task_lasts(1_200.0))
    await asyncio.gather(*(client.generate(CASTLE) for _ in range(8)))
    simulator.callbacks.next(Callback(lost=True))
    start = asyncio.get_running_loop().time()
    await client.generate(CASTLE)
    assert 30.0 < asyncio.get_running_loop().time() - start < 33.0


async def test_lost_callbacks_hurry_the_next_late_poll(webhooks_of: WebhooksOf) -> None:
    """The more callbacks are lost, the sooner a silence means that a task is over.

    Of tasks of 20 to 40 s one ends after 21 s. Where callbacks have come so far, its poll waits
    until most tasks are over; where a third of them were lost, it does not.
    """
    simulator, client = webhooks_of(durations=lambda _model, _given, rng: rng.uniform(20.0, 40.0))
    took: list[float] = []
    for lossy in (False, True):
        for number in range(120):
            simulator.callbacks.next(Callback(lost=lossy and number % 3 == 0))
            await client.generate(CASTLE)
        simulator.callbacks.next(Callback(lost=True))
        simulator.faults.submit(Fault.task_lasts(21.0))
        start = asyncio.get_running_loop().time()
        await client.generate(CASTLE)
        took.append(asyncio.get_running_loop().time() - start)
    assert took[0] > 34.0
    assert took[1] < 30.0


async def test_slow_callbacks_are_not_lost_ones(webhooks_of: WebhooksOf, events: list[Any]) -> None:
    """Where each callback comes 2 s after the end, polls wait for it, and none counts as lost."""
    simulator, client = webhooks_of(
        callback_delay=2.0, durations=lambda _model, _given, rng: rng.uniform(20.0, 40.0)
    )
    tasks: list[asyncio.Task[object]] = []
    for _ in range(300):
        tasks.append(asyncio.create_task(client.generate(CASTLE)))
        await asyncio.sleep(0.5)
    await asyncio.gather(*tasks)
    assert sum(isinstance(event, CallbacksLost) for event in events) <= 1
    assert polls(simulator) < 1.5 * 300


async def test_slow_task(webhooks_of: WebhooksOf) -> None:
    """A task that is late is polled rarely, however long it takes."""
    simulator, client = webhooks_of(durations=600.0)
    before = await proved(simulator, client)
    await client.generate(CASTLE)
    # At 50 s and then after half its age each time, with the callback in the end.
    assert polls(simulator) - before <= 9


async def test_callback_that_says_processing(webhooks_of: WebhooksOf) -> None:
    """A callback which is not the last word causes a poll, and the task goes on."""
    simulator, client = webhooks_of(durations=25.0)
    simulator.callbacks.next(Callback(processing=True))
    task = await client.submit(CASTLE)
    await task
    assert [attempt.state for attempt in simulator.callbacks.log] == ["processing", "success"]
    assert polls(simulator) == 2


async def test_callback_before_the_answer(webhooks_of: WebhooksOf) -> None:
    """A callback that overtakes the submit's answer causes a poll as soon as the task is known."""
    simulator, client = webhooks_of()
    simulator.callbacks.next(Callback(early=True))
    start = asyncio.get_running_loop().time()
    await client.generate(CASTLE)
    assert polls(simulator) == 1
    assert asyncio.get_running_loop().time() - start < 1.0


async def test_duplicates_after_the_end(webhooks_of: WebhooksOf, receiver: WebhookReceiver) -> None:
    """Callbacks of a task that is over are answered with 200 and cause nothing."""
    simulator, client = webhooks_of(durations=15.0)
    simulator.callbacks.next(Callback(copies=5))
    task = await client.submit(CASTLE)
    await task
    before = polls(simulator)
    [url] = {attempt.url for attempt in simulator.callbacks.log}
    calls = [post(receiver, url, b'{"code": 200, "data": {"taskId": "x"}}') for _ in range(100)]
    assert set(await asyncio.gather(*calls)) == {200}
    await asyncio.sleep(300)
    assert polls(simulator) == before <= 2


async def test_forged_success(webhooks_of: WebhooksOf, receiver: WebhookReceiver) -> None:
    """A body that says success under a right token causes a poll, and the task goes on."""
    simulator, client = webhooks_of(durations=25.0)
    task = await client.submit(CASTLE)
    url = simulator.tasks[task.id].callback_url
    assert url is not None
    forged = b'{"code": 200, "data": {"taskId": "%s", "state": "success", "resultJson": "{}"}}'
    assert await post(receiver, url, forged % task.id.encode()) == 200
    await asyncio.sleep(1)
    assert not task.done()
    assert task.state == "pending"
    assert polls(simulator) == 1
    assert (await task).urls
    assert polls(simulator) == 2


async def test_news_during_a_poll(webhooks_of: WebhooksOf) -> None:
    """A callback that comes while a poll is under way has the task polled at once more."""
    simulator, client = webhooks_of(durations=25.0)
    simulator.faults.poll(Fault.delay(5.0, Fault.status(502)))
    task = await client.submit(CASTLE)
    await asyncio.sleep(23)
    polling = asyncio.create_task(task.refresh())
    await task
    assert asyncio.get_running_loop().time() < simulator.tasks[task.id].ends + 5.0
    with pytest.raises(ApixoError):
        await polling


async def test_failed_task(webhooks_of: WebhooksOf) -> None:
    """A callback of a failure has the failure raised, as the poll finds it."""
    simulator, client = webhooks_of(durations=15.0)
    simulator.faults.submit(Fault.task_fails())
    with pytest.raises(TaskFailedError):
        await client.generate(CASTLE)
    assert polls(simulator) == 1


async def test_url_of_the_callers_own(webhooks_of: WebhooksOf, receiver: WebhookReceiver) -> None:
    """A caller's `callback_url` goes out as it is, and the task settles by polling."""
    simulator, client = webhooks_of(durations=25.0)
    task = await client.submit(CASTLE, callback_url="https://elsewhere.example.com/hook")
    assert simulator.tasks[task.id].callback_url == "https://elsewhere.example.com/hook"
    await task
    assert polls(simulator) > 1
    assert "0 tasks" in repr(receiver)


async def test_every_post_has_a_url_of_its_own(
    webhooks_of: WebhooksOf, receiver: WebhookReceiver
) -> None:
    """A submit that is sent again has another token, and the refused one's is forgotten."""
    simulator, client = webhooks_of()
    simulator.faults.submit(Fault.status(503))
    task = await client.submit(CASTLE)
    other = await client.submit(CASTLE)
    assert simulator.tasks[task.id].callback_url != simulator.tasks[other.id].callback_url
    assert simulator.count("submit") == 3
    assert "2 tasks" in repr(receiver)


async def test_callback_of_a_refused_submit(webhooks_of: WebhooksOf) -> None:
    """An answer that refuses, after a callback that told of a task, is not believed."""
    simulator, client = webhooks_of(durations=25.0)
    simulator.callbacks.next(Callback(early=True))
    simulator.faults.submit(Fault.delay(30.0, Fault.status(503, carried_out=True)))
    error = await uncertain(client)
    assert error.task is not None
    assert (await error.task).urls
    assert simulator.created == simulator.count("submit") == 1


async def test_model_name_that_fits_in_no_url(webhooks_of: WebhooksOf) -> None:
    """A submit that cannot be given a URL is refused before anything is sent."""
    simulator, client = webhooks_of()
    with pytest.raises(ConfigurationError, match="does not fit in a URL"):
        await client.submit(OtherModel("m" * 400, prompt="a castle"))
    assert simulator.count("submit") == 0
    statistics = client.statistics()
    assert (statistics.slots_used, statistics.requests_in_window) == (0, 0)


# --- uncertain submits -----------------------------------------------------------------------


async def test_callback_settles_an_uncertain_submit(
    webhooks_of: WebhooksOf, events: list[Any]
) -> None:
    """What an unanswered submit bought is found by its callback, and nothing is bought again."""
    simulator, client = webhooks_of(durations=25.0)
    simulator.faults.submit(Fault.lost_answer())
    error = await uncertain(client)
    task = error.task
    assert task is not None
    assert not task.id_known
    assert not task.done()
    assert client.unfinished == ()
    assert client.statistics().slots_used == 1
    result = await task
    assert task.id_known
    assert {result.task_id, task.ref.task_id} == set(simulator.tasks)
    assert polls(simulator) == simulator.created == 1
    assert client.statistics().slots_used == 0
    [found] = [event for event in events if isinstance(event, UncertainSubmitResolved)]
    assert found.task_id == result.task_id
    assert "had bought" in str(found)


async def test_early_callback_settles_an_uncertain_submit(webhooks_of: WebhooksOf) -> None:
    """A callback that came before the answer was lost counts as well."""
    simulator, client = webhooks_of()
    simulator.callbacks.next(Callback(early=True))
    simulator.faults.submit(Fault.lost_answer())
    error = await uncertain(client)
    assert error.task is not None
    assert (await error.task).task_id in simulator.tasks


async def test_found_task_is_not_bought_again(webhooks_of: WebhooksOf) -> None:
    """`resubmit` refuses what a callback has found, and works while nothing is found."""
    simulator, client = webhooks_of(durations=25.0)
    simulator.faults.submit(Fault.lost_answer(), Fault.lost_answer())
    error = await uncertain(client)
    with pytest.raises(SubmitUncertainError) as again:
        await client.resubmit(error)
    assert error.task is not None
    await error.task
    with pytest.raises(ConfigurationError, match="would be bought twice"):
        await client.resubmit(error)
    assert again.value.task is not None
    await again.value.task
    assert simulator.created == 2


async def test_found_while_a_resubmit_waits(webhooks_of: WebhooksOf) -> None:
    """`resubmit` buys nothing if a callback finds the task before its turn has come."""
    simulator, client = webhooks_of(durations=25.0)
    client.limits = Limits(concurrent_tasks=1)
    simulator.faults.submit(Fault.lost_answer())
    error = await uncertain(client)  # It holds the only slot.
    with pytest.raises(ConfigurationError, match="would be bought twice"):
        await client.resubmit(error)
    assert simulator.created == 1


async def test_no_callback_of_an_uncertain_submit(webhooks_of: WebhooksOf) -> None:
    """Without a callback the slot is free in time, and later the submit is presumed not bought."""
    simulator, client = webhooks_of(durations=25.0)
    simulator.faults.submit(Fault.reset_before())
    loop = asyncio.get_running_loop()
    error = await uncertain(client)
    start = loop.time()
    assert error.task is not None
    steady = asyncio.create_task(others(client))  # Callbacks do come, all the time.
    await asyncio.sleep(119)
    assert client.statistics().slots_used == 2
    await asyncio.sleep(2)
    assert client.statistics().slots_used == 1
    with pytest.raises(PresumedNotBoughtError, match="presumed not bought") as caught:
        await error.task
    steady.cancel()
    assert caught.value.bought is False
    # The age limit of 30 min, then four deliveries of 30 s and pauses of 30 s, 2 min and 10 min.
    assert loop.time() - start == pytest.approx(1_800 + 870)
    assert error.task.done()
    assert not error.task.id_known
    await client.resubmit(error)


async def others(client: AsyncClient) -> None:
    """Make tasks of other submits, one a minute, until cancelled."""
    while True:
        await client.generate(CASTLE)
        await asyncio.sleep(30)


@pytest.mark.parametrize("outage", [(0, 780), (300, 1_080), (1_890, 2_670)])
async def test_a_receiver_that_was_unreachable(
    webhooks_of: WebhooksOf, receiver: WebhookReceiver, outage: tuple[float, float]
) -> None:
    """After 13 minutes without a callback one of an uncertain submit may have been lost."""
    simulator, client = webhooks_of(durations=25.0)
    app, loop = receiver.asgi(), asyncio.get_running_loop()
    start = loop.time()

    async def at_times(scope: Any, receive: Any, send: Any) -> None:
        if outage[0] <= loop.time() - start < outage[1]:
            raise ConnectionRefusedError
        await app(scope, receive, send)

    simulator.deliver_to(at_times)
    # Its task is over, and all four of its callbacks are lost, if the outage begins in time.
    simulator.faults.submit(Fault.lost_answer() if outage[0] == 0 else Fault.reset_before())
    error = await uncertain(client)
    steady = asyncio.create_task(others(client))
    assert error.task is not None
    with pytest.raises(PresumedNotBoughtError, match="went missing") as caught:
        await error.task
    steady.cancel()
    assert caught.value.bought is None


async def test_two_workers(webhooks_of: WebhooksOf, receiver: WebhookReceiver) -> None:
    """What reaches the wrong worker comes again, and neither says that nothing was bought."""
    simulator, client = webhooks_of(durations=25.0)
    other = WebhookReceiver(receiver.public_url, "a secret of sixteen bytes or more")
    balance = {"to": other.asgi()}
    simulator.deliver_to(lambda *asgi: balance["to"](*asgi))
    simulator.faults.submit(Fault.lost_answer(), Fault.reset_before())
    found, never = await uncertain(client), await uncertain(client)
    steady = asyncio.create_task(others(client))
    await asyncio.sleep(40)  # The first delivery went to the other worker.
    assert simulator.callbacks.counts.failed > 0
    balance["to"] = receiver.asgi()
    assert found.task is not None
    assert (await found.task).task_id in simulator.tasks
    own = other.inbox().open("flux-kontext", 60.0, print)
    assert own.is_shared
    other_client_posts = await post(receiver, own.url, b"{}")
    assert other_client_posts == 503
    assert never.task is not None
    with pytest.raises(PresumedNotBoughtError, match="another process") as caught:
        await never.task
    steady.cancel()
    assert caught.value.bought is None


async def test_a_callback_without_words(webhooks_of: WebhooksOf, receiver: WebhookReceiver) -> None:
    """A page instead of a callback makes the client poll its task all the same."""
    simulator, client = webhooks_of(durations=25.0)
    simulator.callbacks.next(Callback(lost=True))
    task = await client.submit(CASTLE)
    await asyncio.sleep(26)
    url = simulator.tasks[task.id].callback_url
    assert url is not None
    assert await post(receiver, url, b"<html>" * 20_000) == 200
    assert await task.wait(1.0)


async def test_a_claim_of_an_older_task(webhooks_of: WebhooksOf, receiver: WebhookReceiver) -> None:
    """A task of the account that was there before the submit is not what the submit made."""
    simulator, client = webhooks_of(durations=25.0)
    old = await client.submit(CASTLE)
    await old
    await asyncio.sleep(3_600)
    simulator.faults.submit(Fault.lost_answer())
    simulator.callbacks.next(Callback(delay=300.0))
    error = await uncertain(client)
    made = list(simulator.tasks.values())[-1]
    assert made.callback_url is not None
    claim = b'{"code": 200, "data": {"taskId": "%s"}}' % old.id.encode()
    assert await post(receiver, made.callback_url, claim) == 200
    await asyncio.sleep(5)
    assert error.task is not None
    assert not error.task.id_known
    assert (await error.task).task_id == made.id


async def test_a_true_claim_after_a_wrong_one(
    webhooks_of: WebhooksOf, receiver: WebhookReceiver
) -> None:
    """A second claim that comes during the first counts when that one is disproved."""
    simulator, client = webhooks_of(durations=25.0)
    simulator.faults.submit(Fault.lost_answer())
    simulator.callbacks.next(Callback(lost=True))
    error = await uncertain(client)
    [made] = simulator.tasks.values()
    assert made.callback_url is not None
    for task_id in ("task_of_nobody", made.id):
        claim = b'{"code": 200, "data": {"taskId": "%s"}}' % task_id.encode()
        assert await post(receiver, made.callback_url, claim) == 200
        await asyncio.sleep(3.0)
    assert error.task is not None
    assert await error.task.wait(120.0)
    assert error.task.id == made.id


async def test_an_answer_after_a_wrong_claim(
    webhooks_of: WebhooksOf, receiver: WebhookReceiver
) -> None:
    """An id that an answer gives to its own submit is that submit's, whatever a callback said."""
    simulator, client = webhooks_of(durations=25.0)
    simulator.faults.submit(Fault.lost_answer(), Fault.delay(2.0))
    simulator.callbacks.next(Callback(lost=True))
    error = await uncertain(client)
    [doubtful] = simulator.tasks.values()
    buying = asyncio.create_task(client.submit(CASTLE))
    await asyncio.sleep(1.0)
    *_, bought = simulator.tasks.values()
    assert doubtful.callback_url is not None
    simulator.faults.poll(Fault.hang(), task_id=bought.id)
    claim = b'{"code": 200, "data": {"taskId": "%s"}}' % bought.id.encode()
    assert await post(receiver, doubtful.callback_url, claim) == 200
    task = await buying
    assert (await task).task_id == bought.id
    assert error.task is not None
    assert not error.task.id_known


async def test_nothing_is_presumed_where_no_callback_comes(webhooks_of: WebhooksOf) -> None:
    """Where no callback of any task came, nobody can say that nothing was bought."""
    simulator, client = webhooks_of()
    simulator.faults.submit(Fault.lost_answer())
    simulator.callbacks.next(Callback(lost=True))
    error = await uncertain(client)
    assert error.task is not None
    with pytest.raises(
        PresumedNotBoughtError, match="callbacks of other tasks stayed away"
    ) as caught:
        await error.task
    assert caught.value.bought is None
    assert simulator.created == 1


async def test_wrong_claim(webhooks_of: WebhooksOf, receiver: WebhookReceiver) -> None:
    """A name that the service does not know is taken back, and the right one still counts."""
    simulator, client = webhooks_of(durations=100.0)
    simulator.faults.submit(Fault.lost_answer())
    error = await uncertain(client)
    [true] = simulator.tasks
    url = simulator.tasks[true].callback_url
    assert url is not None
    assert error.task is not None
    other = await client.submit(CASTLE)
    for claim in (b"task_of_nobody", other.id.encode()):
        await post(receiver, url, b'{"code": 200, "data": {"taskId": "%s"}}' % claim)
        await asyncio.sleep(30)
        assert not error.task.id_known
    await asyncio.gather(other, error.task)
    assert error.task.ref.task_id == true


async def test_claim_of_a_failure_without_a_name(
    webhooks_of: WebhooksOf, receiver: WebhookReceiver
) -> None:
    """A callback that names no task changes nothing about an uncertain submit."""
    simulator, client = webhooks_of(durations=100.0)
    simulator.faults.submit(Fault.lost_answer())
    error = await uncertain(client)
    [task] = simulator.tasks.values()
    assert error.task is not None
    assert task.callback_url is not None
    assert await post(receiver, task.callback_url, b'{"code": 200, "data": null}') == 200
    await asyncio.sleep(5)
    assert polls(simulator) == 0
    await error.task


async def test_refresh_without_a_name(webhooks_of: WebhooksOf) -> None:
    """A task that nobody can name cannot be polled, and says so at once."""
    simulator, client = webhooks_of()
    simulator.faults.submit(Fault.lost_answer())
    error = await uncertain(client)
    task: Any = error.task
    assert task.model == CASTLE.model
    assert task.id.startswith("unnamed-")
    with pytest.raises(ApixoError, match="nothing to poll"):
        await task.refresh()


async def test_copies_of_the_error(webhooks_of: WebhooksOf) -> None:
    """A copy of the error keeps its task; a pickled one leaves it behind."""
    simulator, client = webhooks_of()
    simulator.faults.submit(Fault.lost_answer())
    error = await uncertain(client)
    assert copy(error).task is error.task
    thawed = pickle.loads(pickle.dumps(error))
    assert thawed.task is None
    assert (thawed.input, thawed.model, str(thawed)) == (error.input, error.model, str(error))
    assert error.sent_at <= datetime.now(UTC)


async def test_close_with_an_uncertain_submit(webhooks_of: WebhooksOf) -> None:
    """A close tells whoever awaits the task of an uncertain submit, and its slot stays held."""
    simulator, client = webhooks_of()
    simulator.faults.submit(Fault.lost_answer())
    error = await uncertain(client)
    assert error.task is not None
    waiter = asyncio.ensure_future(error.task)
    await asyncio.sleep(1)
    await client.aclose()
    with pytest.raises(ApixoError, match="closed"):
        await waiter
    assert client.unfinished == ()


async def test_cancelled_uncertain_submit_is_handed_on(
    client_of: ClientOf, receiver: WebhookReceiver
) -> None:
    """A cancelled caller's uncertain submit reaches `on_orphan` with its live task."""
    simulator = Simulator(seed=1)
    simulator.deliver_to(receiver.asgi())
    simulator.faults.submit(Fault.delay(4.0, Fault.lost_answer()))
    orphans: list[Any] = []
    client = client_of(simulator, webhooks=receiver, on_orphan=orphans.append)
    submit = asyncio.create_task(client.submit(CASTLE))
    await asyncio.sleep(1)
    submit.cancel()
    await asyncio.sleep(10)
    [orphan] = orphans
    assert (await orphan.task).urls


# --- receivers that nobody reaches -----------------------------------------------------------


async def test_silence(webhooks_of: WebhooksOf, events: list[Any]) -> None:
    """Where callbacks come no more, tasks are polled as without webhooks after a few."""
    simulator, client = webhooks_of(durations=25.0)
    await proved(simulator, client)
    simulator.deliver_to(None)
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(client.generate(CASTLE) for _ in range(8)))
    assert [event.tasks for event in events if isinstance(event, CallbacksLost)] == [8]
    start = loop.time()
    await client.generate(CASTLE)
    assert loop.time() - start < 30


@pytest.mark.parametrize("reached", [False, True])
async def test_no_result_is_late_before_callbacks_have_come(
    webhooks_of: WebhooksOf, receiver: WebhookReceiver, client_of: ClientOf, *, reached: bool
) -> None:
    """Whether they go astray or come: tasks are polled no later than without webhooks."""
    simulator, client = webhooks_of(durations=24.0)
    simulator.deliver_to(receiver.asgi() if reached else None)
    other = Simulator(seed=1, durations=24.0)
    loop, news = asyncio.get_running_loop(), {}

    async def news_of(name: str, owner: AsyncClient) -> None:
        await owner.generate(CASTLE)
        news[name] = loop.time()

    without = client_of(other, latency=LATENCY)
    await asyncio.gather(news_of("with", client), news_of("without", without))
    assert news["with"] <= news["without"] + LATENCY


async def test_first_callback_that_goes_astray(webhooks_of: WebhooksOf, events: list[Any]) -> None:
    """Before any callback has come the first one that is missed is reported, once."""
    simulator, client = webhooks_of(durations=24.0)
    simulator.deliver_to(None)
    await client.generate(CASTLE)
    assert [event.tasks for event in events if isinstance(event, CallbacksLost)] == [1]
    await client.generate(CASTLE)
    assert sum(isinstance(event, CallbacksLost) for event in events) == 1


async def test_silence_hurries_those_who_wait(webhooks_of: WebhooksOf) -> None:
    """As soon as callbacks are known not to come, the tasks in flight are polled too."""
    simulator, client = webhooks_of(durations=25.0)
    await proved(simulator, client)
    simulator.deliver_to(None)
    loop = asyncio.get_running_loop()
    first = [asyncio.create_task(client.generate(CASTLE)) for _ in range(8)]
    await asyncio.sleep(24)
    start = loop.time()
    second = asyncio.create_task(client.generate(CASTLE))
    await asyncio.gather(*first)
    await second
    assert loop.time() - start < 30


async def test_callbacks_come_back(
    webhooks_of: WebhooksOf, events: list[Any], receiver: WebhookReceiver
) -> None:
    """One callback ends the silence, and tasks cost one poll again."""
    simulator, client = webhooks_of(durations=24.0)
    simulator.deliver_to(None)
    await asyncio.gather(*(client.generate(CASTLE) for _ in range(10)))
    simulator.deliver_to(receiver.asgi())
    simulator.callbacks.next(Callback(processing=True))
    await client.generate(CASTLE)
    assert any(isinstance(event, CallbacksRestored) for event in events)
    before = polls(simulator)
    await client.generate(CASTLE)
    assert polls(simulator) - before == 1


async def test_outage_with_callbacks(webhooks_of: WebhooksOf) -> None:
    """A poll that a callback caused and that told nothing is repeated until one tells."""
    simulator, client = webhooks_of(durations=25.0)
    simulator.faults.poll(*[Fault.status(502)] * 3)
    await client.generate(CASTLE)
    assert polls(simulator) == 4


async def test_denied_polls_stay_paused(webhooks_of: WebhooksOf) -> None:
    """A callback does not poll with a key that was refused; `refresh` does."""
    simulator, client = webhooks_of(durations=25.0)
    simulator.callbacks.next(Callback(copies=3, delay=5.0))
    simulator.faults.poll(Fault.status(401))
    task = await client.submit(CASTLE)
    with pytest.raises(ApixoError):
        await task.refresh()
    with pytest.raises(ApixoError):
        await task
    await asyncio.sleep(60)
    assert polls(simulator) == 1
    await task.refresh()
    assert (await task).urls


async def test_age_limit(webhooks_of: WebhooksOf) -> None:
    """A task of which nothing tells is given up at its age limit, as without webhooks."""
    simulator, client = webhooks_of(durations=1e6)
    before = await proved(simulator, client)
    with pytest.raises(TaskAbandonedError):
        await client.generate(CASTLE)
    assert polls(simulator) - before <= 12


async def test_two_clients_of_one_receiver(
    client_of: ClientOf, receiver: WebhookReceiver, simulator: Simulator
) -> None:
    """Each client is told of its own tasks; what one leaves at its close is answered only."""
    simulator.deliver_to(receiver.asgi())
    one, two = (client_of(simulator, webhooks=receiver) for _ in range(2))
    simulator.faults.submit(Fault.task_lasts(15.0), Fault.task_lasts(15.0))
    left, kept = await one.submit(CASTLE), await two.submit(CASTLE)
    await one.aclose()
    await kept
    await asyncio.sleep(60)
    assert polls(simulator) == 1
    assert simulator.callbacks.counts.delivered == 2
    assert one.unfinished == (left.ref,)


async def test_unsent_submit(webhooks_of: WebhooksOf, receiver: WebhookReceiver) -> None:
    """A submit that is never sent leaves no place for callbacks behind."""
    simulator, client = webhooks_of()
    simulator.faults.submit(*[Fault.refused()] * 99)
    with pytest.raises(APIConnectionError):
        await client.submit(CASTLE)
    assert "0 tasks" in repr(receiver)


def test_wrong_receiver() -> None:
    """Something else than a receiver is refused, the class in place of an object too."""
    wrong: list[Any] = [WebhookReceiver, "https://app.example.com", 1]
    for given in wrong:
        with pytest.raises(ConfigurationError, match="webhooks"):
            AsyncClient("test-key", webhooks=given)


def test_loop_after_loop(receiver: WebhookReceiver) -> None:
    """A client that is bound to another loop leaves nothing of the first one at the receiver."""
    simulator = Simulator(seed=1)
    client = AsyncClient("test-key", transport=simulator.transport(), webhooks=receiver)

    async def leave() -> None:
        simulator.faults.submit(Fault.lost_answer())
        await uncertain(client)

    async def again() -> None:
        await client.generate(CASTLE)
        assert client.statistics().slots_used == 1  # That of the uncertain one, for its time.
        await asyncio.sleep(120)
        assert client.statistics().slots_used == 0
        await client.aclose()

    for main in (leave, again):
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(main())
    assert "0 tasks" in repr(receiver)

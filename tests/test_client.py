from __future__ import annotations

import asyncio
import gc
import logging
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from apixo_async import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    ApixoError,
    AsyncClient,
    AuthenticationError,
    ClientClosed,
    ClientClosedError,
    ClientOpened,
    ConfigurationError,
    Event,
    FluxKontext,
    Limiter,
    Limits,
    NotFoundError,
    Polling,
    RateLimitError,
    Result,
    SubmitUncertainError,
    TaskRef,
    Timeouts,
    WaitTimeoutError,
)
from apixo_async.testing import Fault, Simulator, VirtualTimeLoop

ClientOf = Callable[..., AsyncClient]
CASTLE = FluxKontext(mode="pro", prompt="a castle")


def test_constructing_needs_no_loop_and_does_no_io(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client can be made at import time, and counts nothing yet."""
    monkeypatch.setenv("APIXO_API_KEY", "from-environment")
    client = AsyncClient()
    assert client.statistics().requests_limit == 10_000
    assert client.statistics().slots_used == 0
    assert client.unfinished == ()
    assert repr(client) == "<AsyncClient https://api.apixo.ai/api/v1 0 tasks in flight>"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no key": ({"api_key": None}, "APIXO_API_KEY"),
    "empty key": ({"api_key": " "}, "no API key"),
    "plain http": ({"base_url": "http://api.apixo.ai"}, "in the clear"),
    "limits and limiter": ({"limits": Limits(), "limiter": Limiter()}, "exclude each other"),
    "polling class": ({"polling": Polling.documented}, "it takes a Polling"),
    "timeout zero": ({"timeout": 0}, "above 0"),
    "timeout text": ({"timeout": "5"}, "Timeouts"),
    "transport class": ({"transport": httpx2.AsyncHTTPTransport}, "AsyncBaseTransport"),
    "proxy and transport": (
        {"proxy": "http://127.0.0.1:1", "transport": Simulator().transport()},
        "settings of the transport",
    ),
}


@pytest.mark.parametrize(("options", "words"), WRONG.values(), ids=WRONG.keys())
def test_wrong_settings(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], words: str
) -> None:
    """A wrong setting is a clear error when the client is made."""
    monkeypatch.delenv("APIXO_API_KEY", raising=False)
    options = {"api_key": "test-key"} | options
    with pytest.raises(ConfigurationError, match=words):
        AsyncClient(**options)


async def test_wrong_arguments(simulator: Simulator, client_of: ClientOf) -> None:
    """Wrong arguments are refused before anything is sent."""
    client = client_of(simulator)
    wrong: list[Callable[[], Any]] = [
        lambda: client.submit({"prompt": "x"}),  # type: ignore[arg-type]  # the point
        lambda: client.submit(FluxKontext),  # type: ignore[arg-type]  # the point
        lambda: client.submit(CASTLE, timeout=-1),
        lambda: client.submit(CASTLE, provider="cheapest"),
        lambda: client.submit(CASTLE, callback_url="http://example.com/hook"),
        lambda: client.submit(CASTLE, callback_url="example.com"),
        lambda: client.generate("a castle"),  # type: ignore[arg-type]  # the point
        lambda: client.resubmit(ValueError()),  # type: ignore[arg-type]  # the point
        lambda: client.download("task_1", "."),  # type: ignore[arg-type]  # the point
    ]
    for call in wrong:
        with pytest.raises(ConfigurationError):
            await call()
    for ref in ((), ("m",), (TaskRef("m", "t"), "t"), ("m", ""), (None, "t")):
        with pytest.raises((ConfigurationError, TypeError)):
            client.attach(*ref)
    with pytest.raises(ConfigurationError):
        client.estimate(["a castle"])  # type: ignore[list-item]  # the point
    assert simulator.count() == 0


async def test_options_of_a_submit(simulator: Simulator, client_of: ClientOf) -> None:
    """Route and callback URL reach the service; without them neither field is sent."""
    client = client_of(simulator)
    plain = await client.submit(CASTLE)
    routed = await client.submit(
        CASTLE, provider="official", callback_url="https://example.com/hook"
    )
    sent = simulator.tasks[plain.id], simulator.tasks[routed.id]
    assert [(one.request_type, one.provider, one.callback_url) for one in sent] == [
        ("async", None, None),
        ("callback", "official", "https://example.com/hook"),
    ]
    assert (await routed).urls


async def test_resubmit_keeps_the_options(simulator: Simulator, client_of: ClientOf) -> None:
    """`resubmit` buys anew what the uncertain submit asked for, options included."""
    simulator.faults.submit(Fault.lost_answer())
    client = client_of(simulator)
    with pytest.raises(SubmitUncertainError) as caught:
        await client.submit(CASTLE, provider="value")
    error = pickle.loads(pickle.dumps(caught.value))
    task = await client.resubmit(error)
    assert simulator.tasks[task.id].provider == "value"
    assert simulator.created == 2


async def test_generate_timeout(simulator: Simulator, client_of: ClientOf) -> None:
    """A `generate` out of time names the task, which goes on and can be attached to."""
    client = client_of(simulator)
    start = asyncio.get_running_loop().time()
    with pytest.raises(WaitTimeoutError, match="it goes on") as caught:
        await client.generate(CASTLE, timeout=5.0)
    assert asyncio.get_running_loop().time() - start == pytest.approx(5.0)
    assert isinstance(caught.value, TimeoutError)
    assert (await client.attach(caught.value.ref)).task_id == caught.value.task_id
    assert simulator.created == 1


async def test_attach_twice_is_one_task(simulator: Simulator, client_of: ClientOf) -> None:
    """Handles of one task share its polls."""
    client = client_of(simulator)
    task = await client.submit(CASTLE)
    again = client.attach(task.model, task.id)
    assert (await asyncio.gather(task, again))[0].task_id == task.id
    assert simulator.count("poll") <= 6


async def test_poll_asks_once(simulator: Simulator, client_of: ClientOf) -> None:
    """A question about a task is one request, and says what the task made or how it failed."""
    client, other = client_of(simulator), client_of(simulator)
    simulator.faults.submit(Fault.task_lasts(30.0), Fault.task_fails("NSFW", "a naked castle"))
    good, bad = [(await client.submit(CASTLE)).detach() for _ in range(2)]
    snapshot = await other.poll(good)
    assert (snapshot.state, snapshot.is_over, snapshot.result) == ("pending", False, None)
    assert simulator.count("poll") == 1
    await asyncio.sleep(60)
    snapshot = await other.poll(good.model, good.task_id)
    assert snapshot.is_over
    assert snapshot.result is not None
    assert snapshot.result.ref == good
    assert snapshot.result.urls
    failed = await other.poll(bad)
    assert (failed.state, failed.fail_code, failed.fail_msg) == ("failed", "NSFW", "a naked castle")
    assert failed.result is None
    assert (simulator.count("poll"), other.statistics().polls) == (3, 3)
    assert (other.statistics().slots_used, other.unfinished) == (0, ())
    assert pickle.loads(pickle.dumps(snapshot)) == snapshot


async def test_poll_of_a_mistyped_id(simulator: Simulator, client_of: ClientOf) -> None:
    """An id that the service does not know is known as such from the first answer."""
    with pytest.raises(NotFoundError, match="check the model's name and the task id") as raised:
        await client_of(simulator).poll("flux-kontext", "task_mistyped")
    assert raised.value.ref == TaskRef("flux-kontext", "task_mistyped")
    assert simulator.count("poll") == 1


POLLS_THAT_FAIL: dict[str, tuple[Fault, type[ApixoError]]] = {
    "denied": (Fault.status(401), AuthenticationError),
    "a page": (Fault.html(), APIStatusError),
    "lost": (Fault.lost_answer(), APIConnectionError),
    "no answer": (Fault.hang(), APITimeoutError),
    "throttled": (Fault.status(429), RateLimitError),
}


@pytest.mark.parametrize(("fault", "cls"), POLLS_THAT_FAIL.values(), ids=POLLS_THAT_FAIL)
async def test_poll_without_a_usable_answer(
    simulator: Simulator, client_of: ClientOf, fault: Fault, cls: type[ApixoError]
) -> None:
    """A question that gets no usable answer raises why, for this task, and is not repeated."""
    client = client_of(simulator)
    ref = (await client.submit(CASTLE)).detach()
    simulator.faults.poll(fault)
    with pytest.raises(cls) as raised:
        await client.poll(ref)
    assert raised.value.ref == ref
    assert not raised.value.task_over
    assert simulator.count("poll") == 1


async def test_poll_that_cannot_be_sent(simulator: Simulator, client_of: ClientOf) -> None:
    """A question for which the limit has no room ends in bounded time, and says why."""
    client = client_of(simulator, limits=Limits(1, 1), timeout=Timeouts(exchange=10, throttled=10))
    ref = (await client.submit(CASTLE)).detach()
    with pytest.raises(APITimeoutError, match="no poll could be sent within 20 s") as raised:
        await client.poll(ref)
    assert raised.value.ref == ref


async def test_poll_of_a_closed_client(simulator: Simulator, client_of: ClientOf) -> None:
    """The close of a client ends a question that waits."""
    client = client_of(simulator, latency=5.0)
    asking = asyncio.create_task(client.poll("flux-kontext", "task_1"))
    await asyncio.sleep(1)
    await client.aclose()
    with pytest.raises(ClientClosedError):
        await asking
    with pytest.raises(ClientClosedError):
        await client.poll("flux-kontext", "task_1")


async def test_attached_tasks_count_above_the_limit(
    simulator: Simulator, client_of: ClientOf
) -> None:
    """Attaching never waits for a slot, and takes one all the same."""
    first = client_of(simulator)
    refs = [(await first.submit(CASTLE)).ref for _ in range(3)]
    client = client_of(simulator, limits=Limits(concurrent_tasks=1))
    tasks = [client.attach(ref) for ref in refs]
    assert client.statistics().slots_used == 3
    await asyncio.gather(*tasks)
    assert client.statistics().slots_used == 0


async def test_events_tell_the_life_of_a_task(
    simulator: Simulator, client_of: ClientOf, events: list[Event]
) -> None:
    """Every step of client and task is one frozen record, none of which knows the prompt."""
    client = client_of(simulator)
    await client.generate(CASTLE)
    await client.aclose()
    names = [type(event).__name__ for event in events]
    assert names[:2] == ["ClientOpened", "TaskSubmitted"]
    assert names[-2:] == ["TaskSettled", "ClientClosed"]
    assert set(names[2:-2]) == {"TaskPolled"}
    assert isinstance(events[0], ClientOpened)
    assert "castle" not in "".join(map(str, events)) + repr(events)
    with pytest.raises(AttributeError):
        events[0].base_url = "x"  # type: ignore[misc]  # the point


async def test_log(
    simulator: Simulator, client_of: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    """Everything goes to one logger, without key and prompt; httpx2 logs nothing."""
    with caplog.at_level(logging.DEBUG):
        await client_of(simulator).generate(CASTLE)
    ours = [record for record in caplog.records if record.name == "apixo_async"]
    assert len(ours) >= 4
    for secret in ("test-key", "castle"):
        assert secret not in caplog.text
    assert not [record for record in caplog.records if record.name.startswith("httpx2")]


async def test_raising_on_event(simulator: Simulator, client_of: ClientOf) -> None:
    """What `on_event` raises never reaches the engine."""

    def hook(_: Event) -> None:
        raise ValueError("the hook's own")

    assert (await client_of(simulator, on_event=hook).generate(CASTLE)).urls


# --- life ------------------------------------------------------------------------------------


async def test_close_tells_waiters_and_keeps_refs(
    simulator: Simulator, client_of: ClientOf, events: list[Event]
) -> None:
    """Closing ends polls, tells every waiter, and keeps the refs of what is unfinished."""
    client = client_of(simulator)
    tasks = [await client.submit(CASTLE) for _ in range(3)]
    waiters = [asyncio.ensure_future(task) for task in tasks]
    await asyncio.sleep(1)
    start = asyncio.get_running_loop().time()
    await asyncio.gather(client.aclose(), client.aclose())
    await client.aclose()
    assert asyncio.get_running_loop().time() - start < 1
    for error in await asyncio.gather(*waiters, return_exceptions=True):
        assert isinstance(error, ClientClosedError)
        assert "attach" in str(error)
    assert client.unfinished == tuple(task.ref for task in tasks)
    assert [event for event in events if isinstance(event, ClientClosed)] == [
        ClientClosed(tuple(str(task.ref) for task in tasks))
    ]
    with pytest.raises(ClientClosedError):
        await tasks[0].refresh()


async def test_drain(simulator: Simulator, client_of: ClientOf) -> None:
    """Closing with `drain` lets tasks finish, within its time."""
    client = client_of(simulator)
    simulator.faults.submit(None, Fault.task_lasts(1_000.0))
    quick, slow = await client.submit(CASTLE), await client.submit(CASTLE)
    start = asyncio.get_running_loop().time()
    await client.aclose(drain=100.0)
    assert asyncio.get_running_loop().time() - start == pytest.approx(100.0, abs=1)
    assert quick.result().urls
    assert client.unfinished == (slow.ref,)


async def test_drain_ends_as_soon_as_all_is_done(simulator: Simulator, client_of: ClientOf) -> None:
    """A drain is over when the last task is."""
    client = client_of(simulator)
    task = await client.submit(CASTLE)
    start = asyncio.get_running_loop().time()
    await client.aclose(drain=1e6)
    assert asyncio.get_running_loop().time() - start < 100
    assert task.done()


async def test_use_after_close(simulator: Simulator, client_of: ClientOf) -> None:
    """A closed client says so, and says what to do."""
    client = client_of(simulator)
    await client.aclose()
    result = Result("task_1", "flux-kontext", ("https://r2.apixo.ai/a.png",))
    calls: list[Callable[[], Any]] = [
        lambda: client.submit(CASTLE),
        lambda: client.generate(CASTLE),
        lambda: client.balance(),
        lambda: client.download(result, "."),
        lambda: client.__aenter__(),
    ]
    for call in calls:
        with pytest.raises(ClientClosedError, match="make a new one"):
            await call()
    for call in calls[:2]:
        with pytest.raises(ClientClosedError) as caught:
            await call()
        assert caught.value.bought is False
    with pytest.raises(ClientClosedError):
        client.attach("m", "t")


async def test_closed_client_leaves_nothing(simulator: Simulator) -> None:
    """After close no asyncio.Task is left, and nothing warns."""
    before = asyncio.all_tasks()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with AsyncClient("test-key", transport=simulator.transport()) as client:
            await client.submit(CASTLE)
            asyncio.get_running_loop().call_later(1, gc.collect)
            await asyncio.sleep(25)
        del client
        gc.collect()
    assert asyncio.all_tasks() == before


def in_virtual_time(main: Callable[[], Any]) -> Any:
    """Run a coroutine function on a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main())


def test_second_loop() -> None:
    """Another loop is an error while the first lives, or left tasks; else it is bound anew."""
    simulator = Simulator(seed=1)
    client = AsyncClient("test-key", transport=simulator.transport())

    async def generate() -> Result:
        return await client.generate(CASTLE)

    async def submit() -> None:
        await client.submit(CASTLE)

    first = asyncio.new_event_loop()
    first.run_until_complete(client.balance())
    with pytest.raises(ConfigurationError, match="one client for each loop"):
        in_virtual_time(generate)
    first.close()
    assert in_virtual_time(generate).urls
    assert in_virtual_time(generate).urls
    in_virtual_time(submit)
    with pytest.raises(ConfigurationError, match="1 tasks in flight"):
        in_virtual_time(generate)
    assert len(client.unfinished) == 1
    in_virtual_time(client.aclose)
    assert len(client.unfinished) == 1


def test_no_loop() -> None:
    """Attaching outside of a coroutine says what is missing."""
    client = AsyncClient("test-key", transport=Simulator().transport())
    with pytest.raises(ConfigurationError, match="from a coroutine"):
        client.attach("m", "t")


async def test_close_before_use() -> None:
    """A client that was never used closes, and closes the transport it was given."""
    closed: list[bool] = []

    class Transport(httpx2.MockTransport):
        async def aclose(self) -> None:
            closed.append(True)

    await AsyncClient("k", transport=Transport(lambda _: httpx2.Response(200))).aclose()
    assert closed == [True]


async def test_limits_raised_while_submits_wait(simulator: Simulator, client_of: ClientOf) -> None:
    """Higher limits let those who wait go at once, and the statistics show them."""
    client = client_of(simulator, limits=Limits(concurrent_tasks=1, requests_per_minute=600))
    await client.submit(CASTLE)
    waiting = [asyncio.create_task(client.submit(CASTLE)) for _ in range(3)]
    await asyncio.sleep(1)
    client.limits = Limits(concurrent_tasks=3, requests_per_minute=6_000)
    await asyncio.sleep(0.1)
    assert [waiter.done() for waiter in waiting] == [True, True, False]
    counts = client.statistics()
    assert (counts.slots_limit, counts.slots_waiting, counts.requests_limit) == (3, 1, 6_000)
    assert client.limits == Limits(concurrent_tasks=3, requests_per_minute=6_000)
    await waiting[2]


def test_limits_set_before_the_first_use() -> None:
    """Limits may be set before there is a loop; what is none is refused."""
    client = AsyncClient("test-key", transport=Simulator().transport())
    client.limits = Limits(concurrent_tasks=7)
    assert client.statistics().slots_limit == 7
    with pytest.raises(ConfigurationError, match="Limits"):
        client.limits = 7  # type: ignore[assignment]  # the point
    assert client.limits == Limits(concurrent_tasks=7)


async def test_two_clients_on_one_limiter(client_of: ClientOf) -> None:
    """Clients that share a limiter share its slots and permits."""
    simulator = Simulator(seed=1, concurrent_tasks=4)
    limiter = Limiter(Limits(concurrent_tasks=4))
    clients = [client_of(simulator, limiter=limiter) for _ in range(2)]
    await asyncio.gather(*(clients[n % 2].generate(CASTLE) for n in range(20)))
    assert simulator.most_concurrent == 4
    assert simulator.statistics().refused == 0


@pytest.mark.parametrize("attach_first", [False, True])
async def test_tasks_that_change_clients_hold_one_slot_each(
    simulator: Simulator, client_of: ClientOf, attach_first: bool
) -> None:
    """Clients of one limiter hand their tasks on: each counts once, and not after its end."""
    limiter = Limiter(Limits(concurrent_tasks=3))
    first, second = [client_of(simulator, limiter=limiter) for _ in range(2)]
    refs = [(await first.submit(CASTLE)).ref for _ in range(3)]
    if attach_first:
        tasks = [second.attach(ref) for ref in refs]
        await first.aclose()
    else:
        await first.aclose()
        tasks = [second.attach(ref) for ref in refs]
    assert limiter.slots_used == 3
    start = asyncio.get_running_loop().time()
    await asyncio.gather(*tasks)
    assert limiter.slots_used == 0
    await second.submit(CASTLE)
    assert asyncio.get_running_loop().time() - start < 120.0

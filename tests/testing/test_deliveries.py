"""Deliveries: what is posted to receivers and when, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from apixo_async.testing import Callback, Fault, SimulatedTask, Simulator, StuckError
from apixo_async.testing.callbacks import CallbackCounts
from apixo_async.testing.virtual_time import VirtualTimeLoop

HEADERS = {"Authorization": "Bearer test-key"}
API = "https://api.apixo.ai/api/v1/"
HOOK = "https://app.example.com/hook/abc?x=1"


def passed() -> float:
    """Return the virtual seconds since the test began."""
    return round(asyncio.get_running_loop().time() - 1000.0, 6)


async def refuse() -> httpx2.Response:
    """Refuse the connection."""
    raise httpx2.ConnectError("All connection attempts failed")


async def crash() -> httpx2.Response:
    """Fail as a handler does."""
    raise LookupError("no such thing")


def after(delay: float, status: int = 200) -> Callable[[], Awaitable[httpx2.Response]]:
    """Answer ``delay`` seconds later."""

    async def answer() -> httpx2.Response:
        await asyncio.sleep(delay)
        return httpx2.Response(status)

    return answer


async def trickle() -> httpx2.Response:
    """Answer 200 at once, with a body that takes a minute."""

    async def body() -> AsyncIterator[bytes]:
        yield b"o"
        await asyncio.sleep(60)
        yield b"k"

    return httpx2.Response(200, content=body())


@dataclass
class Receiver:
    """Take posts down with their times; answer what is in the list, and 200 after its end."""

    simulator: Simulator
    answers: list[Any] = field(default_factory=list[Any])
    requests: list[httpx2.Request] = field(default_factory=list[httpx2.Request])
    times: list[float] = field(default_factory=list[float])
    told: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def __post_init__(self) -> None:
        self.simulator.deliver_to(httpx2.MockTransport(self._take))

    async def _take(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        self.times.append(passed())
        body = json.loads(request.content)
        self.told.append((body["data"]["taskId"], body["data"]["state"]))
        answer = self.answers.pop(0) if self.answers else 200
        return await answer() if callable(answer) else httpx2.Response(answer)


@contextlib.asynccontextmanager
async def client_of(
    simulator: Simulator, latency: float = 0.0
) -> AsyncIterator[httpx2.AsyncClient]:
    """Yield a client of the service."""
    async with httpx2.AsyncClient(
        transport=simulator.transport(latency), base_url=API, headers=HEADERS, timeout=100.0
    ) as client:
        yield client


async def submit(simulator: Simulator, latency: float = 0.0, **changes: Any) -> SimulatedTask:
    """Submit a task in callback mode and return it."""
    body = {"request_type": "callback", "callback_url": HOOK, "input": {}} | changes
    async with client_of(simulator, latency) as client:
        answer = await client.post("generateTask/sora-2", json=body)
    assert answer.json()["code"] == 200, answer.text
    return simulator.tasks[answer.json()["data"]["taskId"]]


async def poll(simulator: Simulator, task_id: str) -> dict[str, Any]:
    """Return the envelope of a poll."""
    async with client_of(simulator) as client:
        answer = await client.get("statusTask/sora-2", params={"taskId": task_id})
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("fault", [None, Fault.task_fails("NSFW", "no")])
async def test_the_end_of_a_task_is_posted(fault: Fault | None) -> None:
    """When the task is over, its status answer is posted to the URL, without a poll."""
    simulator = Simulator(durations=10.0)
    receiver = Receiver(simulator)
    simulator.faults.submit(fault)
    task = await submit(simulator)
    await asyncio.sleep(9.99)
    assert receiver.requests == []
    await asyncio.sleep(2_000)
    (request,) = receiver.requests
    assert receiver.times == [10.0]
    assert (request.method, str(request.url)) == ("POST", HOOK)
    assert request.headers["content-type"] == "application/json"
    assert request.headers["content-length"] == str(len(request.content))
    assert "authorization" not in request.headers
    body = json.loads(request.content)
    assert body == await poll(simulator, task.id)
    assert body["data"]["state"] == ("failed" if fault else "success")
    assert "sora-2" not in request.content.decode()
    (attempt,) = simulator.callbacks.log
    assert (attempt.at, attempt.ended_at, attempt.task_id) == (1010.0, 1010.0, task.id)
    assert (attempt.number, attempt.copy, attempt.url) == (1, 1, HOOK)
    assert (attempt.status, attempt.error, attempt.delivered) == (200, None, True)


@pytest.mark.parametrize("url", [None, HOOK])
async def test_polled_tasks_are_not_posted(url: str | None) -> None:
    """Only callback mode has callbacks, whatever URL an async submit names."""
    simulator = Simulator(durations=1.0, lost_callbacks=1.0)
    receiver = Receiver(simulator)
    task = await submit(simulator, request_type="async", callback_url=url)
    await asyncio.sleep(100)
    assert (receiver.requests, task.callback) == ([], None)
    assert simulator.callbacks.counts == CallbackCounts()


@pytest.mark.parametrize("answer", [201, 202, 204, 301, 302, 404, 500, refuse, crash])
async def test_anything_but_200_is_followed_by_redelivery(answer: Any) -> None:
    """30 s, 2 min and 10 min after each failed attempt it comes again, and then never."""
    simulator = Simulator(durations=10.0)
    receiver = Receiver(simulator, [answer] * 10)
    task = await submit(simulator)
    await asyncio.sleep(100_000)
    assert receiver.times == [10.0, 40.0, 160.0, 760.0]
    assert len({request.content for request in receiver.requests}) == 1
    log = simulator.callbacks.log
    assert [attempt.number for attempt in log] == [1, 2, 3, 4]
    if isinstance(answer, int):
        assert {(one.status, one.error) for one in log} == {(answer, None)}
    else:
        assert {one.status for one in log} == {None}
        assert {(one.error or "").partition(":")[0] for one in log} <= {
            "ConnectError",
            "LookupError",
        }
    assert simulator.callbacks.counts == CallbackCounts(tasks=1, failed=4, given_up=1)
    assert (await poll(simulator, task.id))["data"]["state"] == "success"


@pytest.mark.parametrize("answer", [after(30.1), after(10_000), trickle])
async def test_an_answer_that_takes_too_long_is_none(answer: Any) -> None:
    """After 30 s an attempt has failed, and its redelivery is counted from there."""
    simulator = Simulator(durations=10.0)
    receiver = Receiver(simulator, [answer] * 3)
    await submit(simulator)
    await asyncio.sleep(10_000)
    assert receiver.times == [10.0, 70.0, 220.0, 850.0]
    log = simulator.callbacks.log
    assert [round(attempt.ended_at - 1000.0, 6) for attempt in log] == [40.0, 100.0, 250.0, 850.0]
    assert [attempt.error for attempt in log] == ["no answer within 30 s"] * 3 + [None]
    assert simulator.callbacks.counts == CallbackCounts(tasks=1, failed=3, delivered=1)


async def test_an_answer_in_the_last_moment_counts() -> None:
    """200 within 30 s is a delivery, and nothing comes after it."""
    simulator = Simulator(durations=10.0)
    receiver = Receiver(simulator, [after(29.9)])
    await submit(simulator)
    await asyncio.sleep(10_000)
    assert receiver.times == [10.0]
    assert simulator.callbacks.counts == CallbackCounts(tasks=1, delivered=1)


async def test_a_receiver_that_recovers_gets_it() -> None:
    """Redelivery ends with the first 200."""
    simulator = Simulator(durations=10.0)
    receiver = Receiver(simulator, [500, refuse])
    await submit(simulator)
    await asyncio.sleep(10_000)
    assert receiver.times == [10.0, 40.0, 160.0]
    assert [attempt.status for attempt in simulator.callbacks.log] == [500, None, 200]


@pytest.mark.parametrize(
    ("speed", "times"), [(2.0, [5.0, 35.0, 110.0, 425.0]), (100.0, [0.1, 5.4, 11.6, 22.6])]
)
async def test_speed_divides_delays_and_limit(speed: float, times: list[float]) -> None:
    """Redelivery is as much faster as the tasks are; the receivers' limit stays at 5 s or more."""
    simulator = Simulator(durations=10.0, speed=speed)
    receiver = Receiver(simulator, [after(100)] * 4)
    await submit(simulator)
    await asyncio.sleep(10_000)
    assert receiver.times == times


async def test_a_lost_callback_never_comes() -> None:
    """Nothing of a lost callback is ever posted; the task can be looked at."""
    simulator = Simulator(durations=10.0)
    receiver = Receiver(simulator)
    simulator.callbacks.next(Callback(lost=True, processing=True))
    task = await submit(simulator)
    await asyncio.sleep(10_000)
    assert receiver.requests == simulator.callbacks.log == []
    assert simulator.callbacks.counts == CallbackCounts(tasks=1, lost=1)
    assert (await poll(simulator, task.id))["data"]["state"] == "success"


async def test_each_copy_is_delivered_by_itself() -> None:
    """A duplicate comes at the same time, and is redelivered for its own failures only."""
    simulator = Simulator(durations=10.0)
    receiver = Receiver(simulator, [200, 500])
    simulator.callbacks.next(Callback(copies=2))
    await submit(simulator)
    await asyncio.sleep(10_000)
    assert receiver.times == [10.0, 10.0, 40.0]
    log = simulator.callbacks.log
    assert [(one.copy, one.number, one.status) for one in log] == [
        (1, 1, 200),
        (2, 1, 500),
        (2, 2, 200),
    ]


async def test_a_callback_may_say_that_the_task_has_started() -> None:
    """Another callback says processing when the task starts; its delay may make it stale."""
    simulator = Simulator(durations=10.0)
    receiver = Receiver(simulator)
    simulator.callbacks.next(Callback(processing=True), Callback(processing=True, delay=20.0))
    first, second = await submit(simulator), await submit(simulator)
    await asyncio.sleep(10_000)
    starts = [round(task.started - 1000.0, 6) for task in (first, second)]
    assert receiver.times == [starts[0], 10.0, round(starts[1] + 20.0, 6), 30.0]
    assert receiver.told == [
        (task.id, state) for task in (first, second) for state in ("processing", "success")
    ]
    body = json.loads(receiver.requests[0].content)["data"]
    assert body.keys() == {"taskId", "state", "createTime"}


@pytest.mark.parametrize("processing", [False, True])
async def test_an_early_callback_precedes_the_submits_answer(processing: bool) -> None:
    """The task is over at once, and the submit is answered only after the receiver did."""
    simulator = Simulator(early_callbacks=1.0, processing_callbacks=float(processing))
    receiver = Receiver(simulator, [after(3.0)])
    task = await submit(simulator, latency=0.2)
    assert passed() == 3.2
    assert (receiver.times, receiver.told) == ([0.1], [(task.id, "success")])
    (record,) = simulator.log
    assert (record.at, record.answered_at) == (pytest.approx(1000.1), pytest.approx(1003.1))


async def test_an_early_callback_may_have_a_duration() -> None:
    """A scripted duration stands: the answer waits for the end, not for what came before it."""
    simulator = Simulator()
    receiver = Receiver(simulator)
    simulator.faults.submit(Fault.task_lasts(20.0))
    simulator.callbacks.next(Callback(early=True, processing=True, delay=1.0))
    task = await submit(simulator, latency=0.2)
    assert passed() == 21.2
    assert receiver.told == [(task.id, "processing"), (task.id, "success")]


@pytest.mark.parametrize(("answer", "at"), [(500, 0.0), (after(100), 30.0)])
async def test_an_answer_waits_for_the_first_attempt_only(answer: Any, at: float) -> None:
    """A receiver that fails holds the submit's answer for 30 s at most."""
    simulator = Simulator()
    receiver = Receiver(simulator, [answer])
    simulator.callbacks.next(Callback(early=True))
    await submit(simulator)
    assert passed() == at
    await asyncio.sleep(1_000)
    assert receiver.times == [0.0, at + 30.0]


async def test_a_submit_without_an_answer_has_its_callback() -> None:
    """Tasks of carried out submits have callbacks, whatever the client met; others have none."""
    simulator = Simulator(durations=10.0)
    receiver = Receiver(simulator)
    simulator.faults.submit(
        Fault.lost_answer(), Fault.status(500, carried_out=True), Fault.status(500)
    )
    body = {"request_type": "callback", "callback_url": HOOK, "input": {}}
    async with client_of(simulator) as client:
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.post("generateTask/sora-2", json=body)
        for _ in range(2):
            assert (await client.post("generateTask/sora-2", json=body)).status_code == 500
    await asyncio.sleep(100)
    assert [task_id for task_id, _ in receiver.told] == list(simulator.tasks)
    assert simulator.created == 2


async def test_delays_let_callbacks_overtake_each_other() -> None:
    """Drawn delays change the order, within their bounds, and replay with the seed."""
    runs: list[list[int]] = []
    for seed in (1, 1, 2):
        simulator = Simulator(
            seed=seed, durations=10.0, callback_delay=5.0, callback_spread=20.0, speed=2.0
        )
        receiver = Receiver(simulator)
        start = passed()
        made = [(await submit(simulator)).id for _ in range(20)]
        await asyncio.sleep(100)
        assert all(7.5 <= time - start <= 17.5 for time in receiver.times)
        runs.append([made.index(task_id) for task_id, _ in receiver.told])
    assert runs[0] == runs[1] != runs[2]
    assert sorted(runs[0]) == list(range(20)) != runs[0]


async def test_a_poll_at_the_moment_of_a_callback_sees_the_end() -> None:
    """At the time of its callback a task is over, to the last digit of the clock."""
    simulator = Simulator()
    states: list[str] = []

    async def answer(request: httpx2.Request) -> httpx2.Response:
        task = simulator.tasks[json.loads(request.content)["data"]["taskId"]]
        states.append(task.state(simulator.now()))
        return httpx2.Response(200)

    simulator.deliver_to(httpx2.MockTransport(answer))
    for _ in range(200):
        await submit(simulator, latency=0.001)
    await asyncio.sleep(1_000)
    assert states == ["success"] * 200


async def test_a_timer_that_runs_too_early_is_set_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that runs timers before their time posts nothing before the end of the task."""
    simulator = Simulator(durations=10.0)
    receiver = Receiver(simulator)
    monkeypatch.setattr(asyncio.get_running_loop(), "_clock_resolution", 3.0)
    await submit(simulator)
    await asyncio.sleep(8)  # which runs what is due within 3 s as well
    await asyncio.sleep(100)
    assert receiver.times == [10.0]


async def test_callbacks_into_an_asgi_app() -> None:
    """An ASGI app gets the post as from a server; what it raises is a failed attempt."""
    simulator = Simulator(durations=10.0)
    seen: list[tuple[Any, ...]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        seen.append((scope["path"], scope["query_string"], json.loads(body)["data"]["state"]))
        if len(seen) == 1:
            raise LookupError("not yet")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    simulator.deliver_to(app)
    await submit(simulator)
    await asyncio.sleep(100)
    assert seen == [("/hook/abc", b"x=1", "success")] * 2
    log = simulator.callbacks.log
    assert [(attempt.status, attempt.error) for attempt in log] == [
        (None, "LookupError: not yet"),
        (200, None),
    ]


async def test_without_a_receiver_nothing_is_posted() -> None:
    """In process callbacks go nowhere before a receiver is given, and nowhere once it is not."""
    simulator = Simulator(durations=10.0)
    await submit(simulator)
    await asyncio.sleep(100)
    receiver = Receiver(simulator)
    await asyncio.sleep(100)
    assert receiver.requests == []
    await submit(simulator)
    simulator.deliver_to(None)
    await asyncio.sleep(1_000)
    assert receiver.requests == []
    assert {one.error for one in simulator.callbacks.log} == {
        "RuntimeError: no receiver any more: deliver_to was given None"
    }
    assert simulator.callbacks.counts.tasks == 2


async def test_the_end_of_a_server_drops_what_is_due() -> None:
    """What was to be posted over a server's sockets ends with it, and holds no answer any more."""
    simulator = Simulator(durations=10.0)
    failed: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
    simulator.faults.submit(None, Fault.task_lasts(100.0))
    simulator.callbacks.next(None, Callback(early=True))
    async with simulator.deliveries.on_sockets():
        await submit(simulator)
        held = asyncio.create_task(submit(simulator))
        await asyncio.sleep(5.0)
        assert simulator.deliveries.waiting == 2
    assert simulator.deliveries.waiting == 0
    await held
    assert passed() == 5.0
    await submit(simulator)
    assert simulator.deliveries.waiting == 0
    await asyncio.sleep(1_000)
    assert (simulator.callbacks.log, failed) == ([], [])


async def test_a_clock_of_its_own_sets_the_stamps_only() -> None:
    """Under another clock the loop still counts the seconds to the end of a task."""
    simulator = Simulator(durations=10.0, clock=lambda: 5.0, epoch=0.0)
    receiver = Receiver(simulator)
    await submit(simulator)
    await asyncio.sleep(100)
    assert receiver.times == [10.0]
    assert json.loads(receiver.requests[0].content)["data"]["completeTime"] == 15_000


def test_a_loop_leaves_nothing_to_the_next() -> None:
    """What is due or under way when a loop ends, ends with it; the next loop has its own."""
    simulator = Simulator(durations=10.0, speed=1.0)
    receivers: list[Receiver] = []

    async def run(rest: float, answer: Any) -> float:
        receivers.append(Receiver(simulator, [answer]))
        await submit(simulator)
        await asyncio.sleep(rest)
        return passed()

    for rest, answer in ((5.0, 200), (20.0, after(1_000)), (5.0, 200), (100.0, 500)):
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            assert runner.run(run(rest, answer)) == rest
        gc.collect()
    assert [receiver.times for receiver in receivers] == [[], [10.0], [], [10.0, 40.0]]
    assert simulator.deliveries.waiting == 0


def test_a_stuck_loop_is_noticed_all_the_same() -> None:
    """Whoever waits for what never comes learns it as soon as the last callback is given up."""
    simulator = Simulator(durations=10.0)
    receiver = Receiver(simulator, [500] * 4)

    async def run() -> None:
        await submit(simulator)
        await asyncio.get_running_loop().create_future()

    runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
    with pytest.raises(StuckError) as caught:
        runner.run(run())
    runner.close()
    assert caught.value.now == pytest.approx(1760.0)
    assert receiver.times == [10.0, 40.0, 160.0, 760.0]


async def test_a_thousand_tasks_with_everything_wrong() -> None:
    """Of 1,000 tasks each has the callbacks that were drawn, and counts and log agree."""
    simulator = Simulator(seed=3, lost_callbacks=0.1, early_callbacks=0.1, duplicate_callbacks=0.1)
    receiver = Receiver(simulator)
    answered: dict[str, float] = {}

    async def order(client: httpx2.AsyncClient) -> None:
        body = {"request_type": "callback", "callback_url": HOOK, "input": {}}
        answer = await client.post("generateTask/sora-2", json=body)
        answered[answer.json()["data"]["taskId"]] = passed()

    async with client_of(simulator, 0.1) as client:
        await asyncio.gather(*(order(client) for _ in range(1_000)))
    await asyncio.sleep(1_000)
    times: dict[str, list[float]] = {}
    for (task_id, state), time in zip(receiver.told, receiver.times, strict=True):
        assert state == "success"
        times.setdefault(task_id, []).append(time)
    counts = simulator.callbacks.counts
    assert (counts.tasks, counts.failed, counts.given_up) == (1_000, 0, 0)
    for part in (counts.lost, counts.early, counts.duplicated):
        assert 70 <= part <= 130
    assert len(times) == 1_000 - counts.lost
    assert (
        sum(map(len, times.values())) == counts.delivered == 1_000 - counts.lost + counts.duplicated
    )
    assert sum(found[0] < answered[task_id] for task_id, found in times.items()) == counts.early
    for task_id, found in times.items():
        assert set(found) == {round(simulator.tasks[task_id].ends - 1000.0, 6)}


class LaterLoop(VirtualTimeLoop):
    """A loop whose clock goes on from another one's."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self._now = start


@pytest.mark.parametrize(("ends", "begins", "posted"), [(5, 30, [40]), (11, 12, [10, 41])])
def test_callbacks_go_on_with_another_loop(ends: int, begins: int, posted: list[int]) -> None:
    """What a loop left is posted on the next one; what was due meanwhile has not arrived."""
    now = 1_000.0

    def clock() -> float:
        with contextlib.suppress(RuntimeError):
            return asyncio.get_running_loop().time()
        return now

    async def never() -> httpx2.Response:
        raise await asyncio.Event().wait()

    async def first() -> None:
        await submit(simulator)
        await asyncio.sleep(ends)

    async def second() -> None:
        simulator.deliveries.go_on()
        simulator.deliveries.go_on()  # Twice is once.
        await asyncio.sleep(2_000)

    simulator = Simulator(durations=10.0, clock=clock)
    receiver = Receiver(simulator, [never] if ends > 10 else [])
    for main, now in ((first, 1_000.0), (second, 1_000.0 + begins)):
        with asyncio.Runner(loop_factory=lambda start=now: LaterLoop(start)) as runner:
            runner.run(main())
    assert receiver.times == posted

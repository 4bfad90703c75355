"""Transport: the timing and the failures of a socket, in virtual time."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from apixo_async.testing.faults import Fault
from apixo_async.testing.simulator import Simulator
from apixo_async.testing.transport import SENDING, SimulatorTransport

URL = "https://api.apixo.ai/api/v1/"
BALANCE = URL + "apikeys/current-balance"
SUBMIT = URL + "generateTask/sora-2"
HEADERS = {"Authorization": "Bearer test-key"}


@pytest.fixture
def simulator() -> Simulator:
    """Return a healthy service."""
    return Simulator()


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[httpx2.AsyncClient]:
    """Return a client of it: 0.2 s from request to answer, timeouts of 3 s and 5 s."""
    async with httpx2.AsyncClient(
        transport=simulator.transport(0.2),
        headers=HEADERS,
        timeout=httpx2.Timeout(5.0, connect=3.0),
    ) as client:
        yield client


def passed() -> float:
    """Return the virtual seconds since the test began."""
    return round(asyncio.get_running_loop().time() - 1000.0, 6)


async def test_half_the_latency_passes_before_arrival(
    simulator: Simulator, client: httpx2.AsyncClient
) -> None:
    """A request arrives after half the latency, and its answer after the other half."""
    response = await client.get(BALANCE)
    (record,) = simulator.log
    assert (record.at, record.answered_at) == (1000.1, 1000.1)
    assert (response.status_code, passed()) == (200, 0.2)
    assert response.json()["data"] == 1000.0
    assert response.headers["content-length"] == str(len(response.content))
    assert (record.host, record.headers["accept"]) == ("api.apixo.ai", "*/*")


async def test_a_streamed_request_arrives_whole(
    simulator: Simulator, client: httpx2.AsyncClient
) -> None:
    """The body of a request may come in parts; path and query are decoded."""

    async def parts() -> AsyncIterator[bytes]:
        yield b'{"input":'
        yield b'{"prompt":"p"}}'

    headers = {"content-type": "application/json"}
    await client.post(SUBMIT, content=parts(), headers=headers)
    (task,) = simulator.tasks.values()
    assert task.input == {"prompt": "p"}
    seen = await client.get(URL + "statusTask/sora%2D2", params={"taskId": task.id})
    assert seen.json()["data"]["taskId"] == task.id


async def test_latency_may_be_drawn(simulator: Simulator) -> None:
    """A function draws the latency of each exchange from the simulator's seed."""
    drawn: list[float] = []

    def latency(source: random.Random) -> float:
        drawn.append(source.uniform(0.1, 0.9))
        return drawn[-1]

    for _ in range(2):
        async with httpx2.AsyncClient(transport=simulator.transport(latency)) as client:
            await client.get(BALANCE)
    assert drawn[0] == drawn[1]
    assert passed() == pytest.approx(sum(drawn))


@pytest.mark.parametrize(
    ("fault", "error", "seconds"),
    [
        (Fault.refused(), httpx2.ConnectError, 0.0),
        (Fault.delay(1.0, Fault.refused()), httpx2.ConnectError, 1.0),
        (Fault.unreachable(), httpx2.ConnectTimeout, 3.0),
        (Fault.reset_before(), httpx2.ReadError, 0.2),
        (Fault.reset_after(), httpx2.ReadError, 0.2),
        (Fault.lost_answer(), httpx2.RemoteProtocolError, 0.2),
        (Fault.delay(1.5, Fault.lost_answer()), httpx2.RemoteProtocolError, 1.7),
        (Fault.hang(), httpx2.ReadTimeout, 5.0),
        (Fault.delay(6.0), httpx2.ReadTimeout, 5.0),
        (Fault.truncated(), httpx2.RemoteProtocolError, 0.2),
    ],
)
async def test_a_fault_is_the_error_that_a_socket_would_give(
    simulator: Simulator,
    client: httpx2.AsyncClient,
    fault: Fault,
    error: type[httpx2.TransportError],
    seconds: float,
) -> None:
    """Each fault that leaves no whole answer is its exception of httpx2, at its time."""
    simulator.faults.submit(fault)
    with pytest.raises(httpx2.TransportError) as caught:
        await client.post(SUBMIT, json={"input": {}})
    assert type(caught.value) is error
    assert passed() == seconds
    assert simulator.created == fault.carried_out


async def test_a_delayed_answer_comes_late(
    simulator: Simulator, client: httpx2.AsyncClient
) -> None:
    """A delay lies between the arrival and the answer."""
    simulator.faults.balance(Fault.delay(2.0))
    assert (await client.get(BALANCE)).status_code == 200
    (record,) = simulator.log
    assert (record.at, record.answered_at, passed()) == (1000.1, 1002.1, 2.2)


async def test_a_body_without_length_ends_early_in_silence(
    simulator: Simulator, client: httpx2.AsyncClient
) -> None:
    """Unframed, a body cut short looks like a whole one."""
    whole = (await client.get(BALANCE)).content
    simulator.faults.balance(Fault.truncated(0.5, content_length=False))
    response = await client.get(BALANCE)
    assert "content-length" not in response.headers
    assert response.content == whole[: len(whole) // 2]


@pytest.mark.parametrize("fault", [Fault.refused(), Fault.unreachable()])
async def test_a_connection_never_made_sends_nothing(
    simulator: Simulator, client: httpx2.AsyncClient, fault: Fault
) -> None:
    """The client's note that the request counts as sent is not called."""
    sent: list[float] = []
    simulator.faults.balance(fault)
    with pytest.raises(httpx2.TransportError):
        await client.get(BALANCE, extensions={SENDING: lambda: sent.append(passed())})
    assert sent == []


@pytest.mark.parametrize("fault", [None, Fault.reset_before(), Fault.hang(), Fault.lost_answer()])
async def test_a_request_counts_as_sent_before_it_travels(
    simulator: Simulator, client: httpx2.AsyncClient, fault: Fault | None
) -> None:
    """On a made connection the note is called at once, whatever follows."""
    sent: list[float] = []
    simulator.faults.balance(fault)
    extensions: dict[str, Any] = {SENDING: lambda: sent.append(passed()), "timeout": {"read": 5.0}}
    request = client.build_request("GET", BALANCE, extensions=extensions)
    try:
        await client.send(request)
    except httpx2.TransportError:
        assert fault is not None
    assert sent == [0.0]
    assert SimulatorTransport.phase_aware


async def test_a_request_given_up_is_carried_out(
    simulator: Simulator, client: httpx2.AsyncClient
) -> None:
    """Cancelling a client's request cancels nothing of the service's work."""
    request = asyncio.create_task(client.post(SUBMIT, json={"input": {}}))
    await asyncio.sleep(0.05)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert simulator.created == 0
    await asyncio.sleep(0.2)
    assert simulator.created == 1
    (record,) = simulator.log
    assert record.answered_at == 1000.1


async def test_requests_in_flight_are_counted(simulator: Simulator) -> None:
    """in_flight is what clients wait for now, most_in_flight the most at once."""
    transport = simulator.transport(1.0)
    async with httpx2.AsyncClient(transport=transport) as client:
        requests = [asyncio.create_task(client.get(BALANCE)) for _ in range(7)]
        await asyncio.sleep(0.5)
        assert transport.in_flight == 7
        requests[0].cancel()
        await asyncio.wait(requests)
        assert (transport.in_flight, transport.most_in_flight) == (0, 7)


async def test_closing_ends_what_is_under_way(simulator: Simulator) -> None:
    """Aclose fails waiting requests, also hanging ones, and refuses new ones."""
    transport = simulator.transport(0.2)
    simulator.faults.balance(Fault.hang(), None)
    client = httpx2.AsyncClient(transport=transport, timeout=None)
    requests = [asyncio.create_task(client.get(BALANCE)) for _ in range(2)]
    await asyncio.sleep(0.15)
    await transport.aclose()
    results = await asyncio.gather(*requests, return_exceptions=True)
    assert [type(result) for result in results] == [httpx2.ReadError] * 2
    with pytest.raises(RuntimeError, match="closed"):
        await client.get(BALANCE)
    await client.aclose()
    assert len(asyncio.all_tasks()) == 2  # this test and anyio's runner of tests


async def test_an_error_of_the_simulator_reaches_who_asked() -> None:
    """A broken duration function fails the request instead of hanging it."""

    def broken(*_: object) -> float:
        raise LookupError("broken")

    transport = Simulator(durations=broken).transport()
    async with httpx2.AsyncClient(transport=transport, headers=HEADERS) as asking:
        with pytest.raises(LookupError, match="broken"):
            await asking.post(SUBMIT, json={"input": {}})


async def test_answers_without_a_client_leave_no_trace(
    simulator: Simulator, client: httpx2.AsyncClient
) -> None:
    """Errors of exchanges that were given up are never reported as unretrieved."""
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    simulator.faults.balance(Fault.lost_answer(), Fault.delay(9.0))
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.15):
                await client.get(BALANCE)
    await asyncio.sleep(20)
    gc.collect()
    assert reported == []


async def test_downloads_need_no_key_and_come_in_ranges(
    simulator: Simulator, client: httpx2.AsyncClient
) -> None:
    """Result paths are answered on any host; the log tells whether a key or a cookie came."""
    simulator.faults.submit(Fault.task_lasts(1.0))
    made = await client.post(SUBMIT, json={"input": {"prompt": "p"}})
    await asyncio.sleep(2)
    url = f"https://cdn.apixo.ai/results/{made.json()['data']['taskId']}/0.mp4"
    async with httpx2.AsyncClient(transport=simulator.transport()) as plain:
        whole = await plain.get(url)
        part = await plain.get(url, headers={"Range": "bytes=4-", "Cookie": "a=b"})
        head = await plain.head(url)
    await client.get(url)
    assert whole.headers["content-type"] == "video/mp4"
    assert (part.status_code, part.content) == (206, whole.content[4:])
    assert (head.content, head.headers["content-length"]) == (b"", str(len(whole.content)))
    downloads = [record for record in simulator.log if record.kind == "download"]
    assert [record.had_authorization for record in downloads] == [False, False, False, True]
    assert [record.had_cookie for record in downloads] == [False, True, False, False]
    assert downloads[1].headers["range"] == "bytes=4-"


async def test_a_large_file_comes_in_parts(simulator: Simulator) -> None:
    """A body is streamed in chunks, so that what reads it can stop early."""
    simulator.faults.download(Fault.raw(200, b"x" * 40_000, "image/png"))
    async with (
        httpx2.AsyncClient(transport=simulator.transport()) as client,
        client.stream("GET", "https://r2.apixo.ai/results/t/0.png") as response,
    ):
        assert [len(part) async for part in response.aiter_raw()] == [16_384, 16_384, 7_232]


async def test_a_thousand_tasks_take_no_time(
    simulator: Simulator, client: httpx2.AsyncClient
) -> None:
    """1,000 submits at once, and their polls, fit the documented limits to the last one."""
    made = [client.post(SUBMIT, json={"input": {}}) for _ in range(1_001)]
    statuses = [response.status_code for response in await asyncio.gather(*made)]
    assert sorted(statuses) == [200] * 1_000 + [429]
    assert simulator.most_concurrent == simulator.most_in_window() == 1_000


async def test_a_body_nested_without_reason_is_a_400_like_any_other(
    simulator: Simulator, client: httpx2.AsyncClient
) -> None:
    """What the parser cannot follow is answered, logged and counted as a wrong body."""
    content = b'{"input":{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
    headers = {"Content-Type": "application/json"}
    answers = [await client.post(SUBMIT, content=body, headers=headers) for body in (content, b"x")]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert answers[0].json()["message"] == "request body is nested too deeply"
    assert [(record.status, record.code, record.counted) for record in simulator.log] == [
        (400, 400, True)
    ] * 2

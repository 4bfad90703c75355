"""Server: the simulator on real sockets of this process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest

from apixo_async import AsyncClient, GptImage2, Polling
from apixo_async.aiohttp import AiohttpTransport
from apixo_async.blocking import Client
from apixo_async.testing import Callback, Fault, Simulator, serve, serve_thread

BALANCE = "/api/v1/apikeys/current-balance"
SUBMIT = "/api/v1/generateTask/sora-2"
HEADERS = {"Authorization": "Bearer test-key"}
BOUND = 20.0


@pytest.fixture
def simulator() -> Simulator:
    """Return a fast service."""
    return Simulator(speed=1000.0)


@pytest.fixture
async def client(
    simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[httpx2.AsyncClient]:
    """Return a client of the served service; serving must log nothing above INFO."""
    async with (
        asyncio.timeout(BOUND),
        serve(simulator) as url,
        httpx2.AsyncClient(base_url=url, headers=HEADERS, timeout=0.5) as client,
    ):
        yield client
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


async def test_a_task_goes_from_submit_to_download(
    simulator: Simulator, client: httpx2.AsyncClient
) -> None:
    """The whole course works over sockets, in real time, with result URLs that can be got."""
    made = await client.post(SUBMIT, json={"input": {"prompt": "p"}})
    task_id = made.json()["data"]["taskId"]
    state: dict[str, Any] = {}
    while state.get("state") != "success":
        seen = await client.get("/api/v1/statusTask/sora-2", params={"taskId": task_id})
        state = seen.json()["data"]
        await asyncio.sleep(0.01)
    (url,) = json.loads(state["resultJson"])["resultUrls"]
    file = await client.get(url)
    assert file.content[4:8] == b"ftyp"
    assert simulator.log[0].host == client.base_url.netloc.decode()
    head = await client.head(url)
    assert (head.content, head.headers["content-length"]) == (b"", str(len(file.content)))


@pytest.mark.parametrize("over", ["httpx2", "aiohttp"])
async def test_a_client_on_this_machine_polls_as_much_sooner(over: str) -> None:
    """A task that is over in a second is not polled for the first time after 30."""
    simulator = Simulator(seed=1, speed=100.0, durations=70.0)
    transport = AiohttpTransport() if over == "aiohttp" else None
    async with (
        serve(simulator) as url,
        AsyncClient("test-key", base_url=url, transport=transport) as client,
        asyncio.timeout(BOUND),
    ):
        for number in range(2):
            assert (await client.generate(GptImage2(prompt=f"castle {number}"))).urls
        assert simulator.count("poll") <= 2 * 6


async def test_a_client_with_polls_of_its_own_heeds_no_speed() -> None:
    """What the caller says counts."""
    simulator = Simulator(seed=1, speed=100.0, durations=20.0)
    polling = Polling.fixed(1.0, 1.0)
    async with (
        serve(simulator) as url,
        AsyncClient("test-key", base_url=url, polling=polling) as client,
        asyncio.timeout(BOUND),
    ):
        await client.generate(GptImage2(prompt="a castle"))
        assert simulator.count("poll") == 1


async def test_connections_are_kept_alive(simulator: Simulator, client: httpx2.AsyncClient) -> None:
    """Many requests, and healthy ones after a fault, are answered."""
    simulator.faults.balance(Fault.none(), Fault.lost_answer(), None)
    statuses: list[int | None] = []
    for _ in range(20):
        try:
            statuses.append((await client.get(BALANCE)).status_code)
        except httpx2.TransportError:
            statuses.append(None)
    assert statuses == [200, None] + [200] * 18


@pytest.mark.parametrize(
    ("fault", "errors"),
    [
        (Fault.lost_answer(), httpx2.RemoteProtocolError),
        (Fault.reset_after(), httpx2.ReadError),
        (Fault.reset_before(), httpx2.ReadError),
        (Fault.refused(), httpx2.ReadError),
        (Fault.hang(), httpx2.ReadTimeout),
        (Fault.unreachable(), httpx2.ReadTimeout),
        (Fault.delay(0.1, Fault.lost_answer()), httpx2.RemoteProtocolError),
        (Fault.delay(30.0), httpx2.ReadTimeout),
        (Fault.truncated(), httpx2.RemoteProtocolError),
    ],
)
async def test_a_fault_reaches_the_socket(
    simulator: Simulator,
    client: httpx2.AsyncClient,
    fault: Fault,
    errors: type[httpx2.TransportError],
) -> None:
    """Each fault that leaves no whole answer is the error that a real one would be."""
    simulator.faults.submit(fault)
    with pytest.raises(errors):
        await client.post(SUBMIT, json={"input": {}})
    assert simulator.created == fault.carried_out
    assert (await client.get(BALANCE)).status_code == 200


async def test_a_body_without_length_ends_early_in_silence(
    simulator: Simulator, client: httpx2.AsyncClient
) -> None:
    """Framed by the connection's end alone, a body cut short looks like a whole one."""
    whole = (await client.get(BALANCE)).content
    simulator.faults.balance(
        Fault.truncated(0.5, content_length=False), Fault.truncated(1.0, content_length=False)
    )
    cut, uncut = await client.get(BALANCE), await client.get(BALANCE)
    assert (cut.status_code, cut.content) == (200, whole[: len(whole) // 2])
    assert "content-length" not in cut.headers
    assert uncut.content == whole


async def test_a_status_without_a_phrase_can_be_cut_short(
    simulator: Simulator, client: httpx2.AsyncClient
) -> None:
    """A status that the standard does not know needs no phrase."""
    odd = Fault.raw(299, b"0123456789", "x/y")
    simulator.faults.balance(Fault(odd.name, reply=odd.reply, keep=0.5, framed=False))
    response = await client.get(BALANCE)
    assert (response.status_code, response.content) == (299, b"01234")


async def test_a_strangers_page_reads_nothing(client: httpx2.AsyncClient) -> None:
    """Under a name that was made to lead here neither page nor calls answer; under ours they do."""
    for path in ("/", "/_simulator/state", "/_simulator/log", BALANCE):
        asked = await client.get(path, headers={"Host": "evil.example:8000"})
        assert asked.status_code == 421
        assert (await client.get(path, headers={"Host": "localhost:8000"})).status_code == 200


@pytest.mark.parametrize("named", [True, False], ids=["length", "chunks"])
async def test_little_is_read_before_the_key_is_known(
    simulator: Simulator, client: httpx2.AsyncClient, named: bool
) -> None:
    """A long body of a stranger is answered 413 at once; one of a known key is read."""
    piece = b" " * 65_536

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(32):
            yield piece

    async def status(authorization: str) -> int:
        content = piece * 32 if named else pieces()
        headers = {"Authorization": authorization}
        return (await client.post(SUBMIT, content=content, headers=headers)).status_code

    assert await status(HEADERS["Authorization"]) == 400
    # What is sent on after the answer may meet a closed connection.
    with contextlib.suppress(httpx2.WriteError, httpx2.ReadError):
        assert await status("Bearer nobody") == 413
    assert simulator.count("submit") == 1
    assert (await client.post(SUBMIT, headers={"Authorization": "Bearer x"})).status_code == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
async def test_the_url_works_wherever_it_listens(simulator: Simulator, host: str) -> None:
    """Listening on all addresses is no address to ask: the URL has one of this machine."""
    async with asyncio.timeout(BOUND), serve(simulator, host) as url:
        assert url.startswith("http://127.0.0.1:")
        async with httpx2.AsyncClient() as client:
            assert (await client.get(url)).status_code == 200


async def test_the_end_cuts_what_hangs(simulator: Simulator) -> None:
    """Leaving the context takes no longer because a request waits for ever."""
    simulator.faults.balance(Fault.hang())
    async with asyncio.timeout(BOUND), httpx2.AsyncClient(timeout=None) as client:
        async with serve(simulator) as url:
            hanging = asyncio.create_task(client.get(url + BALANCE, headers=HEADERS))
            while simulator.count() == 0:  # noqa: ASYNC110  # the simulator is plain: no events
                await asyncio.sleep(0.01)
        with pytest.raises(httpx2.TransportError):
            await hanging
        with pytest.raises(httpx2.ConnectError):
            await client.get(url)


async def test_a_port_can_be_chosen(simulator: Simulator) -> None:
    """A free port that was asked for is taken; a port in use is an error."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            async with serve(simulator, port=port):
                pytest.fail("the port was in use")
    async with asyncio.timeout(BOUND), serve(simulator, port=port) as url:
        assert url == f"http://127.0.0.1:{port}"


async def test_ipv6_is_served(simulator: Simulator) -> None:
    """An IPv6 host stands in brackets in the base URL."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    async with (
        asyncio.timeout(BOUND),
        serve(simulator, "::1") as url,
        httpx2.AsyncClient() as client,
    ):
        assert url.startswith("http://[::1]:")
        assert (await client.get(url + BALANCE, headers=HEADERS)).status_code == 200


async def test_signals_stay_with_their_owner(simulator: Simulator) -> None:
    """Serving changes no signal handler of the process."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    async with asyncio.timeout(BOUND), serve(simulator):
        await asyncio.sleep(0.05)
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


async def test_without_uvicorn_the_extra_is_named(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing uvicorn is a clear error that names what to install."""
    monkeypatch.setitem(sys.modules, "apixo_async.testing.uvicorn_server", None)
    with pytest.raises(RuntimeError, match=r"apixo-async\[simulator\]"):
        async with serve(simulator):
            pytest.fail("there was nothing to serve with")


async def test_a_body_nested_without_reason_is_a_400_like_any_other(
    simulator: Simulator, client: httpx2.AsyncClient
) -> None:
    """What the parser cannot follow is answered with an envelope, logged and counted."""
    content = b'{"input":{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
    headers = {"Content-Type": "application/json"}
    answer = await client.post(SUBMIT, content=content, headers=headers)
    assert answer.json() == {
        "code": 400,
        "message": "request body is nested too deeply",
        "data": None,
    }
    (record,) = simulator.log
    assert (record.status, record.code, record.counted) == (400, 400, True)


@pytest.mark.parametrize("path", [BALANCE, SUBMIT, "/api/v1/statusTask/sora-2"])
async def test_other_methods_are_405(client: httpx2.AsyncClient, path: str) -> None:
    """HEAD and OPTIONS are no calls of the service: an envelope, without its body for HEAD."""
    options, head = await client.options(path), await client.head(path)
    told = options.json()
    assert (told["code"], told["data"]) == (405, None)
    assert told["message"].startswith("Method not allowed: this path takes ")
    assert options.headers["allow"] == head.headers["allow"]
    assert (head.status_code, head.content) == (405, b"")
    # The message names the method.
    assert int(head.headers["content-length"]) == len(options.content.replace(b"OPTIONS", b"HEAD"))


class Receiver:
    """A server that takes posts, answers with the next of these statuses, and then with 200."""

    def __init__(self, *statuses: int | None) -> None:
        self.url = ""
        self.heads: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self._statuses = list(statuses)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Listen; yield the URL."""
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            yield f"http://127.0.0.1:{port}/hook/abc?x=1"

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.heads.append(head)
                length = next(
                    line for line in head.lower().splitlines() if "content-length" in line
                )
                content = await reader.readexactly(int(length.partition(":")[2]))
                self.bodies.append(json.loads(content))
                status = self._statuses.pop(0) if self._statuses else 200
                if status is None:
                    await reader.read()  # until the simulator gives up
                    return
                writer.write(f"HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n".encode())


async def order(client: httpx2.AsyncClient, url: str) -> str:
    """Submit a task in callback mode; return its id."""
    body = {"request_type": "callback", "callback_url": url, "input": {"prompt": "p"}}
    answer = await client.post(SUBMIT, json=body)
    return str(answer.json()["data"]["taskId"])


async def until(happened: Callable[[], bool]) -> None:
    """Wait for what the simulator or a receiver will have seen."""
    while not happened():  # noqa: ASYNC110  # both are plain: no events
        await asyncio.sleep(0.01)


async def test_a_callback_is_posted_over_sockets(
    simulator: Simulator, client: httpx2.AsyncClient
) -> None:
    """Served, a task's end is posted to its URL, with results that the server has."""
    receiver = Receiver()
    async with receiver.listening() as url:
        task_id = await order(client, url)
        await until(lambda: bool(simulator.callbacks.log))
        (body,) = receiver.bodies
        assert receiver.heads[0].startswith("POST /hook/abc?x=1 HTTP/1.1\r\n")
        assert "content-type: application/json" in receiver.heads[0].lower()
        poll = await client.get("/api/v1/statusTask/sora-2", params={"taskId": task_id})
        assert body == poll.json()
        (picture,) = json.loads(body["data"]["resultJson"])["resultUrls"]
        assert (await client.get(picture)).status_code == 200
        told = (await client.get("/_simulator/callbacks")).json()
        seen = (await client.get("/_simulator/statistics")).json()["callbacks"]
    assert [(one["task_id"], one["status"], one["error"]) for one in told] == [(task_id, 200, None)]
    assert (seen["tasks"], seen["delivered"], seen["failed"], seen["given_up"]) == (1, 1, 0, 0)
    assert simulator.log[0].answered_at is not None
    assert told[0]["at"] >= simulator.tasks[task_id].ends


async def test_a_callback_is_posted_again_over_sockets(
    simulator: Simulator, client: httpx2.AsyncClient
) -> None:
    """A receiver that fails, and one that is not there, are tried four times, with speed."""
    receiver = Receiver(500, 204, 302)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        gone = f"http://127.0.0.1:{nobody.getsockname()[1]}/"
    async with receiver.listening() as url:
        there = await order(client, url)
        missing = await order(client, gone)
        await until(lambda: len(simulator.callbacks.log) == 8)
    statuses = {
        task_id: [one.status for one in simulator.callbacks.log if one.task_id == task_id]
        for task_id in (there, missing)
    }
    assert statuses == {there: [500, 204, 302, 200], missing: [None] * 4}
    failed = [one for one in simulator.callbacks.log if one.task_id == missing]
    assert all((one.error or "").startswith("ConnectError") for one in failed)
    gaps = [after.at - before.ended_at for before, after in itertools.pairwise(failed)]
    assert all(gap >= wanted for gap, wanted in zip(gaps, (0.03, 0.12, 0.6), strict=True))
    assert simulator.callbacks.counts.given_up == 1


async def test_a_silent_receiver_is_given_up_after_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A receiver that does not answer in time has its connection closed, and another attempt."""
    monkeypatch.setattr("apixo_async.testing.deliveries.SHORTEST_LIMIT", 0.3)
    simulator = Simulator(speed=1000.0)
    receiver = Receiver(None)
    async with (
        asyncio.timeout(BOUND),
        receiver.listening() as url,
        serve(simulator) as base,
        httpx2.AsyncClient(base_url=base, headers=HEADERS) as client,
    ):
        await order(client, url)
        await until(lambda: any(one.delivered for one in simulator.callbacks.log))
    silent = simulator.callbacks.log[0]
    assert silent.error == "no answer within 0.3 s"
    assert silent.ended_at - silent.at >= 0.29


async def test_an_early_callback_over_sockets(
    simulator: Simulator, client: httpx2.AsyncClient
) -> None:
    """The receiver has the callback before the submit has its answer."""
    receiver = Receiver()
    simulator.callbacks.next(Callback(early=True))
    client.timeout = BOUND
    async with receiver.listening() as url:
        task_id = await order(client, url)
        assert [body["data"]["taskId"] for body in receiver.bodies] == [task_id]


async def test_the_end_drops_callbacks(simulator: Simulator) -> None:
    """Leaving the context waits for no receiver, no redelivery and no task; nothing is left."""
    before = asyncio.all_tasks()
    simulator.faults.submit(None, None, Fault.task_lasts(1e6))
    simulator.callbacks.next(Callback(), Callback(early=True), Callback(early=True))
    receiver = Receiver(None, None)
    async with asyncio.timeout(BOUND), receiver.listening() as url:
        async with (
            serve(simulator) as base,
            httpx2.AsyncClient(base_url=base, headers=HEADERS, timeout=None) as client,
        ):
            await order(client, url)
            held = [asyncio.create_task(order(client, url)) for _ in range(2)]
            await until(lambda: len(receiver.bodies) == 2 and simulator.created == 3)
        assert simulator.callbacks.log == []
        for one in held:
            with pytest.raises(httpx2.TransportError):
                await one
    assert asyncio.all_tasks() == before


async def test_answers_go_out_at_once() -> None:
    """No answer waits in the kernel for the acknowledgement of its own head."""
    loop = asyncio.get_running_loop()
    async with serve(Simulator(key="k")) as url, httpx2.AsyncClient(trust_env=False) as http:

        async def median() -> float:
            times: list[float] = []
            for _ in range(20):
                start = loop.time()
                await http.get(f"{url}/api/v1/balance", headers={"Authorization": "Bearer k"})
                times.append(loop.time() - start)
            return sorted(times)[10]

        # A delayed acknowledgement takes 40 ms, and met every second answer. Where the machine is
        # busy, one undisturbed moment is enough to tell.
        async with asyncio.timeout(BOUND):
            while await median() >= 0.03:
                pass


def test_a_thread_serves_where_no_loop_runs(simulator: Simulator) -> None:
    """For as long as its block lasts, a simulator answers programs without an event loop."""
    with serve_thread(simulator) as url:
        with Client("test-key", base_url=url) as client:
            assert client.generate(GptImage2(prompt="a cafe"), timeout=BOUND).urls
        assert simulator.created == 1
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(url, trust_env=False)

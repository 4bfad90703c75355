"""Server: the simulator on real sockets of this process."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from apixo_async.testing import Fault, Simulator, serve

pytestmark = pytest.mark.anyio

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
    assert file.content[8:12] == b"WEBP"
    assert simulator.log[0].host == client.base_url.netloc.decode()
    head = await client.head(url)
    assert (head.content, head.headers["content-length"]) == (b"", str(len(file.content)))


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
    assert options.json() == {"code": 405, "message": "Method not allowed", "data": None}
    assert (head.status_code, head.content) == (405, b"")
    assert head.headers["content-length"] == str(len(options.content))

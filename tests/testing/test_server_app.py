"""App: the same service through ASGI, without a server around it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import httpx2
import pytest

from apixo_async.testing.faults import Fault
from apixo_async.testing.server import make_app
from apixo_async.testing.simulator import Simulator

BALANCE = "/api/v1/apikeys/current-balance"
SUBMIT = "/api/v1/generateTask/gpt-image-1"
FIELDS = {"mode": "gpt-image-1", "prompt": "p", "aspect_ratio": "3:2", "num_images": 1}


@pytest.fixture
def simulator() -> Simulator:
    """Return a service whose tasks take 10 s."""
    return Simulator(durations=10.0)


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[httpx2.AsyncClient]:
    """Return a client of its app."""
    transport = httpx2.ASGITransport(simulator.app(), raise_app_exceptions=False)
    headers = {"Authorization": "Bearer test-key"}
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://simulator:8080", headers=headers
    ) as client:
        yield client


async def test_the_calls_of_the_service_are_answered(
    simulator: Simulator, client: httpx2.AsyncClient
) -> None:
    """Submit, poll, balance and download work, with result URLs on the app's own host."""
    made = await client.post(SUBMIT, json={"input": FIELDS})
    task_id = made.json()["data"]["taskId"]
    await asyncio.sleep(10)
    seen = await client.get("/api/v1/statusTask/gpt-image-1", params={"taskId": task_id})
    url = f"http://simulator:8080/results/{task_id}/0.png"
    assert seen.json()["data"]["resultJson"] == f'{{"resultUrls":["{url}"]}}'
    file = await client.get(url, headers={"Range": "bytes=0-3"})
    assert (file.status_code, file.content) == (206, b"\x89PNG")
    assert (await client.get(BALANCE)).json()["data"] == 999.65
    assert [record.kind for record in simulator.log] == ["submit", "poll", "download", "balance"]
    assert {record.host for record in simulator.log} == {"simulator:8080"}
    assert all(record.answered_at is not None for record in simulator.log)


async def test_anything_else_is_an_envelope(client: httpx2.AsyncClient) -> None:
    """Unknown paths and methods are answered as the service does, not as Starlette does."""
    assert (await client.get("/nothing")).json()["code"] == 404
    assert (await client.put(BALANCE)).json()["code"] == 405


@pytest.mark.parametrize("path", [BALANCE, SUBMIT, "/api/v1/statusTask/gpt-image-1"])
@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
async def test_other_methods_are_405(
    simulator: Simulator, client: httpx2.AsyncClient, method: str, path: str
) -> None:
    """HEAD and OPTIONS are no calls of the service."""
    response = await client.request(method, path)
    (record,) = simulator.log
    assert (response.status_code, record.status, record.code) == (405, 405, 405)
    assert (record.kind, record.counted) == ("other", False)


async def test_scripted_answers_and_delays_hold(
    simulator: Simulator, client: httpx2.AsyncClient
) -> None:
    """Faults that leave an answer work under any server."""
    simulator.faults.balance(Fault.delay(3.0, Fault.html(502)), Fault.raw(299, b"", "x/y"))
    response = await client.get(BALANCE)
    assert (response.status_code, response.headers["content-type"]) == (502, "text/html")
    assert asyncio.get_running_loop().time() == 1003.0
    assert (await client.get(BALANCE)).status_code == 299


@pytest.mark.parametrize(
    "fault",
    [
        Fault.lost_answer(),
        Fault.reset_before(),
        Fault.refused(),
        Fault.truncated(),
        Fault.truncated(content_length=False),
    ],
)
async def test_faults_of_the_connection_need_serve(
    simulator: Simulator, client: httpx2.AsyncClient, fault: Fault
) -> None:
    """Without the connection in its scope the app fails loudly."""
    simulator.faults.balance(fault)
    assert (await client.get(BALANCE)).status_code == 500
    simulator.faults.balance(fault)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(simulator.app())) as strict:
        with pytest.raises(RuntimeError, match=r"need apixo_async\.testing\.serve"):
            await strict.get("http://simulator" + BALANCE)


async def run_app(simulator: Simulator, *events: str) -> list[MutableMapping[str, Any]]:
    """Run the app for one request whose connection brings these events; return what it sent."""
    sent: list[MutableMapping[str, Any]] = []
    left = list(events)

    async def receive() -> MutableMapping[str, Any]:
        return {"type": f"http.{left.pop(0)}", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope: MutableMapping[str, Any] = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": BALANCE,
        "root_path": "",
        "query_string": b"",
        "headers": [(b"x", b"1"), (b"x", b"2")],
    }
    await make_app(simulator)(scope, receive, send)
    assert left == []
    return sent


async def test_a_client_that_gives_up_early_never_arrives(simulator: Simulator) -> None:
    """A request that was not sent to its end does nothing."""
    assert await run_app(simulator, "disconnect") == []
    assert simulator.count() == 0


async def test_a_client_that_gives_up_during_a_delay_gets_nothing(simulator: Simulator) -> None:
    """The request was carried out; there is no client left to answer."""
    simulator.faults.balance(Fault.delay(60.0))
    assert await run_app(simulator, "request", "disconnect") == []
    (record,) = simulator.log
    assert (record.answered_at, record.status) == (None, 401)


@pytest.mark.parametrize("fault", [Fault.hang(), Fault.unreachable()])
async def test_a_silence_lasts_until_the_client_gives_up(
    simulator: Simulator, fault: Fault
) -> None:
    """A hanging exchange ends when its client does."""
    simulator.faults.balance(fault)
    assert await run_app(simulator, "request", "request", "disconnect") == []


async def test_the_page_is_one_document(client: httpx2.AsyncClient) -> None:
    """/ is HTML that loads nothing from elsewhere."""
    page = await client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>APIXO simulator</title>" in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text


async def test_tests_can_ask_what_happened(
    simulator: Simulator, client: httpx2.AsyncClient
) -> None:
    """Log and statistics are JSON; asking for them is in neither."""
    await client.post(SUBMIT, json={"input": FIELDS})
    (record,) = (await client.get("/_simulator/log")).json()
    statistics = (await client.get("/_simulator/statistics")).json()
    assert (record["kind"], record["status"], record["at"]) == ("submit", 200, 1000.0)
    assert (statistics["created"], statistics["charged"]) == (1, "0.35")
    assert statistics["requests"]["other"] == 0
    assert simulator.count() == 1


async def test_the_page_gets_its_state_and_its_pictures(
    simulator: Simulator, client: httpx2.AsyncClient
) -> None:
    """State is JSON, and the page's pictures leave no trace in the log."""
    await client.post(SUBMIT, json={"input": FIELDS})
    await asyncio.sleep(10)
    state = (await client.get("/_simulator/state")).json()
    (path,) = state["tasks"][0]["pictures"]
    picture = await client.get("/_simulator/picture" + path)
    assert (picture.status_code, picture.content[:4]) == (200, b"\x89PNG")
    assert (await client.get("/_simulator/picture/results/none/0.png")).status_code == 404
    assert simulator.count() == 1


async def test_without_starlette_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing Starlette is a clear error that names what to install."""
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    with pytest.raises(RuntimeError, match=r"apixo-async\[simulator\]"):
        Simulator().app()

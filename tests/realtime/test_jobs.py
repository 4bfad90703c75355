"""The apps of the guides on web applications and jobs: errors, streams, restarts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from apixo_async.testing import Fault, Simulator, serve

from ..support.web_workers import BOUND, PACKAGE, WebWorker

GUIDE: Final = PACKAGE / "apixo_async/guides/jobs.md"
WEB_APPS: Final = PACKAGE / "apixo_async/guides/web-apps.md"
BODY: Final = {"model": "gpt-image-2", "prompt": "a lighthouse"}

pytestmark = pytest.mark.heavy


class App:
    """One of the apps, and a visitor.

    Args:
        folder: Where it lives.
        url: The service.
        page: The guide that shows it.
    """

    def __init__(self, folder: Path, url: str, page: Path) -> None:
        self.worker = WebWorker(folder, page, '@app.post("/images', url, str(folder / "apixo.db"))
        self.http = httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{self.worker.port}", trust_env=False, timeout=BOUND
        )

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        self.worker.start()
        await self.worker.until_ready()

    async def until_over(self, job: str) -> dict[str, Any]:
        """Ask for a job until it is over."""
        async with asyncio.timeout(BOUND):
            while True:
                said = await self.shown(job)
                if {"urls", "error"} & said.keys():
                    return said
                await asyncio.sleep(0.2)

    async def shown(self, job: str) -> dict[str, Any]:
        """Ask for a job."""
        answer = await self.http.get(f"/images/{job}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


@contextlib.asynccontextmanager
async def running(folder: Path, simulator: Simulator, page: Path) -> AsyncIterator[App]:
    """Serve the service and an app."""
    async with serve(simulator) as url:
        app = App(folder, url, page)
        async with app.http:
            try:
                await app.start()
                yield app
            finally:
                await app.worker.end(signal.SIGKILL)


REFUSED: Final[dict[str, tuple[dict[str, Any], Fault | None, int, object]]] = {
    "an empty prompt": (BODY | {"prompt": ""}, None, 422, None),
    "no model": ({"prompt": "a lighthouse"}, None, 422, None),
    "a lost answer": (BODY, Fault.lost_answer(), 503, ("uncertain", None)),
    "an empty account": (BODY, Fault.status(402), 503, ("balance", False)),
    "a refused input": (BODY, Fault.status(400), 422, ("refused", False)),
    "a wrong key": (BODY, Fault.status(401), 503, ("auth", False)),
    "a failed task": (BODY, Fault.task_fails("NSFW"), 422, ("content", True)),
}


@pytest.mark.parametrize("page", [WEB_APPS, GUIDE], ids=["web-apps", "jobs"])
async def test_errors_have_a_status(tmp_path: Path, page: Path) -> None:
    """Whatever goes wrong is answered with its own status, and with what it cost; never a 500."""
    simulator = Simulator(seed=1, key="test-key", speed=100)
    async with running(tmp_path, simulator, page) as app:
        for body, fault, status, said in REFUSED.values():
            if fault is not None:
                simulator.faults.submit(fault)
            answer = await app.http.post("/images", json=body)
            if answer.status_code == 202:  # The job goes on, and fails later.
                shown = await app.until_over(answer.json()["id"])
                assert said == (shown["error"], True)
                continue
            assert answer.status_code == status, answer.text
            if said is not None:
                assert (answer.json()["error"], answer.json()["bought"]) == said
        if page is GUIDE:
            assert (await app.http.get("/images/unknown")).status_code == 404


async def test_a_stream_shows_a_job_to_its_end(tmp_path: Path) -> None:
    """The present state comes at once, and the end with its pictures; who comes late sees that."""
    simulator = Simulator(seed=1, key="test-key", speed=20)
    async with running(tmp_path, simulator, GUIDE) as app:
        job = (await app.http.post("/images", json=BODY)).json()["id"]
        for _ in range(2):
            async with app.http.stream("GET", f"/images/{job}/events") as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                lines = [line async for line in answer.aiter_lines() if line]
            *shown_as, last, _ = lines
            assert last == "event: end"
            shown = [json.loads(line.removeprefix("data: ")) for line in shown_as]
            assert shown[-1]["state"] == "success"
            assert shown[-1]["urls"]
            assert shown[-1]["expected"] > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
async def test_a_job_outlives_its_process(tmp_path: Path, number: signal.Signals) -> None:
    """After a restart a job goes on under its id; a repeated POST buys nothing more."""
    simulator = Simulator(seed=1, key="test-key", speed=100)
    async with running(tmp_path, simulator, GUIDE) as app:
        headers = {"Idempotency-Key": "order-1"}
        first = await app.http.post("/images", json=BODY, headers=headers)
        await app.worker.end(number)
        await app.start()
        again = await app.http.post("/images", json=BODY, headers=headers)
        assert first.json() == again.json() == {"id": "order-1"}
        # By another answer the new process learns how fast this service is.
        assert (await app.http.post("/images", json=BODY)).status_code == 202
        assert (await app.until_over("order-1"))["urls"]
        assert simulator.created == 2


async def test_a_visitor_who_leaves(tmp_path: Path) -> None:
    """A job that is left is polled no more, until somebody asks for it again."""
    simulator = Simulator(seed=1, key="test-key", speed=20)
    simulator.faults.submit(Fault.task_lasts(40.0))
    async with running(tmp_path, simulator, GUIDE) as app:
        job = (await app.http.post("/images", json=BODY)).json()["id"]
        assert (await app.http.delete(f"/images/{job}")).status_code == 204
        polls = simulator.count("poll")
        assert (await app.until_over(job))["urls"]
        assert simulator.count("poll") > polls

"""A web app with the instrumentation of its framework: one trace for each request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from fastapi import FastAPI
from opentelemetry.trace import SpanKind

from apixo_async import AsyncClient, FluxKontext
from apixo_async.testing import Simulator, serve

from ..support.telemetry import Telemetry, telemetry
from ..support.webhook_apps import BOUND, listening_socket, uvicorn_of

pytest.importorskip("opentelemetry.instrumentation.fastapi")

from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

__all__ = ["telemetry"]  # a fixture

pytestmark = pytest.mark.realtime

TASKS = 100


def app_of(url: str, telemetry: Telemetry) -> FastAPI:
    """Return an app whose handler makes an image, with the instrumentation of both."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        hook = telemetry.instrument
        async with AsyncClient("test-key", base_url=url, on_event=hook) as app.state.apixo:
            hook.observe(app.state.apixo)
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/images/{number}")
    async def image(number: int) -> dict[str, str]:
        castle = FluxKontext(mode="pro", prompt=f"castle {number}")
        return {"task": (await app.state.apixo.generate(castle)).task_id}

    FastAPIInstrumentor.instrument_app(
        app, tracer_provider=telemetry.tracers, meter_provider=telemetry.meters
    )
    return app


async def test_a_hundred_tasks_under_uvicorn(telemetry: Telemetry) -> None:
    """Each task is a span under the server's of its request, within its time, and all end."""
    simulator = Simulator(seed=1, key="test-key", speed=100)
    listening, address = listening_socket()
    async with (
        serve(simulator) as url,
        uvicorn_of(app_of(url, telemetry), listening),
        httpx2.AsyncClient(base_url=address, timeout=BOUND) as visitor,
    ):
        answers = await asyncio.gather(
            *(visitor.post(f"/images/{number}") for number in range(TASKS))
        )
        points = telemetry.points()
    made = {answer.json()["task"] for answer in answers}
    assert len(made) == TASKS
    assert telemetry.instrument._tasks == {}
    servers = {
        span.context.span_id: span for span in telemetry.spans if span.kind is SpanKind.SERVER
    }
    tasks = telemetry.tasks()
    assert {(span.attributes or {})["gen_ai.response.id"] for span in tasks} == made
    parents = [span.parent.span_id for span in tasks if span.parent is not None]
    assert len(tasks) == len(servers) == TASKS
    assert {*parents} == servers.keys()
    for span, parent in zip(tasks, parents, strict=True):
        server = servers[parent]
        assert span.context.trace_id == server.context.trace_id
        times = (server.start_time, span.start_time, span.end_time, server.end_time)
        known = [time for time in times if time is not None]
        assert len(known) == 4
        assert known == sorted(known)
        assert known[1] < known[2]
    counted = {
        name: [(dict(point.attributes), point.value) for point in points[f"apixo.{name}"]]
        for name in ("submits", "tasks", "polls", "slots_used")
    }
    model = {"model": "flux-kontext"}
    assert counted == {
        "submits": [({**model, "outcome": "bought"}, TASKS)],
        "tasks": [({**model, "outcome": "success"}, TASKS)],
        "polls": [(model, simulator.count("poll"))],
        "slots_used": [({"client": 0}, 0)],
    }

"""HTTP instrumentation of OpenTelemetry beside that of this package."""

from __future__ import annotations

import asyncio
from collections import Counter

import httpx2
import pytest

from apixo_async import AsyncClient, FluxKontext
from apixo_async.otel import Instrument
from apixo_async.testing import Simulator, serve_thread

from ..support.telemetry import Telemetry, telemetry

pytest.importorskip("opentelemetry.instrumentation.httpx")

from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor

__all__ = ["telemetry"]  # a fixture

CASTLE = FluxKontext(mode="pro", prompt="a castle")

pytestmark = pytest.mark.realtime


@pytest.mark.parametrize("trace_polls", [False, True])
def test_http_instrumentation_leaves_polls_alone(telemetry: Telemetry, trace_polls: bool) -> None:
    """The real one: a POST is a span under the caller's, and a poll is none unless asked for."""
    simulator = Simulator(seed=1, key="test-key", speed=100)
    instrument = Instrument(tracer_provider=telemetry.tracers, trace_polls=trace_polls)

    async def job(url: str) -> None:
        # The default transport is one of this package's own, which it does not know.
        transport = httpx2.AsyncHTTPTransport()
        async with AsyncClient(
            "test-key", base_url=url, transport=transport, on_event=instrument
        ) as client:
            with telemetry.tracers.get_tracer("app").start_as_current_span("job"):
                assert await client.generate(CASTLE)

    http = HTTPX2ClientInstrumentor()
    http.instrument(tracer_provider=telemetry.tracers)
    try:
        with serve_thread(simulator) as url:
            asyncio.run(job(url))
    finally:
        http.uninstrument()
    requests = Counter(
        (span.name, span.parent is None) for span in telemetry.spans if span.name in {"GET", "POST"}
    )
    polls = {("GET", True): simulator.count("poll")}
    assert requests == {("POST", False): 1, **(polls if trace_polls else {})}

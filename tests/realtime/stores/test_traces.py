"""One trace over two processes that share a store."""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import apixo_async
from apixo_async import AsyncClient, Polling
from apixo_async.testing import Fault, Simulator, serve_thread

from ...support.telemetry import Telemetry, telemetry

__all__ = ["telemetry"]  # a fixture

PACKAGE = Path(apixo_async.__file__).parents[1]

#: Buys under a key, says so, ends with its task and prints its spans.
BUYER = """
import asyncio, sys
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from apixo_async import AsyncClient, FluxKontext, Polling
from apixo_async.otel import Instrument

exporter, tracers = InMemorySpanExporter(), TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(exporter))

async def main(url, store):
    async with AsyncClient(
        "test-key", base_url=url, store=store, polling=Polling.fixed(0.2, 0.2),
        on_event=Instrument(tracer_provider=tracers),
    ) as client:
        with tracers.get_tracer("app").start_as_current_span("POST /images"):
            task = await client.submit(FluxKontext(prompt="a castle"), key="order-1")
        print(task.id, flush=True)
        await task

asyncio.run(main(*sys.argv[1:]))
for span in exporter.get_finished_spans():
    print(span.to_json(indent=None))
"""


def test_one_trace_over_two_processes(telemetry: Telemetry, tmp_path: Path) -> None:
    """Who finds a task by its key has a span of its own, linked to the caller's of the submit."""
    simulator = Simulator(seed=1, key="test-key", durations=0.1)
    simulator.faults.during(-math.inf, math.inf, Fault.odd_state(), "poll")  # It goes on and on.
    store = str(tmp_path / "store.db")

    async def find(url: str, buyer: subprocess.Popen[str]) -> None:
        assert buyer.stdout is not None
        bought = (await asyncio.to_thread(buyer.stdout.readline)).strip()
        async with AsyncClient(
            "test-key",
            base_url=url,
            store=store,
            polling=Polling.fixed(0.2, 0.2),
            on_event=telemetry.instrument,
        ) as client:
            with telemetry.tracers.get_tracer("app").start_as_current_span("GET /images"):
                task = await client.find("order-1")
            assert task is not None
            assert task.id == bought
            simulator.faults.clear()
            await task

    with serve_thread(simulator) as url:
        command = [sys.executable, "-W", "error", "-c", BUYER, url, store]
        environment = os.environ | {"PYTHONPATH": str(PACKAGE)}
        began = time.time()
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as buyer:
            asyncio.run(asyncio.wait_for(find(url, buyer), 60))
            said, _ = buyer.communicate(timeout=60)
    ended = time.time()
    submit, bought = (json.loads(line) for line in said.splitlines())
    find_span, [found] = telemetry.spans[0], telemetry.tasks()
    # In the one process: under the span of the submit.
    assert bought["parent_id"] == submit["context"]["span_id"]
    assert bought["context"]["trace_id"] == submit["context"]["trace_id"]
    assert bought["status"]["status_code"] == "UNSET"
    # In the other one: under that of its own caller, with a link to the submit.
    assert found.parent is not None
    assert found.parent.span_id == find_span.context.span_id
    [link] = found.links
    assert f"0x{link.context.span_id:016x}" == submit["context"]["span_id"]
    assert f"0x{link.context.trace_id:032x}" == submit["context"]["trace_id"]
    assert link.context.is_remote
    assert (found.attributes or {})["gen_ai.response.id"] == bought["attributes"][
        "gen_ai.response.id"
    ]
    # Both begin before they end, the second one after the first one.
    named = ("start_time", "end_time")
    times = [datetime.fromisoformat(bought[name]).timestamp() for name in named]
    assert began <= times[0] <= times[1] <= ended
    assert times[0] * 1e9 <= (found.start_time or 0) <= (found.end_time or 0) <= ended * 1e9

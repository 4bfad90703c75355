"""Spans and metrics, as the SDK of OpenTelemetry has them in the end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from apixo_async import AsyncClient, FluxKontext, SubmitUncertainError, TaskFailedError
from apixo_async.otel import Instrument
from apixo_async.testing import Fault, MemoryStore, Simulator

ClientOf = Callable[..., AsyncClient]
ARABIC = "\u0661"  # a digit to `str.isdigit`
CASTLE = FluxKontext(mode="pro", prompt="a secret castle")


class Telemetry(NamedTuple):
    """What was exported."""

    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader
    tracers: TracerProvider
    instrument: Instrument

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def tasks(self) -> list[ReadableSpan]:
        return [span for span in self.spans if span.kind is SpanKind.CLIENT]

    def points(self) -> dict[str, list[Any]]:
        """Return the points of each metric."""
        data = self.reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider([reader])
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    yield Telemetry(
        exporter, reader, tracers, Instrument(tracer_provider=tracers, meter_provider=meters)
    )
    tracers.shutdown()
    meters.shutdown()


async def test_a_span_is_the_task_of_its_caller(
    simulator: Simulator, client_of: ClientOf, telemetry: Telemetry
) -> None:
    """It lies under the span that was current at the submit, and says what backends read."""
    client = client_of(simulator, on_event=[telemetry.instrument])
    with telemetry.tracers.get_tracer("app").start_as_current_span("GET /images") as caller:
        task = await client.submit(CASTLE, tag="customer-42")
    await task
    [span] = telemetry.tasks()
    assert span.parent is not None
    assert span.parent.span_id == caller.get_span_context().span_id
    assert span.context.trace_id == caller.get_span_context().trace_id
    assert span.name == "image_generation flux-kontext"
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "image_generation",
        "gen_ai.provider.name": "apixo",
        "gen_ai.request.model": "flux-kontext",
        "gen_ai.response.id": task.id,
        "gen_ai.output.type": "image",
        "apixo.tag": "customer-42",
        "apixo.polls": simulator.count("poll"),
        "operation.cost": 0.03,
    }


async def test_a_hundred_tasks(
    simulator: Simulator, client_of: ClientOf, telemetry: Telemetry
) -> None:
    """Each has one span, each ends; the metrics count them by outcome and category."""
    simulator.faults.submit(*[Fault.task_fails("NSFW")] * 5, Fault.lost_answer(), Fault.status(400))
    client = client_of(simulator, on_event=telemetry.instrument)
    telemetry.instrument.observe(client)
    ended = await asyncio.gather(
        *(client.generate(CASTLE) for _ in range(100)), return_exceptions=True
    )
    assert Counter(type(each).__name__ for each in ended) == {
        "Result": 93,
        "TaskFailedError": 5,
        "SubmitUncertainError": 1,
        "BadRequestError": 1,
    }
    spans = telemetry.tasks()
    assert len({(span.attributes or {})["gen_ai.response.id"] for span in spans}) == 98
    assert Counter((span.attributes or {}).get("error.type") for span in spans) == {
        None: 93,
        "content": 5,
    }
    assert all((span.end_time or 0) > (span.start_time or 0) for span in spans)
    points = telemetry.points()
    counted = {point.attributes["outcome"]: point.value for point in points["apixo.submits"]}
    assert counted == {"bought": 98, "uncertain": 1, "refused": 1}
    tasks = {point.attributes.get("category"): point.value for point in points["apixo.tasks"]}
    assert tasks == {None: 93, "content": 5}
    assert points["apixo.cost"][0].value == pytest.approx(98 * 0.03)
    for name in ("apixo.slot.wait", "apixo.permit.wait"):
        assert sum(point.count for point in points[name]) == 98
    assert sum(point.count for point in points["apixo.task.duration"]) == 98
    assert sum(point.value for point in points["apixo.polls"]) == simulator.count("poll")
    assert [point.value for point in points["apixo.slots_used"]] == [1]  # the uncertain one's


async def test_no_span_is_open_after_the_close(
    simulator: Simulator, client_of: ClientOf, telemetry: Telemetry
) -> None:
    """What goes on at the service ends here as unfinished."""
    simulator.faults.submit(Fault.task_lasts(1e4))
    client = client_of(simulator, on_event=telemetry.instrument)
    await client.submit(CASTLE)
    await asyncio.sleep(1)
    await client.aclose()
    [span] = telemetry.tasks()
    assert (span.attributes or {})["error.type"] == "unfinished"
    assert telemetry.instrument._spans == {}


async def test_what_is_attached_has_a_span(
    simulator: Simulator, client_of: ClientOf, telemetry: Telemetry
) -> None:
    """From there on, without a parent."""
    ref = (await client_of(simulator).submit(CASTLE)).ref
    await client_of(simulator, on_event=telemetry.instrument).attach(ref)
    [span] = telemetry.tasks()
    assert span.parent is None
    assert (span.attributes or {})["gen_ai.response.id"] == ref.task_id


async def test_processes_that_share_a_task_are_linked(
    simulator: Simulator, client_of: ClientOf, telemetry: Telemetry
) -> None:
    """Who finds it by key has a span under its own caller, linked to that of the submit."""
    store, app = MemoryStore(), telemetry.tracers.get_tracer("app")
    hooks = [Instrument(tracer_provider=telemetry.tracers) for _ in range(3)]
    owner, finder, heir = (client_of(simulator, store=store, on_event=hook) for hook in hooks)
    with app.start_as_current_span("POST /images") as submitting:
        task = await owner.submit(CASTLE, key="order-1")
    with app.start_as_current_span("GET /images") as finding:
        found = await finder.find("order-1")
    assert found is not None
    await owner.aclose()
    await finder.aclose()
    (taken,) = await heir.recover()
    assert (await taken).task_id == task.id
    spans = telemetry.tasks()
    assert [span.parent and span.parent.span_id for span in spans] == [
        submitting.get_span_context().span_id,
        finding.get_span_context().span_id,
        None,
    ]
    assert [(span.attributes or {}).get("error.type") for span in spans] == ["unfinished"] * 2 + [
        None
    ]
    assert [[link.context.span_id for link in span.links] for span in spans] == [
        [],
        [submitting.get_span_context().span_id],
        [submitting.get_span_context().span_id],
    ]
    assert {link.context.trace_id for span in spans for link in span.links} == {
        submitting.get_span_context().trace_id
    }


@pytest.mark.parametrize(
    "kept",
    [
        "",
        "x" * 55,
        f"00-{'0' * 32}-{'2' * 16}-01",
        f"00-{'1' * 32}-{'0' * 16}-01",
        f"01-{'1' * 32}-{'2' * 16}-01",
        f"00-{'A' * 32}-{'2' * 16}-01",
        f"00-{'1' * 32}-{'2' * 16}-01\n",
        f"00-{ARABIC * 32}-{'2' * 16}-01",
    ],
)
async def test_what_a_store_has_in_its_place(
    simulator: Simulator, client_of: ClientOf, telemetry: Telemetry, kept: str
) -> None:
    """Anybody may have written it: what is none is no link, and the task goes on."""
    store = MemoryStore()
    await client_of(simulator, store=store).submit(CASTLE, key="order-1")
    (row,) = store._tables.entries.values()
    assert row.entry.purchase.traceparent is None  # no span was current
    row.entry = replace(row.entry, purchase=replace(row.entry.purchase, traceparent=kept))
    found = await client_of(simulator, store=store, on_event=telemetry.instrument).find("order-1")
    assert found is not None
    await found
    [span] = telemetry.tasks()
    assert list(span.links) == []


async def test_no_secret_is_exported(
    simulator: Simulator, client_of: ClientOf, telemetry: Telemetry
) -> None:
    """Neither prompts nor URLs nor keys, whatever happens."""
    simulator.faults.submit(Fault.lost_answer(), Fault.task_fails("NSFW"), Fault.status(400))
    client = client_of(simulator, on_event=telemetry.instrument)
    with telemetry.tracers.get_tracer("app").start_as_current_span("job"):
        for error in (SubmitUncertainError, TaskFailedError, Exception):
            with pytest.raises(error):
                await client.generate(CASTLE)
        assert await client.generate(CASTLE)
        assert trace.get_current_span().is_recording()
    exported = "".join(span.to_json() for span in telemetry.spans) + str(telemetry.points())
    for secret in ("secret castle", "test-key", "https://", "http://"):
        assert secret not in exported
    events = [event.name for span in telemetry.spans for event in span.events]
    assert events == ["apixo submit uncertain", "apixo submit refused"]


async def test_several_hooks(simulator: Simulator, client_of: ClientOf) -> None:
    """Each is given every event, one that raises among them."""
    seen: list[list[object]] = [[], []]

    def raises(_: object) -> None:
        raise ValueError("a defect of the caller's")

    client = client_of(simulator, on_event=[seen[0].append, raises, seen[1].append])
    await client.generate(CASTLE)
    assert seen[0] == seen[1] != []

"""Spans and metrics, as the SDK of OpenTelemetry has them in the end."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from apixo_async import (
    AsyncClient,
    ConfigurationError,
    EffectiveLimitLowered,
    FluxKontext,
    InsufficientBalanceError,
    SubmitUncertainError,
    TaskAttached,
    TaskFailedError,
    TaskSettled,
    WebhookReceiver,
)
from apixo_async.otel import Instrument
from apixo_async.otel._metrics import COUNTS, DURATIONS, GAUGES
from apixo_async.testing import Fault, MemoryStore, Simulator

from ..support.telemetry import Telemetry, telemetry

__all__ = ["telemetry"]  # a fixture

ClientOf = Callable[..., AsyncClient]
ARABIC = "\u0661"  # a digit to `str.isdigit`
CASTLE = FluxKontext(mode="pro", prompt="a secret castle")


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
    assert len({(span.attributes or {}).get("gen_ai.response.id") for span in spans} - {None}) == 98
    assert Counter((span.attributes or {}).get("error.type") for span in spans) == {
        None: 93,
        "content": 5,
        "uncertain": 1,
        "refused": 1,
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
    requests = {point.attributes["request"]: point for point in points["apixo.http.duration"]}
    assert requests["submit"].count == 98
    assert requests["poll"].count == 98  # those that ended a task
    assert requests["poll"].min == pytest.approx(0.05)  # as the simulator's network
    assert requests["submit"].min == pytest.approx(0.05)
    assert set(points) == {f"apixo.{name}" for name in (*DURATIONS, *COUNTS, *GAUGES)} - {
        "apixo.throttled", "apixo.callbacks", "apixo.uncertain_entries",
    }  # fmt: skip
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
    assert telemetry.instrument._tasks == {}


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


async def test_a_submit_that_bought_nothing_is_a_span(
    simulator: Simulator, client_of: ClientOf, telemetry: Telemetry
) -> None:
    """Under its caller's, from the call to the end, with what it ended for; a repeat is none."""
    simulator.faults.submit(Fault.lost_answer(), Fault.status(402), Fault.status(503))
    client = client_of(simulator, on_event=telemetry.instrument)
    with telemetry.tracers.get_tracer("app").start_as_current_span("job") as caller:
        for error in (SubmitUncertainError, InsufficientBalanceError):
            with pytest.raises(error):
                await client.submit(CASTLE, tag="customer-42")
        await client.generate(CASTLE)
    spans = telemetry.tasks()
    known = [span.attributes or {} for span in spans]
    assert [each.get("error.type") for each in known] == ["uncertain", "balance", None]
    assert [each.get("apixo.tag") for each in known] == ["customer-42"] * 2 + [None]
    assert [span.name for span in spans] == ["image_generation flux-kontext"] * 3
    assert {span.parent and span.parent.span_id for span in spans} == {
        caller.get_span_context().span_id
    }
    assert [span.status.status_code for span in spans[:2]] == [StatusCode.ERROR] * 2
    submits = telemetry.points()["apixo.submits"]
    assert {point.attributes["outcome"]: point.attributes.get("category") for point in submits} == {
        "uncertain": None,
        "refused": "balance",
        "bought": None,
    }
    lost = (spans[0].end_time or 0) - (spans[0].start_time or 0)
    assert lost == pytest.approx(0.05e9, rel=0.5)  # the network's time, of the virtual clock


async def test_limits_are_events_of_the_tasks_that_were_open(
    simulator: Simulator, client_of: ClientOf, telemetry: Telemetry
) -> None:
    """Of each the last eight: a task that began later has none of those before."""
    simulator.faults.submit(None, Fault.status(429))
    client = client_of(simulator, on_event=telemetry.instrument)
    await asyncio.gather(client.generate(CASTLE), client.generate(CASTLE))
    for _ in range(9):
        telemetry.instrument(EffectiveLimitLowered("slots", 10, 1_000))
    telemetry.instrument(TaskAttached("m", "later"))
    telemetry.instrument(TaskSettled("m", "later", "success", 1, 2.0))
    spans = telemetry.tasks()
    assert [[event.name for event in span.events] for span in spans] == [["apixo 429"]] * 2 + [[]]
    [event] = spans[0].events
    assert (event.attributes or {})["scope"] == "submits"
    assert (spans[0].start_time or 0) < event.timestamp < (spans[0].end_time or 0)
    assert len(telemetry.instrument._limits) == 8
    points = telemetry.points()
    assert [point.value for point in points["apixo.throttled"]] == [1]


async def test_polls_are_spans_when_asked_for(
    simulator: Simulator, client_of: ClientOf, telemetry: Telemetry
) -> None:
    """Under that of their task, from their sending to their answer."""
    simulator.faults.poll(Fault.html())
    instrument = Instrument(tracer_provider=telemetry.tracers, trace_polls=True)
    await client_of(simulator, on_event=instrument).generate(CASTLE)
    [task] = telemetry.tasks()
    polls = [span for span in telemetry.spans if span.name == "apixo poll"]
    assert len(polls) == simulator.count("poll") > 1
    assert {span.parent and span.parent.span_id for span in polls} == {task.context.span_id}
    assert [span.status.status_code is StatusCode.ERROR for span in polls] == [True] + [False] * (
        len(polls) - 1
    )
    for span in polls:
        took = (span.end_time or 0) - (span.start_time or 0)
        assert took == pytest.approx(0.05e9, rel=0.5)


async def test_prompts_are_captured_when_asked_for(
    simulator: Simulator, client_of: ClientOf, telemetry: Telemetry
) -> None:
    """In the span of the submit alone, as what the conventions call input messages."""
    instrument = Instrument(tracer_provider=telemetry.tracers, capture_prompts=True)
    simulator.faults.submit(Fault.lost_answer())
    client = client_of(simulator, on_event=instrument)
    for _ in range(2):
        try:
            task = await client.submit(CASTLE)
        except SubmitUncertainError:
            continue
    with pytest.raises(ConfigurationError):
        client.attach("flux-kontext", "")
    await task
    await client.attach("flux-kontext", task.id)
    other = FluxKontext(mode="pro", prompt="a moon")
    await asyncio.gather(client.generate(CASTLE), client.generate(other))
    said = [(span.attributes or {}).get("gen_ai.input.messages") for span in telemetry.tasks()]
    assert [text and json.loads(str(text)) for text in said] == [
        [{"role": "user", "parts": [{"type": "text", "content": prompt}]}] if prompt else None
        for prompt in (*["a secret castle"] * 2, None, "a secret castle", "a moon")
    ]


async def test_a_detached_task_has_no_open_span(
    simulator: Simulator, client_of: ClientOf, telemetry: Telemetry
) -> None:
    """Its span ends where its polls do."""
    client = client_of(simulator, on_event=telemetry.instrument)
    (await client.submit(CASTLE)).detach()
    [span] = telemetry.tasks()
    assert span.status.status_code is StatusCode.UNSET
    assert telemetry.instrument._tasks == {}


async def test_the_task_of_an_uncertain_submit(
    simulator: Simulator, client_of: ClientOf, telemetry: Telemetry
) -> None:
    """What a callback names has a span from its submit on; callbacks are counted."""
    receiver = WebhookReceiver("https://app.example.com/apixo", "a secret of sixteen bytes or more")
    simulator.deliver_to(receiver.asgi())
    simulator.faults.submit(Fault.lost_answer())
    client = client_of(simulator, webhooks=receiver, on_event=telemetry.instrument)
    with pytest.raises(SubmitUncertainError) as raised:
        await client.submit(CASTLE)
    assert raised.value.task is not None
    result = await raised.value.task
    doubt, task = telemetry.tasks()
    assert (doubt.attributes or {})["error.type"] == "uncertain"
    assert (task.attributes or {})["gen_ai.response.id"] == result.task_id
    lasted = (task.end_time or 0) - (task.start_time or 0)
    known = simulator.tasks[result.task_id]
    assert lasted == pytest.approx((known.ends - known.created) * 1e9, rel=0.05)
    callbacks = telemetry.points()["apixo.callbacks"]
    assert [(point.attributes["outcome"], point.value) for point in callbacks] == [("polled", 1)]


@pytest.mark.parametrize("capture_prompts", [False, True])
async def test_no_secret_is_exported(
    simulator: Simulator, client_of: ClientOf, telemetry: Telemetry, capture_prompts: bool
) -> None:
    """Neither URLs nor keys, whatever happens; nor prompts, unless asked for."""
    instrument = Instrument(
        tracer_provider=telemetry.tracers,
        meter_provider=telemetry.meters,
        trace_polls=True,
        capture_prompts=capture_prompts,
    )
    receiver = WebhookReceiver("https://app.example.com/apixo", "a secret of sixteen bytes or more")
    simulator.deliver_to(receiver.asgi())
    simulator.faults.submit(
        Fault.lost_answer(), Fault.task_fails("NSFW", "a secret castle"), Fault.status(400),
        Fault.status(429), Fault.status(503),
    )  # fmt: skip
    simulator.faults.poll(Fault.html(), Fault.status(500), Fault.status(429))
    store, key = MemoryStore(), "order-1"
    client, other = (
        client_of(simulator, store=store, webhooks=hooks, on_event=instrument)
        for hooks in (receiver, None)
    )
    instrument.observe(client)
    with telemetry.tracers.get_tracer("app").start_as_current_span("job"):
        for error in (SubmitUncertainError, TaskFailedError, Exception):
            with pytest.raises(error):
                await client.generate(CASTLE)
        task = await client.submit(CASTLE, key=key)
        assert await other.find(key) is not None
        assert await task
        assert trace.get_current_span().is_recording()
    exported = "".join(span.to_json() for span in telemetry.spans) + str(telemetry.points())
    for secret in ("test-key", "https://", "http://", "sixteen bytes", "example.com"):
        assert secret not in exported
    assert ("secret castle" in exported) == capture_prompts
    events = {event.name for span in telemetry.spans for event in span.events}
    assert events == {"apixo 429"}


async def test_several_hooks(simulator: Simulator, client_of: ClientOf) -> None:
    """Each is given every event, one that raises among them."""
    seen: list[list[object]] = [[], []]

    def raises(_: object) -> None:
        raise ValueError("a defect of the caller's")

    client = client_of(simulator, on_event=[seen[0].append, raises, seen[1].append])
    await client.generate(CASTLE)
    assert seen[0] == seen[1] != []

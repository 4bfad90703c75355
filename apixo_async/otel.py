"""A span for each task, and metrics, by OpenTelemetry (extra `[otel]`): a hook for `on_event`.

    client = AsyncClient(on_event=Instrument())

Only `opentelemetry-api` is used: without an SDK, all of it does nothing.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias

from opentelemetry import context, metrics, trace
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TracerProvider,
)

from apixo_async import events
from apixo_async._catalog import medium
from apixo_async._client import AsyncClient
from apixo_async._types import TaskInput, TaskRef
from apixo_async._version import __version__

Attributes: TypeAlias = Mapping[str, str | int | float]

_NAME: Final = "apixo_async"
#: Upper bounds of histograms, in seconds: from a wait for a permit to the longest film.
_SECONDS: Final = (0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_800)
#: What `client.statistics()` is observed as, by the name of its field.
_GAUGES: Final = {
    "slots_used": "Tasks that take a slot of the account",
    "slots_waiting": "Submits that wait for a slot",
    "effective_slots_limit": "Tasks at once that the service grants, as 429s have shown",
    "requests_in_window": "Requests of the last 60 s",
    "requests_waiting": "Requests that wait for a permit",
    "effective_requests_limit": "Requests in 60 s that the service grants, as 429s have shown",
    "tasks_tracked": "Tasks that are not over",
    "uncertain_entries": "Uncertain submits in the store, of all processes",
}
#: What makes HTTP instrumentation leave a request alone.
_SUPPRESS: Final = "suppress_http_instrumentation"


class Instrument:
    """Report what one or several clients do.

    A task's span, `image_generation {model}` or of a video or audio, begins at its submit, under
    the caller's span, and ends when the client knows that the task is over. In another process
    that finds the task by its key, or takes it over, it has a span of its own, with a link to the
    span under which it was submitted. No attribute holds a prompt, a URL or a key; those of metrics
    are the model, outcomes and categories.

    Polls are hidden from HTTP instrumentation: each would be a trace of its own, up to 10,000 a
    minute.

    Args:
        tracer_provider: Makes the spans; None takes the global one.
        meter_provider: Makes the metrics; None takes the global one.
        trace_polls: Whether HTTP instrumentation sees polls all the same.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        trace_polls: bool = False,
    ) -> None:
        self._tracer = trace.get_tracer(_NAME, __version__, tracer_provider)
        self._meter = meter = metrics.get_meter(_NAME, __version__, meter_provider)
        self._trace_polls = trace_polls
        self._spans: dict[tuple[str, str], Span] = {}
        self._observed: list[weakref.ref[AsyncClient]] = []
        seconds = partial(
            meter.create_histogram, unit="s", explicit_bucket_boundaries_advisory=_SECONDS
        )
        self._duration = seconds(
            "apixo.task.duration", description="From a submit to the poll that found its task over"
        )
        self._delay = seconds(
            "apixo.result.delay", description="From the end of a task to the poll that found it"
        )
        self._slot_wait = seconds("apixo.slot.wait", description="From a submit's call to its slot")
        self._permit_wait = seconds("apixo.permit.wait", description="From its slot to its permit")
        count = meter.create_counter
        self._submits = count("apixo.submits", description="Submits by outcome")
        self._tasks = count("apixo.tasks", description="Tasks that are over, by outcome")
        self._polls = count("apixo.polls", description="Polls of tasks that are over")
        self._cost = count("apixo.cost", unit="USD", description="Documented prices of purchases")
        self._throttled = count("apixo.throttled", description="429s that closed something")

    def __call__(self, event: events.Event) -> None:
        """Take an event of a client."""
        match event:
            case events.ClientOpened() if not self._trace_polls:
                # It is reported in the context in which polls will run, and stays attached there.
                context.attach(context.set_value(_suppression_key(), value=True))
            case events.TaskSubmitted():
                self._bought(event)
            case events.TaskAttached() | events.TaskAdopted():
                self._begin(event, 0.0)
            case events.TaskSettled():
                self._settled(event)
            case events.SubmitRefused() | events.SubmitUncertain():
                self._not_bought(event)
            case events.LimitReached():
                self._throttled.add(1, {"scope": event.scope})
            case events.ClientClosed():
                for task in [*self._spans]:
                    if str(TaskRef(*task)) in event.unfinished:
                        self._end(task, "unfinished")
            case _:
                pass

    def traceparent(self) -> str | None:
        """Return the caller's span, as a store keeps it with the task of a submit."""
        span = trace.get_current_span().get_span_context()
        if not span.is_valid:
            return None
        return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"

    def submitting(self, task_input: TaskInput, /) -> None:
        """Take what is about to be bought, of which nothing is kept."""

    def observe(self, client: AsyncClient) -> None:
        """Observe the counts of a client, for as long as it lives, when metrics are collected."""
        if not self._observed:
            for name, description in _GAUGES.items():
                read = partial(self._read, name)
                gauge = f"apixo.{name}"
                self._meter.create_observable_gauge(gauge, [read], description=description)
        self._observed.append(weakref.ref(client))

    def _read(self, name: str, _: CallbackOptions) -> Iterable[Observation]:
        for number, reference in enumerate(self._observed):
            client = reference()
            value = None if client is None else getattr(client.statistics(), name)
            if value is not None:
                yield Observation(value, {"client": number})

    # --- tasks ---------------------------------------------------------------------------

    def _bought(self, event: events.TaskSubmitted) -> None:
        about = {"model": event.model}
        self._begin(event, event.waited)
        self._submits.add(1, {**about, "outcome": "bought"})
        self._slot_wait.record(event.slot_wait, about)
        self._permit_wait.record(event.permit_wait, about)
        if event.cost is not None:
            self._cost.add(float(event.cost), about)

    def _not_bought(self, event: events.SubmitRefused | events.SubmitUncertain) -> None:
        outcome = "uncertain" if isinstance(event, events.SubmitUncertain) else "refused"
        if isinstance(event, events.SubmitUncertain) or event.again_in is None:
            self._submits.add(1, {"model": event.model, "outcome": outcome})
        trace.get_current_span().add_event(
            f"apixo submit {outcome}", {"model": event.model, "reason": event.reason}
        )

    def _begin(
        self, event: events.TaskSubmitted | events.TaskAttached | events.TaskAdopted, ago: float
    ) -> None:
        if (event.model, event.task_id) in self._spans:
            return  # It was followed before it was taken over, or is another client's as well.
        made = medium(event.model).rpartition(" ")[2]  # of a "quality image", an image
        operation = f"{made if made != 'unknown' else 'content'}_generation"
        self._spans[event.model, event.task_id] = self._tracer.start_span(
            f"{operation} {event.model}",
            kind=SpanKind.CLIENT,
            start_time=time.time_ns() - int(ago * 1e9),
            links=_links(getattr(event, "traceparent", None)),
            attributes={
                "gen_ai.operation.name": operation,
                "gen_ai.provider.name": "apixo",
                "gen_ai.request.model": event.model,
                "gen_ai.response.id": event.task_id,
                "gen_ai.output.type": made,
                **({} if event.tag is None else {"apixo.tag": event.tag}),
            },
        )

    def _settled(self, event: events.TaskSettled) -> None:
        about = {"model": event.model, "outcome": event.outcome}
        if event.category is not None:
            about["category"] = event.category
        self._tasks.add(1, about)
        self._polls.add(event.polls, {"model": event.model})
        self._duration.record(event.age, about)
        if event.delay is not None:
            self._delay.record(event.delay, {"model": event.model})
        known: dict[str, str | int | float] = {"apixo.polls": event.polls}
        if event.cost is not None:
            known["operation.cost"] = float(event.cost)
        self._end((event.model, event.task_id), event.category, known)

    def _end(
        self, task: tuple[str, str], error: str | None, known: Attributes | None = None
    ) -> None:
        span = self._spans.pop(task, None)
        if span is None:
            return
        span.set_attributes({**(known or {}), **({} if error is None else {"error.type": error})})
        if error is not None:
            span.set_status(Status(StatusCode.ERROR, error))
        span.end()


def _links(traceparent: str | None) -> Sequence[Link]:
    if traceparent is None:
        return ()
    _, trace_id, span_id, flags = (int(part, 16) for part in traceparent.split("-"))
    return [Link(SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags)))]


def _suppression_key() -> str:
    return getattr(context, "_SUPPRESS_HTTP_INSTRUMENTATION_KEY", _SUPPRESS)

"""The hook: spans from events, and what of them is counted."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Sequence
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final, TypeAlias

from opentelemetry import context, trace
from opentelemetry.metrics import MeterProvider
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
from apixo_async.blocking import Client
from apixo_async.otel._metrics import NAME, Attributes, metrics_of

#: What makes HTTP instrumentation leave a request alone.
_SUPPRESS: Final = "suppress_http_instrumentation"

#: The most 429s, and changes of an effective limit, that a span has as events: the last ones.
_MOST_LIMITS: Final = 8

#: The prompt of the submit whose POST is under way in this context, where it is asked for.
_PROMPT: Final = ContextVar[object]("apixo_prompt", default=None)


#: With what the span of a task begins.
_OfTask: TypeAlias = (
    events.TaskSubmitted | events.TaskAttached | events.TaskAdopted | events.UncertainSubmitResolved
)


class Instrument:
    """Report what one or several clients do.

    A task's span, `image_generation {model}` or of a video or audio, begins at its submit, under
    the caller's span, and ends when the client knows that the task is over. In another process
    that finds the task by its key, or takes it over, it has a span of its own, with a link to the
    span under which it was submitted. A submit that is refused for good, or uncertain, is such a
    span as well, which ends in an error. What 429s have closed, and effective limits, are events
    of the tasks that were open then: of each, the last eight.

    No attribute holds a URL or a key, nor a prompt unless asked for; those of metrics are the
    model, outcomes and categories.

    Polls are hidden from HTTP instrumentation: each would be a trace of its own, up to 10,000 a
    minute.

    Args:
        tracer_provider: Makes the spans; None takes the global one.
        meter_provider: Makes the metrics; None takes the global one.
        trace_polls: Whether each poll is a span under that of its task, and HTTP instrumentation
            sees it.
        capture_prompts: Whether the span of a task has its prompt, as `gen_ai.input.messages`.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        trace_polls: bool = False,
        capture_prompts: bool = False,
    ) -> None:
        self._tracer = trace.get_tracer(NAME, __version__, tracer_provider)
        self._trace_polls = trace_polls
        self._capture_prompts = capture_prompts
        #: The open spans, by task, and when each began, in nanoseconds since the epoch.
        self._tasks: dict[tuple[str, str], tuple[Span, int]] = {}
        self._limits: deque[tuple[int, str, Attributes]] = deque(maxlen=_MOST_LIMITS)
        self._metrics = metrics_of(meter_provider)

    def __call__(self, event: events.Event) -> None:
        """Take an event of a client."""
        match event:
            case events.TaskPolled() | events.PollFailed():
                self._polled(event)
            case events.TaskSubmitted():
                self._bought(event)
            case events.TaskSettled():
                self._settled(event)
            case events.TaskAttached() | events.TaskAdopted():
                self._begin(event, 0.0, _links(event.traceparent))
            case events.UncertainSubmitResolved():
                self._begin(event, event.after)
            case events.TaskDetached():
                self._end((event.model, event.task_id))
            case events.SubmitUncertain() | events.SubmitRefused():
                self._not_bought(event)
            case events.CallbackReceived():
                self._metrics.count("callbacks", outcome=event.outcome)
            case _:
                self._of_client(event)

    def _of_client(self, event: events.Event) -> None:
        match event:
            case events.ClientOpened() if not self._trace_polls:
                # It is reported in the context in which polls will run, and stays attached there.
                context.attach(context.set_value(_suppression_key(), value=True))
            case events.ClientClosed():
                for task in [*self._tasks]:
                    if str(TaskRef(*task)) in event.unfinished:
                        self._end(task, "unfinished")
            case events.LimitReached():
                self._metrics.count("throttled", scope=event.scope)
                self._limit("429", scope=event.scope, pause=event.pause)
            case events.EffectiveLimitLowered() | events.EffectiveLimitRaised():
                self._limit("effective limit", scope=event.scope, limit=event.effective_limit)
            case _:
                pass

    def submitting(self, task_input: TaskInput, /) -> None:
        """Take the prompt of what is about to be bought, if that was asked for."""
        if self._capture_prompts:
            _PROMPT.set(task_input.payload().get("prompt"))

    def traceparent(self) -> str | None:
        """Return the caller's span, as a store keeps it with the task of a submit."""
        span = trace.get_current_span().get_span_context()
        if not span.is_valid:
            return None
        return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"

    def observe(self, client: AsyncClient | Client) -> None:
        """Observe the counts of a client, for as long as it lives, when metrics are collected.

        Of an `AsyncClient` call it on its event loop, such as right after `async with`: its counts
        are read there, whichever thread collects.
        """
        self._metrics.observe(client)

    def _bought(self, event: events.TaskSubmitted) -> None:
        model = {"model": event.model}
        self._begin(event, event.waited)
        self._metrics.count("submits", model=event.model, outcome="bought")
        self._metrics.record("slot.wait", event.slot_wait, model)
        self._metrics.record("permit.wait", event.permit_wait, model)
        took = event.waited - event.slot_wait - event.permit_wait
        self._metrics.record("http.duration", took, {"request": "submit", **model})
        if event.cost is not None:
            self._metrics.count("cost", float(event.cost), model=event.model)

    def _not_bought(self, event: events.SubmitRefused | events.SubmitUncertain) -> None:
        about, category = {"model": event.model, "outcome": "uncertain"}, "uncertain"
        if isinstance(event, events.SubmitRefused):
            if event.again_in is not None:
                return
            about["outcome"], about["category"] = "refused", event.category
            category = event.category
        self._metrics.count("submits", 1, **about)
        span, _ = self._start(event, event.waited, known={"error.type": category})
        _end(span, event.reason)

    def _begin(self, event: _OfTask, ago: float, links: Sequence[Link] = ()) -> None:
        ref = (event.model, event.task_id)
        if ref not in self._tasks:  # It may be another client's, too, or was followed before.
            self._tasks[ref] = self._start(event, ago, links, {"gen_ai.response.id": event.task_id})

    def _start(
        self,
        event: _OfTask | events.SubmitRefused | events.SubmitUncertain,
        ago: float,
        links: Sequence[Link] = (),
        known: Attributes = MappingProxyType({}),
    ) -> tuple[Span, int]:
        made = medium(event.model).rpartition(" ")[2]  # of a "quality image", an image
        operation = f"{made if made != 'unknown' else 'content'}_generation"
        about: dict[str, str | int | float] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "apixo",
            "gen_ai.request.model": event.model,
            "gen_ai.output.type": made,
            **known,
        }
        if event.tag is not None:
            about["apixo.tag"] = event.tag
        if self._capture_prompts and (prompt := _PROMPT.get()) is not None:
            said = {"role": "user", "parts": [{"type": "text", "content": prompt}]}
            about["gen_ai.input.messages"] = json.dumps([said], default=str)
        began = _ago(ago)
        span = self._tracer.start_span(
            f"{operation} {event.model}",
            kind=SpanKind.CLIENT,
            attributes=about,
            links=links,
            start_time=began,
        )
        return span, began

    def _polled(self, event: events.TaskPolled | events.PollFailed | events.TaskSettled) -> None:
        if event.took is None:
            return
        # Not each poll: a value of a histogram costs more than all else that is done for one.
        if not isinstance(event, events.TaskPolled):
            about = {"request": "poll", "model": event.model}
            self._metrics.record("http.duration", event.took, about)
        if self._trace_polls and (task := self._tasks.get((event.model, event.task_id))):
            under = trace.set_span_in_context(task[0])
            span = self._tracer.start_span("apixo poll", under, start_time=_ago(event.took))
            _end(span, event.reason if isinstance(event, events.PollFailed) else None)

    def _settled(self, event: events.TaskSettled) -> None:
        self._polled(event)
        about = {"model": event.model, "outcome": event.outcome}
        if event.category is not None:
            about["category"] = event.category
        self._metrics.count("tasks", 1, **about)
        self._metrics.count("polls", event.polls, model=event.model)
        self._metrics.record("task.duration", event.age, about)
        if event.delay is not None:
            self._metrics.record("result.delay", event.delay, {"model": event.model})
        known: dict[str, str | int | float] = {"apixo.polls": event.polls}
        if event.cost is not None:
            known["operation.cost"] = float(event.cost)
        self._end((event.model, event.task_id), event.category, known)

    def _end(
        self, ref: tuple[str, str], error: str | None = None, known: Attributes | None = None
    ) -> None:
        if ref not in self._tasks:
            return
        span, began = self._tasks.pop(ref)
        for at, name, limit in self._limits:
            if at >= began:
                span.add_event(name, limit, at)
        span.set_attributes({**(known or {}), **({} if error is None else {"error.type": error})})
        _end(span, error)

    def _limit(self, name: str, **about: str | float) -> None:
        self._limits.append((time.time_ns(), f"apixo {name}", about))


def _ago(seconds: float) -> int:
    """Return a time of the past, in nanoseconds since the epoch."""
    return time.time_ns() - int(seconds * 1e9)


def _end(span: Span, error: str | None) -> None:
    if error is not None:
        span.set_status(Status(StatusCode.ERROR, error))
    span.end()


def _links(traceparent: str | None) -> Sequence[Link]:
    """Return the span under which another process has submitted a task, if it is known."""
    if traceparent is None:
        return ()
    _, trace_id, span_id, flags = (int(part, 16) for part in traceparent.split("-"))
    return [Link(SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags)))]


def _suppression_key() -> str:
    return getattr(context, "_SUPPRESS_HTTP_INSTRUMENTATION_KEY", _SUPPRESS)

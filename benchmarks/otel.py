"""What does the hook for OpenTelemetry cost, in CPU for each task and each poll, with the real SDK?

The events of tasks and of polls are reported as a client reports them: with the hook, and without
one. The difference is the hook's. Beside it stands what the SDK alone takes for what a task is in
the end, one span and six values of histograms. Nothing is exported:
that has a thread of its own, and a price that depends on where it goes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Final, NamedTuple

from apixo_async import FluxKontext, TaskPolled, TaskSettled, TaskSubmitted
from apixo_async._reporting import Reporter
from benchmarks import Options, Row
from benchmarks.measuring import cpu_of, interleaved, median

QUESTION: Final = "OpenTelemetry: what does a hook cost?"
ROUNDS: Final = 15
TARGET_TASK: Final = 150.0  # microseconds
TARGET_POLL: Final = 10.0
TARGET_WITHOUT: Final = 1.0
CALLS: Final = 2_000  # of each candidate in a round

_MODEL: Final = "gpt-image-2"
_PRICE: Final = Decimal("0.02")
_INPUT: Final = FluxKontext(prompt="a lighthouse")


class Telemetry(NamedTuple):
    """What is measured, each called with a number."""

    hook: Reporter
    span: Callable[[int], None]
    value: Callable[[int], None]


def telemetry() -> Telemetry:
    """Return a client's way of events to the hook, and what the SDK does alone."""
    # Here, so that a missing SDK is an answer of this question alone.
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import SpanKind

    from apixo_async.otel import Instrument

    tracers, meters = TracerProvider(), MeterProvider([InMemoryMetricReader()])
    hook = Instrument(tracer_provider=tracers, meter_provider=meters)
    tracer, histogram = tracers.get_tracer("sdk"), meters.get_meter("sdk").create_histogram("sdk")
    about = {f"attribute.{number}": _MODEL for number in range(6)}

    def span(_: int) -> None:
        made = tracer.start_span(
            "image_generation", kind=SpanKind.CLIENT, attributes=about, start_time=time.time_ns()
        )
        made.set_attributes({"polls": 5, "cost": 0.02})
        made.end()

    def value(_: int) -> None:
        histogram.record(0.05, {"model": _MODEL, "request": "poll"})

    return Telemetry(Reporter(hook), span, value)


def run(options: Options) -> Iterator[Row]:
    """Report tasks and polls, a few thousand of each in a round."""
    made, without = telemetry(), Reporter()
    measured = interleaved(
        options.rounds,
        {
            "task": lambda: each(lambda number: task(made.hook, number)),
            "task without": lambda: each(lambda number: task(without, number)),
            "poll": lambda: each(lambda _: poll(made.hook)),
            "poll without": lambda: each(lambda _: poll(without)),
            "submit without": lambda: each(lambda _: asked(without)),
            "span": lambda: each(made.span),
            "value": lambda: each(made.value),
        },
    )
    took = {name: median(values) for name, values in measured.items()}
    of_task, of_poll = took["task"] - took["task without"], took["poll"] - took["poll without"]
    sdk = took["span"] + 6 * took["value"]
    yield Row(
        QUESTION,
        "CPU of a task, against the SDK alone",
        f"{of_task / sdk:.2f}x",
        f"{of_task:.0f} against {sdk:.0f} µs",
        f"at most {TARGET_TASK:.0f} µs",
        of_task <= TARGET_TASK,
    )
    target = f"at most {TARGET_POLL:.0f} µs"
    yield Row(QUESTION, "CPU of a poll", "-", f"{of_poll:.1f} µs", target, of_poll <= TARGET_POLL)
    nothing = took["submit without"]
    target = f"at most {TARGET_WITHOUT:.0f} µs"
    reached = nothing <= TARGET_WITHOUT
    yield Row(QUESTION, "a submit without a hook", "-", f"{nothing:.1f} µs", target, reached)


def each(call: Callable[[int], None]) -> float:
    """Return the microseconds of CPU of one call."""

    def calls() -> None:
        for number in range(CALLS):
            call(number)

    return cpu_of(calls) / CALLS * 1e6


def task(report: Reporter, number: int) -> None:
    """Report a task from its submit to its end, its polls apart."""
    name, waits = f"task_{number}", {"slot_wait": 0.1, "permit_wait": 0.1}
    report.submitting(_INPUT)
    report(TaskSubmitted(_MODEL, name, 0.3, "tag", kind=_MODEL, cost=_PRICE, **waits))
    report(
        TaskSettled(_MODEL, name, "success", 5, 20.0, "tag", _PRICE, _MODEL, None, 18.0, 2.0, 0.05)
    )


def poll(report: Reporter) -> None:
    """Report a poll of a running task."""
    report(TaskPolled(_MODEL, "task_0", "processing", None, 0.05))


def asked(report: Reporter) -> None:
    """Ask the hooks what is asked of them before a POST, the second one with a store only."""
    report.submitting(_INPUT)
    report.traceparent()

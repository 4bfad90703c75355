"""Events go to one logger and to one hook, whose failures stay there."""

from __future__ import annotations

import logging

import pytest

from apixo_async import FluxKontext
from apixo_async._reporting import Reporter, guarded, logger
from apixo_async._types import TaskInput
from apixo_async.events import Event, LimitReached, PollerDied, TaskAttached, TaskPolled

SPAN = f"00-{'1' * 32}-{'2' * 16}-01"
ATTACHED = TaskAttached("gpt-image-1", "task_1")


def test_an_event_is_logged_and_handed_over(caplog: pytest.LogCaptureFixture) -> None:
    """An event is one line at its level, and goes to `on_event` as the record that it is."""
    caplog.set_level(logging.DEBUG, logger="apixo_async")
    seen: list[Event] = []
    report = Reporter(seen.append)
    given: list[Event] = [ATTACHED, TaskPolled("m", "1", "pending"), PollerDied("KeyError")]
    for event in given:
        report(event)
    assert seen == given
    assert caplog.record_tuples == [("apixo_async", event.level, str(event)) for event in given]


def test_without_a_hook(caplog: pytest.LogCaptureFixture) -> None:
    """Without `on_event` there is the log."""
    Reporter(None)(LimitReached("submits", 1.0))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_what_nobody_reads_is_not_written(caplog: pytest.LogCaptureFixture) -> None:
    """An event below the logger's level is handed over, and costs no line."""
    caplog.set_level(logging.WARNING, logger="apixo_async")
    seen: list[Event] = []
    Reporter(seen.append)(ATTACHED)
    assert (seen, caplog.records) == ([ATTACHED], [])


def test_a_hook_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """What a hook raises is logged with its traceback, and never reaches the engine."""

    def hook(event: Event) -> None:
        del event
        raise KeyError("hook")

    Reporter(hook)(LimitReached("everything", 1.0))
    (event, failure) = caplog.records
    assert event.levelno == logging.WARNING
    assert failure.getMessage() == "on_event raised; the client goes on"
    assert failure.levelno == logging.ERROR
    assert failure.exc_info is not None
    assert failure.exc_info[0] is KeyError


def test_a_hook_of_submits(caplog: pytest.LogCaptureFixture) -> None:
    """It is asked; what it raises, or returns in place of a span, is no span."""
    asked: list[TaskInput] = []
    known: list[object] = [KeyError("hook"), 42, "no span", SPAN]

    class Hook:
        def __call__(self, event: Event) -> None:
            del event

        def submitting(self, task_input: TaskInput, /) -> None:
            asked.append(task_input)
            raise KeyError("a castle")

        def traceparent(self) -> str | None:
            given = known.pop(0)
            if isinstance(given, Exception):
                raise given
            return given  # type: ignore[return-value]  # as a caller's may

    report, castle = Reporter([].append, Hook()), FluxKontext(prompt="a castle")
    report.submitting(castle)
    assert asked == [castle]
    assert [record.getMessage() for record in caplog.records] == [
        "on_event raised; the client goes on"
    ]
    assert [report.traceparent() for _ in range(4)] == [None, None, None, SPAN]


def test_what_a_hook_is_given_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A hook may be handed a caller's input, so that the log does not show it."""

    def hook(value: str) -> None:
        del value
        raise ValueError("no")

    guarded("on_orphan", hook, "a secret castle")
    assert "on_orphan raised" in caplog.text
    assert "secret" not in caplog.text


def test_a_hook_may_end_the_program() -> None:
    """What is no Exception is not swallowed."""

    def hook(event: Event) -> None:
        del event
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Reporter(hook)(ATTACHED)


def test_one_logger() -> None:
    """The logger has the package's name and no handler of its own."""
    assert (logger.name, logger.handlers, logger.propagate) == ("apixo_async", [], True)

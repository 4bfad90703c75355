"""Events are frozen records, each with a level and one line for the log."""

from __future__ import annotations

import dataclasses
import logging
import pickle
from typing import get_args

import pytest

from apixo_async import events
from apixo_async.events import (
    CallbackReceived,
    CallbacksLost,
    CallbacksRestored,
    ClientClosed,
    ClientOpened,
    EffectiveLimitLowered,
    EffectiveLimitRaised,
    Event,
    LimitReached,
    PollerDied,
    PollFailed,
    ResultDownloaded,
    ServiceDown,
    ServiceRecovered,
    SubmitRefused,
    SubmitUncertain,
    TaskAdopted,
    TaskAttached,
    TaskDetached,
    TaskOrphaned,
    TaskPolled,
    TaskSettled,
    TaskSubmitted,
    UncertainSubmitResolved,
)

URL = "https://api.apixo.ai/api/v1"
LINES: list[tuple[Event, int, str]] = [
    (
        ClientOpened(URL, 1_000, 10_000),
        logging.INFO,
        f"client opened for {URL}: 1000 tasks at once, 10000 requests a minute",
    ),
    (ClientClosed(()), logging.INFO, "client closed; no task is unfinished"),
    (
        ClientClosed(("m/1", "m/2")),
        logging.INFO,
        "client closed with unfinished tasks: m/1, m/2; `attach` goes on with them",
    ),
    (TaskSubmitted("m", "1", 0.256), logging.INFO, "m/1 submitted after 0.26 s"),
    (TaskAttached("m", "1"), logging.INFO, "m/1 attached"),
    (TaskAdopted("m", "1"), logging.INFO, "m/1 taken over"),
    (TaskDetached("m", "1"), logging.INFO, "m/1 detached"),
    (CallbackReceived("polled"), logging.DEBUG, "a callback came: polled"),
    (
        SubmitRefused("m", "HTTP 400", None),
        logging.WARNING,
        "submit of m refused (not sent again): HTTP 400",
    ),
    (
        SubmitRefused("m", "HTTP 503", 0.0),
        logging.WARNING,
        "submit of m refused (again in 0.0 s): HTTP 503",
    ),
    (
        SubmitUncertain("m", "no answer", 180.0),
        logging.ERROR,
        "submit of m is uncertain, a task may exist: no answer; its slot is held for 180 s",
    ),
    (
        TaskOrphaned("m", "1"),
        logging.WARNING,
        "m/1 was bought although its caller was cancelled",
    ),
    (TaskPolled("m", "1", "processing_r2"), logging.DEBUG, "m/1 is processing_r2"),
    (
        PollFailed("m", "1", "HTTP 502", 6.04),
        logging.WARNING,
        "poll of m/1 failed (again in 6.0 s): HTTP 502",
    ),
    (
        PollFailed("m", "1", "HTTP 401", None),
        logging.WARNING,
        "poll of m/1 failed (paused until refresh): HTTP 401",
    ),
    (
        TaskSettled("m", "1", "success", 5, 41.38),
        logging.INFO,
        "m/1: success after 41.4 s and 5 polls",
    ),
    (
        LimitReached("submits", 1.5),
        logging.WARNING,
        "the service answered 429: submits closed, a probe in 1.5 s",
    ),
    (
        EffectiveLimitLowered("slots", 10, 1_000),
        logging.WARNING,
        "repeated 429s: 10 of 1000 slots are used from now on",
    ),
    (
        EffectiveLimitRaised("requests", 67, 10_000),
        logging.DEBUG,
        "67 of 10000 requests are tried from now on",
    ),
    (
        ServiceDown("m", "HTTP 502"),
        logging.ERROR,
        "m is down, its polls pause until a probe is answered: HTTP 502",
    ),
    (ServiceRecovered("m", 61.7), logging.INFO, "m is back after 62 s, its polls go on"),
    (
        UncertainSubmitResolved("m", "1", 31.25),
        logging.WARNING,
        "an uncertain submit of m had bought 1: a callback named it after 31.2 s",
    ),
    (
        CallbacksLost(8),
        logging.WARNING,
        (
            "tasks in a row that were over before any callback came for them: 8; tasks are polled "
            "as without webhooks until one comes. Check that the service can reach the "
            "public_url, and that it leads to this process"
        ),
    ),
    (
        CallbacksRestored(),
        logging.INFO,
        "callbacks are arriving again: polls wait for them",
    ),
    (ResultDownloaded("m", "1", 2), logging.INFO, "m/1: 2 files saved"),
    (
        PollerDied("KeyError: 1"),
        logging.CRITICAL,
        "the poller died: KeyError: 1; make a new client, and attach to its tasks",
    ),
]


@pytest.mark.parametrize(
    ("event", "level", "line"), LINES, ids=[type(event).__name__ for event, _, _ in LINES]
)
def test_the_line_of_an_event(event: Event, level: int, line: str) -> None:
    """An event reads as one line, at the level at which somebody should know."""
    assert str(event) == line
    assert event.level == level


@pytest.mark.parametrize("event", [event for event, _, _ in LINES], ids=lambda e: type(e).__name__)
def test_events_are_values(event: Event) -> None:
    """An event cannot be changed, can be a key, and travels to another process."""
    for field in dataclasses.fields(event):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(event, field.name, "other")
    assert pickle.loads(pickle.dumps(event)) == event
    assert len({event, pickle.loads(pickle.dumps(event))}) == 1


def test_every_event_is_tried() -> None:
    """The table above and the public union hold every record of the module."""
    modules = {**vars(events), **vars(events)}
    records = {cls for cls in modules.values() if dataclasses.is_dataclass(cls)}
    assert {type(event) for event, _, _ in LINES} == records == set(get_args(Event))


def test_no_event_has_room_for_a_secret() -> None:
    """No record has a field for a key, a prompt, an input or a header."""
    names = {field.name for cls in get_args(Event) for field in dataclasses.fields(cls)}
    assert names == {
        *("base_url", "concurrent_tasks", "requests_per_minute", "unfinished"),
        *("model", "task_id", "state", "outcome", "scope", "reason"),
        *("waited", "again_in", "hold", "polls", "age", "pause", "after", "files"),
        *("effective_limit", "limit", "tasks"),
        *("tag", "cost"),  # The caller's own word, and a price.
        *("kind", "slot_wait", "permit_wait", "category", "duration", "delay", "took"),
        "traceparent",  # Ids of a trace and a span.
    }

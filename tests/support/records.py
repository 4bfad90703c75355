"""Records and runs for the tests of the report."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from apixo_async._cli.report.records import Failure, ItemRecord, RunFacts
from apixo_async._cli.report.samples import RunSample

BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def record(number: int = 1, **fields: Any) -> ItemRecord:
    """Make a record, of a saved picture unless the fields say otherwise."""
    common: dict[str, Any] = {
        "key": f"key-{number}",
        "model": "gpt-image-1",
        "prompt": f"A fox, number {number}",
        "state": "downloaded",
        "line": number,
        "input": {"prompt": f"A fox, number {number}", "num_images": 1},
        "task_id": f"task_{number}",
        "cost": Decimal("0.035"),
        "created_at": BEGAN,
        "ended_at": BEGAN + timedelta(seconds=8.25),
        "duration": 8.25,
        "urls": (f"https://files.example.com/{number}.png",),
        "files": (Path(f"images/{number}.png"),),
    }
    return ItemRecord(number, **common | fields)


def failed(number: int = 2, **fields: Any) -> ItemRecord:
    """Make the record of a task that failed."""
    failure = Failure("content", "CONTENT_VIOLATION", "not allowed")
    without: dict[str, Any] = {"state": "failed", "urls": (), "files": (), "failure": failure}
    return record(number, **without | fields)


def sample(seconds: float, finished: int = 0, **fields: Any) -> RunSample:
    """Make a sample of an account with 10 slots and 100 requests a minute."""
    common: dict[str, Any] = {
        "in_flight": 5, "slots_limit": 10, "requests": 20, "requests_limit": 100
    }  # fmt: skip
    return RunSample(seconds, finished, **common | fields)


def run(**fields: Any) -> RunFacts:
    """Make what is known of a run that took 90 s."""
    ended = BEGAN + timedelta(seconds=90)
    return RunFacts(**{"started_at": BEGAN, "ended_at": ended, "exit_word": "complete"} | fields)

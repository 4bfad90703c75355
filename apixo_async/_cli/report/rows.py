"""A record as the report's files have it: an object of `results.jsonl`, a row of the page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from apixo_async._cli.report.records import Record

#: Characters of a text that the page has; `results.jsonl` has all of them.
CLIP: Final = 600


def result(record: Record) -> Mapping[str, object]:
    """Return the object of `results.jsonl`: these names, in this order."""
    return {
        "number": record.number,
        "key": record.key,
        "line": record.line,
        "model": record.model,
        "prompt": record.prompt,
        "state": record.state,
        "task_id": record.task_id,
        "cost": record.cost,
        "created_at": _stamp(record.created_at),
        "ended_at": _stamp(record.ended_at),
        "duration": record.duration,
        "files": [path.as_posix() for path in record.files],
        "urls": record.urls,
        "failure": None if record.failure is None else record.failure._asdict(),
        "resumed": record.resumed,
        "input": record.input,
    }


def row(record: Record) -> list[object]:
    """Return the page's row; its script knows the places. What is last and empty is left out."""
    failure = record.failure
    cells: list[object] = [
        record.number,
        record.state,
        record.model,
        _clipped(record.prompt),
        record.key,
        record.task_id,
        record.cost,
        None if record.duration is None else round(record.duration, 2),
        [_link(path) for path in record.files],
        record.line,
        int(record.resumed) or None,
        None if failure is None else [failure.family, failure.code, _clipped(failure.message)],
        # Pictures come from the folder alone; these are links, for those who have no files.
        None if record.files else [url for url in record.urls if _is_web(url)] or None,
    ]
    while cells[-1] is None:
        cells.pop()
    return cells


def _stamp(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()


def _clipped(text: str) -> str:
    return text if len(text) <= CLIP else f"{text[: CLIP - 1]}…"


def _link(path: Path) -> str:
    # A name is no URL: "a:b.png" would read as a scheme, "50%.png" as an escape.
    return f"./{quote(os.fsencode(path.as_posix()))}"


def _is_web(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https")
    except ValueError:
        return False

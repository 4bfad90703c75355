"""A record as the files of the report have it: an object of `results.jsonl`, a row of the page."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from apixo_async._cli.report.records import ItemRecord

#: What some readers of lines take for the end of one, or some terminals for a command.
_BREAKS: Final = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029)}

#: What could end a script element, or begin a comment in it.
_MARKUP: Final = {**_BREAKS, ord("<"): "\\u003c"}


def line(value: object) -> bytes:
    """Return a value as one line of JSON in UTF-8, without the line's end."""
    return _encoded(value, _BREAKS)


def inside_html(value: object) -> bytes:
    """Return a value as JSON that may stand in a script element, whatever texts are in it."""
    return _encoded(value, _MARKUP)


def _encoded(value: object, escapes: Mapping[int, str]) -> bytes:
    text = _dumped(value).translate(escapes)
    # Half of a surrogate pair has no UTF-8; Python's escape of it is JSON's as well.
    return text.encode("utf-8", "backslashreplace")


def _dumped(value: object) -> str:
    try:
        return _dump(value)
    except ValueError:  # NaN or infinity, which JSON does not have: they become texts
        loose = json.dumps(value, default=_plain)
        return _dump(json.loads(loose, parse_constant=str))


def _dump(value: object) -> str:
    return json.dumps(
        value, ensure_ascii=False, separators=(",", ":"), default=_plain, allow_nan=False
    )


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return dict(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # JSON takes any
    return value.isoformat() if isinstance(value, date) else str(value)


#: Characters of a text that the page has; `results.jsonl` has all of them.
CLIP: Final = 600


def result(record: ItemRecord) -> Mapping[str, object]:
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


def row(record: ItemRecord) -> list[object]:
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

"""Results and inputs as the texts of a journal, and back."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final, cast

from apixo_async._core.values import Result, as_seconds
from apixo_async._journal.fields import fields_of, inner, moment, texts
from apixo_async.inputs import Input, OtherModel, from_dict

#: Levels of a result's own JSON that are kept: Python reads and writes a thousand at most, fewer
#: the deeper it is called, and a result that cannot be written or read again would be no result.
_DEEPEST: Final = 100


def result_text(result: Result) -> str:
    """Return a result as JSON, without `raw` if that is nested too deeply.

    Its task and model are in the row.
    """
    return json.dumps(
        {
            "urls": result.urls,
            "raw": {} if _is_too_deep(result.raw) else result.raw,
            "created_at": _iso(result.created_at),
            "completed_at": _iso(result.completed_at),
            "cost_time": result.cost_time,
        }
    )


def _is_too_deep(raw: Mapping[str, object]) -> bool:
    level: list[object] = [raw]
    for _ in range(_DEEPEST):
        level = [child for one in level for child in _children(one)]
    return bool(level)


def _children(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return cast("Mapping[str, object]", value).values()
    return cast("list[object]", value) if isinstance(value, list | tuple) else ()


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def result_of(stored: str, model: str, task_id: str) -> Result:
    """Read a result.

    Raises:
        ValueError: The text is no JSON object, or has no list of URLs.
    """
    fields = fields_of(stored)
    if not isinstance(fields.get("urls"), list):
        raise ValueError(f"no URLs: {stored:.60}")
    return Result(
        task_id=task_id,
        model=model,
        urls=texts(fields, "urls"),
        raw=inner(fields, "raw"),
        created_at=moment(fields, "created_at"),
        completed_at=moment(fields, "completed_at"),
        cost_time=as_seconds(fields.get("cost_time")),
    )


def input_of(model: str, payload: str) -> Input:
    """Rebuild an input from its payload, without the warnings that it had the first time.

    Raises:
        ValueError: The payload is no JSON object.
    """
    fields = fields_of(payload)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return from_dict(model, fields)
    except ValueError:  # Another version of this package had other bounds.
        return OtherModel(model, **fields)


def files_text(paths: tuple[Path, ...]) -> str:
    """Return the paths of files as JSON."""
    return json.dumps({"files": [str(path) for path in paths]})


def files_of(stored: str) -> tuple[Path, ...]:
    """Read the paths of files.

    Raises:
        ValueError: The text is no JSON object.
    """
    return tuple(map(Path, texts(fields_of(stored), "files")))

"""Results, references, snapshots and outcomes as JSON, and back, for queues, caches and columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from apixo_async._map.items import Outcome
from apixo_async._types import Result, Snapshot, TaskRef
from apixo_async.errors import ConfigurationError, SubmitUncertainError
from apixo_async.inputs import Input
from apixo_async.journal._error_forms import About, error_of, error_text
from apixo_async.journal._forms import (
    Fields,
    fields_of,
    inner,
    input_of,
    result_of,
    result_text,
    text,
    texts,
    truth,
    whole,
)

T = TypeVar("T")
Kept: TypeAlias = Result | TaskRef | Snapshot | Outcome


def to_json(value: Kept) -> str:
    """Return a value as JSON text, from which `from_json` makes it again, in any process.

    An `Outcome` loses its `task`, and keeps its `ref`; of local images of its input, only digests
    are kept. Results hold URLs that are enough to download, and inputs hold prompts.

    Args:
        value: A `Result`, `TaskRef`, `Snapshot` or `Outcome`.

    Raises:
        ConfigurationError: It is something else.
    """
    for cls, fields in _WRITTEN.items():
        if isinstance(value, cls):
            return json.dumps({"type": cls.__name__, **fields(value)})
    raise ConfigurationError(
        f"to_json: {type(value).__name__} given; a Result, TaskRef, Snapshot or Outcome"
    )


def from_json(stored: str | bytes) -> Kept:
    """Make a value from what `to_json` has written; what is read may be anybody's.

    Raises:
        ConfigurationError: It is none of them.
    """
    try:
        fields = fields_of(stored if isinstance(stored, str) else stored.decode())
        return _READ[text(fields, "type") or ""](fields)
    except (ValueError, KeyError, RecursionError):
        raise ConfigurationError(
            "from_json: this is no JSON of a Result, TaskRef, Snapshot or Outcome"
        ) from None


# --- to ------------------------------------------------------------------------------------


def _of_ref(ref: TaskRef) -> dict[str, object]:
    return {"model": ref.model, "task_id": ref.task_id}


def _of_result(result: Result) -> dict[str, object]:
    return {**_of_ref(result.ref), "tag": result.tag, **json.loads(result_text(result))}


def _of_snapshot(snapshot: Snapshot) -> dict[str, object]:
    return {
        "model": snapshot.model,
        "task_id": snapshot.task_id,
        "state": snapshot.state,
        "raw": snapshot.raw,
        "result": None if snapshot.result is None else _of_result(snapshot.result),
        "fail_code": snapshot.fail_code,
        "fail_msg": snapshot.fail_msg,
    }


def _of_outcome(outcome: Outcome) -> dict[str, object]:
    error, wanted = outcome.error, outcome.input
    provider = error.delivery.provider if isinstance(error, SubmitUncertainError) else None
    return {
        "key": outcome.key,
        "input": None if wanted is None else {"model": wanted.model, "fields": wanted.payload()},
        "result": None if outcome.result is None else _of_result(outcome.result),
        "error": None if error is None else json.loads(error_text(error)) | {"model": error.model},
        "provider": provider,
        "purchases": outcome.purchases,
        "paths": [str(path) for path in outcome.paths],
        "resumed": outcome.resumed,
        "ref": None if outcome.ref is None else _of_ref(outcome.ref),
        "tag": outcome.tag,
    }


_WRITTEN: Final[Mapping[type[Kept], Callable[..., dict[str, object]]]] = {
    TaskRef: _of_ref,
    Result: _of_result,
    Snapshot: _of_snapshot,
    Outcome: _of_outcome,
}

# --- from ----------------------------------------------------------------------------------


def _ref(fields: Fields) -> TaskRef:
    return TaskRef(text(fields, "model") or "", text(fields, "task_id") or "")


def _result(fields: Fields) -> Result:
    ref = _ref(fields)
    found = result_of(json.dumps(fields), ref.model, ref.task_id)
    return replace(found, tag=text(fields, "tag"))


def _maybe(fields: Fields, name: str, read: Callable[[Fields], T]) -> T | None:
    return read(inner(fields, name)) if isinstance(fields.get(name), dict) else None


def _snapshot(fields: Fields) -> Snapshot:
    ref = _ref(fields)
    return Snapshot(
        task_id=ref.task_id,
        model=ref.model,
        state=text(fields, "state") or "",
        raw=inner(fields, "raw"),
        result=_maybe(fields, "result", _result),
        fail_code=text(fields, "fail_code"),
        fail_msg=text(fields, "fail_msg"),
    )


def _outcome(fields: Fields) -> Outcome:
    wanted = _maybe(fields, "input", _input)
    error = None
    if isinstance(fields.get("error"), dict):
        stored = inner(fields, "error")
        payload = {} if wanted is None else wanted.payload()
        model = text(stored, "model") or ("" if wanted is None else wanted.model)
        about = About(model, text(fields, "provider"), json.dumps(payload), None)
        error = error_of(json.dumps(stored), about)
        error.model, error.tag = text(stored, "model"), text(fields, "tag")
    return Outcome(
        key=text(fields, "key") or "",
        input=wanted,
        task=None,
        result=_maybe(fields, "result", _result),
        error=error,
        purchases=whole(fields, "purchases") or 0,
        paths=tuple(map(Path, texts(fields, "paths"))),
        resumed=truth(fields, "resumed") or False,
        ref=_maybe(fields, "ref", _ref),
        tag=text(fields, "tag"),
    )


def _input(fields: Fields) -> Input:
    return input_of(text(fields, "model") or "", json.dumps(inner(fields, "fields")))


_READ: Final[Mapping[str, Callable[[Fields], Kept]]] = {
    "TaskRef": _ref,
    "Result": _result,
    "Snapshot": _snapshot,
    "Outcome": _outcome,
}

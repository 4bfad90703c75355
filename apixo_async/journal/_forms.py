"""Values as the texts of a journal, and back: other versions and people may have written them."""

from __future__ import annotations

# Not pydantic's JSON: it refuses half a surrogate pair, which a service may send in `raw` and a
# caller may have in a prompt, and what it refused would be a paid result that cannot be read.
import json
import warnings
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from pathlib import Path
from typing import Final, TypeAlias, cast

from apixo_async._types import Result, as_seconds
from apixo_async.inputs import Input, OtherModel, from_dict


def to_micro(price: Decimal) -> int:
    """Return a price in USD as micro-dollars, rounded up: a bound must hold.

    Raises:
        ValueError: It is negative, infinite or no number.
    """
    if not price.is_finite() or price < 0:
        raise ValueError(f"price: {price} given; USD from 0 up")
    return int(price.scaleb(6).to_integral_value(ROUND_CEILING))


def from_micro(micro: int) -> Decimal:
    """Return micro-dollars as USD, with two decimals or as many as it takes."""
    exact = Decimal(micro).scaleb(-6)
    cents = exact.quantize(Decimal("0.01"))
    return cents if cents == exact else exact.normalize()


Fields: TypeAlias = Mapping[str, object]


def fields_of(text: str) -> Fields:
    """Read a JSON object.

    Raises:
        ValueError: The text holds none.
    """
    found: object = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"no JSON object: {text:.60}")
    return cast("Fields", found)


def text(fields: Fields, name: str) -> str | None:
    """Return a text, or None."""
    value = fields.get(name)
    return value if isinstance(value, str) else None


def whole(fields: Fields, name: str) -> int | None:
    """Return a whole number, or None."""
    value = fields.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def truth(fields: Fields, name: str) -> bool | None:
    """Return True or False, or None."""
    value = fields.get(name)
    return value if isinstance(value, bool) else None


def amount(fields: Fields, name: str) -> Decimal | None:
    """Return an amount of USD, or None."""
    try:
        value = Decimal(text(fields, name) or "")
    except InvalidOperation:
        return None
    return value if value.is_finite() and value >= 0 else None


def texts(fields: Fields, name: str) -> tuple[str, ...]:
    """Return the texts of a list, possibly none."""
    value = fields.get(name)
    found = cast("list[object]", value) if isinstance(value, list) else []
    return tuple(one for one in found if isinstance(one, str))


def inner(fields: Fields, name: str) -> Fields:
    """Return an object, possibly empty."""
    value = fields.get(name)
    return cast("Fields", value) if isinstance(value, dict) else {}


def moment(fields: Fields, name: str) -> datetime | None:
    """Return an aware time in UTC, or None."""
    try:
        found = datetime.fromisoformat(text(fields, name) or "")
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):  # The latter at the ends of the calendar.
        return None


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
            "cost": None if result.cost is None else str(result.cost),
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
        cost=amount(fields, "cost"),
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

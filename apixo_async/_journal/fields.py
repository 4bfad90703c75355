"""JSON objects read field by field: they may come from another version, or from somebody's hand.

A value of the wrong type reads as missing, so that it hides none of the others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypeAlias, cast

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

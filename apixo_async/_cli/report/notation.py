"""JSON as the report's files have it: one line, any text, and no number that is none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Final

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

"""The rows of entries, as both databases keep and return them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Final, get_type_hints

from apixo_async._reporting import logger
from apixo_async.stores._protocol import Purchase, State, StoreEntry
from apixo_async.stores._sql import Done, Row

PURCHASE: Final = tuple(field.name for field in fields(Purchase))
KEPT: Final = tuple(
    field.name for field in fields(StoreEntry) if field.name not in {"purchase", "read_at"}
)

_NAMES: Final = (*KEPT, *PURCHASE)
COLUMNS: Final = ", ".join((*_NAMES, "<now>"))

#: What the columns hold that are taken as they are.
_TYPES: Final = {
    name: hint
    for name, hint in (get_type_hints(StoreEntry) | get_type_hints(Purchase)).items()
    if name in _NAMES and name not in {"state", "also", "claimed"}
}


def values_of(purchase: Purchase) -> dict[str, object]:
    return {name: getattr(purchase, name) for name in PURCHASE}


def as_text(value: str) -> str:
    """Return a text as any database can keep it; only what is rare in it changes."""
    return json.dumps(value)[1:-1]


def from_text(text: str) -> str:
    """Return what `as_text` was given."""
    return str(json.loads(f'"{text}"'))


def parameters(prefix: str, values: Iterable[str]) -> tuple[dict[str, str], str]:
    """Return texts as parameters, and the list of them in a statement."""
    given = {f"{prefix}_{place}": value for place, value in enumerate(values)}
    return given, ", ".join(f":{name}" for name in given)


def entry_of(row: Row) -> StoreEntry:
    """Return an entry.

    Raises:
        ValueError: It cannot be read: what is in a row may be anybody's.
    """
    *columns, read_at = row
    named = dict(zip(_NAMES, columns, strict=True))
    for name, types in _TYPES.items():
        if not isinstance(named[name], types):
            raise ValueError(f"{name} is a {type(named[name]).__name__}")
    purchase = Purchase(**{name: named.pop(name) for name in PURCHASE})
    named["state"] = State(named["state"])
    named["task_id"] = None if named["task_id"] is None else from_text(named["task_id"])
    for name in ("also", "claimed"):
        named[name] = tuple(from_text(text) for text in named[name].split("\n") if text)
    return StoreEntry(purchase=purchase, read_at=read_at, **named)


def nothing(_: Sequence[Done]) -> None:
    """Read nothing."""


def all_of(done: Sequence[Done]) -> list[StoreEntry]:
    """Read entries; what is wrong with one is that one's affair only."""
    entries: list[StoreEntry] = []
    for row in done[-1].rows:
        try:
            entries.append(entry_of(row))
        except Exception as exc:
            logger.error("an entry of the store cannot be read (%s): row %r", exc, row[0])
    return entries


def first_of(done: Sequence[Done]) -> StoreEntry | None:
    return entry_of(done[-1].rows[0]) if done[-1].rows else None

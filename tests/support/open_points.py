"""Services that differ in what no document settles: few, so that any two points meet."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from apixo_async.testing import OpenPoints

DAY: Final = 86_400.0

#: The options of a simulator that are open too; the first is as unless given.
KEYWORDS: Final[Mapping[str, tuple[Mapping[str, Any], ...]]] = {
    "retry_after": ({}, {"retry_after": 2.0}),
    "no_credit": ({}, {"no_credit": "400"}),
    "result_lifetime": ({}, {"result_lifetime": DAY}),
    "expired_status": ({}, {"expired_status": 410}),
    "callbacks": ({}, {"early_callbacks": 1.0}, {"duplicate_callbacks": 1.0}),
    "processing_callbacks": ({}, {"processing_callbacks": 1.0}),
}

#: What the points that are no bool may be beside what they are unless given.
OTHERS: Final[Mapping[str, tuple[object, ...]]] = {
    "window": ("minute",),
    "errors": ("code",),
    "error_data": ("missing", "object"),
    "created_late": (-2.0, 3.0),
    "result_json": ("object",),
    "task_ids": ("uuid",),
}

#: The points that a service may have, in the order of the columns below.
POINTS: Final[Mapping[str, tuple[object, ...]]] = {
    field.name: (field.default, *OTHERS.get(field.name, (not field.default,)))
    for field in fields(OpenPoints)
}

#: A column for each point, then one for each keyword; a row is a service. Between them, every two
#: columns have every pair of values: what breaks by two points together, breaks in one of these.
ROWS: Final = (
    "000000000000000000000000",
    "001001111011010010011111",
    "110101211110111011101000",
    "000110210011000011010021",
    "100020100000110000101020",
    "011021200011011101000101",
    "000120011111101111110110",
    "111111101101000111010101",
    "011000110000001101111121",
    "111111011100111100001021",
    "111011200100101000100010",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A service: the options of a simulator that are open."""

    row: str

    @property
    def options(self) -> dict[str, Any]:
        """The keywords of its `Simulator`."""
        digits = [int(digit) for digit in self.row]
        points = dict(zip(POINTS, digits, strict=False))
        given: dict[str, Any] = {name: POINTS[name][at] for name, at in points.items()}
        options: dict[str, Any] = {"open_points": OpenPoints(**given)}
        for choices, at in zip(KEYWORDS.values(), digits[len(POINTS) :], strict=True):
            options |= choices[at]
        return options

    def __str__(self) -> str:
        return self.row


def drawn(rng: random.Random) -> dict[str, Any]:
    """Return the options of a service that has any of it."""
    columns = [*POINTS.values(), *KEYWORDS.values()]
    return Unsettled("".join(str(rng.randrange(len(choices))) for choices in columns)).options

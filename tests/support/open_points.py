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
    "places_linger": (20.0,),
}

#: The points that a service may have, in the order of the columns below.
POINTS: Final[Mapping[str, tuple[object, ...]]] = {
    field.name: (field.default, *OTHERS.get(field.name, (not field.default,)))
    for field in fields(OpenPoints)
}

#: A column for each point, then one for each keyword; a row is a service. Between them, every two
#: columns have every pair of values: what breaks by two points together, breaks in one of these.
ROWS: Final = (
    "000000000000000000000000000",
    "010110211111111111101011100",
    "101110011000100011111110121",
    "101020001011110111110001020",
    "111001200100101100111101121",
    "010011110110010000000000120",
    "101121100101011001110111101",
    "111011000111011110001010011",
    "100100111011010011100110010",
    "011121101011101100001101111",
    "000021211000000001010000011",
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

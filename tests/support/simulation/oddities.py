"""Odd words and odd times in the answers of a service that is well otherwise."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from apixo_async.testing import Fault
from apixo_async.testing.faults import Alteration

#: Half characters at every place, what no terminal shows, and what looks like something else.
TEXTS: Final = (
    "\ud83d",
    "\udfff",
    "castle \ud83d\ud83d in the \udc00air",
    "a\x00b",
    "\x1b[2J\u202e\u2028",
    "\ufeff",
    "",
    " \n\t ",
    "null",
    "\U0001f3f0" * 100,
    "x" * 5_000,
)

_YEAR: Final = 365 * 86_400_000

#: What the three times may be instead, in the place of milliseconds.
_TIMES: Final = (
    0,
    -1,
    1,
    1_700_000_030,  # seconds
    1_700_000_030_000 - 3 * _YEAR,
    1_700_000_030_000 + 3 * _YEAR,
    1_700_001_000_000 + 3_600_000,
    -(10**15),
    10**18,
    10**40,
    1e300,
    0.5,
    "1700000030000",
    "2023-11-14T22:13:50Z",
    None,
    True,
    [],
)
_NAMES: Final = ("createTime", "completeTime", "costTime")


def odd_text(rng: random.Random) -> Fault:
    """Put odd words into one place of a healthy answer; its result keeps its URLs."""
    return _odd_text(rng, (_message, _data, _state, _failure, _result, _result))


def always_odd_text(rng: random.Random) -> Fault:
    """Do so with every answer, but leave the state, so that tasks do end."""
    return _odd_text(rng, (_message, _data, _failure, _result, _result))


def _odd_text(rng: random.Random, places: Sequence[Callable[..., Alteration]]) -> Fault:
    text = rng.choice(TEXTS)
    value: object = text
    for _ in range(rng.choice((0, 0, 1, 3, 40))):
        value = rng.choice(([value], {"deeper": value}, {text: value}))
    return Fault("odd text", alter=rng.choice(places)(rng, text, value))


def odd_times(rng: random.Random) -> Fault:
    """Give one or more of the times values that no task can have."""
    changed = {name: rng.choice(_TIMES) for name in _NAMES if rng.random() < 0.7}

    def alter(envelope: dict[str, Any]) -> None:
        data = envelope.get("data")
        if isinstance(data, dict) and "state" in data:
            data |= changed

    return Fault("odd times", alter=alter)


def _message(_: random.Random, text: str, value: object) -> Alteration:
    def alter(envelope: dict[str, Any]) -> None:
        envelope |= {"message": text, text: value}

    return alter


def _data(_: random.Random, text: str, value: object) -> Alteration:
    def alter(envelope: dict[str, Any]) -> None:
        if isinstance(envelope.get("data"), dict):
            envelope["data"] |= {f"more {text}": value, "error": text}

    return alter


def _state(_: random.Random, text: str, __: object) -> Alteration:
    def alter(envelope: dict[str, Any]) -> None:
        data = envelope.get("data")
        # "success " and the like are no other state.
        if isinstance(data, dict) and "state" in data and text.strip():
            data["state"] += text

    return alter


def _failure(_: random.Random, text: str, value: object) -> Alteration:
    def alter(envelope: dict[str, Any]) -> None:
        data = envelope.get("data")
        if isinstance(data, dict) and "failCode" in data:
            data |= {"failMsg": value, "failCode": text}

    return alter


def _result(rng: random.Random, text: str, value: object) -> Alteration:
    # As an object; as a string with the halves themselves; as a string with their escapes.
    form = rng.choice(("object", "halves", "escapes"))

    def alter(envelope: dict[str, Any]) -> None:
        data = envelope.get("data")
        if not isinstance(data, dict) or "resultJson" not in data:
            return
        made = data["resultJson"]
        result = json.loads(made) if isinstance(made, str) else made
        result |= {f"more {text}": value, "seed": text}
        data["resultJson"] = (
            result if form == "object" else json.dumps(result, ensure_ascii=form == "escapes")
        )

    return alter

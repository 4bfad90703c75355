"""The input of a model without a class of its own: passed through untouched."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from typing import Final, cast

#: What drives how long a task takes goes by these names, some of which mean the same.
TIME_FIELDS: Final = (
    "mode",
    "resolution",
    "quality",
    "size",
    "duration",
    "seconds",
    "n_frames",
    "num_images",
    "nVariants",
    "max_images",
    "n",
)

#: Levels of lists and objects in one value. Python reads and writes a thousand at most, fewer the
#: deeper it is called: what is accepted here is to be sent, and kept in a journal, anywhere.
_DEEPEST: Final = 100
_MARK: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')


class OtherModel:
    """A task of any other model, its input passed through untouched and in the order given.

    `OtherModel("sora-2", mode="text-to-video", prompt="...")`. Nothing is bounded, nothing is
    priced; fields that are no Python names go in as `OtherModel(name, **{"a-b": 1})`.

    Raises:
        ValueError: The model's name could not stand in a URL, or a value is not JSON, or nested
            more than 100 levels deep.
    """

    __slots__ = ("_text", "model")
    model: str
    _text: str

    def __init__(self, model: str, /, **fields: object) -> None:
        check_model_name(model)
        object.__setattr__(self, "model", model)
        object.__setattr__(self, "_text", _as_json(model, fields))

    @property
    def kind(self) -> str:
        """What drives how long the task takes: the model, and its fields of `TIME_FIELDS`."""
        payload = self.payload()
        driven_by = [f"{name}={payload[name]!s:.32}" for name in TIME_FIELDS if name in payload]
        return "/".join([self.model, *driven_by])

    @property
    def price(self) -> None:
        """Say nothing: the documents at hand give no price."""
        return

    def payload(self) -> dict[str, object]:
        """Return the `input` object as it goes over the wire."""
        return cast("dict[str, object]", json.loads(self._text))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"OtherModel is frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"OtherModel is frozen: {name} cannot be deleted")

    def __reduce__(self) -> tuple[object, ...]:
        return _other_model, (self.model, self.payload())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, OtherModel):
            return NotImplemented
        return self.model == other.model and self._text == other._text

    def __hash__(self) -> int:
        return hash((self.model, self._text))

    def __repr__(self) -> str:
        fields = "".join(f", {name}={value!r}" for name, value in self.payload().items())
        return f"OtherModel({self.model!r}{fields})"


def _other_model(model: str, fields: Mapping[str, object]) -> OtherModel:
    return OtherModel(model, **fields)


def check_model_name(model: object) -> None:
    """Refuse a name that could not stand in a URL."""
    if not isinstance(model, str):
        raise TypeError(f"model: {model!r:.200} given; a model is named by a str such as 'sora-2'")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", model):
        raise ValueError(
            f"model: {model!r:.200} given; a name is letters, digits, '-', '_' and '.'"
        )


def _as_json(model: str, fields: Mapping[str, object]) -> str:
    encoded = (f"{json.dumps(name)}: {_encoded(model, name, fields[name])}" for name in fields)
    return "{" + ", ".join(encoded) + "}"


def _encoded(model: str, name: str, value: object) -> str:
    try:
        text = json.dumps(value, allow_nan=False)
    except RecursionError:
        text = None
    except (TypeError, ValueError) as exc:
        given = f"{model}: {name}: {_shown(value)} given"
        raise ValueError(f"{given}; allowed is what JSON holds ({exc})") from exc
    if text is None or _is_deep(text):
        raise ValueError(f"{model}: {name}: nested too deeply; {_DEEPEST} levels are allowed")
    return text


def _is_deep(text: str) -> bool:
    if text.count("[") + text.count("{") <= _DEEPEST:
        return False
    marks = (found[0][0] for found in _MARK.finditer(text))
    steps = (1 if mark in "[{" else -1 for mark in marks if mark != '"')
    return max(itertools.accumulate(steps), default=0) > _DEEPEST


def _shown(value: object) -> str:
    try:
        return f"{value!r:.200}"
    except ValueError:  # Of a number with thousands of digits.
        return f"a {type(value).__name__}"

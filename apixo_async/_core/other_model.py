"""The input of a model without a class of its own: passed through untouched."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
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


#: Levels of lists and objects in a field. Python reads and writes a thousand at most, fewer the
#: deeper it is called: what is accepted here is to be sent, and kept in a journal, anywhere.
_DEEPEST: Final = 100


class OtherModel:
    """A task of any other model, its input passed through untouched and in the order given.

    `OtherModel("sora-2", mode="text-to-video", prompt="...")`. Nothing is bounded, nothing is
    priced; fields that are no Python names go in as `OtherModel(name, **{"a-b": 1})`.

    Raises:
        ValueError: The model's name could not stand in a URL, or a field is not JSON, is nested
            deeper than 100 levels, or holds half a character.
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
        _check_depth(value)
        if "\\ud" in f"{json.dumps(name)}{text}":  # Half a character has no UTF-8.
            json.dumps({name: value}, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{model}: {name!a:.200}: it holds half a character (a lone surrogate), which cannot "
            "be sent; allowed is text"
        ) from None
    except RecursionError:
        raise ValueError(f"{model}: {name!r:.200}: nested deeper than {_DEEPEST} levels") from None
    except (TypeError, ValueError) as exc:
        given = f"{model}: {name}: {_shown(value)} given"
        raise ValueError(f"{given}; allowed is what JSON holds ({exc})") from exc
    return text


def _check_depth(value: object, depth: int = 0) -> None:
    if depth > _DEEPEST:
        raise RecursionError
    if isinstance(value, Mapping):
        value = cast("Mapping[object, object]", value).values()
    elif not isinstance(value, list | tuple):
        return
    for inner in cast("Iterable[object]", value):
        _check_depth(inner, depth + 1)


def _shown(value: object) -> str:
    try:
        return f"{value!r:.200}"
    except ValueError:  # Of a number with thousands of digits.
        return f"a {type(value).__name__}"

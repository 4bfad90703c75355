"""What the documents say of each model, read from the inputs and the table of times themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeAlias, cast

from apixo_async._catalog import Timing, timing
from apixo_async.inputs import DOCUMENTED, Input, from_dict

#: What the documents require and a person seldom cares about: the command's own defaults.
DEFAULTS: Final[Mapping[str, Mapping[str, object]]] = {
    "gpt-image-1": {"aspect_ratio": "1:1", "num_images": 1},
    "flux-kontext": {"mode": "pro"},
}

#: The field that a model's price depends on, and perhaps its times.
_TIER_FIELD: Final[Mapping[str, str]] = {
    "gpt-image-1": "num_images",
    "gpt-image-2": "resolution",
    "flux-kontext": "mode",
}

#: A piece of JSON schema, as pydantic makes it.
_Schema: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tier:
    """One price of one model, and the documented times of such a task.

    Attributes:
        model: The model's name.
        option: The choice that makes the price, such as "resolution 4k"; "" where none does.
        price: USD a task, or None where the documents give none.
        times: When to poll, and how long it takes.
    """

    model: str
    option: str
    price: Decimal | None
    times: Timing


@dataclass(frozen=True, slots=True)
class FieldBound:
    """What one field of a model takes.

    Attributes:
        name: The field.
        takes: Its choices, or its type and bounds.
        default: What it is when it is not given, "" for unset, "required" where it must be given.
    """

    name: str
    takes: str
    default: str


def tiers(model: str) -> list[Tier]:
    """List the prices of a model, one for each choice that the price depends on."""
    if model not in DOCUMENTED:
        return [Tier(model, "", None, timing(from_dict(model, {}).kind))]
    field = _TIER_FIELD[model]
    return [_tier(model, field, choice) for choice in _properties(model)[field]["enum"]]


def _tier(model: str, field: str, choice: object) -> Tier:
    sample = from_dict(model, {"prompt": "x", **DEFAULTS.get(model, {}), field: choice})
    return Tier(model, f"{field} {choice}", sample.price, timing(sample.kind))


def option_of(made: Input) -> str:
    """Return the choice that makes the price of an input, as `Tier` words it."""
    field = _TIER_FIELD.get(made.model)
    return f"{field} {getattr(made, field)}" if field else ""


def fields_of(model: str) -> Mapping[str, frozenset[str]]:
    """Return the JSON types that each field of a documented model takes, by both its names."""
    taken: dict[str, frozenset[str]] = {}
    for by_alias in (False, True):
        schema = DOCUMENTED[model].model_json_schema(by_alias=by_alias)
        taken |= {name: frozenset(_types(field)) for name, field in schema["properties"].items()}
    return taken


def _types(schema: _Schema) -> Iterator[str]:
    for branch in schema.get("anyOf", [schema]):
        yield branch["type"]


def bounds(model: str) -> list[FieldBound]:
    """List the fields of a model, the required ones first; none where it is not documented."""
    if model not in DOCUMENTED:
        return []
    listed = [
        FieldBound(name, ", ".join(_takes(schema)), _default(schema))
        for name, schema in _properties(model).items()
    ]
    return sorted(listed, key=lambda bound: bound.default != "required")


def _properties(model: str) -> Mapping[str, _Schema]:
    schema = DOCUMENTED[model].model_json_schema(by_alias=False)
    return cast("Mapping[str, _Schema]", schema["properties"])


def _default(schema: _Schema) -> str:
    if "default" not in schema:
        return "required"
    default = schema["default"]
    return "" if default is None or default == [] else str(default)


def _takes(schema: _Schema) -> Iterator[str]:
    if "anyOf" in schema:
        for branch in schema["anyOf"]:
            yield from _takes(branch)
    elif "const" in schema or "enum" in schema:
        choices = schema.get("enum", [schema.get("const")])
        yield " | ".join(str(choice) for choice in choices)
    elif schema["type"] != "null":
        yield _SHAPES[schema["type"]](schema)


def _text(schema: _Schema) -> str:
    if "maxLength" not in schema:
        return "any text"
    return f"text of {schema.get('minLength', 0):,} to {schema['maxLength']:,} characters"


def _list(schema: _Schema) -> str:
    return f"up to {schema['maxItems']} URLs" if "maxItems" in schema else "URLs"


_SHAPES: Final[Mapping[str, Callable[[_Schema], str]]] = {
    "string": _text,
    "array": _list,
    "integer": lambda _: "whole number",
    "boolean": lambda _: "true | false",
}

"""`apixo models`: what the documents say of each model, read from the inputs and their times."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Final, TypeAlias, cast

import typer

from apixo_async._catalog import (
    CONCURRENT_TASKS,
    REQUESTS_PER_MINUTE,
    RESULT_LIFETIME,
    Timing,
    similar_models,
    timing,
)
from apixo_async._cli import options
from apixo_async._cli.console import Screen, seconds
from apixo_async._text import dollars
from apixo_async.inputs import DOCUMENTED, Input, from_dict

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
    """One price of one model, and the documented times of such a task."""

    model: str
    #: The choice that makes the price, such as "resolution 4k"; "" where none does.
    option: str
    #: USD a task, or None where the documents give none.
    price: Decimal | None
    times: Timing


@dataclass(frozen=True, slots=True)
class FieldBound:
    """What one field of a model takes."""

    name: str
    takes: str
    #: What it is when it is not given, "" for unset, "required" where it must be given.
    default: str


def tiers(model: str) -> list[Tier]:
    """List the prices of a model, one for each choice that the price depends on."""
    if model not in DOCUMENTED:
        return [Tier(model, "", None, timing(model))]
    field = _TIER_FIELD[model]
    found: list[Tier] = []
    for choice in _properties(model)[field]["enum"]:
        sample = from_dict(model, {"prompt": "x", field: choice})
        found.append(Tier(model, f"{field} {choice}", sample.price, timing(sample.kind)))
    return found


def misspelt(model: str) -> str | None:
    """Return what to do about a name that looks like that of a documented model, or None."""
    near = similar_models(model)
    if not near:
        return None
    return f"did you mean {' or '.join(near)}? If not, buy it with --yes-unknown-model"


def option_of(made: Input) -> str:
    """Return the choice that makes the price of an input, as `Tier` words it."""
    field = _TIER_FIELD.get(made.model)
    return f"{field} {getattr(made, field)}" if field else ""


def fields_of(model: str) -> Mapping[str, frozenset[str]]:
    """Return the JSON types that each field of a documented model takes, by both its names."""
    taken: dict[str, frozenset[str]] = {}
    for by_alias in (False, True):
        schema = DOCUMENTED[model].model_json_schema(by_alias=by_alias)
        for name, field in schema["properties"].items():
            taken[name] = frozenset(branch["type"] for branch in field.get("anyOf", [field]))
    return taken


def bounds(model: str) -> list[FieldBound]:
    """List the fields of a model, the required ones first; none where it is not documented."""
    if model not in DOCUMENTED:
        return []
    listed: list[FieldBound] = []
    for name, schema in _properties(model).items():
        default = schema.get("default", "required")
        shown = "" if default is None or default == [] else str(default)
        listed.append(FieldBound(name, ", ".join(_takes(schema)), shown))
    return sorted(listed, key=lambda bound: bound.default != "required")


def _properties(model: str) -> Mapping[str, _Schema]:
    schema = DOCUMENTED[model].model_json_schema(by_alias=False)
    properties = cast("Mapping[str, _Schema]", schema["properties"])
    return {name: field for name, field in properties.items() if name != "model"}


def _takes(schema: _Schema) -> Iterator[str]:
    if "anyOf" in schema:
        for branch in schema["anyOf"]:
            yield from _takes(branch)
    elif "const" in schema or "enum" in schema:
        choices = schema.get("enum", [schema.get("const")])
        yield " | ".join(str(choice) for choice in choices)
    elif "maxLength" in schema:
        yield f"text of {schema.get('minLength', 0):,} to {schema['maxLength']:,} characters"
    elif "maxItems" in schema:
        yield f"up to {schema['maxItems']} URLs"
    elif schema["type"] != "null":
        yield _SHAPES[schema["type"]]


_SHAPES: Final[Mapping[str, str]] = {
    "string": "any text",
    "array": "URLs",
    "integer": "whole number",
    "boolean": "true | false",
}


_TIER_HEAD = ("model", "task", "price", "typical", "longest", "first poll", "then every")


def models(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Show this one, and its fields.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Show what the documents say of each model: price, times, fields. Sends nothing."""
    screen = Screen(as_json=as_json)
    names = list(DOCUMENTED) if model is None else [model]
    if screen.as_json:
        for name in names:
            tasks = [
                {"option": tier.option or None, "price": tier.price, **tier.times._asdict()}
                for tier in tiers(name)
            ]
            fields = [dataclasses.asdict(bound) for bound in bounds(name)]
            screen.document({"model": name, "tasks": tasks, "fields": fields})
        return
    screen.table(_TIER_HEAD, [_tier_row(tier) for name in names for tier in tiers(name)])
    if model is None:
        screen.note(
            f"By the documents an account runs {CONCURRENT_TASKS:,} tasks at once and sends"
            f" {REQUESTS_PER_MINUTE:,} requests a minute; results stay for"
            f" {RESULT_LIFETIME / 86_400:.0f} days.",
            style="dim",
        )
    elif model in DOCUMENTED:
        rows = [(bound.name, bound.takes, bound.default) for bound in bounds(model)]
        screen.table(("field", "takes", "default"), rows)
    else:
        screen.note(f"{model} has no page here: any field is sent as it is, the times are a guess")
        if near := misspelt(model):
            screen.warning(f"{model}: {near}")


def _tier_row(tier: Tier) -> tuple[str, ...]:
    times = tier.times
    return (
        tier.model,
        tier.option or "any",
        "unknown" if tier.price is None else dollars(tier.price),
        f"{times.typical_low:.0f}-{times.typical_high:.0f} s",
        seconds(times.longest),
        seconds(times.first),
        seconds(times.interval),
    )

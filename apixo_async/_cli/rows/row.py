"""One row of a file: its key and its input, the command line's defaults filled in."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from pydantic import ValidationError

from apixo_async import ConfigurationError, Input
from apixo_async._cli import exits, fields
from apixo_async._cli.rows.cells import value_of
from apixo_async._cli.rows.formats import Format
from apixo_async._cli.rows.lines import Problem
from apixo_async._cli.rows.readers import Raw
from apixo_async.inputs import DOCUMENTED

#: What a row may say beside the fields of its input, and the field that nearly all have.
_RESERVED: Final = ("model", "key", "prompt")


class Defaults(NamedTuple):
    """What the command line gives to rows that do not say it themselves.

    Attributes:
        model: The model.
        fields: Fields of the input.
    """

    model: str | None = None
    fields: Mapping[str, object] = MappingProxyType({})


NO_DEFAULTS: Final = Defaults()


class Row(NamedTuple):
    """One row, ready to be bought.

    Attributes:
        line: Where it begins.
        key: The name that the row gives to itself, or None.
        input: What to buy.
        doubts: What may be a mistake in it.
    """

    line: int
    key: str | None
    input: Input
    doubts: tuple[str, ...] = ()


def row_of(raw: Raw, form: Format, defaults: Defaults) -> Row | Problem:
    """Return a row, or what is wrong with it."""
    try:
        return _row(raw, form, defaults)
    except (ConfigurationError, ValidationError) as error:
        return Problem(raw.line, "; ".join(exits.lines(error)))
    except RecursionError:
        return Problem(raw.line, "nested too deeply")


def _row(raw: Raw, form: Format, defaults: Defaults) -> Row:
    _check_names(raw.fields)
    given = dict(raw.fields)
    key = _key(given.pop("key")) if "key" in given else None
    model = _model(given.pop("model", defaults.model))
    if form is Format.CSV:
        given = {name: value_of(model, name, str(cell)) for name, cell in given.items()}
    made = fields.make(model, {**_lacking(model, given, defaults.fields), **given})
    return Row(raw.line, key, made.input, made.doubts)


def _check_names(given: Mapping[str, object]) -> None:
    # A model without a page takes any field: a Prompt would be sent, and the prompt be missing.
    for name in given:
        if name not in _RESERVED and name.strip().lower() in _RESERVED:
            raise ConfigurationError(f"{name!r}: write it as {name.strip().lower()!r}")


def _key(given: object) -> str:
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given)
    if not isinstance(given, str) or not given.strip():
        raise ConfigurationError(f"key: {given!r:.60} given; a key is a text, or left out")
    if not given.isprintable():
        raise ConfigurationError(f"key: {given!r:.60} given; a key holds no control characters")
    return given.strip()


def _model(given: object) -> str:
    if given is None:
        raise ConfigurationError("model: is required, in the row or as --model")
    if not isinstance(given, str):
        raise ConfigurationError(f"model: {given!r:.60} given; a model is named by a text")
    return given.strip()


def _lacking(
    model: str, given: Mapping[str, object], defaults: Mapping[str, object]
) -> dict[str, object]:
    """Return the defaults that a row lacks: it may give a field by its other name."""
    if not defaults:
        return {}
    names = _other_names(model)
    taken = {names.get(name, name) for name in given}
    return {name: value for name, value in defaults.items() if names.get(name, name) not in taken}


@functools.cache
def _other_names(model: str) -> Mapping[str, str]:
    if model not in DOCUMENTED:
        return {}
    listed = DOCUMENTED[model].model_fields.items()
    return {field.serialization_alias or name: name for name, field in listed}

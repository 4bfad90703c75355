"""All rows of a file, read one by one as often as they are needed, each with its key and input."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final, NamedTuple

from pydantic import ValidationError

from apixo_async import ConfigurationError, Input
from apixo_async._cli import exits, fields
from apixo_async._cli.rows.cells import value_of
from apixo_async._cli.rows.formats import Format, Problem, lines
from apixo_async._cli.rows.readers import Raw, read
from apixo_async._cli.rows.source import RowsSource, Stamp, find_source
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


class ParsedRow(NamedTuple):
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


def row_of(raw: Raw, form: Format, defaults: Defaults) -> ParsedRow | Problem:
    """Return a row, or what is wrong with it."""
    try:
        return _row(raw, form, defaults)
    except (ConfigurationError, ValidationError) as error:
        return Problem(raw.line, "; ".join(exits.lines(error)))
    except RecursionError:
        return Problem(raw.line, "nested too deeply")


def _row(raw: Raw, form: Format, defaults: Defaults) -> ParsedRow:
    _check_names(raw.fields)
    given = dict(raw.fields)
    key = _key(given.pop("key")) if "key" in given else None
    model = _model(given.pop("model", defaults.model))
    if form is Format.CSV:
        given = {name: value_of(model, name, str(cell)) for name, cell in given.items()}
    made = fields.make(model, {**_lacking(model, given, defaults.fields), **given})
    return ParsedRow(raw.line, key, made.input, made.doubts)


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


class Rows:
    """The rows of a source. Memory is that of one row, however many there are.

    The file may not change between two readings, nor during the second one: what was checked
    and agreed to is what is bought.

    Args:
        source: The file.
        defaults: What rows that do not say it themselves are given.
    """

    __slots__ = ("_stamp", "defaults", "source")

    def __init__(self, source: RowsSource, defaults: Defaults) -> None:
        self.source = source
        self.defaults = defaults
        self._stamp: Stamp | None = None

    def read(self) -> Iterator[ParsedRow | Problem]:
        """Yield the rows in order, and a problem in the place of each that is bad.

        Raises:
            ConfigurationError: The file has changed since the first reading began.
            OSError: It can no longer be read.
        """
        with self.source.path.open("rb") as file:
            self._stamp = self._stamp or Stamp.of(file)
            for raw in read(self.source.format, lines(file)):
                row = raw if isinstance(raw, Problem) else self._row(raw)
                self._check_unchanged(file)
                yield row
            self._check_unchanged(file)

    def _row(self, raw: Raw) -> ParsedRow | Problem:
        return row_of(raw, self.source.format, self.defaults)

    def _check_unchanged(self, file: BinaryIO) -> None:
        if Stamp.of(file) != self._stamp:
            raise ConfigurationError(
                f"{self.source.name} has changed since it was checked; run the same command again:"
                " what is bought already is not bought again"
            )

    def entries(self) -> Iterator[tuple[str | None, Input]]:
        """Yield the key, or None, and the input of each row, once all rows are checked.

        Raises:
            ConfigurationError: The file has changed since then, or a row is bad after all.
            OSError: It can no longer be read.
        """
        for row in self.read():
            if isinstance(row, Problem):
                raise ConfigurationError(f"{self.source.name}, {row}")
            yield row.key, row.input


def open_rows(
    given: str, *, out: Path, form: Format | None = None, defaults: Defaults = NO_DEFAULTS
) -> Rows:
    """Find the rows of a file, or of stdin, and how they are written.

    Args:
        given: A path, or "-" for stdin, which is first copied into `out`.
        out: The folder of the run.
        form: How they are written, or None to tell by the name or the first line.
        defaults: What rows that do not say it themselves are given.

    Raises:
        ConfigurationError: There are no rows to read; the message says what to do.
        OSError: The copy of stdin cannot be written.
    """
    source = find_source(given, out, form)
    if source.format is Format.PLAIN and defaults.model is None:
        raise ConfigurationError(f"{source.name} holds plain prompts: give --model for them")
    return Rows(source, defaults)

"""The rows of a file: JSON Lines, CSV or plain prompts, each with its key and its input."""

from __future__ import annotations

import csv
import functools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final, NamedTuple, TypeVar, cast

from pydantic import ValidationError

from apixo_async import ConfigurationError, Input
from apixo_async._cli import exits
from apixo_async._cli.inputs import make_input, refuse_constant, value_of
from apixo_async._cli.report.records import FAILURE, KEPT
from apixo_async._cli.rows.source import (
    LONGEST,
    Format,
    Problem,
    RowsSource,
    Stamp,
    TextLine,
    find_source,
    lines,
)
from apixo_async.inputs import DOCUMENTED

T = TypeVar("T")


class Raw(NamedTuple):
    """What one row says."""

    line: int
    #: Its values by name; the cells of a CSV file as they stand, empty ones left out.
    fields: Mapping[str, object]


Lines = Iterable[TextLine | Problem]


def read(form: Format, lines: Lines) -> Iterator[Raw | Problem]:
    """Yield the rows of a file in order; after a bad one, go on with the next."""
    return _READERS[form](lines)


def _json_lines(lines: Lines) -> Iterator[Raw | Problem]:
    for line in lines:
        if isinstance(line, Problem):
            yield line
        elif line.text.strip():
            yield _object(line)


def _object(line: TextLine) -> Raw | Problem:
    try:
        value: object = json.loads(
            line.text, object_pairs_hook=_unique, parse_constant=refuse_constant
        )
    except json.JSONDecodeError as error:
        why = f"broken JSON at character {error.pos + 1:,}: {error.msg}"
        if error.pos >= len(error.doc.rstrip()):
            why = "the JSON object does not end on this line; JSON Lines has one object a line"
        return Problem(line.number, why)
    except RecursionError:
        return Problem(line.number, "nested too deeply")
    except ValueError as error:
        return Problem(line.number, str(error))
    if not isinstance(value, dict):
        given = f"{value!r:.60} given"
        return Problem(line.number, f'a row is a JSON object such as {{"prompt": "..."}}; {given}')
    return Raw(line.number, cast("dict[str, object]", value))


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        twice = _repeated(name for name, _ in pairs)
        raise ValueError(f"{twice!r:.60} is given twice; which one is meant?")
    return fields


def _repeated(names: Iterable[str]) -> str | None:
    """Return a name that is there twice, in one pass: a line may hold 100,000 of them."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def _prompts(lines: Lines) -> Iterator[Raw | Problem]:
    for line in lines:
        if isinstance(line, Problem):
            yield line
        elif prompt := line.text.strip():
            if "\r" in prompt:
                yield Problem(line.number, "a carriage return inside; end lines with LF or CR LF")
            else:
                yield Raw(line.number, {"prompt": prompt})


#: What a column may be called: it keeps a row from being taken for the header.
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


class _BadLineError(Exception):
    """Inside of a CSV row, a line is no text; the problem is its argument."""


class _Feed:
    """Give lines to the reader of CSV, and remember where its row began."""

    __slots__ = ("_lines", "_number", "_size", "begun_at")

    def __init__(self, lines: Lines) -> None:
        self._lines = iter(lines)
        self._number = self._size = self.begun_at = 0

    def begin_row(self) -> None:
        """Note that the next line that is not blank begins a row."""
        self.begun_at = self._size = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        for line in self._lines:
            self._number += 1
            if isinstance(line, Problem):
                self.begun_at = self.begun_at or self._number
                raise _BadLineError(line)
            if not self.begun_at and not line.text.strip():
                continue
            self.begun_at = self.begun_at or self._number
            self._size += len(line.text)
            if self._size > LONGEST:
                raise csv.Error(f"a row of more than {LONGEST:,} characters")
            return line.text
        raise StopIteration


def _table(lines: Lines) -> Iterator[Raw | Problem]:
    feed = _Feed(lines)
    table: csv.DictReader[str] = csv.DictReader(feed, strict=True)
    # Without a header no row means anything: what is wrong with it ends the reading.
    head = _read_next(feed, lambda: table.fieldnames)
    if isinstance(head, Problem):
        yield head
    if isinstance(head, Problem) or not head:
        return
    names = [name.strip() for name in head]
    if fault := _head_fault(names):
        yield Problem(feed.begun_at, fault)
        return
    # The names that pandas gives them. No other name of a column has a space.
    table.fieldnames = [name or f"Unnamed: {at}" for at, name in enumerate(names)]
    while (cells := _read_next(feed, lambda: next(table))) is not None:
        if isinstance(cells, Problem):
            yield cells
        elif row := _named(feed.begun_at, cells, len(names)):
            yield row


def _read_next(feed: _Feed, read: Callable[[], T]) -> T | Problem | None:
    """Return what is read next, or what is wrong with it; None at the end."""
    feed.begin_row()
    try:
        return read()
    except StopIteration:
        return None
    except csv.Error as error:
        why = "is each quote closed, and each one inside of a cell doubled?"
        return Problem(feed.begun_at, f"broken CSV ({error}); {why}")
    except _BadLineError as error:
        return cast("Problem", error.args[0])


def _head_fault(names: list[str]) -> str | None:
    if len(names) == 1 and re.search(r"[;\t]", names[0]):
        return "the header has no commas; cells are parted by commas, not by semicolons or tabs"
    for name in names:
        if name and not _NAME.fullmatch(name):
            return (
                f"{name!r:.60} is no name of a column; the first line is the header, such as"
                " prompt,model,aspect_ratio"
            )
    twice = _repeated(filter(None, names))
    return f"two columns are called {twice!r:.60}" if twice else None


def _named(line: int, cells: Mapping[str | None, object], width: int) -> Raw | Problem | None:
    """Return a row, or None if all of its cells are blank."""
    surplus = cast("list[str]", cells.get(None) or [])
    named = {name: str(cell) for name, cell in cells.items() if name and cell is not None}
    texts = [*named.values(), *surplus]
    if not any(text.strip() for text in texts):
        return None
    if len(texts) != width:
        return Problem(
            line,
            f"{len(texts)} cells; the header names {width} columns (a comma"
            " inside of a cell needs quotes around the cell)",
        )
    return Raw(line, {name: cell for name, cell in named.items() if cell.strip()})


_READERS: Final[Mapping[Format, Callable[[Lines], Iterator[Raw | Problem]]]] = {
    Format.JSONL: _json_lines,
    Format.CSV: _table,
    Format.PLAIN: _prompts,
}

#: What a row may say beside the fields of its input, and the field that nearly all have.
_RESERVED: Final = ("model", "key", "prompt")


class Defaults(NamedTuple):
    """What the command line gives to rows that do not say it themselves."""

    model: str | None = None
    fields: Mapping[str, object] = MappingProxyType({})
    #: Fields of rows that are left out, and those that are kept for the report and not sent.
    ignore: frozenset[str] = frozenset()
    keep: frozenset[str] = frozenset()


NO_DEFAULTS: Final = Defaults()


class ParsedRow(NamedTuple):
    """One row, ready to be bought."""

    line: int
    key: str | None
    input: Input
    doubts: tuple[str, ...] = ()
    kept: Mapping[str, object] = MappingProxyType({})
    #: What it gives that is no field of its model: it may not be bought.
    unknown: tuple[str, ...] = ()


def row_of(raw: Raw, form: Format, defaults: Defaults) -> ParsedRow | Problem:
    """Return a row, or what is wrong with it."""
    try:
        return _row(raw, form, defaults)
    except (ConfigurationError, ValidationError) as error:
        return Problem(raw.line, "; ".join(exits.lines(error)))
    except RecursionError:
        return Problem(raw.line, "nested too deeply")


def _row(raw: Raw, form: Format, defaults: Defaults) -> ParsedRow:
    given = {name: value for name, value in raw.fields.items() if name not in defaults.ignore}
    given.pop(FAILURE, None)
    kept = given.pop(KEPT, {})
    if not isinstance(kept, dict):
        raise ConfigurationError(f"{KEPT}: {kept!r:.60} given; `apixo run` writes an object there")
    kept = cast("dict[str, object]", kept) | {
        name: given.pop(name) for name in defaults.keep if name in given
    }
    for name in given:
        # A model without a page takes any field: "Prompt" would be sent, and the prompt be missing.
        if name not in _RESERVED and name.strip().lower() in _RESERVED:
            raise ConfigurationError(f"{name!r}: write it as {name.strip().lower()!r}")
    key = _key(given.pop("key")) if "key" in given else None
    model = given.pop("model", defaults.model)
    if model is None:
        raise ConfigurationError("model: is required, in the row or as --model")
    if not isinstance(model, str):
        raise ConfigurationError(f"model: {model!r:.60} given; a model is named by a text")
    model = model.strip()
    unknown = tuple(name for name in given if not _is_field(model, name, form))
    for name in unknown:
        del given[name]
    if form is Format.CSV:
        given = {name: value_of(model, name, str(cell)) for name, cell in given.items()}
    made = make_input(model, {**_lacking(model, given, defaults.fields), **given})
    return ParsedRow(raw.line, key, made.input, made.doubts, kept, unknown)


def _is_field(model: str, name: str, form: Format) -> bool:
    if model not in DOCUMENTED:  # It takes any field; a column without a name is none.
        return form is not Format.CSV or " " not in name
    names = _other_names(model)
    return name in names or name in names.values()


def _key(given: object) -> str:
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given)
    if not isinstance(given, str) or not given.strip():
        raise ConfigurationError(f"key: {given!r:.60} given; a key is a text, or left out")
    if not given.isprintable():
        raise ConfigurationError(f"key: {given!r:.60} given; a key holds no control characters")
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
    """

    __slots__ = ("_stamp", "defaults", "source")

    def __init__(self, source: RowsSource, defaults: Defaults) -> None:
        self.source = source
        self.defaults = defaults
        self._stamp: Stamp | None = None

    def read(self) -> Iterator[ParsedRow | Problem]:
        """Yield the rows in order, and a problem in the place of each that is bad."""
        with self.source.path.open("rb") as file:
            self._stamp = self._stamp or Stamp.of(file)
            for raw in read(self.source.format, lines(file)):
                form = self.source.format
                row = raw if isinstance(raw, Problem) else row_of(raw, form, self.defaults)
                self._check_unchanged(file)
                yield row
            self._check_unchanged(file)

    def _check_unchanged(self, file: BinaryIO) -> None:
        if Stamp.of(file) != self._stamp:
            raise ConfigurationError(
                f"{self.source.name} has changed since it was checked; run the same command again:"
                " what is bought already is not bought again"
            )

    def entries(self) -> Iterator[tuple[str | None, Input]]:
        """Yield the key, or None, and the input of each row, once all rows are checked."""
        for row in self.read():
            if isinstance(row, Problem):
                raise ConfigurationError(f"{self.source.name}, {row}")
            assert not row.unknown  # The check has found it, and the file is unchanged.
            yield row.key, row.input


def open_rows(
    given: str, *, out: Path, form: Format | None = None, defaults: Defaults = NO_DEFAULTS
) -> Rows:
    """Find the rows of a file, or of stdin, and how they are written.

    `given` is a path, or "-" for stdin, which is first copied into `out`. Without `form`, the name
    or the first line tells how the rows are written.
    """
    source = find_source(given, out, form)
    if source.format is Format.PLAIN and defaults.model is None:
        raise ConfigurationError(f"{source.name} holds plain prompts: give --model for them")
    return Rows(source, defaults)

"""JSON Lines, CSV and plain prompts: lines become raw rows, with problems in their places."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple, NoReturn, cast

from apixo_async._cli.rows.formats import LONGEST, Format, Problem, TextLine


class Raw(NamedTuple):
    """What one row says.

    Attributes:
        line: Where it begins.
        fields: Its values by name; the cells of a CSV file as they stand, empty ones left out.
    """

    line: int
    fields: Mapping[str, object]


Lines = Iterable[TextLine | Problem]


def read(form: Format, lines: Lines) -> Iterator[Raw | Problem]:
    """Yield the rows of a file in order; after a bad one, go on with the next."""
    return _READERS[form](lines)


# --- JSON Lines ------------------------------------------------------------------------------


def _json_lines(lines: Lines) -> Iterator[Raw | Problem]:
    for line in lines:
        if isinstance(line, Problem):
            yield line
        elif line.text.strip():
            yield _object(line)


def _object(line: TextLine) -> Raw | Problem:
    try:
        value: object = json.loads(
            line.text, object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
    except json.JSONDecodeError as error:
        return Problem(line.number, _json_fault(error))
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


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _json_fault(error: json.JSONDecodeError) -> str:
    if error.pos >= len(error.doc.rstrip()):
        return "the JSON object does not end on this line; JSON Lines has one object a line"
    return f"broken JSON at character {error.pos + 1:,}: {error.msg}"


# --- plain prompts ---------------------------------------------------------------------------


def _prompts(lines: Lines) -> Iterator[Raw | Problem]:
    for line in lines:
        if isinstance(line, Problem):
            yield line
        elif prompt := line.text.strip():
            if "\r" in prompt:
                yield Problem(line.number, "a carriage return inside; end lines with LF or CR LF")
            else:
                yield Raw(line.number, {"prompt": prompt})


# --- CSV -------------------------------------------------------------------------------------

#: What a column may be called: it keeps a row from being taken for the header.
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


class _BadLineError(Exception):
    """Inside of a CSV row, a line is no text; the problem is its argument."""


class _Feed:
    """Hands lines to csv.reader, and remembers where its row began."""

    __slots__ = ("_lines", "_size", "begun_at", "number")

    def __init__(self, lines: Lines) -> None:
        self._lines = iter(lines)
        self._size = self.number = 0
        self.begun_at = 1

    def begin_row(self) -> None:
        """Note that the next line begins a row."""
        self.begun_at = self.number + 1
        self._size = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        if isinstance(line, Problem):
            raise _BadLineError(line)
        self._size += len(line.text)
        if self._size > LONGEST:
            raise csv.Error(f"a row of more than {LONGEST:,} characters")
        return line.text


def _table(lines: Lines) -> Iterator[Raw | Problem]:
    records = _records(lines)
    for head in records:
        if isinstance(head, Problem):
            yield head
            return
        names = [name.strip() for name in head[1]]
        if fault := _head_fault(names):
            yield Problem(head[0], fault)
            return
        for record in records:
            yield record if isinstance(record, Problem) else _named(*record, names)


def _records(lines: Lines) -> Iterator[tuple[int, list[str]] | Problem]:
    feed = _Feed(lines)
    reader = csv.reader(feed, strict=True)
    while True:
        feed.begin_row()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Problem(
                feed.begun_at,
                f"broken CSV ({error}); is each quote closed, and each"
                " one inside of a cell doubled?",
            )
        except _BadLineError as error:
            yield cast("Problem", error.args[0])
        else:
            if any(cell.strip() for cell in cells):
                yield feed.begun_at, cells


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


def _named(line: int, cells: list[str], names: list[str]) -> Raw | Problem:
    if len(cells) != len(names):
        return Problem(
            line,
            f"{len(cells)} cells; the header names {len(names)} columns (a comma"
            " inside of a cell needs quotes around the cell)",
        )
    given = {name: cell for name, cell in zip(names, cells, strict=True) if cell.strip()}
    if "" in given:
        return Problem(line, f"{given['']!r:.60} stands in a column without a name")
    return Raw(line, given)


_READERS: Final[Mapping[Format, Callable[[Lines], Iterator[Raw | Problem]]]] = {
    Format.JSONL: _json_lines,
    Format.CSV: _table,
    Format.PLAIN: _prompts,
}

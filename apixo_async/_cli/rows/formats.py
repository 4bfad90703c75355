"""The lines of a file of rows, and which format they have."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from apixo_async import ConfigurationError

#: Bytes of a line; the longest prompt that any model takes needs a quarter of it when escaped.
LONGEST: Final = 1 << 20

_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class TextLine(NamedTuple):
    """One line of a file, counted from 1, with its end."""

    number: int
    text: str


class Problem(NamedTuple):
    """What is wrong, or doubtful, in the row that begins in a line."""

    line: int
    why: str

    def __str__(self) -> str:
        return f"line {self.line:,}: {self.why}"


def lines(file: BinaryIO) -> Iterator[TextLine | Problem]:
    """Yield the lines of a file, one in memory at a time. A byte order mark is left out."""
    number = 0
    while raw := file.readline(LONGEST + 1):
        number += 1
        if number == 1 and raw.startswith(_UTF_16):
            yield Problem(1, "this is UTF-16; save the file as UTF-8")
            return
        if len(raw) > LONGEST:
            _skip_rest(file, raw)
            yield Problem(number, f"longer than {LONGEST:,} bytes; is each row on its own line?")
        else:
            yield _decoded(number, raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw)


def _skip_rest(file: BinaryIO, raw: bytes) -> None:
    while raw and not raw.endswith(b"\n"):
        raw = file.readline(LONGEST)


def _decoded(number: int, raw: bytes) -> TextLine | Problem:
    if (place := raw.find(0)) >= 0:
        return Problem(
            number, f"byte {place + 1:,} is a NUL; text holds none: is this a text file?"
        )
    try:
        return TextLine(number, raw.decode())
    except UnicodeDecodeError as error:
        byte = f"byte {error.start + 1:,} (0x{raw[error.start]:02x})"
        return Problem(number, f"{byte} is no UTF-8; save the file as UTF-8")


class Format(StrEnum):
    """How rows are written."""

    JSONL = "jsonl"
    CSV = "csv"
    PLAIN = "plain"

    @property
    def suffix(self) -> str:
        """The end of a file's name that stands for it."""
        return ".txt" if self is Format.PLAIN else f".{self.value}"


_OF_SUFFIX: Final[Mapping[str, Format]] = {
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".csv": Format.CSV,
    ".tsv": Format.CSV,  # whose header is then told to have commas
    ".txt": Format.PLAIN,
}
_UNREADABLE: Final[Mapping[str, str]] = {
    **dict.fromkeys((".xlsx", ".xls", ".ods", ".numbers"), "save the sheet as CSV, in UTF-8"),
    **dict.fromkeys((".gz", ".zip", ".bz2", ".xz", ".zst"), "unpack it first"),
    **dict.fromkeys((".parquet", ".feather", ".pkl"), "save the rows as JSON Lines or CSV"),
}

_ARRAY: Final = re.compile(r"\s*\[\s*([{\]]|$)")
_HEADER: Final = re.compile(
    r'\s*"?prompt"?\s*[,;\t]|.*[,;\t]\s*"?prompt"?\s*([,;\t]|$)|\s*prompt\s*$'
)
#: Characters of a line that are looked at for a header: the time grows with their square.
_HEAD: Final = 1_000
_JSON_LINES: Final = (
    'python -c "import json,sys; [print(json.dumps(row)) for row in json.load(sys.stdin)]"'
)


def find_format(path: Path, name: str, wanted: Format | None) -> Format:
    """Return the format of a file: as wanted, by the name's end, or by the first line.

    Args:
        path: The file.
        name: What the person knows it by, whose end counts; "-" for stdin.
        wanted: The format that was asked for, or None.

    Raises:
        ConfigurationError: Rows cannot be read from it as it is.
        OSError: The file cannot be read.
    """
    suffix = Path(name).suffix.lower()
    if wanted is None and suffix in _UNREADABLE:
        raise ConfigurationError(f"{name}: rows are not read from *{suffix}: {_UNREADABLE[suffix]}")
    known = wanted or _OF_SUFFIX.get(suffix)
    if known is Format.CSV or known is Format.PLAIN:
        return known
    with path.open("rb") as file:
        first = _first_line(file)
    if _ARRAY.match(first):
        raise ConfigurationError(
            f"{name} is one JSON array; rows are JSON Lines, an object a line. To make them:"
            f" {_JSON_LINES} < array.json > rows.jsonl"
        )
    return known or _sniffed(first, name)


def _first_line(file: BinaryIO) -> str:
    texts = (line.text if isinstance(line, TextLine) else "?" for line in lines(file))
    return next((text for text in texts if text.strip()), "")


def _sniffed(first: str, name: str) -> Format:
    if first.lstrip().startswith("{"):
        return Format.JSONL
    if _HEADER.match(first[:_HEAD]):
        raise ConfigurationError(
            f"{name}: the first line looks like the header of a CSV file: give --format csv, or"
            " --format plain to take each line for a prompt"
        )
    return Format.PLAIN

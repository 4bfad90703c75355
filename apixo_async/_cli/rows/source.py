"""The file of rows: its lines, its format, and the copy of what comes through a pipe."""

from __future__ import annotations

import codecs
import hashlib
import os
import re
import stat
import sys
import tempfile
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
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(LONGEST)
            yield Problem(number, f"longer than {LONGEST:,} bytes; is each row on its own line?")
        else:
            yield _decoded(number, raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw)


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
    ".tsv": Format.CSV,  # its header is refused with the reason: it has no commas
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

    `name` is what the person knows the file by, and its end counts; "-" is stdin.
    """
    suffix = Path(name).suffix.lower()
    if wanted is None and suffix in _UNREADABLE:
        raise ConfigurationError(f"{name}: rows are not read from *{suffix}: {_UNREADABLE[suffix]}")
    known = wanted or _OF_SUFFIX.get(suffix)
    if known is Format.CSV or known is Format.PLAIN:
        return known
    with path.open("rb") as file:
        texts = (line.text if isinstance(line, TextLine) else "?" for line in lines(file))
        first = next((text for text in texts if text.strip()), "")
    if _ARRAY.match(first):
        raise ConfigurationError(
            f"{name} is one JSON array; rows are JSON Lines, an object a line. To make them:"
            f" {_JSON_LINES} < array.json > rows.jsonl"
        )
    if known:
        return known
    if first.lstrip().startswith("{"):
        return Format.JSONL
    if _HEADER.match(first[:_HEAD]):
        raise ConfigurationError(
            f"{name}: the first line looks like the header of a CSV file: give --format csv, or"
            " --format plain to take each line for a prompt"
        )
    return Format.PLAIN


_CHUNK: Final = 1 << 20


class RowsSource(NamedTuple):
    """A file of rows."""

    #: The file to read: the one that was given, or a copy of what came through a pipe.
    path: Path
    name: str
    format: Format
    is_copy: bool = False


class Stamp(NamedTuple):
    """What changes when a file is written to."""

    size: int
    changed: int

    @classmethod
    def of(cls, file: BinaryIO) -> Stamp:
        """Return the stamp of an open file as it is now."""
        found = os.fstat(file.fileno())
        return cls(found.st_size, found.st_mtime_ns)


def find_source(given: str, out: Path, wanted: Format | None = None) -> RowsSource:
    """Return the file to read rows from.

    What can be read only once, stdin and other pipes, is first copied into `out`, under a name
    made of its content: the same rows go to the same file, and other rows overwrite nothing.

    `out` is made if it is missing and a copy is needed.
    """
    if given == "-":
        if sys.stdin.isatty():
            raise ConfigurationError("stdin is a terminal: pipe rows into it, or give a file")
        return _copied(sys.stdin.buffer, "stdin", out, wanted)
    path = Path(given)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ConfigurationError(f"{given} is a directory; give a file of rows")
        with path.open("rb") as file:
            if not stat.S_ISREG(mode):
                return _copied(file, given, out, wanted)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{given}: there is no such file; give a file of rows, or - for stdin"
        ) from error
    except PermissionError as error:
        raise ConfigurationError(f"{given}: you may not read this file") from error
    return RowsSource(path, given, find_format(path, given, wanted))


def _copied(stream: BinaryIO, name: str, out: Path, wanted: Format | None) -> RowsSource:
    out.mkdir(parents=True, exist_ok=True)
    number, part = tempfile.mkstemp(prefix=".rows-", suffix=".part", dir=out)
    digest = hashlib.blake2b(digest_size=6)
    try:
        with os.fdopen(number, "wb") as file:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())  # A run that is bought from it is resumed from it.
        if not Path(part).stat().st_size:
            raise ConfigurationError(f"{name} is empty: no rows came through it")
        form = find_format(Path(part), name, wanted)
        path = out / f"rows-{digest.hexdigest()}{form.suffix}"
        Path(part).replace(path)
    finally:
        Path(part).unlink(missing_ok=True)
    return RowsSource(path, name, form, is_copy=True)

"""The lines of a file of rows: bytes become text, and what is no text becomes a problem."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

#: Bytes of a line; the longest prompt that any model takes needs a quarter of it when escaped.
LONGEST: Final = 1 << 20

_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Line(NamedTuple):
    """One line of a file, counted from 1, with its end."""

    number: int
    text: str


class Problem(NamedTuple):
    """What is wrong, or doubtful, in the row that begins in a line."""

    line: int
    why: str

    def __str__(self) -> str:
        return f"line {self.line:,}: {self.why}"


def lines(file: BinaryIO) -> Iterator[Line | Problem]:
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


def _decoded(number: int, raw: bytes) -> Line | Problem:
    if (place := raw.find(0)) >= 0:
        return Problem(
            number, f"byte {place + 1:,} is a NUL; text holds none: is this a text file?"
        )
    try:
        return Line(number, raw.decode())
    except UnicodeDecodeError as error:
        byte = f"byte {error.start + 1:,} (0x{raw[error.start]:02x})"
        return Problem(number, f"{byte} is no UTF-8; save the file as UTF-8")

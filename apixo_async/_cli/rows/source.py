"""Where rows come from: a file that can be read twice, made of stdin or a pipe where need be."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from apixo_async import ConfigurationError
from apixo_async._cli.rows.formats import Format, find_format

_CHUNK: Final = 1 << 20


class RowsSource(NamedTuple):
    """A file of rows.

    Attributes:
        path: The file to read: the one that was given, or a copy of what came through a pipe.
        name: What the person knows it by.
        format: How its rows are written.
        is_copy: Whether it was made from a pipe.
    """

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

    Args:
        given: A path, or "-" for stdin.
        out: The folder of the run; made where missing when a copy is needed.
        wanted: The format that was asked for, or None.

    Raises:
        ConfigurationError: Rows cannot be read from it; the message says what to do.
        OSError: The copy cannot be written.
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
    try:
        with os.fdopen(number, "wb") as file:
            digest = _copy(stream, file)
        if not Path(part).stat().st_size:
            raise ConfigurationError(f"{name} is empty: no rows came through it")
        form = find_format(Path(part), name, wanted)
        path = out / f"rows-{digest}{form.suffix}"
        Path(part).replace(path)
    finally:
        Path(part).unlink(missing_ok=True)
    return RowsSource(path, name, form, is_copy=True)


def _copy(stream: BinaryIO, file: BinaryIO) -> str:
    digest = hashlib.blake2b(digest_size=6)
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
        file.write(chunk)
    file.flush()
    os.fsync(file.fileno())  # a run that is bought from it is resumed from it
    return digest.hexdigest()

"""Writing a file so that at every moment either the old one or the new one is there, whole."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO


class ReportError(OSError):
    """A file of the report could not be written; `filename` says which."""


class Draft:
    """An unfinished file beside the one that it is to replace."""

    __slots__ = ("_file", "_path")

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file

    def write(self, data: bytes) -> None:
        """Append to the draft."""
        with _named(self._path):
            self._file.write(data)


@contextlib.contextmanager
def replacing(path: Path) -> Generator[Draft]:
    """Open a draft that takes the place of `path` once it is whole and durable.

    Only its owner can read it, where the system knows such modes. Until then, and if anything goes
    wrong, an old file stays as it was.

    Raises:
        ReportError: The disk is full, the directory is read-only, and so on.
    """
    place = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    with _named(path):
        # It holds prompts, and URLs that are all it takes to download.
        place.touch(0o600, exist_ok=False)
    try:
        with _named(path):
            file = place.open("wb", buffering=1 << 18)
        try:
            yield Draft(path, file)
            with _named(path):
                file.flush()
                os.fsync(file.fileno())
        finally:
            # Closing writes what is left, which fails on a full disk just as well.
            with contextlib.suppress(OSError):
                file.close()
        with _named(path):
            place.replace(path)
            # Windows opens no directories: there the rename alone must do.
            with contextlib.suppress(OSError):
                directory = os.open(path.parent, os.O_RDONLY)
                try:
                    os.fsync(directory)
                finally:
                    os.close(directory)
    finally:
        with contextlib.suppress(OSError):
            place.unlink()


@contextlib.contextmanager
def _named(path: Path) -> Generator[None]:
    # A full disk names no file, a read-only directory only the draft.
    try:
        yield
    except OSError as exc:
        words = f"the report was not written: {exc.strerror or exc}"
        raise ReportError(exc.errno, words, str(path)) from exc

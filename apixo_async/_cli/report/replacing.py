"""Writing a file so that at every moment either the old one or the new one is there, whole."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Generator
from pathlib import Path


class ReportError(OSError):
    """A file of the report could not be written; `filename` says which."""


@contextlib.contextmanager
def replacing(path: Path) -> Generator[Draft]:
    """Open a draft that takes the place of `path` once it is whole and durable.

    Only its owner can read it, where the system knows such modes.

    Until then, and if anything goes wrong, an old file stays as it was.

    Raises:
        ReportError: The disk is full, the directory is read-only, and so on.
    """
    draft = Draft(path)
    try:
        yield draft
        draft.finish()
    finally:
        draft.discard()


class Draft:
    """An unfinished file beside the one that it is to replace."""

    __slots__ = ("_file", "_path", "_place")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
        with _named(path):
            # It holds prompts, and URLs that are all it takes to download.
            self._place.touch(0o600, exist_ok=False)
            self._file = self._place.open("wb", buffering=1 << 18)

    def write(self, data: bytes) -> None:
        """Append to the draft."""
        with _named(self._path):
            self._file.write(data)

    def finish(self) -> None:
        """Make the draft durable, and put it in its place."""
        with _named(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._place.replace(self._path)
            _sync(self._path.parent)

    def discard(self) -> None:
        """Remove the draft, unless it is in its place."""
        # Closing writes what is left, which fails on a full disk just as well.
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._place.unlink()


@contextlib.contextmanager
def _named(path: Path) -> Generator[None]:
    # A full disk names no file, a read-only directory only the draft.
    try:
        yield
    except OSError as exc:
        words = f"the report was not written: {exc.strerror or exc}"
        raise ReportError(exc.errno, words, str(path)) from exc


def _sync(directory: Path) -> None:
    # Windows opens no directories: there the rename alone must do.
    with contextlib.suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

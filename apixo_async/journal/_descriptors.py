"""Descriptors with which a journal is read in a process that may be writing it.

By POSIX a process that closes any descriptor of a file loses all `fcntl` locks that it has on that
file, SQLite's included. So a descriptor of a file that this process writes is not closed before
the writer is done: it is kept here, and used again by the next reader.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_guard: Final = threading.Lock()
_writers: Final = Counter[Path]()
_idle: Final[dict[Path, list[int]]] = {}


def began_writing(file: Path) -> None:
    """Note that this process writes a file, before SQLite locks it.

    Args:
        file: Absolute, without symbolic links.
    """
    with _guard:
        _writers[file] += 1


def ended_writing(file: Path) -> None:
    """Note that a writer has closed a file, and close what was kept open for its sake."""
    with _guard:
        _writers[file] -= 1
        if not _writers[file]:
            del _writers[file]
            for descriptor in _idle.pop(file, ()):
                os.close(descriptor)


def is_written(file: Path) -> bool:
    """Return True if this process has a file open for writing."""
    with _guard:
        return file in _writers


@contextmanager
def reading(file: Path) -> Generator[int]:
    """Open a file for reading; no lock that this process has on it ends.

    Args:
        file: Absolute, without symbolic links.

    Raises:
        OSError: It cannot be opened.
    """
    with _guard:
        kept = _idle.get(file)
        descriptor = kept.pop() if kept else None
    if descriptor is None:
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        yield descriptor
    finally:
        with _guard:
            if file in _writers:
                _idle.setdefault(file, []).append(descriptor)
            else:
                os.close(descriptor)

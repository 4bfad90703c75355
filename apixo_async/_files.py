"""Replacing a file so that, at every moment, the old one or the new one is there and whole."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import IO, Final

#: Characters of a name that its draft's name repeats: file systems take names of 255 bytes, and a
#: character may have four.
STEM: Final = 32


def draft_name(stem: str) -> str:
    """Return a new name for an unfinished file: hidden, and ending in `.part`."""
    return f".{stem[:STEM]}.{secrets.token_hex(6)}.part"


def put_in_place(file: IO[bytes], draft: Path, path: Path) -> None:
    """Make a draft durable under its final name, in the place of any file of that name; close it.

    Args:
        file: The draft, open and flushed.
        draft: Its path, in the directory of `path`: a rename within one directory is atomic.
        path: The final name.

    Raises:
        OSError: The disk is full, the directory is read-only, and so on. The old file is as it was.
    """
    # Before the rename: else a crash may leave the final name with an empty file.
    os.fsync(file.fileno())
    if (
        os.name == "nt"
    ):  # Windows renames no open file. Elsewhere the draft's lock lasts until then.
        file.close()
    draft.replace(path)
    file.close()
    # The rename itself is durable once its directory is. Windows opens no directories.
    with contextlib.suppress(OSError):
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

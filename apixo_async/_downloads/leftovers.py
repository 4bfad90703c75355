"""The names of unfinished files, and how those of killed processes are told from living ones."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import secrets
import sys
from pathlib import Path
from typing import Final

_STEM: Final = 32  # characters; names of 255 bytes leave no room for more
_NAME: Final = re.compile(rf"\..{{1,{_STEM}}}\.[0-9a-f]{{12}}\.part", re.DOTALL)


def name_of(stem: str) -> str:
    """Return a name for an unfinished file: hidden, its own, and known to `sweep`."""
    return f".{stem[:_STEM]}.{secrets.token_hex(6)}.part"


def _lock(file: io.FileIO) -> None:
    try:
        import fcntl
    except ImportError:  # Windows has none: there nobody can remove a file that is open.
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP)) from None
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def hold(file: io.FileIO, path: Path) -> bool:
    """Hold a new file until it is closed; return False if a sweep took it in that moment."""
    try:
        _lock(file)
    except BlockingIOError:
        return False
    except OSError:
        return True  # no locks here: a sweep removes nothing, or nothing that is open
    return path.exists()


def sweep(directory: Path) -> None:
    """Remove the unfinished files that nobody holds; the system lets go of a killed process's."""
    with contextlib.suppress(OSError, ValueError), os.scandir(directory) as entries:
        for entry in entries:
            if _NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                _remove_dead(Path(entry.path))


def _remove_dead(path: Path) -> None:
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            path.unlink()
        else:
            with path.open("r+b", buffering=0) as file:
                _lock(file)
                path.unlink()

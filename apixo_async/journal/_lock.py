"""A lock on a file beside the journal, held for the whole run.

SQLite's own lock ends when anything in the same process opens the journal and closes it again, as
a copy does: that is how POSIX locks work. `flock` belongs to one descriptor.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from apixo_async.journal._failures import PATIENCE, as_sqlite

#: Seconds between two attempts.
_PAUSE: Final = 0.02

#: What a file system answers that has no such locks.
_UNSUPPORTED: Final = frozenset((errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS))


class FileLock:
    """The lock of one journal; only one holder at a time, in this process or any other.

    Args:
        path: The file to lock, without symbolic links; made here, and removed by `release`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> str | None:
        """Take the lock, waiting for up to `PATIENCE` seconds.

        Returns:
            What to warn of where there are no such locks, otherwise None.

        Raises:
            sqlite3.Error: Another run holds it.
            OSError: The file cannot be made.
        """
        until = time.monotonic() + PATIENCE
        try:
            while not self._try():
                if time.monotonic() > until:
                    raise as_sqlite(sqlite3.SQLITE_BUSY, f"{self._path.name} is locked")
                time.sleep(_PAUSE)
        except ImportError:
            # Windows, where SQLite's own lock belongs to its handle, and stays.
            return (
                "this system has neither `flock` nor modes of files: SQLite's lock "
                "keeps a second run out, and only the folder's permissions keep the prompts from "
                "others. Keep the journal in a folder that is yours alone"
            )
        except OSError as exc:
            if exc.errno not in _UNSUPPORTED:
                raise
            self._path.unlink(missing_ok=True)
            return (
                f"its file system refuses to lock {self._path.name} ({exc.strerror}): another run "
                "may get in once this program copies or reads the journal. Do not touch the "
                "journal before the run has ended, or keep it on a local disk"
            )
        return None

    def _try(self) -> bool:
        import fcntl  # Windows has none.

        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The last holder may have removed the file between the two calls.
            if self._is_at_its_path(descriptor):
                self._descriptor = descriptor
                _held.add(self)
        except BlockingIOError:
            pass
        finally:
            if self._descriptor is None:
                os.close(descriptor)
        return self._descriptor is not None

    def release(self) -> None:
        """Remove the file and give the lock back, if it is held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        _held.discard(self)
        # First removed, then unlocked: another run never locks a file that is about to go.
        with suppress(OSError):
            if self._is_at_its_path(descriptor):  # The directory may be another one by now.
                self._path.unlink()
        os.close(descriptor)

    def forget(self) -> None:
        """Close the descriptor in a forked child: the lock ends with its process, not with ours."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _is_at_its_path(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            return False


def is_locked(path: Path) -> bool:
    """Return True if a run holds the lock of a journal; False where the system has no such locks.

    The lock is shared for an instant to find out; a run that begins just then tries again.

    Args:
        path: The file to lock, as `FileLock` is given it.
    """
    try:
        import fcntl  # Windows has none.

        descriptor = os.open(path, os.O_RDONLY)
    except (ImportError, OSError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as exc:
        return exc.errno not in _UNSUPPORTED
    finally:
        os.close(descriptor)
    return False


_held: Final[set[FileLock]] = set()


def _forget_all() -> None:
    while _held:
        _held.pop().forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)

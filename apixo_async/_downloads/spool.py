"""A file of a result in memory, or in a temporary file once it is large."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO, Final, cast

from apixo_async._downloads.files import check_size, examine, off_loop, on_disk
from apixo_async._media import Media
from apixo_async.errors import DownloadError

_CHUNK: Final = 262_144  # bytes that an iteration yields at most


def _in_words() -> AbstractContextManager[object]:
    # Without a place for temporary files `gettempdir` raises, and a file in memory needs none.
    return on_disk(Path(tempfile.tempdir or "TMPDIR"))


class ByteAllowance:
    """The bytes that several files may have in memory together.

    Args:
        limit: How many.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._lock = threading.Lock()  # Files are written in worker threads.

    def take(self, count: int) -> None:
        """Count bytes in, or out if there are less than none.

        Raises:
            DownloadError: There would be too many.
        """
        with self._lock:
            if self._used + count > self._limit:
                raise DownloadError(
                    f"the files of the result are larger than max_total={self._limit} together; "
                    "`stream` or `download` them"
                )
            self._used += count


class Spool:
    """What a file is received into; every method but `discard` may block.

    Args:
        in_memory: Bytes from which on it is a temporary file; 0 keeps all in memory.
        allowance: What it shares with others, or None.

    Attributes:
        size: Bytes written so far.
    """

    def __init__(self, in_memory: int, allowance: ByteAllowance | None = None) -> None:
        self._in_memory = in_memory
        self._allowance = allowance
        self._file: IO[bytes] | None = None
        self.size = 0

    def find_whole(self, _created_at: datetime | None) -> None:
        """Find nothing: no earlier download left anything here."""

    def open(self) -> None:
        """Create the file; an open one stays as it is."""
        if self._file is None:
            made = tempfile.SpooledTemporaryFile(self._in_memory)  # noqa: SIM115  # until `discard`
            self._file = cast("IO[bytes]", made)

    def write(self, pieces: Iterable[bytes], max_bytes: int) -> None:
        """Append pieces, each counted before it is written."""
        for piece in pieces:
            check_size(self.size + len(piece), max_bytes)
            if self._allowance is not None:
                self._allowance.take(len(piece))
            self.size += len(piece)
            with _in_words():
                self._opened().write(piece)

    def restart(self) -> None:
        """Remove what was written."""
        with _in_words():
            self._opened().seek(0)
            self._opened().truncate()
        self._give_back()

    def examine(self) -> tuple[Media, bool]:
        """Return the type of what has been written, and whether it is whole."""
        return examine(self._opened(), self.size)

    def finish(self, media: Media) -> Media:
        """Go to the beginning: the file is whole, and may be read."""
        self._opened().seek(0)
        return media

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, at most `size`; all that are left if that is negative."""
        with _in_words():
            return self._opened().read(size)

    def take_content(self) -> bytes:
        """Return the bytes that are left, which stay counted: the caller has them from now on."""
        self._allowance = None
        return self.read()

    def discard(self) -> None:
        """Close the file, which removes it."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
            self._give_back()

    def _give_back(self) -> None:
        if self._allowance is not None:
            self._allowance.take(-self.size)
        self.size = 0

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            raise RuntimeError("the file is closed: read it within its `async with`")
        return self._file


class FileStream:
    """A file of a result to be passed on: iterate over it, or call `read`.

    Everything is known before the first byte, and the file is whole: it was received before.

    Attributes:
        name: The name that `download` gives it: `{task id}-{number}.{extension}`.
        media_type: Its type by its bytes, such as "image/png"; else "application/octet-stream".
        size: Its bytes.
        url: Where it came from.
    """

    def __init__(self, spool: Spool, stem: str, media: Media, url: str) -> None:
        self.name = f"{stem}.{media.extension}"
        self.media_type = media.media_type
        self.size = spool.size
        self.url = url
        self._spool = spool

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield what was not read yet, in chunks of at most 256 KiB."""
        while chunk := await self.read(_CHUNK):
            yield chunk

    async def read(self, size: int = -1) -> bytes:
        """Return the next bytes, at most `size`, or all that are left; b"" after the last.

        Raises:
            RuntimeError: The `async with` of the stream is over.
        """
        return await off_loop(partial(self._spool.read, size))

    def __repr__(self) -> str:
        return f"<FileStream {self.name} {self.media_type} {self.size} bytes>"

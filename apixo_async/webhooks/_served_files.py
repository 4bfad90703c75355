"""Answers to requests for shared files: whole or one range, read in threads, sent in chunks."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from typing import Final, Self

import anyio.to_thread

from apixo_async._media import Media
from apixo_async.webhooks._shared_files import SharedFiles

#: Bytes that are read and sent at once.
_CHUNK: Final = 256 * 1024

_RANGE: Final = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{1,18})?|-([0-9]{1,18}))")

#: Not waited for: a name could be that of a pipe. Not followed: a link could lead anywhere.
_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_BINARY", 0)
)


@dataclass(frozen=True, slots=True)
class SentPart:
    """What of a file is sent.

    Attributes:
        status: 200, 206 or 416.
        start: The first byte.
        length: How many.
        content_range: The header of that name, or None.
    """

    status: int
    start: int
    length: int
    content_range: str | None = None


def part_of(size: int, wanted: str | None) -> SentPart:
    """Return what of a file answers a `Range` header (RFC 9110, 14.2).

    Several ranges, and what is none, are answered with the whole.
    """
    found = _RANGE.fullmatch(wanted.strip()) if wanted else None
    if found is None:
        return SentPart(200, 0, size)
    first, last, suffix = found.groups()
    start = int(first) if first else max(0, size - int(suffix))
    end = size if last is None else min(size, int(last) + 1)
    if first and last and int(last) < int(first):
        return SentPart(200, 0, size)  # That is no range.
    if start >= size:
        return SentPart(416, 0, 0, f"bytes */{size}")
    return SentPart(206, start, end - start, f"bytes {start}-{end - 1}/{size}")


class FileAnswer:
    """The answer to one request for a shared file; used as a context, which closes the file.

    Attributes:
        status: Of the answer.
        headers: Of the answer, in lower case.
    """

    def __init__(self, content: BufferedReader, name: str, part: SentPart) -> None:
        self._content = content
        self._part = part
        self.status = part.status
        extension = name.rpartition(".")[2]
        self.headers = {
            "content-type": Media("", extension).media_type,
            "content-length": str(part.length),
            "accept-ranges": "bytes",
            "etag": _tag(name),
            "cache-control": "private",
            "x-content-type-options": "nosniff",
            # An SVG of somebody's runs no script on this host.
            "content-security-policy": "default-src 'none'; sandbox",
        }
        if part.content_range is not None:
            self.headers["content-range"] = part.content_range

    @classmethod
    async def to(
        cls, files: SharedFiles, name: str, *, wanted: str | None, if_range: str | None
    ) -> Self | None:
        """Return the answer to a GET or HEAD, or None where there is no such file.

        Args:
            files: Those that are shared.
            name: The last part of the path.
            wanted: The header `Range`, or None.
            if_range: The header `If-Range`, or None.
        """
        # First without a thread: what is forged costs nothing.
        if files.path_of(name) is None:
            return None
        opened = await anyio.to_thread.run_sync(_open, files, name)
        if opened is None:
            return None
        content, size = opened
        is_same = if_range is None or if_range.strip() == _tag(name)
        return cls(content, name, part_of(size, wanted if is_same else None))

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the content.

        Raises:
            OSError: There is less of it than there was: the connection has to be cut.
        """
        at, left = self._part.start, self._part.length
        while left:
            chunk = await anyio.to_thread.run_sync(self._read, at, min(left, _CHUNK))
            if not chunk:
                raise OSError("a shared file was cut while it was sent")
            yield chunk
            at, left = at + len(chunk), left - len(chunk)

    def _read(self, at: int, size: int) -> bytes:
        self._content.seek(at)
        return self._content.read(size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._content.close()


def _tag(name: str) -> str:
    return f'"{name.split("-")[2]}"'  # the SHA-256


def _open(files: SharedFiles, name: str) -> tuple[BufferedReader, int] | None:
    path = files.path_of(name)
    with suppress(OSError):
        if path is not None:
            # A file object, and no number: a request that is cancelled closes it while it is read.
            content = os.fdopen(os.open(path, _FLAGS), "rb")
            found = os.fstat(content.fileno())
            if stat.S_ISREG(found.st_mode):
                return content, found.st_size
            content.close()
    return None

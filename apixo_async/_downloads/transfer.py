"""The body of one file: how it comes in, how it is decoded, and how it goes on after a break."""

from __future__ import annotations

import re
import zlib
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias, cast

import httpx2

from apixo_async._downloads.files import Part, check_size, off_loop
from apixo_async._downloads.media import ERROR_PAGE
from apixo_async._downloads.source import Again, failure
from apixo_async.errors import DownloadError

#: Bytes that are handed to a worker thread at once, and that one inflated piece may have.
BATCH: Final = 1_048_576

#: How often a file may come in full without being whole, until that is believed.
_SPOILED: Final = 3

_PLAIN: Final = frozenset({"", "identity"})
_INFLATED: Final = frozenset({"gzip", "x-gzip", "deflate"})
_ZLIB_OR_GZIP: Final = 32 + zlib.MAX_WBITS
_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_LENGTH: Final = re.compile(r"\d{1,18}", re.ASCII)
#: What may stand in a header of a request; servers send other tags, too.
_SENDABLE: Final = re.compile(r"[\x20-\x7e]+")

#: What to do with a body: add it to what is there, take it from its beginning, or ask again.
Use: TypeAlias = Literal["append", "anew", "useless"]


class Transfer:
    """What is known of a file from one try to the next.

    Attributes:
        total: Its bytes, or None.
        end: How many it has at most with the body that comes, by the answer's head, or None.
        spoiled: How often as many came, and yet the file was not whole.
        encoded: Whether the body came compressed; such a one is not resumed.
    """

    def __init__(self) -> None:
        self.total: int | None = None
        self.end: int | None = None
        self.encoded = False
        self.spoiled = 0
        self._validator: str | None = None

    def conditions(self, size: int) -> dict[str, str]:
        """Return the headers that ask for what is missing behind `size` bytes, if that is safe.

        Without a validator nothing would tell whether the parts are of one file: two versions
        may be of one length.
        """
        if not size or self._validator is None:
            return {}
        return {"Range": f"bytes={size}-", "If-Range": self._validator}

    def admit(self, response: httpx2.Response, size: int) -> Use:
        """Learn from an answer, and say what its body is good for.

        Raises:
            DownloadError: It is compressed in a way that was not asked for and is not known.
        """
        if response.status_code == 206:
            return "append" if self._goes_on(response.headers, size) else "useless"
        if response.status_code == 416:
            return "useless"
        encoding = _encoding(response.headers)
        if encoding not in _PLAIN | _INFLATED:
            raise DownloadError(f"it came with Content-Encoding {encoding!r}, asked for as it is")
        self.encoded = encoding in _INFLATED
        length = response.headers.get("content-length", "")
        plain = not self.encoded
        self.total = self.end = int(length) if plain and _LENGTH.fullmatch(length) else None
        self._validator = _validator(response.headers) if plain else None
        return "anew"

    def _goes_on(self, headers: httpx2.Headers, size: int) -> bool:
        found = _RANGE.fullmatch(headers.get("content-range", "").strip())
        if found is None or int(found[1]) != size or _encoding(headers) not in _PLAIN:
            return False
        if _validator(headers) not in (None, self._validator):
            return False
        total = self.total if found[3] == "*" else int(found[3])
        if self.total not in (None, total):
            return False
        end = int(found[2]) + 1
        if end <= size or (total is not None and end > total):
            return False
        self.total, self.end = total, end
        return True


class Inflater:
    """Decode gzip or zlib in pieces of at most `BATCH` bytes, however far they expand."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(_ZLIB_OR_GZIP)

    @property
    def ended(self) -> bool:
        """Whether the end of the compressed data has come."""
        return self._decoder.eof

    def pieces(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Decode chunks, one piece at a time."""
        try:
            for chunk in chunks:
                if self.ended:
                    return  # zlib would hoard whatever comes behind the end
                rest = chunk
                while piece := self._decoder.decompress(rest, BATCH):
                    rest = self._decoder.unconsumed_tail
                    yield piece
        except zlib.error as exc:
            raise Again(f"its compressed data are broken ({exc})") from exc


async def receive(
    response: httpx2.Response,
    part: Part,
    *,
    encoded: bool,
    max_bytes: int,
    end: int | None = None,
) -> None:
    """Append a body to a file, as far as it comes; the file then has `end` bytes at most.

    Raises:
        Again: It broke off, cannot be decoded, or was longer; then nothing of the file is kept.
        DownloadError: It is larger than allowed, or cannot be written.
    """
    inflater = Inflater() if encoded else None
    received = 0
    async with aclosing(_batches(response)) as batches:
        async for batch in batches:
            received += sum(map(len, batch))
            check_size(received, max_bytes)
            pieces = batch if inflater is None else inflater.pieces(batch)
            await off_loop(partial(part.write, pieces, max_bytes))
            if end is not None and part.size > end:
                await off_loop(part.restart)
                raise Again(f"more came than the {end} bytes that were announced")
    if inflater is not None and not inflater.ended:
        raise Again("its compressed data end early")


async def finish(part: Part, transfer: Transfer) -> Path:
    """Give a file its own name when it is whole.

    Raises:
        Again: It is not; what is there is kept, where a next try can go on behind it.
        DownloadError: It came in full again and again, and is not whole.
    """
    total = transfer.total
    if total is not None and part.size < total:
        raise Again(f"it ended after {part.size} of {total} bytes")
    media, whole = await off_loop(part.examine)
    if media is ERROR_PAGE:
        await off_loop(part.restart)
        raise Again("an HTML page or another error text came in its place")
    if whole:
        return await off_loop(partial(part.finish, media))
    words = f"it ended after {part.size} bytes, before the end of a {media.name}"
    if total is not None:
        await off_loop(part.restart)
        transfer.spoiled += 1
    if transfer.spoiled == _SPOILED:
        raise DownloadError(f"{words}, {_SPOILED} times")
    raise Again(words)


async def _batches(response: httpx2.Response) -> AsyncGenerator[list[bytes]]:
    # Down to the last bytes before a break, so that the next try goes on behind them.
    held: list[bytes] = []
    size = 0
    try:
        async for chunk in cast("AsyncIterable[bytes]", response.stream):
            held.append(chunk)
            size += len(chunk)
            if size >= BATCH:
                yield held
                held, size = [], 0
    except Exception as exc:
        yield held
        raise failure(exc) from exc
    yield held


def _encoding(headers: httpx2.Headers) -> str:
    return headers.get("content-encoding", "").strip().lower()


def _validator(headers: httpx2.Headers) -> str | None:
    tag = headers.get("etag", "")
    # A weak tag does not promise the same bytes.
    found = tag if tag.startswith('"') else headers.get("last-modified", "")
    return found if _SENDABLE.fullmatch(found) else None

"""The body of one file: received, decoded, and resumed after a break."""

from __future__ import annotations

import re
import zlib
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator
from contextlib import aclosing
from functools import partial
from typing import Final, Literal, TypeAlias, TypeVar, cast

import httpx2

from apixo_async._downloads.files import Sink, check_size, off_loop
from apixo_async._downloads.source import Again, failure
from apixo_async._media import ERROR_PAGE
from apixo_async.errors import DownloadError

T = TypeVar("T")

#: Bytes that are handed to a worker thread at once, and that one inflated piece may have: a call
#: to a thread costs more than writing a network chunk.
BATCH: Final = 1_048_576

#: How many complete bodies without the type's end mark it takes to believe that the stored file is
#: broken, and not its transfer.
_SPOILED: Final = 3

_PLAIN: Final = frozenset({"", "identity"})
_INFLATED: Final = frozenset({"gzip", "x-gzip", "deflate"})
_ZLIB_OR_GZIP: Final = 32 + zlib.MAX_WBITS
_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_LENGTH: Final = re.compile(r"\d{1,18}", re.ASCII)
#: What a header of a request can hold; servers send other tags, too.
_SENDABLE: Final = re.compile(r"[\x20-\x7e]+")

#: What to do with a body: append it, write it from the beginning, or ask again.
Use: TypeAlias = Literal["append", "anew", "useless"]


class Transfer:
    """What the answers for one file said, from one try to the next.

    Attributes:
        total: Bytes of the whole file, or None.
        end: Bytes of the file with the present body, by the answer's head, or None.
        encoded: Whether the body came compressed. Such a one is not resumed: a range counts
            compressed bytes, and the file holds decoded ones.
        spoiled: How many bodies came in full, and yet the file was not whole.
    """

    def __init__(self) -> None:
        self.total: int | None = None
        self.end: int | None = None
        self.encoded = False
        self.spoiled = 0
        self._validator: str | None = None

    def conditions(self, size: int) -> dict[str, str]:
        """Return the headers that ask for the rest of a file after `size` bytes (RFC 9110, 14.2).

        There are none without a validator: the rest could belong to another version of the file,
        which may even have the same length.
        """
        if not size or self._validator is None:
            return {}
        return {"Range": f"bytes={size}-", "If-Range": self._validator}

    def admit(self, response: httpx2.Response, size: int) -> Use:
        """Take in the head of an answer, and return what to do with its body.

        Args:
            response: The answer.
            size: Bytes that earlier tries have written.

        Raises:
            DownloadError: The body is compressed, unasked, in a way that cannot be decoded here.
        """
        if response.status_code == 206:
            return "append" if self._resumes(response.headers, size) else "useless"
        if response.status_code == 416:
            return "useless"
        encoding = _encoding(response.headers)
        if encoding not in _PLAIN | _INFLATED:
            raise DownloadError(
                f"it came with Content-Encoding {encoding!r}; allowed are none, gzip and deflate"
            )
        self.encoded = encoding in _INFLATED
        length = response.headers.get("content-length", "")
        plain = not self.encoded
        self.total = self.end = int(length) if plain and _LENGTH.fullmatch(length) else None
        self._validator = _validator(response.headers) if plain else None
        return "anew"

    def _resumes(self, headers: httpx2.Headers, size: int) -> bool:
        found = _RANGE.fullmatch(headers.get("content-range", "").strip())
        if found is None or int(found[1]) != size or _encoding(headers) not in _PLAIN:
            return False
        if _validator(headers) not in (None, self._validator):
            return False  # The server ignored If-Range: this is another version.
        total = self.total if found[3] == "*" else int(found[3])
        if self.total not in (None, total):
            return False
        end = int(found[2]) + 1
        if end <= size or (total is not None and end > total):
            return False
        self.total, self.end = total, end
        return True


class Inflater:
    """Decode gzip or zlib in pieces of at most `BATCH` bytes, so that no bomb fills the memory."""

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
                    return  # Else zlib would collect all bytes after the end in its `unused_data`.
                rest = chunk
                while piece := self._decoder.decompress(rest, BATCH):
                    rest = self._decoder.unconsumed_tail
                    yield piece
        except zlib.error as exc:
            raise Again(f"its compressed data are broken ({exc})") from exc


async def receive(
    response: httpx2.Response,
    part: Sink[object],
    *,
    encoded: bool,
    max_bytes: int,
    end: int | None = None,
) -> None:
    """Append a body to a part.

    Args:
        response: The answer with the body.
        part: The unfinished file.
        encoded: Whether the body is compressed.
        max_bytes: Bytes that the file may have.
        end: Bytes that it has after this body, where the answer's head says so.

    Raises:
        Again: The body broke off or cannot be decoded; the part keeps what came. Or it was longer
            than announced; the part is empty then.
        DownloadError: It is larger than allowed, or cannot be written.
    """
    inflater = Inflater() if encoded else None
    received = 0
    async with aclosing(_batches(response)) as batches:
        async for batch in batches:
            received += sum(map(len, batch))
            check_size(received, max_bytes)  # Compressed bytes count, too: they may decode to none.
            pieces = batch if inflater is None else inflater.pieces(batch)
            await off_loop(partial(part.write, pieces, max_bytes))
            if end is not None and part.size > end:
                await off_loop(part.restart)
                raise Again(f"it has more than the {end} bytes that were announced")
    if inflater is not None and not inflater.ended:
        raise Again("its compressed data end early")


async def finish(part: Sink[T], transfer: Transfer) -> T:
    """Finish a part if it is whole.

    Raises:
        Again: It is not. The part keeps what the next try can resume after.
        DownloadError: It came in full `_SPOILED` times, and was never whole.
    """
    total = transfer.total
    if total is not None and part.size < total:
        raise Again(f"it ended after {part.size} of {total} bytes")
    # A length alone proves little: some servers send none, and some end a broken body as if it were
    # complete.
    media, whole = await off_loop(part.examine)
    if media is ERROR_PAGE:
        await off_loop(part.restart)
        raise Again("an HTML page or another error text came in its place")
    if whole:
        return await off_loop(partial(part.finish, media))
    reason = f"it ended after {part.size} bytes, before the end of a {media.name}"
    if total is not None:
        await off_loop(part.restart)
        transfer.spoiled += 1
    if transfer.spoiled == _SPOILED:
        raise DownloadError(f"{reason}, {_SPOILED} times")
    raise Again(reason)


async def _batches(response: httpx2.Response) -> AsyncGenerator[list[bytes]]:
    """Yield chunks together, those before a break included: the next try resumes after them."""
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
    # A weak tag does not promise the same bytes (RFC 9110, 8.8.1 and 13.1.5).
    found = tag if tag.startswith('"') else headers.get("last-modified", "")
    return found if _SENDABLE.fullmatch(found) else None

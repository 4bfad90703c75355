"""A body: decoded in bounded pieces, and continued only by what belongs to it."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterator
from itertools import chain
from pathlib import Path

import httpx2
import pytest

from apixo_async._downloads.files import Destination, Part
from apixo_async._downloads.source import Again
from apixo_async._downloads.transfer import BATCH, Inflater, Transfer, Use, finish, receive
from apixo_async.errors import DownloadError

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100) + b"\0\0\0\0IEND\xaeB`\x82"
DATE = "Fri, 21 Nov 2025 10:00:00 GMT"


class Body(httpx2.AsyncByteStream):
    """A body that comes in chunks and may break."""

    def __init__(self, *chunks: bytes, breaks: Exception | None = None) -> None:
        self.chunks = chunks
        self.breaks = breaks
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            self.taken += 1
            yield chunk
        if self.breaks is not None:
            raise self.breaks


def answer(status: int = 200, /, **headers: object) -> httpx2.Response:
    """Return an answer with headers in Python's spelling."""
    named = [
        (name.replace("_", "-").encode(), str(value).encode("latin-1"))
        for name, value in headers.items()
    ]
    return httpx2.Response(status, headers=named)


def begun(**headers: object) -> Transfer:
    """Return a transfer whose first answer had these headers."""
    transfer = Transfer()
    assert transfer.admit(answer(**headers), 0) == "anew"
    return transfer


@pytest.fixture
def part(tmp_path: Path) -> Iterator[Part]:
    """Give an open part, and discard what is left of it."""
    part = Part(Destination(tmp_path, "t-1"))
    part.open()
    yield part
    part.discard()


def test_nothing_special_is_asked_at_first() -> None:
    """A transfer without bytes asks for the whole file."""
    assert begun(etag='"a"', content_length=9).conditions(0) == {}


@pytest.mark.parametrize(
    ("headers", "conditions"),
    [
        ({"etag": '"a"'}, {"Range": "bytes=5-", "If-Range": '"a"'}),
        ({"etag": '"a"', "last_modified": DATE}, {"Range": "bytes=5-", "If-Range": '"a"'}),
        ({"etag": 'W/"a"', "last_modified": DATE}, {"Range": "bytes=5-", "If-Range": DATE}),
        ({"etag": '"\xe4"', "last_modified": DATE}, {}),
        ({"content_length": 9}, {}),
        ({"etag": 'W/"a"'}, {}),
        ({"etag": '"\xe9"'}, {}),
        ({"etag": '"\xe9"', "content_length": 9}, {}),
        ({"last_modified": "le 27 d\xe9cembre"}, {}),
        ({"content_length": "many"}, {}),
        ({"etag": '"a"', "content_length": 9, "content_encoding": "gzip"}, {}),
    ],
)
def test_a_broken_transfer_asks_for_the_rest_if_that_is_safe(
    headers: dict[str, object], conditions: dict[str, str]
) -> None:
    """The rest is asked for with a strong validator that a request can hold, and only so."""
    assert begun(**headers).conditions(5) == conditions


@pytest.mark.parametrize(
    ("headers", "use"),
    [
        ({"content_range": "bytes 5-8/9"}, "append"),
        ({"content_range": "bytes 5-6/9", "etag": '"a"'}, "append"),
        ({"content_range": "bytes 5-8/*"}, "append"),
        ({"content_range": "bytes 4-8/9"}, "useless"),
        ({"content_range": "bytes 5-9/9"}, "useless"),
        ({"content_range": "bytes 5-4/9"}, "useless"),
        ({"content_range": "bytes 5-9/10"}, "useless"),
        ({"content_range": "bytes 5-8/9", "etag": '"b"'}, "useless"),
        ({"content_range": "bytes 5-8/9", "content_encoding": "gzip"}, "useless"),
        ({"content_range": "lines 5-8/9"}, "useless"),
        ({}, "useless"),
    ],
)
def test_a_part_is_added_only_where_it_belongs(headers: dict[str, object], use: Use) -> None:
    """A 206 counts if it begins where the file ends, and is of the same file."""
    transfer = begun(etag='"a"', content_length=9)
    assert transfer.admit(answer(206, **headers), 5) == use


def test_a_part_may_tell_the_length() -> None:
    """The length that a first answer lacked is learnt from the range."""
    transfer = begun(etag='"a"')
    assert transfer.total is None
    assert transfer.admit(answer(206, content_range="bytes 5-8/9"), 5) == "append"
    assert transfer.total == 9


def test_a_whole_answer_begins_anew() -> None:
    """A 200 to a question for the rest replaces everything that was known."""
    transfer = begun(etag='"a"', content_length=9)
    assert transfer.admit(answer(200, etag='"b"', content_length=7), 5) == "anew"
    assert transfer.total == 7
    assert transfer.conditions(5) == {"Range": "bytes=5-", "If-Range": '"b"'}


def test_an_unsatisfiable_range_begins_anew() -> None:
    """A 416 says that what was asked for is not there."""
    assert begun(etag='"a"').admit(answer(416, content_range="bytes */3"), 5) == "useless"


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress"])
def test_an_encoding_that_was_not_asked_for_is_refused(encoding: str) -> None:
    """What cannot be decoded in bounded pieces is not saved as if it were the file."""
    with pytest.raises(DownloadError, match=encoding):
        Transfer().admit(answer(content_encoding=encoding), 0)


@pytest.mark.parametrize("packed", [gzip.compress(PNG * 99), zlib.compress(PNG * 99)])
def test_compressed_data_are_decoded_however_they_are_cut(packed: bytes) -> None:
    """Gzip and zlib are decoded from chunks of any size."""
    inflater = Inflater()
    chunks = [packed[at : at + 7] for at in range(0, len(packed), 7)]
    assert not inflater.ended
    assert b"".join(inflater.pieces([*chunks, b"padding"])) == PNG * 99
    assert inflater.ended


def test_a_bomb_is_decoded_in_small_pieces() -> None:
    """64 MiB out of one chunk never stand in memory at once."""
    packed = gzip.compress(bytes(64 * 1_048_576), 9)
    inflater = Inflater()
    tracemalloc.start()
    try:
        sizes = [len(piece) for piece in inflater.pieces([packed])]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(sizes) == 64 * 1_048_576
    assert max(sizes) <= BATCH
    assert peak < 4 * BATCH


def test_what_comes_behind_compressed_data_is_not_hoarded() -> None:
    """A body that goes on behind its end costs no memory."""
    inflater = Inflater()
    tracemalloc.start()
    try:
        chunks = (bytes(BATCH) for _ in range(20))
        assert list(inflater.pieces(chain([gzip.compress(PNG)], chunks))) == [PNG]
        assert list(inflater.pieces(chunks)) == []
        assert tracemalloc.get_traced_memory()[1] < 4 * BATCH
    finally:
        tracemalloc.stop()


def test_data_that_are_not_compressed_are_for_another_try() -> None:
    """What only claims to be compressed is not taken."""
    with pytest.raises(Again, match="broken"):
        list(Inflater().pieces([b"not compressed at all"]))


async def test_a_body_is_written_down_to_its_break(part: Part) -> None:
    """What came before a break is in the file, so that the next try goes on behind it."""
    body = Body(b"12345", b"678", breaks=ConnectionResetError("reset"))
    with pytest.raises(Again, match="reset") as caught:
        await receive(httpx2.Response(200, stream=body), part, encoded=False, max_bytes=100)
    assert isinstance(caught.value.__cause__, ConnectionResetError)
    assert part.size == 8


async def test_a_large_body_is_written_in_few_hops(
    part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks go to the disk a MiB at a time, not one by one."""
    batches: list[int] = []
    write = part.write

    def counted(pieces: list[bytes], max_bytes: int) -> None:
        batches.append(len(pieces))
        write(pieces, max_bytes)

    monkeypatch.setattr(part, "write", counted)
    body = Body(*[bytes(65_536)] * 40)
    await receive(httpx2.Response(200, stream=body), part, encoded=False, max_bytes=BATCH * 9)
    assert batches == [16, 16, 8]
    assert part.size == 40 * 65_536


async def test_an_endless_body_is_cut_at_the_cap(part: Part) -> None:
    """Bytes are counted as they come, whatever was announced, and the rest is not read."""
    body = Body(*[bytes(BATCH)] * 50)
    with pytest.raises(DownloadError, match="larger than"):
        await receive(httpx2.Response(200, stream=body), part, encoded=False, max_bytes=2 * BATCH)
    assert body.taken == 3


async def test_a_bomb_is_cut_at_the_cap(part: Part) -> None:
    """Decoded bytes count as well."""
    body = Body(gzip.compress(bytes(8 * BATCH)))
    with pytest.raises(DownloadError, match="larger than"):
        await receive(httpx2.Response(200, stream=body), part, encoded=True, max_bytes=2 * BATCH)
    assert part.size == 2 * BATCH


async def test_data_behind_compressed_data_count(part: Part) -> None:
    """A body that goes on for ever behind its end is cut too."""
    body = Body(gzip.compress(PNG), *[bytes(BATCH)] * 50)
    with pytest.raises(DownloadError, match="larger than"):
        await receive(httpx2.Response(200, stream=body), part, encoded=True, max_bytes=2 * BATCH)
    assert body.taken == 3


async def test_compressed_data_that_end_early_are_for_another_try(part: Part) -> None:
    """A compressed body without its end is not taken, even if the connection ended well."""
    response = httpx2.Response(200, stream=Body(gzip.compress(PNG)[:-9]))
    with pytest.raises(Again, match="end early"):
        await receive(response, part, encoded=True, max_bytes=1000)


async def test_a_whole_file_is_finished(part: Part, tmp_path: Path) -> None:
    """A file that is whole gets the name that its type calls for."""
    part.write([PNG], 1000)
    assert await finish(part, begun(content_length=len(PNG))) == tmp_path / "t-1.png"


async def test_a_short_file_waits_for_its_rest(part: Part) -> None:
    """A file that lacks bytes, by its length or by its type, is kept for the next try."""
    part.write([PNG[:50]], 1000)
    for headers, words in (({"content_length": len(PNG)}, "50 of 120"), ({}, "end of a PNG")):
        with pytest.raises(Again, match=words):
            await finish(part, begun(**headers))
        assert part.size == 50


async def test_a_spoiled_file_is_believed_at_the_third_time(part: Part) -> None:
    """A file that comes in full without being whole is fetched from its beginning, twice."""
    transfer = begun(content_length=50)
    for kind in (Again, Again, DownloadError):
        part.write([PNG[:50]], 1000)
        with pytest.raises(kind, match="end of a PNG"):
            await finish(part, transfer)
        assert part.size == 0


async def test_an_error_page_is_thrown_away(part: Part) -> None:
    """HTML in a file's place is for another try, from the beginning."""
    part.write([b"<html></html>"], 1000)
    with pytest.raises(Again, match="HTML"):
        await finish(part, begun(etag='"a"'))
    assert part.size == 0

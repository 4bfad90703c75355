"""Files that are received into memory or a temporary file, to be read or passed on."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from apixo_async._downloads.spool import ByteAllowance, FileStream, Spool
from apixo_async._media import identify
from apixo_async.errors import DownloadError

PNG = b"\x89PNG\r\n\x1a\n" + bytes(600_000) + b"\0\0\0\0IEND\xaeB`\x82"


def filled(spool: Spool) -> Spool:
    """Write a picture into a spool."""
    spool.open()
    spool.write([PNG[:5], PNG[5:]], len(PNG))
    return spool


def test_it_is_received_as_into_a_part() -> None:
    """It is counted, examined, begun anew, and read from its beginning once it is finished."""
    spool = filled(Spool(1_000))
    spool.open()  # An open one stays as it is.
    spool.restart()
    assert spool.size == 0
    filled(spool)
    media, whole = spool.examine()
    assert (media.extension, whole, spool.size) == ("png", True, len(PNG))
    assert spool.finish(media) is media
    assert spool.read(4) + spool.read() == PNG
    spool.discard()
    spool.discard()
    with pytest.raises(RuntimeError, match="async with"):
        spool.read()


def test_a_large_one_is_on_disk_and_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond its memory it is a temporary file, of which nothing is left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spool = filled(Spool(1_000))
    file = spool._opened()
    assert isinstance(file.fileno(), int)
    spool.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_download_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary file that cannot be written fails its file, in words."""
    spool = Spool(1_000)
    spool.open()
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    with pytest.raises(DownloadError, match="cannot write to '/nowhere/at/all'"):
        spool.write([PNG], len(PNG))
    spool.discard()


def test_bounds() -> None:
    """One file, and all that share an allowance, are refused before they are too large."""
    allowance = ByteAllowance(len(PNG) + 10)
    first, second = filled(Spool(0, allowance)), Spool(0, allowance)
    second.open()
    with pytest.raises(DownloadError, match=r"max_bytes=3$"):
        second.write([b"four"], 3)
    with pytest.raises(DownloadError, match="max_total="):
        second.write([bytes(11)], 100)
    first.discard()
    filled(second)
    second.restart()
    filled(second)
    second.discard()
    third = filled(Spool(0, allowance))
    third.finish(identify(PNG))
    assert third.take_content() == PNG
    third.discard()
    with pytest.raises(DownloadError, match="max_total="):
        allowance.take(11)  # What was handed out stays counted,
    allowance.take(10)  # and all else was given back.


async def test_a_stream() -> None:
    """Name, type and size are known at once; chunks, or reads, yield every byte once."""
    spool = filled(Spool(0))
    spool.finish(identify(PNG))
    file = FileStream(spool, "task_1-1", identify(PNG), "https://files.example/a.png")
    assert (file.name, file.media_type, file.size) == ("task_1-1.png", "image/png", len(PNG))
    begin = await file.read(8)
    chunks = [chunk async for chunk in file]
    assert begin + b"".join(chunks) == PNG
    assert max(map(len, chunks)) <= 262_144
    assert await file.read(8) == b""
    assert "files.example" not in repr(file)
    spool.discard()

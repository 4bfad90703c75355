from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from apixo_async.journal._descriptors import began_writing, ended_writing, is_written, reading


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "run.db"
    path.write_bytes(b"content")
    yield path
    while is_written(path):
        ended_writing(path)


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_a_file_that_is_not_written(file: Path) -> None:
    """A descriptor of a file that this process only reads is closed at once."""
    with reading(file) as descriptor:
        assert os.read(descriptor, 3) == b"con"
    assert not is_open(descriptor)


def test_a_file_that_is_written(file: Path) -> None:
    """It stays open until the writer is done, and the next reader uses it again."""
    began_writing(file)
    with reading(file) as first, reading(file) as second:
        assert first != second
    with reading(file) as again:
        assert again in (first, second)
    assert is_open(first)
    ended_writing(file)
    assert not is_open(first)
    assert not is_open(second)


def test_a_writer_that_comes_and_goes_meanwhile(file: Path) -> None:
    """What is open when a writer begins is kept; what is open when it ends is closed after that."""
    with reading(file) as descriptor:
        began_writing(file)
    assert is_open(descriptor)
    with reading(file) as again:
        ended_writing(file)
        assert os.lseek(again, 0, os.SEEK_SET) == 0
    assert not is_open(again)


def test_the_last_writer_counts(file: Path) -> None:
    """A second writer that is refused does not end the first one."""
    began_writing(file)
    began_writing(file)
    ended_writing(file)
    assert is_written(file)
    with reading(file) as descriptor:
        pass
    assert is_open(descriptor)


def test_a_missing_file(tmp_path: Path) -> None:
    """The error is the caller's, and nothing is kept."""
    with pytest.raises(FileNotFoundError), reading(tmp_path / "none"):
        pass

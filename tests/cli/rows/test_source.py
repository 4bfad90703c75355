"""Rows come from a file, or from a copy of what can be read only once."""

from __future__ import annotations

import io
import os
import sys
import threading
from pathlib import Path

import pytest

from apixo_async import ConfigurationError
from apixo_async._cli.rows.source import Format, RowsSource, Stamp, find_source


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say yes."""
        return True


def pipe(monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
    """Pipe bytes into stdin."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))


def test_a_file_is_read_where_it_is(tmp_path: Path) -> None:
    """A plain file is not copied, and the folder of the run not made."""
    path = tmp_path / "a.jsonl"
    path.write_text("{}")
    out = tmp_path / "out"
    assert find_source(str(path), out) == RowsSource(path, str(path), Format.JSONL)
    assert not out.exists()


def test_stdin_is_copied_under_the_name_of_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same rows go to one file, other rows to another: nothing is overwritten."""
    found: list[Path] = []
    for raw in (b"a\nb\n", b"a\nb\n", b'{"a": 1}\n'):
        pipe(monkeypatch, raw)
        source = find_source("-", tmp_path / "deep/out")
        assert source.is_copy
        assert source.name == "stdin"
        assert source.path.read_bytes() == raw
        found.append(source.path)
    assert found[0] == found[1]
    assert [path.suffix for path in found] == [".txt", ".txt", ".jsonl"]
    assert sorted((tmp_path / "deep/out").iterdir()) == sorted({*found})
    assert find_source(str(found[2]), tmp_path).format is Format.JSONL


def test_the_format_of_stdin_can_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A format that is asked for names the copy, too."""
    pipe(monkeypatch, b"prompt\nx\n")
    source = find_source("-", tmp_path, Format.CSV)
    assert (source.format, source.path.suffix) == (Format.CSV, ".csv")


def test_a_copy_that_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be used is not kept, nor is half a copy."""
    pipe(monkeypatch, b"[{}]")
    with pytest.raises(ConfigurationError, match="stdin is one JSON array"):
        find_source("-", tmp_path)

    pipe(monkeypatch, b"")
    with pytest.raises(ConfigurationError, match="stdin is empty"):
        find_source("-", tmp_path)

    def full(_number: int) -> None:
        raise OSError(28, "No space left on device")

    pipe(monkeypatch, b"a fox")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        find_source("-", tmp_path)
    assert [*tmp_path.iterdir()] == []


def test_a_terminal_is_no_file_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a person who does not know to type."""
    monkeypatch.setattr("sys.stdin", Terminal())
    with pytest.raises(ConfigurationError, match="stdin is a terminal: pipe rows into it"):
        find_source("-", tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes in folders")
def test_a_named_pipe_is_copied(tmp_path: Path) -> None:
    """A pipe is copied as stdin is, whatever its name: it can be read only once."""
    path = tmp_path / "rows.jsonl"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=("{}\n",))
    writer.start()
    source = find_source(str(path), tmp_path / "out")
    writer.join()
    assert source.path.parent == tmp_path / "out"
    assert source.path.read_text() == "{}\n"
    assert source.name == str(path)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    """A directory says that it is one."""
    with pytest.raises(ConfigurationError, match="is a directory; give a file of rows"):
        find_source(str(tmp_path), tmp_path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """A file that is not there names itself, and what else there is."""
    with pytest.raises(ConfigurationError, match=r"nowhere\.csv: there is no such file.*stdin"):
        find_source(str(tmp_path / "nowhere.csv"), tmp_path)


def test_an_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that one may not read says so."""
    path = tmp_path / "a.csv"
    path.write_text("prompt\n")

    def refuse(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigurationError, match=r"a\.csv: you may not read this file"):
        find_source(str(path), tmp_path)


def test_a_stamp_tells_a_change(tmp_path: Path) -> None:
    """What is written to a file changes its stamp."""
    path = tmp_path / "a"
    path.write_text("a")
    with path.open("rb") as file:
        before = Stamp.of(file)
        assert Stamp.of(file) == before
        path.write_text("ab")
        assert Stamp.of(file) != before

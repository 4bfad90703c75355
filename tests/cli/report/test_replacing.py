"""Replacing a file: the old one or the new one, whole, whatever happens."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from apixo_async._cli.exits import ExitCode, exit_code, lines
from apixo_async._cli.report import replacing as module
from apixo_async._cli.report.replacing import ReportError, replacing


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Have a file that is there already."""
    path = tmp_path / "report.json"
    path.write_bytes(b"old")
    return path


def write(path: Path, data: bytes = b"new") -> None:
    """Replace a file."""
    with replacing(path) as file:
        file.write(data)


def test_the_new_file_takes_the_old_ones_place(target: Path) -> None:
    """While it is written the old one is there; afterwards nothing but the new one is."""
    with replacing(target) as file:
        file.write(b"new" * 1_000_000)
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new" * 1_000_000
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.skipif(os.name != "posix", reason="there are no such modes")
def test_the_file_may_be_read_by_its_owner_only(target: Path) -> None:
    """It holds prompts and URLs: neither the draft nor the file is for others, as the journal."""
    target.chmod(0o644)
    with replacing(target) as file:
        file.write(b"new")
        assert sorted(modes(target.parent)) == [0o600, 0o644]
    assert modes(target.parent) == [0o600]


def modes(folder: Path) -> list[int]:
    """Return the modes of the files in a folder."""
    return [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()]


def test_it_is_durable_before_it_is_in_place(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synced before it is renamed, and its directory after that."""
    seen: list[tuple[str, bytes]] = []

    def fsync(handle: int) -> None:
        seen.append(
            ("directory" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file", target.read_bytes())
        )

    monkeypatch.setattr(os, "fsync", fsync)
    write(target)
    assert seen == [("file", b"old"), ("directory", b"new")]


def test_an_error_of_the_caller_leaves_the_old_file(target: Path) -> None:
    """What the caller raises comes through as it is, and leaves no draft behind."""

    def fail() -> None:
        with replacing(target) as file:
            file.write(b"half")
            raise OSError(errno.EIO, "the journal's disk")

    with pytest.raises(OSError, match="the journal's disk") as caught:
        fail()
    assert not isinstance(caught.value, ReportError)
    assert target.read_bytes() == b"old"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk(target: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full at any of the steps is an error that names the file, not the draft."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Full:
        def __init__(self, path: Path) -> None:
            self._path = path

        write = flush = close = full

        def fileno(self) -> int:
            return 0

    if call == "write":
        monkeypatch.setattr(Path, "open", lambda path, *_, **__: path.touch() or Full(path))
    else:
        monkeypatch.setattr(*{"fsync": (os, "fsync"), "replace": (Path, "replace")}[call], full)
    with pytest.raises(ReportError) as caught:
        write(target)
    monkeypatch.undo()
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(target))
    assert exit_code(caught.value) is ExitCode.NOT_SAVED
    words = os.strerror(errno.ENOSPC)
    assert [*lines(caught.value)] == [f"{target}: the report was not written: {words}"]
    assert target.read_bytes() == b"old"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("place", ["missing/report.json", "file/report.json", "taken"])
def test_a_place_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    """A folder that is missing or none, and a directory in the file's place, are named by it."""
    (tmp_path / "file").touch()
    (tmp_path / "taken/inside").mkdir(parents=True)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ReportError, match="the report was not written") as caught:
        write(tmp_path / place)
    assert caught.value.filename == str(tmp_path / place)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
def test_a_read_only_directory(target: Path) -> None:
    """A directory in which nothing may be made is named by its file."""
    target.parent.chmod(0o500)
    try:
        with pytest.raises(ReportError, match="Permission denied") as caught:
            write(target)
    finally:
        target.parent.chmod(0o700)
    assert caught.value.filename == str(target)
    assert target.read_bytes() == b"old"


def test_a_system_that_opens_no_directories(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a directory cannot be synced, the rename alone must do."""
    really = os.open

    def refuse(path: str, flags: int, mode: int = 0o777) -> int:
        if Path(path).is_dir():
            raise PermissionError
        return really(path, flags, mode)

    monkeypatch.setattr(module.os, "open", refuse)
    write(target)
    monkeypatch.undo()
    assert target.read_bytes() == b"new"

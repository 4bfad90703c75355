"""Leftovers: what a killed process left goes, and what a living one writes stays."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from apixo_async._downloads.files import Destination, Part, hold, sweep
from apixo_async._files import draft_name
from apixo_async._media import identify

fcntl: Any = pytest.importorskip("fcntl", reason="Windows keeps open files by itself")

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100) + b"\0\0\0\0IEND\xaeB`\x82"
Opened = Callable[[io.FileIO, Path], None]


@pytest.fixture
def part(tmp_path: Path) -> Iterator[Part]:
    """Give an open part, and discard what is left of it."""
    part = Part(Destination(tmp_path, "cat"))
    part.open()
    yield part
    part.discard()


def when_opened(monkeypatch: pytest.MonkeyPatch, act: Opened) -> None:
    """Act in the moment between a part's creation and its being held, the first time."""
    real: Callable[..., Any] = Path.open
    acts = [act]

    def opened(path: Path, *args: Any, **options: Any) -> Any:
        file = real(path, *args, **options)
        if acts:
            acts.pop()(file, path)
        return file

    monkeypatch.setattr(Path, "open", opened)


@pytest.mark.parametrize("stem", ["t", "task_1-1", "x" * 500, "a.b\n", "タスク" * 20])
def test_what_nobody_holds_is_removed(stem: str, tmp_path: Path) -> None:
    """A file that carries the name of an unfinished one and belongs to no process goes."""
    (tmp_path / draft_name(stem)).write_bytes(PNG)
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_held_stays(part: Part, tmp_path: Path) -> None:
    """A part is spared for as long as it is written."""
    sweep(tmp_path)
    part.write([PNG], 1000)
    sweep(tmp_path)
    assert part.finish(identify(PNG)).read_bytes() == PNG


def test_a_part_is_held_until_it_has_its_name(
    part: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep right before the rename does not take a finished file."""
    real = Path.replace

    def replace(path: Path, target: Path) -> Path:
        sweep(tmp_path)
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    part.write([PNG], 1000)
    assert part.finish(identify(PNG)).read_bytes() == PNG


def test_all_else_stays(tmp_path: Path) -> None:
    """Neither files of other names nor what is no file is touched."""
    names = [".cat.part", "cat.0123456789ab.part", ".cat.0123456789ab.part2", ".part", "cat.png"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / draft_name("directory")).mkdir()
    (tmp_path / draft_name("link")).symlink_to(tmp_path / "cat.png")
    before = sorted(tmp_path.iterdir())
    sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_a_directory_that_cannot_be_read_is_left(tmp_path: Path) -> None:
    """To sweep is a courtesy: where it cannot be done, the download itself says why."""
    sweep(tmp_path / "missing")
    sweep(Path("a\0b"))
    (tmp_path / "file").write_bytes(b"")
    sweep(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_part_that_is_swept_before_it_is_held_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment between creation and hold costs no download."""

    def swept(_: io.FileIO, path: Path) -> None:
        lost.append(path)
        sweep(tmp_path)

    lost: list[Path] = []
    when_opened(monkeypatch, swept)
    part = Part(Destination(tmp_path, "cat"))
    part.open()
    (path,) = tmp_path.iterdir()
    assert [path] != lost
    part.write([PNG], 1000)
    assert part.finish(identify(PNG)).read_bytes() == PNG


def test_a_part_that_a_sweep_looks_at_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep that has it open may remove it yet, so it is not trusted."""

    def locked(_: io.FileIO, path: Path) -> None:
        handles.append(os.open(path, os.O_RDWR))
        fcntl.flock(handles[0], fcntl.LOCK_EX)

    handles: list[int] = []
    when_opened(monkeypatch, locked)
    part = Part(Destination(tmp_path, "cat"))
    part.open()
    assert len(handles) == 1
    os.close(handles[0])
    sweep(tmp_path)
    part.write([PNG], 1000)
    assert part.finish(identify(PNG)).read_bytes() == PNG
    assert [path.name for path in tmp_path.iterdir()] == ["cat.png"]


def test_where_there_are_no_locks_nothing_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that cannot tell the dead from the living keeps both."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    path = tmp_path / draft_name("cat")
    with path.open("x+b", buffering=0) as file:
        assert hold(file, path)
    sweep(tmp_path)
    assert path.exists()

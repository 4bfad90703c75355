"""Replacing a file: whole or not at all, and durable."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from apixo_async._files import draft_name, put_in_place


@pytest.mark.parametrize("stem", ["x", "タスク" * 100])
def test_drafts_have_names_of_their_own(stem: str) -> None:
    """A draft's name is hidden, not taken by another draft, and short enough for file systems."""
    names = {draft_name(stem) for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith(".") and name.endswith(".part") for name in names)
    assert max(len(name.encode()) for name in names) <= 255


def test_a_draft_takes_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synced before it gets its name, and the directory afterwards."""
    path, draft = tmp_path / "report.json", tmp_path / "draft"
    path.write_bytes(b"old")
    synced: list[tuple[bool, bytes]] = []

    def sync(handle: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(handle).st_mode), path.read_bytes()))

    monkeypatch.setattr(os, "fsync", sync)
    with draft.open("wb", buffering=0) as file:
        file.write(b"new")
        put_in_place(file, draft, path)
        assert file.closed
    assert synced == [(False, b"old"), (True, b"new")]
    assert [*tmp_path.iterdir()] == [path]


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be made durable takes no place: the old file is as it was."""
    path, draft = tmp_path / "report.json", tmp_path / "draft"
    path.write_bytes(b"old")

    def full(_handle: int) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", full)
    with draft.open("wb", buffering=0) as file, pytest.raises(OSError, match="no space"):
        put_in_place(file, draft, path)
    assert path.read_bytes() == b"old"

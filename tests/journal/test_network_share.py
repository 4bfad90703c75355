from __future__ import annotations

from pathlib import Path

import pytest

from apixo_async.journal._network_share import warning_of


def table(tmp_path: Path, kind: str) -> Path:
    (tmp_path / "share").mkdir()
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 0 0:1 / / rw - ext4 /dev/vda rw\n"
        f"2 1 0:2 / {tmp_path.resolve() / 'share'} rw - {kind} there rw\n"
    )
    return mounts


def test_a_share_is_warned_of(tmp_path: Path) -> None:
    """A journal on a network share is named, with its mount, its kind and what to do."""
    mounts = table(tmp_path, "nfs4")
    path = tmp_path / "share/run.db"
    said = warning_of(str(path), mounts)
    assert said is not None
    assert said.startswith(f"journal {path}: {path.parent.resolve()} is a network file system")
    assert "(nfs4)" in said
    assert "Keep the journal on a local disk" in said
    assert warning_of(str(tmp_path / "run.db"), mounts) is None


def test_a_link_into_a_share(tmp_path: Path) -> None:
    """What counts is where a link leads to."""
    mounts = table(tmp_path, "cifs")
    (tmp_path / "link").symlink_to(tmp_path / "share")
    assert warning_of(str(tmp_path / "link/run.db"), mounts) is not None


@pytest.mark.parametrize("path", ["run.db", "a\0b"])
def test_nothing_is_known(tmp_path: Path, path: str) -> None:
    """Where there is no such table, or no such path, nothing is claimed."""
    assert warning_of(path, tmp_path / "missing") is None
    assert warning_of(path, table(tmp_path, "ext4")) is None

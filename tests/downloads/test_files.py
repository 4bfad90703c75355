"""Files of results: names that stay where they belong, and nothing half done under them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import stat
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from apixo_async._downloads.files import Destination, Part, off_loop, plan, safe_name
from apixo_async._media import UNKNOWN, identify
from apixo_async.errors import DownloadError

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100) + b"\0\0\0\0IEND\xaeB`\x82"

HOSTILE = [
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "",
    " ",
    "a\0b",
    "a/b",
    "a\\b",
    "C:\\x",
    "CON",
    "nul.txt",
    "-rf",
    ".hidden",
    "x" * 5000,
    "müller",
    "タスク",
    "\ud800",
    "a\nb",
    "%2e%2e%2f",
]


@pytest.mark.parametrize("task_id", HOSTILE)
def test_a_hostile_task_id_stays_in_its_directory(task_id: str, tmp_path: Path) -> None:
    """Whatever a task id holds, its file is an ordinary one right in the directory."""
    (place,) = plan(task_id, tmp_path, 1)
    part = Part(place)
    part.open()
    part.write([PNG], 1000)
    path = part.finish(identify(PNG))
    assert path.parent == tmp_path
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert path.name.endswith("-1.png")
    assert path.name.isascii()
    assert path.name[0].isalnum()
    assert len(path.name) < 100


def test_no_two_task_ids_share_a_name() -> None:
    """Ids that look the same once they are harmless keep apart, and plain ones stay as they are."""
    ids = {"a_b", "a b", "_a_b", "a.b", "x" * 64, "x" * 65, "x" * 66, *HOSTILE}
    assert len({safe_name(task_id) for task_id in ids}) == len(ids)
    assert safe_name("task_12345678-abcd") == "task_12345678-abcd"


def test_names_that_differ_by_case_alone_do_not_meet() -> None:
    """MacOS and Windows take "A.png" for "a.png": no two ids have the same name there."""
    ids = ["task_a1", "task_A1", "TASK_a1", "Task_A1", "TASK_A1"]
    assert len({safe_name(task_id).lower() for task_id in ids}) == len(ids)


@pytest.mark.parametrize("target", ["out", "out/", "out.d/", "a/b/c"])
def test_a_target_without_a_suffix_or_with_a_separator_is_a_directory(target: str) -> None:
    """Files in a directory are named by task id and number."""
    assert [place.path(identify(PNG)) for place in plan("t", target, 2)] == [
        Path(target) / "t-1.png",
        Path(target) / "t-2.png",
    ]


def test_an_existing_directory_with_a_suffix_is_a_directory(tmp_path: Path) -> None:
    """A dot in the name of a directory that exists does not make it a file."""
    directory = tmp_path / "v1.2"
    directory.mkdir()
    assert plan("t", directory, 1) == [Destination(directory, "t-1")]


def test_a_target_that_cannot_be_looked_at_counts_as_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path behind a closed door is no directory that anybody can see."""

    def deny(_: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", deny)
    assert plan("t", tmp_path / "a.png", 1) == [Destination(tmp_path, "a", ".png")]


def test_any_other_target_is_a_file() -> None:
    """One file is written as it is named; several are numbered before the suffix."""
    assert [place.path(UNKNOWN) for place in plan("t", "out/cat.jpg", 1)] == [Path("out/cat.jpg")]
    assert [place.path(UNKNOWN) for place in plan("t", Path("cat.x.png"), 2)] == [
        Path("cat.x-1.png"),
        Path("cat.x-2.png"),
    ]


def test_a_part_becomes_a_file_only_at_its_end(tmp_path: Path) -> None:
    """Until it is finished a file is hidden under a name of its own; then only it is there."""
    target = tmp_path / "new" / "cat.png"
    part = Part(Destination(target.parent, "cat", ".png"))
    part.open()
    part.write([PNG[:50], PNG[50:]], 1000)
    (hidden,) = target.parent.iterdir()
    assert hidden.name.startswith(".cat.")
    assert part.examine() == (identify(PNG), True)
    assert part.finish(identify(PNG)) == target
    part.discard()
    assert [path.read_bytes() for path in target.parent.iterdir()] == [PNG]


def test_a_part_goes_on_where_it_ended_after_it_was_examined(tmp_path: Path) -> None:
    """Looking at the bytes does not move the place where the next are written."""
    sound = b"ID3" + bytes(range(256)) * 4
    for content, whole in ((PNG, False), (sound, True)):
        part = Part(Destination(tmp_path, "cat", ".x"))
        part.open()
        part.write([content[:-20]], 2000)
        assert part.examine() == (identify(content), whole)
        part.write([content[-20:]], 2000)
        assert part.finish(identify(content)).read_bytes() == content


def test_a_finished_file_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synced before it gets its name, and the directory afterwards."""
    target = tmp_path / "cat.png"
    synced: list[tuple[bool, bool]] = []

    def sync(handle: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(handle).st_mode), target.exists()))

    monkeypatch.setattr(os, "fsync", sync)
    part = Part(Destination(tmp_path, "cat"))
    part.open()
    part.write([PNG], 1000)
    part.finish(identify(PNG))
    assert synced == [(False, False), (True, True)]


def test_a_restarted_part_is_empty(tmp_path: Path) -> None:
    """Nothing of what was written before a restart is in the file."""
    part = Part(Destination(tmp_path, "cat", ".png"))
    part.open()
    part.write([b"wrong" * 100], 1000)
    part.restart()
    assert part.size == 0
    part.write([PNG], 1000)
    assert part.finish(identify(PNG)).read_bytes() == PNG


def test_a_discarded_part_leaves_nothing(tmp_path: Path) -> None:
    """A file that is given up is gone, and giving it up twice or unopened does no harm."""
    part = Part(Destination(tmp_path, "cat"))
    part.discard()
    part.open()
    part.write([PNG], 1000)
    part.discard()
    part.discard()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError, match="not open"):
        part.write([PNG], 1000)


def test_a_part_is_counted_before_it_is_written(tmp_path: Path) -> None:
    """The piece that would exceed the cap is not written."""
    part = Part(Destination(tmp_path, "cat"))
    part.open()
    with pytest.raises(DownloadError, match="max_bytes=10"):
        part.write([b"12345", b"67890", b"x"], 10)
    assert part.size == 10
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [10]
    part.discard()


def test_a_short_write_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that takes a part of what it is given is given the rest."""

    class Sluggish(io.FileIO):
        def write(self, data: Any, /) -> int:
            return super().write(bytes(data)[:7])

    def sluggish(path: Path, mode: str, **_: object) -> io.FileIO:
        return Sluggish(path, mode.replace("b", ""))

    part = Part(Destination(tmp_path, "cat"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", sluggish)
        part.open()
    part.write([PNG], 1000)
    assert part.finish(identify(PNG)).read_bytes() == PNG


def test_an_existing_file_of_the_name_is_replaced(tmp_path: Path) -> None:
    """The name passes from the old file to the new one at once; a link is not followed."""
    victim = tmp_path / "victim.txt"
    victim.write_bytes(b"precious")
    (tmp_path / "cat.png").symlink_to(victim)
    part = Part(Destination(tmp_path, "cat", ".png"))
    part.open()
    part.write([PNG], 1000)
    assert part.finish(identify(PNG)).read_bytes() == PNG
    assert victim.read_bytes() == b"precious"


def test_a_directory_in_the_way_is_a_clear_error(tmp_path: Path) -> None:
    """A directory of the file's name stays, and the unfinished file goes."""
    (tmp_path / "cat.png").mkdir()
    part = Part(Destination(tmp_path, "cat", ".png"))
    part.open()
    part.write([PNG], 1000)
    with pytest.raises(DownloadError, match=r"cat\.png'") as caught:
        part.finish(identify(PNG))
    part.discard()
    assert isinstance(caught.value.__cause__, OSError)
    assert [path.name for path in tmp_path.iterdir()] == ["cat.png"]


@pytest.mark.parametrize(
    ("target", "words"),
    [("file/", "is in the way"), ("file/deep/", "is a file, not"), ("a\0b/", "null")],
)
def test_a_target_that_cannot_be_is_a_clear_error(target: str, words: str, tmp_path: Path) -> None:
    """A file where a directory should be, or a name that no system allows, is named."""
    (tmp_path / "file").write_bytes(b"")
    (place,) = plan("t", f"{tmp_path}/{target}", 1)
    with pytest.raises(DownloadError, match=words) as caught:
        Part(place).open()
    assert isinstance(caught.value.__cause__, OSError | ValueError)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EROFS, "read-only"),
        (errno.EACCES, "Permission denied"),
        (errno.ENOSPC, "disk is full"),
    ],
)
def test_what_the_system_refuses_is_said_in_words(
    code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors of the file system come as DownloadError, with the path and the cause."""

    def refuse(_: Path, *__: object, **___: object) -> io.FileIO:
        raise OSError(code, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DownloadError, match=words) as caught:
        Part(Destination(tmp_path, "t")).open()
    assert str(tmp_path) in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)


def test_only_a_file_that_is_provably_whole_is_found(tmp_path: Path) -> None:
    """What an earlier download left is kept if its type and its end can be seen in it."""
    place = Destination(tmp_path, "t-1")
    path = tmp_path / "t-1.png"
    assert place.find_whole(None) is None
    for content in (PNG[:-1], b"", b"GIF89a\0;"):
        path.write_bytes(content)
        assert place.find_whole(None) is None
    path.write_bytes(PNG)
    assert place.find_whole(None) == path
    assert Destination(tmp_path, "t-1", ".png").find_whole(None) is None


def test_a_file_that_is_older_than_its_task_is_not_found(tmp_path: Path) -> None:
    """A whole file from before the task's creation is of another task of that id."""
    path = tmp_path / "t-1.png"
    path.write_bytes(PNG)
    os.utime(path, (1_000_000, 1_000_000))
    place = Destination(tmp_path, "t-1")
    assert place.find_whole(datetime.fromtimestamp(1_000_000, UTC)) == path
    assert place.find_whole(datetime.fromtimestamp(1_000_001, UTC)) is None


def test_what_is_no_regular_file_is_not_found(tmp_path: Path) -> None:
    """A link to a whole file elsewhere does not count."""
    (tmp_path / "other").write_bytes(PNG)
    (tmp_path / "t-1.png").symlink_to(tmp_path / "other")
    assert Destination(tmp_path, "t-1").find_whole(None) is None


async def test_cancelled_work_comes_to_its_end_first() -> None:
    """A thread is never left behind with a file that others clean up, however often cancelled."""
    began, release = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        release.wait(5)
        done.append(True)

    done: list[bool] = []
    task = asyncio.create_task(off_loop(work))
    await asyncio.to_thread(began.wait, 5)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    release.set()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert done == [True]

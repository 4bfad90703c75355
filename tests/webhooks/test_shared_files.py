"""The directory of shared files: what is copied there, and when it is removed again."""

from __future__ import annotations

import errno
import os
import re
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from apixo_async import ConfigurationError, LocalImage, StoreError, WebhookReceiver
from apixo_async._local_images import chunks_of
from apixo_async.webhooks import _shared_files as shared_files
from apixo_async.webhooks._shared_files import LONGEST

from ..support.pictures import png
from ..support.requests import SECRET, URL

PNG = png(8, 8, 1)
OLD = "an-older-secret-0123456789"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Be where copies are."""
    return tmp_path / "files"


@pytest.fixture
def receiver(folder: Path) -> WebhookReceiver:
    """Share files."""
    return WebhookReceiver(URL, SECRET, files=folder)


def name_of(url: str) -> str:
    """Return the last part of a URL."""
    return url.rpartition("/")[2]


def copies(folder: Path) -> list[Path]:
    """Return what is in a folder."""
    return sorted(folder.iterdir()) if folder.exists() else []


class Clock:
    """The wall clock, and the monotonic one, of the module."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1_700_000_000.0
        clocks = SimpleNamespace(time=lambda: self.now, monotonic=lambda: self.now)
        patch.setattr(shared_files, "time", clocks)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Set the clock."""
    return Clock(monkeypatch)


# --- what is copied --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "extension"),
    [
        (PNG, "png"),
        (b"\xff\xd8\xff" + bytes(9), "jpg"),
        (b"RIFF    WEBP", "webp"),
        (b"ID3" + bytes(9), "mp3"),
        (b"cat", "bin"),
        (b"<html>", "bin"),
    ],
)
def test_a_url(receiver: WebhookReceiver, folder: Path, content: bytes, extension: str) -> None:
    """A URL has digest, token and type; the copy in the directory names its expiry and type."""
    url = receiver.share(content)
    assert re.fullmatch(
        rf"{re.escape(URL)}/apixo-file-[0-9a-f]{{64}}-[\w-]{{60}}\.{extension}", url
    )
    [copy] = copies(folder)
    assert re.fullmatch(rf"\d{{10}}-[0-9a-f]{{16}}\.{extension}", copy.name)
    assert abs(int(copy.name[:10]) - time.time() - LONGEST) < 60
    assert copy.read_bytes() == content
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert receiver.shared_files.path_of(name_of(url)) == copy


def test_it_is_a_copy(receiver: WebhookReceiver, tmp_path: Path) -> None:
    """What happens to the caller's file afterwards changes nothing."""
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    copy = receiver.shared_files.path_of(name_of(receiver.share(path)))
    path.unlink()
    assert copy is not None
    assert copy.read_bytes() == PNG


@pytest.mark.parametrize(
    ("content", "options", "why"),
    [
        ("cat.png", {}, "a str given; a Path or bytes"),
        (bytearray(b"x"), {}, "a bytearray given"),
        (b"", {}, "share: 0 bytes: it is empty; 1 to 10,000,000 bytes"),
        (bytes(10_000_001), {}, "more than 10 MB; 1 to 10,000,000 bytes"),
        (Path("/none.png"), {}, "'/none.png': it cannot be read: No such file"),
        (b"x", {"lifetime": 0}, "lifetime: 0 given; seconds above 0"),
        (b"x", {"lifetime": float("nan")}, "lifetime: nan given"),
        (b"x", {"lifetime": "60"}, "lifetime: '60' given"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_not_shared(
    receiver: WebhookReceiver, folder: Path, content: bytes, options: dict[str, float], why: str
) -> None:
    """What is wrong is refused, and nothing is copied."""
    with pytest.raises(ConfigurationError, match=why):
        receiver.share(content, **options)
    assert copies(folder) == []


@pytest.mark.parametrize("given", [7, b"/tmp", ""])
def test_what_is_no_directory(given: object) -> None:
    """A directory is named by a str or a Path."""
    with pytest.raises(ConfigurationError, match=r"files: .* given; a directory, or None"):
        WebhookReceiver(URL, SECRET, files=given)  # type: ignore[arg-type]  # that is the test


# --- how long it is kept ---------------------------------------------------------------------


def test_equal_content_is_copied_once(receiver: WebhookReceiver, folder: Path) -> None:
    """One copy serves all who share the same bytes, and waits for as many tasks."""
    urls = {receiver.share(PNG) for _ in range(3)}
    [name] = map(name_of, urls)
    for left in (2, 1, 0):
        assert receiver.shared_files.begin(name)
        receiver.shared_files.end(name)
        assert len(copies(folder)) == bool(left)
    assert not receiver.shared_files.begin(name)
    assert receiver.share(PNG) not in urls


def test_a_hundred_threads(receiver: WebhookReceiver, folder: Path) -> None:
    """Threads that share the same bytes at once make one copy, gone with the last."""
    files, gate = receiver.shared_files, threading.Barrier(20)
    image = LocalImage.of(PNG)

    def hold(_: int) -> str:
        gate.wait()
        return files.hold(image)

    with ThreadPoolExecutor(20) as pool:
        names = [*pool.map(hold, range(100))]
        assert len({*names}) == len(copies(folder)) == 1
        [*pool.map(files.end, names)]
    assert copies(folder) == []


def test_a_file_that_changes(
    receiver: WebhookReceiver, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is held as its input knew it; what changes while it is copied is not shared."""
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    image = LocalImage.of(path)
    path.write_bytes(PNG + b"more")
    with pytest.raises(ValueError, match=r"cat\.png': it has changed since the input was made"):
        receiver.shared_files.hold(image)

    def changes(source: Path) -> Iterator[bytes]:
        source.write_bytes(PNG + b"once more")
        yield from chunks_of(source)

    monkeypatch.setattr(shared_files, "chunks_of", changes)
    with pytest.raises(ConfigurationError, match="it has changed"):
        receiver.share(path)
    assert copies(folder) == []


def test_a_file_of_several_tasks(receiver: WebhookReceiver, folder: Path) -> None:
    """A copy that two tasks name is kept until both are over."""
    name = name_of(receiver.share(PNG))
    assert receiver.shared_files.begin(name)
    assert receiver.shared_files.begin(name)
    receiver.shared_files.end(name)
    assert len(copies(folder)) == 1
    receiver.shared_files.end(name)
    assert copies(folder) == []


def test_a_refused_submit_keeps_it(receiver: WebhookReceiver, folder: Path) -> None:
    """Where nothing was bought, another submit may name the URL."""
    name = name_of(receiver.share(PNG))
    for _ in range(3):
        assert receiver.shared_files.begin(name)
        receiver.shared_files.end(name, keep=True)
    assert receiver.shared_files.begin(name)
    receiver.shared_files.end(name)
    assert copies(folder) == []


def test_a_lifetime(receiver: WebhookReceiver, folder: Path, clock: Clock) -> None:
    """With a lifetime, a file is served for that long, whatever becomes of tasks."""
    name = name_of(receiver.share(PNG, lifetime=100.0))
    assert receiver.shared_files.begin(name)
    receiver.shared_files.end(name)
    clock.now += 99.0
    assert receiver.shared_files.path_of(name) in copies(folder)
    clock.now += 1.0
    assert receiver.shared_files.path_of(name) is None
    assert not receiver.shared_files.begin(name)


def test_expired_files_are_swept(folder: Path, clock: Clock) -> None:
    """Whoever shares something removes what has expired, drafts included, and nothing else."""
    one, other = (WebhookReceiver(URL, SECRET, files=folder) for _ in range(2))
    one.share(PNG)
    one.share(b"short", lifetime=10.0)
    draft = folder / f".{int(clock.now) + 5:010d}-0011223344556677.png.part"
    for path in (draft, folder / "notes.txt", folder / "0000000001-note.png"):
        path.write_bytes(b"x")
    assert len(copies(folder)) == 5
    clock.now += 60.0
    other.share(b"other")
    left = [path.name for path in copies(folder)]
    assert len(left) == 4
    assert draft.name not in left
    assert {"notes.txt", "0000000001-note.png"} < {*left}
    clock.now += LONGEST
    one.share(b"once more")
    assert len(copies(folder)) == 3


def test_an_old_copy_is_not_reused(receiver: WebhookReceiver, folder: Path, clock: Clock) -> None:
    """A submit is given a copy that outlives any task, and not one that expires soon."""
    first = receiver.share(PNG)
    clock.now += LONGEST / 2
    assert receiver.share(PNG) == first
    clock.now += 1.0
    assert receiver.share(PNG) != first
    assert len(copies(folder)) == 2


def test_a_copy_that_somebody_removed(receiver: WebhookReceiver, folder: Path) -> None:
    """A copy that is gone is made anew under another URL; the old one is refused."""
    first = receiver.share(PNG)
    copies(folder)[0].unlink()
    assert not receiver.shared_files.begin(name_of(first))
    assert receiver.share(PNG) != first
    assert len(copies(folder)) == 1


def test_files_of_other_receivers(receiver: WebhookReceiver, folder: Path) -> None:
    """A copy of another process is found, and never removed; a foreign URL is left alone."""
    other = WebhookReceiver(URL, SECRET, files=folder)
    name = name_of(other.share(PNG))
    assert receiver.shared_files.begin(name)
    receiver.shared_files.end(name)
    assert len(copies(folder)) == 1
    foreign = WebhookReceiver(URL, OLD, files=folder.with_name("theirs")).share(PNG)
    assert receiver.shared_files.begin(name_of(foreign))
    receiver.shared_files.end(name_of(foreign))


def test_a_secret_that_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a previous secret are found, in the directory of that secret; new ones are not."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    old, new = WebhookReceiver(URL, OLD), WebhookReceiver(URL, SECRET, previous_secrets=[OLD])
    name = name_of(old.share(PNG))
    path = new.shared_files.path_of(name)
    assert path is not None
    assert path.read_bytes() == PNG
    assert old.shared_files.path_of(name_of(new.share(PNG))) is None
    assert len(copies(tmp_path)) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork(receiver: WebhookReceiver, folder: Path) -> None:
    """A fork shares and ends what is its own, and leaves its parent's copies alone."""
    name = name_of(receiver.share(PNG))
    assert receiver.shared_files.begin(name)
    child = os.fork()
    if child == 0:
        receiver.shared_files.end(name)
        own = name_of(receiver.share(PNG))
        receiver.shared_files.begin(own)
        receiver.shared_files.end(own)
        os._exit(own == name)
    assert os.waitpid(child, 0)[1] == 0
    assert len(copies(folder)) == 1
    receiver.shared_files.end(name)
    assert copies(folder) == []


# --- the directory ---------------------------------------------------------------------------


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be the directory for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_default_directory(temporary: Path) -> None:
    """It is this user's alone, named by a digest, and nothing is made before it is needed."""
    one, other = WebhookReceiver(URL, SECRET), WebhookReceiver(URL, SECRET)
    assert copies(temporary) == []
    name = name_of(one.share(PNG))
    [made] = copies(temporary)
    assert SECRET not in made.name
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert other.shared_files.path_of(name) == copies(made)[0]


def test_a_default_directory_of_somebody_else(temporary: Path) -> None:
    """One that others can enter, or that is a link, is refused; the error says what to do."""
    receiver = WebhookReceiver(URL, SECRET)
    receiver.share(PNG)
    [made] = copies(temporary)
    made.chmod(0o755)
    with pytest.raises(ConfigurationError, match=r"not a directory of this user's alone: remove"):
        receiver.share(b"x")
    made.chmod(0o700)
    made.rename(temporary / "elsewhere")
    made.symlink_to(temporary / "elsewhere")
    with pytest.raises(ConfigurationError, match=r"not a directory of this user's alone"):
        receiver.share(b"x")


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """A file in the place of the directory is an error that names both."""
    (tmp_path / "files").write_bytes(b"")
    receiver = WebhookReceiver(URL, SECRET, files=str(tmp_path / "files"))
    with pytest.raises(StoreError, match=r"files' cannot hold another shared file \(File exists\)"):
        receiver.share(PNG)


def test_a_full_disk(
    receiver: WebhookReceiver, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be written whole leaves nothing, and nobody is given a URL of it."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(StoreError, match=r"\(No space left on device\): make room there"):
            receiver.share(PNG)
    assert copies(folder) == []
    assert receiver.share(PNG)

"""The files of a result: their names, and the unfinished file (part) beside each."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import filecmp
import hashlib
import io
import os
import re
import stat
import sys
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Final, Protocol, TypeVar

from apixo_async._downloads.names import Naming
from apixo_async._files import STEM, draft_name, put_in_place
from apixo_async._media import HEAD, SURE, Media, identify
from apixo_async._types import Result
from apixo_async.errors import DownloadError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

#: The names that `draft_name` makes.
_PART: Final = re.compile(rf"\..{{1,{STEM}}}\.[0-9a-f]{{12}}\.part", re.DOTALL)

_SHOWN: Final = 64  # characters of a task id in a file's name
_ROOM: Final = "make room and download again"
_ELSEWHERE: Final = "choose another target"
_WORDS: Final = {
    errno.EACCES: f"Permission denied; {_ELSEWHERE}",
    errno.EEXIST: f"a file of that name is in the way; {_ELSEWHERE}",
    errno.ENOTDIR: f"a part of the path is a file, not a directory; {_ELSEWHERE}",
    errno.EISDIR: f"a directory of that name is in the way; {_ELSEWHERE}",
    errno.ENAMETOOLONG: "the name is too long for the file system; choose a shorter one",
    errno.ENOENT: "its directory was removed meanwhile, or its unfinished file; download again",
    errno.ENOSPC: f"the disk is full; {_ROOM}",
    errno.EDQUOT: f"the disk quota is used up; {_ROOM}",
    errno.EFBIG: "the file is larger than the system allows; see ulimit -f",
    errno.EROFS: f"the file system is read-only; {_ELSEWHERE}",
}


@dataclass(frozen=True, slots=True)
class Destination:
    """Where one file goes.

    Attributes:
        directory: The directory, which may not exist yet.
        stem: The name without its extension.
        suffix: The extension with its dot, or None to take that of the file's type.
        spare: The stem where another file has that name, which stays; None if the name is the
            task's alone, or to be replaced.
        earlier: Where an earlier run saved it, or None.
    """

    directory: Path
    stem: str
    suffix: str | None = None
    spare: str | None = None
    earlier: Path | None = None

    def path(self, media: Media) -> Path:
        """Return the path of a file of that type."""
        suffix = f".{media.extension}" if self.suffix is None else self.suffix
        return self.directory / f"{self.stem}{suffix}"

    @property
    def shown(self) -> Path:
        """The path for people, before the file's type is known."""
        return self.directory / f"{self.stem}{self.suffix or ''}"

    def find_whole(self, created_at: datetime | None) -> Path | None:
        """Return the file that an earlier download left here, if it is provably whole.

        Only names that hold a task id count, or that were noted, and only types whose files have an
        end mark. A file that is older than its task belongs to another one: a simulator repeats the
        ids of its earlier runs.
        """
        if self.suffix is not None:
            return None
        paths = [self.directory / f"{self.spare or self.stem}.{extension}" for extension in SURE]
        if self.earlier is not None and self.earlier.parent == self.directory:
            paths.insert(0, self.earlier)
        oldest = created_at.timestamp() if created_at is not None else 0.0
        return next((path for path in paths if _is_whole(path, oldest)), None)


def plan(task_id: str, target: str | os.PathLike[str], count: int) -> list[Destination]:
    """Return where the files of a task go, by the rule that `AsyncClient.download` documents."""
    text = os.fspath(target)
    path = Path(text)
    numbers = range(1, count + 1)
    if text.endswith(("/", os.sep)) or not path.suffix or _is_directory(path):
        return [Destination(path, f"{safe_name(task_id)}-{number}") for number in numbers]
    if count == 1:
        return [Destination(path.parent, path.stem, path.suffix)]
    return [Destination(path.parent, f"{path.stem}-{number}", path.suffix) for number in numbers]


def plan_named(result: Result, target: str | os.PathLike[str], naming: Naming) -> list[Destination]:
    """Return where the files of a result go that the caller names by a template."""
    number, known = len(result.urls), {"model": result.model, "task_id": safe_name(result.task_id)}
    places: list[Destination] = []
    for index in range(1, number + 1):
        values = {**naming.values, **known, "index": index}
        stem = naming.template.stem(values, several=number > 1)
        earlier = naming.earlier[index - 1] if len(naming.earlier) == number else None
        spare = f"{stem}-{known['task_id']}-{index}"
        places.append(Destination(Path(target), stem, None, spare, earlier))
    return places


def safe_name(task_id: str) -> str:
    """Return a name for a task's files that is harmless on every system, and the task's alone.

    The id is whatever the service calls the task: it may hold a path. One that has to be changed
    gets a part of its hash, so that no two ids share a name; so does one with capital letters,
    as file systems of macOS and Windows take `A` and `a` for the same name.
    """
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", task_id)[:_SHOWN].strip("-_")
    if name and name == task_id.lower():
        return name
    digest = hashlib.sha256(task_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{name or 'task'}-{digest[:8]}"


class Sink(Protocol[T_co]):
    """What a file is received into; every method but `discard` may block."""

    @property
    def size(self) -> int:
        """Bytes written so far."""
        ...

    def find_whole(self, created_at: datetime | None, /) -> T_co | None:
        """Return what an earlier download left, if it is provably whole."""
        ...

    def open(self) -> None:
        """Create the file; an open one stays as it is."""
        ...

    def write(self, pieces: Iterable[bytes], max_bytes: int) -> None:
        """Append pieces, each counted before it is written."""
        ...

    def restart(self) -> None:
        """Remove what was written."""
        ...

    def examine(self) -> tuple[Media, bool]:
        """Return the type of what has been written, and whether it is whole."""
        ...

    def finish(self, media: Media) -> T_co:
        """Return the whole file."""
        ...

    def discard(self) -> None:
        """Remove what is not finished."""
        ...


class Part:
    """An unfinished file beside its destination; every method but `discard` may block.

    It holds a lock for as long as it is open. The system releases the lock of a killed process, so
    that `sweep` can recognize the parts that no process will finish.

    Attributes:
        size: Bytes written so far.
    """

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._path = destination.directory
        self._file: io.FileIO | None = None
        self.size = 0

    def open(self) -> None:
        """Create the file, and its directory where it is missing; an open one stays as it is."""
        if self._file is not None:
            return
        directory = self._destination.directory
        with on_disk(directory):
            directory.mkdir(parents=True, exist_ok=True)
        with on_disk(self._destination.shown) as shown:
            with contextlib.suppress(FileNotFoundError):
                shown.lstat()  # Refuses a name that is too long before the transfer, not after it.
            while self._file is None or not hold(self._file, self._path):
                self.discard()
                self._path = directory / draft_name(self._destination.stem)
                self._file = self._path.open("x+b", buffering=0)

    def write(self, pieces: Iterable[bytes], max_bytes: int) -> None:
        """Append pieces, each counted before it is written."""
        for piece in pieces:
            check_size(self.size + len(piece), max_bytes)
            with on_disk(self._destination.shown):
                rest = memoryview(piece)
                while rest:  # An unbuffered file may take a part of what it is given.
                    rest = rest[self._opened().write(rest) :]
            self.size += len(piece)

    def restart(self) -> None:
        """Remove what was written, and keep the file."""
        with on_disk(self._destination.shown):
            self._opened().seek(0)
            self._opened().truncate()
        self.size = 0

    def examine(self) -> tuple[Media, bool]:
        """Return the type of what has been written, and whether it is whole."""
        with on_disk(self._destination.shown):
            return examine(self._opened(), self.size)

    def finish(self, media: Media) -> Path:
        """Make the file durable under its own name, in the place of any file of that name.

        But where that name may be another's, a file that has it and differs stays.
        """
        path = self._destination.path(media)
        spare = self._destination.spare
        with on_disk(path):
            if spare is not None and not self._claim(path):
                path = path.with_name(f"{spare}{path.suffix}")
            put_in_place(self._opened(), self._path, path)
            if spare is not None:
                self._path.unlink(missing_ok=True)  # A rename onto its own link does nothing.
        self._file = None
        return path

    def _claim(self, path: Path) -> bool:
        """Take a name; return False if a file has it that differs from this one."""
        os.fsync(self._opened().fileno())  # The name is there with the link.
        try:
            os.link(self._path, path)
        except OSError:  # The name is taken, or there are no links on this file system.
            with contextlib.suppress(OSError):
                return not os.path.lexists(path) or filecmp.cmp(self._path, path, shallow=False)
            return False
        return True

    def find_whole(self, created_at: datetime | None) -> Path | None:
        """Return the file that an earlier download left, if it is provably whole."""
        return self._destination.find_whole(created_at)

    def discard(self) -> None:
        """Remove the file unless it is finished.

        Two quick calls in the loop's own thread: an await here could be cancelled, and the file
        would stay.
        """
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            with contextlib.suppress(OSError):
                self._path.unlink()
            self._file = None
            self.size = 0

    def _opened(self) -> io.FileIO:
        if self._file is None:
            raise RuntimeError("the part is not open")
        return self._file


def hold(file: io.FileIO, path: Path) -> bool:
    """Lock a new file until it is closed; return False if a sweep took it in that moment."""
    try:
        _lock(file)
    except BlockingIOError:
        return False
    except OSError:
        return True  # There are no locks here: a sweep removes nothing, or nothing that is open.
    return path.exists()


def sweep(directory: Path) -> None:
    """Remove the parts whose processes were killed.

    It is a courtesy: where it fails, the download itself raises what is wrong.
    """
    with contextlib.suppress(OSError, ValueError), os.scandir(directory) as entries:
        for entry in entries:
            if _PART.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    _remove_unlocked(Path(entry.path))


def _remove_unlocked(path: Path) -> None:
    if sys.platform == "win32":
        path.unlink()  # Windows refuses to remove a file that is open.
    else:
        with path.open("r+b", buffering=0) as file:
            _lock(file)
            path.unlink()


def _lock(file: io.FileIO) -> None:
    try:
        import fcntl
    except ImportError:  # Windows has none, and needs none: see `_remove_unlocked`.
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP)) from None
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def check_size(size: int, max_bytes: int) -> None:
    """Refuse a file of more bytes than are allowed."""
    if size > max_bytes:
        raise DownloadError(f"it is larger than max_bytes={max_bytes}")


async def off_loop(work: Callable[[], T]) -> T:
    """Do blocking work in a worker thread; when cancelled, wait for its end first.

    Otherwise the clean-up would close a file while the thread writes to it.
    """
    running = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):  # Raised below.
                await asyncio.wait([running])
        raise


@contextlib.contextmanager
def on_disk(path: Path) -> Generator[Path]:
    """Say what is wrong with the disk in words, and what to do."""
    try:
        yield path
    except (OSError, ValueError) as exc:  # A ValueError for what no path may hold, such as a NUL.
        code = exc.errno if isinstance(exc, OSError) else None
        words = _WORDS.get(code or 0) or (exc.strerror if isinstance(exc, OSError) else str(exc))
        raise DownloadError(f"cannot write to {str(path)!r}: {words}") from exc


def _is_directory(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.is_dir()
    return False


def examine(file: IO[bytes] | io.FileIO, size: int) -> tuple[Media, bool]:
    """Return the type of a file, and whether it is whole; go to its end."""

    def read(offset: int, length: int) -> bytes:
        file.seek(offset)
        return file.read(length)

    media = identify(read(0, HEAD))
    whole = media.whole(size, read)
    file.seek(0, os.SEEK_END)
    return media, whole


def _is_whole(path: Path, oldest: float) -> bool:
    try:
        facts = path.lstat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_mtime < oldest:
            return False
        with path.open("rb", buffering=0) as file:
            media, whole = examine(file, facts.st_size)
    except (OSError, ValueError):
        return False
    return whole and media.check is not None and path.suffix == f".{media.extension}"

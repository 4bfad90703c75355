"""Shared files: copies in a directory that every worker serves, until their tasks are over."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
import stat
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from apixo_async._local_images import ImageSource, LocalImage, changed, chunks_of, read
from apixo_async.errors import ConfigurationError, StoreError
from apixo_async.webhooks import _tokens as tokens
from apixo_async.webhooks._tokens import FileToken, Signer

#: Seconds for which a file is kept at most, unless its caller says for how long.
LONGEST: Final = 86_400.0

#: Seconds for which a copy has to be kept when a submit that names it begins: a task may run for
#: two hours.
_NEEDED: Final = 7_200.0

#: A copy is given to another submit only while it is kept for at least this many seconds more.
_REUSED: Final = LONGEST / 2

#: Seconds between two looks for expired files.
_SWEPT: Final = 60.0

#: The name of a copy in its directory, and of an unfinished one: its expiry, id and type.
_COPY: Final = re.compile(r"\.?([0-9]{10})-[0-9a-f]{16}\.[a-z0-9]{3,4}(?:\.part)?")


@dataclass(slots=True)
class _Copy:
    """One copy that this process has made, and forgets when its tasks are over.

    Attributes:
        name: The last part of its URL.
        path: Where it is.
        file: What the name holds.
        uses: Submits and tasks under way that name it.
        expected: How often it was shared without a submit that named it yet.
    """

    name: str
    path: Path
    file: FileToken
    uses: int = 0
    expected: int = 1


class SharedFiles:
    """Share files under URLs of a receiver. Every method may be called from any thread.

    A process removes only its own copies before they expire, once its own tasks need them no more.
    A URL that other processes submit, too, is to be shared with a lifetime.

    Args:
        public_url: What the URLs begin with.
        signers: Those whose URLs are served. The first one signs.
        directory: Where copies are; None for a directory of the secret, below that for temporary
            files, which only this user may enter.
    """

    def __init__(
        self, public_url: str, signers: Sequence[Signer], directory: Path | None = None
    ) -> None:
        self._public_url = public_url
        self._signers = signers
        self._is_private = directory is None
        self._directories = [
            directory or Path(tempfile.gettempdir(), f"apixo-files-{_digest(signer)}")
            for signer in signers
        ]
        self._pid = -1
        self._forget_parent()

    def _forget_parent(self) -> None:
        """Begin anew in a fork: the copies made so far are its parent's to remove."""
        if self._pid != os.getpid():
            self._lock = threading.Lock()  # Held for what takes no time.
            self._writing = threading.Lock()
            self._copies: dict[str, _Copy] = {}
            self._by_digest: dict[str, _Copy] = {}
            self._swept_at = -_SWEPT
            self._pid = os.getpid()  # Last: another thread must not wait for a parent's lock.

    def share(self, source: ImageSource, lifetime: float | None = None) -> str:
        """Copy a file, and return its URL; `WebhookReceiver.share` says more.

        Raises:
            ConfigurationError: The file cannot be read, or is too large.
            StoreError: The directory cannot hold it.
        """
        try:
            return self.url(self._add(source, *read(source), lifetime).name)
        except ValueError as exc:
            raise ConfigurationError(f"share: {exc}") from None

    def hold(self, image: LocalImage) -> str:
        """Copy an image for a submit that begins now, and return the name to `end` with.

        Raises:
            ValueError: It has changed since the input was made, or cannot be read.
            StoreError: The directory cannot hold it.
        """
        sha256, head = read(image.source)
        if sha256 != image.sha256:
            raise changed(image.source)
        copy = self._add(image.source, sha256, head, None)
        with self._lock:
            copy.expected -= 1
            copy.uses += 1
        return copy.name

    def begin(self, name: str) -> bool:
        """Note that a submit names a file; return False if that is gone.

        What is signed with another secret is another application's, and not looked for.
        """
        self._forget_parent()
        if tokens.unseal_file(name, self._signers) is None:
            return True
        with self._lock:
            if (copy := self._copies.get(name)) is not None:
                copy.uses += 1
                copy.expected = max(0, copy.expected - 1)
        path = self.path_of(name)
        is_late = copy is not None and copy.file.expires - time.time() < _NEEDED
        if path is not None and not is_late and _is_file(path):
            return True
        self.end(name)
        return False

    def end(self, name: str, *, keep: bool = False) -> None:
        """Note that a submit, or its task, is over; raises nothing.

        Args:
            name: What `hold` returned, or `begin` was called with.
            keep: Whether to expect another submit that names it.
        """
        self._forget_parent()
        with self._lock:
            copy = self._copies.get(name)
            if copy is None:
                return
            copy.uses -= 1
            copy.expected += keep
            if copy.uses > 0 or copy.expected > 0:
                return
            self._forget(copy)
        _in_background(copy.path)

    def url(self, name: str) -> str:
        """Return the URL of a name."""
        return f"{self._public_url}/{name}"

    def path_of(self, name: str) -> Path | None:
        """Return where the copy of a name is, or was; None for a forged or expired one."""
        found = tokens.unseal_file(name, self._signers)
        if found is None or time.time() >= found[0].expires:
            return None
        file, signer = found
        return self._directories[signer] / _copy_name(file)

    # --- copies ----------------------------------------------------------------------------

    def _add(self, source: ImageSource, sha256: str, head: bytes, lifetime: float | None) -> _Copy:
        # Here, as few receivers share files, and it is slow to import.
        from apixo_async._media import HEAD, identify

        self._forget_parent()
        # One at a time: the same image may come in a hundred submits at once.
        with self._writing:
            now = time.time()
            if lifetime is None and (copy := self._reusable(sha256, now)) is not None:
                return copy
            self._sweep(now)
            media = identify(head[:HEAD])
            is_known = media.media_type != "application/octet-stream"
            file = FileToken(
                sha256=sha256,
                id=secrets.token_hex(8),
                extension=media.extension if is_known else "bin",
                expires=tokens.expiry(now, LONGEST if lifetime is None else lifetime),
            )
            name = tokens.seal_file(file, self._signers[0])
            copy = _Copy(name, self._spool(source, file), file)
            if lifetime is None:
                with self._lock:
                    self._copies[name] = self._by_digest[sha256] = copy
            return copy

    def _reusable(self, sha256: str, now: float) -> _Copy | None:
        with self._lock:
            copy = self._by_digest.get(sha256)
            if copy is None or copy.file.expires - now < _REUSED:
                return None
            copy.expected += 1
        if _is_file(copy.path):
            return copy
        with self._lock:  # Somebody has removed it.
            self._forget(copy)
        return None

    def _forget(self, copy: _Copy) -> None:
        self._copies.pop(copy.name, None)
        if self._by_digest.get(copy.file.sha256) is copy:
            del self._by_digest[copy.file.sha256]

    def _spool(self, source: ImageSource, file: FileToken) -> Path:
        directory = self._directories[0]
        path = directory / _copy_name(file)
        draft = path.with_name(f".{path.name}.part")
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check(directory)
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
                digest = hashlib.sha256()
                with os.fdopen(os.open(draft, flags, 0o600), "wb") as spooled:
                    for chunk in chunks_of(source):
                        digest.update(chunk)
                        spooled.write(chunk)
                if digest.hexdigest() != file.sha256:
                    raise changed(source)
                draft.replace(path)
            except BaseException:
                with suppress(OSError):
                    draft.unlink(missing_ok=True)
                raise
        except OSError as exc:
            raise StoreError(
                f"files: {str(directory)!r} cannot hold another shared file "
                f"({exc.strerror or type(exc).__name__}): make room there, or name another "
                "directory with WebhookReceiver(files=…)"
            ) from None
        return path

    def _check(self, directory: Path) -> None:
        """Check that no other user can put files into the default directory, which all know.

        Raises:
            ConfigurationError: Somebody may.
        """
        if not self._is_private or not hasattr(os, "geteuid"):
            return
        found = directory.lstat()
        is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
        if not is_own or found.st_mode & 0o077:
            raise ConfigurationError(
                f"files: {str(directory)!r} is not a directory of this user's alone: remove it, or "
                "name another one with WebhookReceiver(files=…)"
            )

    def _sweep(self, now: float) -> None:
        """Remove expired files, of any process: their names say when."""
        clock = time.monotonic()
        if clock - self._swept_at < _SWEPT:
            return
        self._swept_at = clock
        with self._lock:
            for copy in [copy for copy in self._copies.values() if copy.file.expires <= now]:
                self._forget(copy)
        for directory in dict.fromkeys(self._directories):
            with suppress(OSError), os.scandir(directory) as entries:
                for entry in entries:
                    found = _COPY.fullmatch(entry.name)
                    if found is not None and int(found[1]) <= now:
                        _remove(Path(entry.path))


def _copy_name(file: FileToken) -> str:
    return f"{file.expires:010d}-{file.id}.{file.extension}"


def _digest(signer: Signer) -> str:
    return signer.sign(b"directory").hex()[:16]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # Such as of a network file system that is gone.
        return False


def _remove(path: Path) -> None:
    with suppress(OSError):  # It is swept when it has expired.
        path.unlink(missing_ok=True)


def _in_background(path: Path) -> None:
    """Remove a file, in a thread where a loop runs here: a disk may be slow."""
    try:
        asyncio.get_running_loop().run_in_executor(None, _remove, path)
    except RuntimeError:  # None runs, or it is about to end.
        _remove(path)

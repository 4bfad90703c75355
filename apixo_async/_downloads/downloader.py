"""Saving the files of a result: whole, once each, and never an error page in their place."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, Generic, TypeVar

import anyio
import httpx2

from apixo_async._downloads import DEFAULT_MAX_BYTES, READ_MAX_BYTES, READ_MAX_TOTAL
from apixo_async._downloads.files import (
    Part,
    Sink,
    check_size,
    off_loop,
    plan,
    plan_named,
    safe_name,
    sweep,
)
from apixo_async._downloads.names import RESULT_FIELDS, NameTemplate, Naming
from apixo_async._downloads.source import PUBLIC, Again, Reachable, Source
from apixo_async._downloads.spool import ByteAllowance, FileStream, Spool
from apixo_async._downloads.transfer import Transfer, finish, receive
from apixo_async._http.retry import RetryPolicy
from apixo_async._http.wire import parse_retry_after
from apixo_async._sync import bound_after
from apixo_async._types import File, Result
from apixo_async.errors import ConfigurationError, DownloadError, ResultExpiredError

T = TypeVar("T")

#: Statuses after which a repeat may succeed, beside every 5xx (RFC 9110, 15.5.9; RFC 8470, 5.2;
#: RFC 6585, 4).
_TRANSIENT: Final = frozenset({408, 425, 429})
_GONE: Final = frozenset({404, 410})
_USABLE: Final = frozenset({200, 206, 416})
#: The documents disagree: one page says that results are kept for 24 hours, the others 15 days. A
#: 403 for an older result means that it expired; for a younger one, a URL that is not allowed.
_SHORTER_LIFETIME: Final = timedelta(hours=24)
_LONGEST_RETRY_AFTER: Final = 60.0  # seconds: a CDN may ask for more than the budget of repeats
_LONGEST_PAUSE: Final = 8.0  # seconds between tries of one file, unless the server asks for more
_SWEPT: Final = 64  # directories that a downloader remembers as swept
_CLEANING: Final = 10.0  # seconds that a cancelled download waits until its files are removed
_SPOOLED: Final = 8 * 1_048_576  # bytes of a streamed file that stay in memory
_ADVICE: Final = "attach to the task for fresh URLs; if they fail too, generate it again"


@dataclass(frozen=True, slots=True)
class DownloadTimeouts:
    """How long each part of a download may take, in seconds; the documents bound none of these.

    Attributes:
        connect: Opening a connection.
        read: From one received piece of an answer to the next.
        write: From one sent piece of a request to the next.
        pool: Waiting for a connection.
        retry: From the first failure of a file: no repeat begins later.
        transfer: One try of one file, from its request to its last byte.
    """

    connect: float = 10.0
    read: float = 30.0
    write: float = 30.0
    pool: float = 30.0
    retry: float = 120.0
    transfer: float = 900.0


@dataclass(slots=True)
class _Job(Generic[T]):
    """One file that is being received, and what its tries share."""

    result: Result
    url: str
    part: Sink[T]
    max_bytes: int
    transfer: Transfer = field(default_factory=Transfer)


class Downloader:
    """Save results through a transport that stays the caller's.

    Args:
        transport: What carries the requests. Its owner closes it.
        user_agent: The `User-Agent`; beside it only `Accept` and `Accept-Encoding` are sent.
        rng: The source of the jitter.
        timeouts: How long each part may take.
        concurrency: Files that are transferred at once, over all calls.
        reachable: Which addresses are asked.
        now: The wall clock, from which the age of a result follows.
    """

    def __init__(
        self,
        transport: httpx2.AsyncBaseTransport,
        *,
        user_agent: str,
        rng: random.Random,
        timeouts: DownloadTimeouts = DownloadTimeouts(),
        concurrency: int = 16,
        reachable: Reachable = PUBLIC,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        phases = {name: getattr(timeouts, name) for name in ("connect", "read", "write", "pool")}
        self._source = Source(
            transport, user_agent=user_agent, timeouts=phases, reachable=reachable
        )
        self._rng = rng
        self._timeouts = timeouts
        self._concurrency = concurrency
        self._now = now
        self._places: tuple[asyncio.AbstractEventLoop, asyncio.Semaphore] | None = None
        self._swept: deque[Path] = deque(maxlen=_SWEPT)

    @staticmethod
    def naming(name: str | None) -> Naming | None:
        """Return how the files of a result are named by a template.

        Raises:
            ConfigurationError: It is none.
        """
        if name is None:
            return None
        return Naming(NameTemplate.checked(name, RESULT_FIELDS), {})

    async def download(
        self,
        result: Result,
        target: str | os.PathLike[str],
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        naming: Naming | None = None,
    ) -> list[Path]:
        """Save every file of a result and return their paths, in the order of its URLs.

        A target that is a directory, ends in a separator or has no suffix is a directory, created
        where it is missing: its files are named `{task id}-{number}.{extension}`, numbered from 1,
        with the extension that their bytes call for. Any other target is a file: `cat.png` is
        written as it is named, or as `cat-1.png`, `cat-2.png` ... where there are several.

        A file appears under its name only when it is whole, and replaces one of the same name. But
        in a directory, an image or video that an earlier call left whole, after the task was
        created, is kept and not asked for again, so that a call can be repeated for the files that
        failed. The first call for a directory removes the hidden `.part` files that killed
        processes left in it.

        With a template of names the target is always a directory. A file in it that has the name
        already and differs is never replaced: then the task's id and the number follow the name.

        Args:
            result: What a task made.
            target: Where to; see above.
            max_bytes: Bytes that each file may have, at least 1.
            naming: The template of names and its values, or None for the names above.

        Raises:
            ResultExpiredError: The files are no longer stored.
            DownloadError: Some files could not be saved; `saved` names the others.
            ConfigurationError: `max_bytes` is below 1.
        """
        _check(result, max_bytes=max_bytes)
        if naming is not None:
            places = plan_named(result, target, naming)
        else:
            places = await off_loop(partial(plan, result.task_id, target, len(result.urls)))
        directory = places[0].directory
        if directory not in self._swept:
            self._swept.append(directory)
            await off_loop(partial(sweep, directory))
        pairs = zip(result.urls, map(Part, places), strict=True)
        return await _gather(
            result, [self._save(_Job(result, url, part, max_bytes)) for url, part in pairs]
        )

    async def read(
        self,
        result: Result,
        *,
        max_bytes: int = READ_MAX_BYTES,
        max_total: int = READ_MAX_TOTAL,
    ) -> list[File]:
        """Return every file of a result with its bytes, in the order of its URLs.

        Args:
            result: What a task made.
            max_bytes: Bytes that each file may have, at least 1.
            max_total: Bytes that all of them may have together, at least 1.

        Raises:
            ResultExpiredError: The files are no longer stored.
            DownloadError: Some files could not be read, or are too large.
            ConfigurationError: A bound is below 1.
        """
        _check(result, max_bytes=max_bytes, max_total=max_total)
        allowance = ByteAllowance(max_total)

        async def read(index: int) -> File:
            with self.spool(allowance) as spool:
                file = await self._receive(result, index, spool, max_bytes)
                return File(file.name, file.media_type, spool.take_content(), file.url)

        return await _gather(result, [read(index) for index in range(len(result.urls))])

    @contextlib.contextmanager
    def spool(self, allowance: ByteAllowance | None = None) -> Generator[Spool]:
        """Yield what a file can be received into, and remove it afterwards.

        Args:
            allowance: Keeps it in memory, within these bytes.
        """
        spool = Spool(_SPOOLED if allowance is None else 0, allowance)
        try:
            yield spool
        finally:
            spool.discard()

    async def receive(
        self, result: Result, index: int, spool: Spool, *, max_bytes: int = DEFAULT_MAX_BYTES
    ) -> FileStream:
        """Receive one file of a result, and return it to be read.

        Args:
            result: What a task made.
            index: The place of its URL among those of the result, from 0.
            spool: What to receive it into.
            max_bytes: Bytes that it may have, at least 1.

        Raises:
            ResultExpiredError: It is no longer stored.
            DownloadError: It could not be received, or is too large.
            ConfigurationError: `index` or `max_bytes` is wrong.
        """
        _check(result, max_bytes=max_bytes)
        if index not in range(len(result.urls)):
            raise ConfigurationError(f"index={index!r}; from 0 to {len(result.urls) - 1}")
        (file,) = await _gather(result, [self._receive(result, index, spool, max_bytes)])
        return file

    async def _receive(
        self, result: Result, index: int, spool: Spool, max_bytes: int
    ) -> FileStream:
        url = result.urls[index]
        media = await self._fetch(_Job(result, url, spool, max_bytes))
        return FileStream(spool, f"{safe_name(result.task_id)}-{index + 1}", media, url)

    async def _save(self, job: _Job[T]) -> T:
        try:
            return await self._fetch(job)
        finally:
            job.part.discard()

    async def _fetch(self, job: _Job[T]) -> T:
        try:
            if kept := await off_loop(partial(job.part.find_whole, job.result.created_at)):
                return kept
            return await self._repeat(job)
        except DownloadError:
            raise
        except Exception as exc:
            # A defect here or in a transport fails this file only: its siblings were paid for, too.
            raise DownloadError(f"{type(exc).__name__} while it was saved") from exc
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # The caller did not cancel: without this, a transport's own cancellation would pass
            # for the caller's.
            raise DownloadError("its transport cancelled the request by itself") from exc

    async def _repeat(self, job: _Job[T]) -> T:
        loop = asyncio.get_running_loop()
        budget = self._timeouts.retry
        policy = RetryPolicy(budget=budget, rng=self._rng, longest=_LONGEST_PAUSE)
        while True:
            # A client may be used in one event loop after another; a semaphore belongs to one.
            if self._places is None or self._places[0] is not loop:
                self._places = loop, asyncio.Semaphore(self._concurrency)
            try:
                async with self._places[1]:
                    with bound_after(self._timeouts.transfer):
                        return await self._try(job)
            except TimeoutError as exc:
                bound = self._timeouts.transfer
                raise DownloadError(f"it did not come within {bound:g} s; download again") from exc
            except Again as again:
                if not job.part.size:
                    # In an outage a thousand files may wait; a process has few file handles.
                    job.part.discard()
                pause = policy.pause("unavailable", loop.time(), again.after)
                if pause is None:
                    raise DownloadError(f"{again}; given up after {budget:g} s") from (
                        again.__cause__ or again
                    )
            await asyncio.sleep(pause)

    async def _try(self, job: _Job[T]) -> T:
        # Opened before the request, so that a full disk costs no transfer, and after the turn has
        # come, so that files in the queue hold no handles.
        await off_loop(job.part.open)
        conditions = job.transfer.conditions(job.part.size)
        async with self._source.ask(job.url, conditions) as response:
            self._check_status(response, job.result)
            use = job.transfer.admit(response, job.part.size)
            if use != "append":
                await off_loop(job.part.restart)
            if use == "useless":
                raise Again("the server answered with a range that was not asked for")
            check_size(job.transfer.total or 0, job.max_bytes)
            encoded, end = job.transfer.encoded, job.transfer.end
            await receive(response, job.part, encoded=encoded, max_bytes=job.max_bytes, end=end)
        return await finish(job.part, job.transfer)

    def _check_status(self, response: httpx2.Response, result: Result) -> None:
        status = response.status_code
        if status in _USABLE:
            return
        words = f"the server answered {status}"
        if status in _TRANSIENT or status >= 500:
            asked = parse_retry_after(response.headers.get("retry-after"), self._now()) or 0.0
            raise Again(words, after=min(asked, _LONGEST_RETRY_AFTER))
        created_at = result.created_at
        is_old = created_at is not None and self._now() - created_at > _SHORTER_LIFETIME
        if status in _GONE or (status == 403 and is_old):
            raise ResultExpiredError(f"{words}: it is no longer stored; {_ADVICE}")
        raise DownloadError(f"{words}; attach to the task for fresh URLs")


def _check(result: Result, **bounds: object) -> None:
    for name, bound in bounds.items():
        if not isinstance(bound, int) or isinstance(bound, bool) or bound < 1:
            raise ConfigurationError(f"{name}={bound!r}; it is a whole number from 1 up")
    if not result.urls:
        raise DownloadError(
            f"{result.ref}: the result has no URLs, nothing to save; look at its `raw`",
            model=result.model,
            task_id=result.task_id,
        )


async def _gather(result: Result, work: Iterable[Coroutine[object, object, T]]) -> list[T]:
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()  # For one that failed, this keeps asyncio from logging its exception.
        with anyio.move_on_after(_CLEANING, shield=True):
            await asyncio.wait(tasks)
        raise
    failures = {number: exc for number, task in enumerate(tasks, 1) if (exc := task.exception())}
    if not failures:
        return [task.result() for task in tasks]
    first = next(iter(failures.values()))
    expired = all(isinstance(exc, ResultExpiredError) for exc in failures.values())
    reasons = "; ".join(f"file {number}: {exc}" for number, exc in failures.items())
    found = [task.result() for task in tasks if task.exception() is None]
    # The cause is what lies behind our error, such as the OSError of a full disk.
    raise (ResultExpiredError if expired else DownloadError)(
        f"{result.ref}: {len(failures)} of {len(tasks)} files not saved: {reasons}",
        model=result.model,
        task_id=result.task_id,
        saved=[path for path in found if isinstance(path, Path)],
    ) from (first.__cause__ or first)

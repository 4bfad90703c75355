"""Save the files of results: all of them, whole, once, and nothing else than files."""

from __future__ import annotations

import asyncio
import os
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import httpx2

from apixo_async._downloads import DEFAULT_MAX_BYTES
from apixo_async._downloads.files import Destination, Part, check_size, off_loop, plan, sweep
from apixo_async._downloads.source import PUBLIC, Again, Reachable, Source
from apixo_async._downloads.transfer import Transfer, finish, receive
from apixo_async._http.retry import Backoff
from apixo_async._http.wire import parse_retry_after
from apixo_async._sync import bound_after
from apixo_async._types import Result
from apixo_async.errors import ConfigurationError, DownloadError, ResultExpiredError

_TRANSIENT: Final = frozenset({408, 425, 429})  # and every 5xx
_GONE: Final = frozenset({404, 410})
_USABLE: Final = frozenset({200, 206, 416})
_SHORTER_LIFETIME: Final = timedelta(hours=24)  # one page says so, where the others say 15 days
_LONGEST_RETRY_AFTER: Final = 60.0
_SWEPT: Final = 64  # directories that a downloader remembers to have swept
_CLEANING: Final = 10.0  # seconds that a cancelled download waits for its files to be removed
_ADVICE: Final = "attach to the task for fresh URLs; if they fail too, generate it again"


@dataclass(frozen=True, slots=True)
class DownloadTimeouts:
    """How long each part of a download may take, in seconds; the documents bound none of these.

    Attributes:
        connect: Opening a connection.
        read: Silence while an answer or more of it is awaited.
        write: Silence while a request is sent.
        pool: Waiting for a connection.
        retry: From the first failure of a file: the budget in which a repeat may begin.
        transfer: One try of one file, from its request to its last byte.
    """

    connect: float = 10.0
    read: float = 30.0
    write: float = 30.0
    pool: float = 30.0
    retry: float = 120.0
    transfer: float = 900.0


@dataclass(slots=True)
class _Job:
    """One file on its way: where from, where to, and what is known by now."""

    result: Result
    url: str
    part: Part
    max_bytes: int
    transfer: Transfer


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Downloader:
    """Save results through a transport that stays the caller's.

    Args:
        transport: What carries the requests. It is closed by its owner.
        user_agent: The `User-Agent`; beside it only `Accept` and `Accept-Encoding` are sent.
        rng: The source of the jitter.
        timeouts: How long each part may take.
        concurrency: Files that are transferred at once, over all calls.
        reachable: Which addresses are asked.
        now: The wall clock, to tell how old a result is.
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
        now: Callable[[], datetime] = _utc_now,
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

    async def download(
        self,
        result: Result,
        target: str | os.PathLike[str],
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> list[Path]:
        """Save every file of a result and return their paths, in the order of its URLs.

        A target that is a directory, ends in a separator or has no suffix is a directory, created
        where it is missing: its files are named `{task id}-{number}.{extension}`, numbered from 1,
        with the extension that their bytes call for. Any other target is a file: `cat.png` is
        written as it is named, or as `cat-1.png`, `cat-2.png` ... where there are several.

        Files appear under their names only when whole; one of the same name is replaced. But in a
        directory, an image or video that an earlier call left whole, after the task was created, is
        kept and not asked for again, so a call can be repeated for the files that failed. The first
        call for a directory removes the hidden `.part` files that killed processes left in it.

        Args:
            result: What a task made.
            target: Where to; see above.
            max_bytes: Bytes that each file may have, at least 1.

        Raises:
            ResultExpiredError: The files are no longer stored.
            DownloadError: Files could not be saved; those that were stand in `saved`.
        """
        if max_bytes < 1:
            raise ConfigurationError(f"max_bytes={max_bytes!r}; a whole number from 1 up")
        if not result.urls:
            raise DownloadError(
                f"{result.ref}: the result has no URLs, nothing to save; its `raw` may tell why",
                model=result.model,
                task_id=result.task_id,
            )
        places = await off_loop(partial(plan, result.task_id, target, len(result.urls)))
        await self._sweep_once(places[0].directory)
        pairs = zip(result.urls, places, strict=True)
        return await _gather(
            result, [asyncio.create_task(self._save(result, *pair, max_bytes)) for pair in pairs]
        )

    async def _sweep_once(self, directory: Path) -> None:
        if directory not in self._swept:
            self._swept.append(directory)
            await off_loop(partial(sweep, directory))

    async def _save(
        self, result: Result, url: str, destination: Destination, max_bytes: int
    ) -> Path:
        part = Part(destination)
        try:
            if kept := await off_loop(partial(destination.find_whole, result.created_at)):
                return kept
            return await self._repeat(_Job(result, url, part, max_bytes, Transfer()))
        except DownloadError:
            raise
        except Exception as exc:
            # A defect, or what was not foreseen: it costs this file, and not its siblings.
            raise DownloadError(f"{type(exc).__name__} while it was saved") from exc
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise DownloadError("its transport cancelled the request by itself") from exc
        finally:
            part.discard()

    async def _repeat(self, job: _Job) -> Path:
        loop = asyncio.get_running_loop()
        backoff: Backoff | None = None
        while True:
            try:
                return await self._bounded_try(job)
            except Again as again:
                if not job.part.size:
                    job.part.discard()  # files that wait are many in an outage, open ones are few
                budget = self._timeouts.retry
                backoff = backoff or Backoff(loop.time(), budget=budget, rng=self._rng)
                pause = backoff.pause(loop.time(), at_least=again.after)
                if pause is None:
                    raise DownloadError(f"{again}; given up after {budget:g} s") from _root(again)
            await asyncio.sleep(pause)

    async def _bounded_try(self, job: _Job) -> Path:
        try:
            async with self._place(), bound_after(self._timeouts.transfer):
                return await self._try(job)
        except TimeoutError as exc:
            bound = self._timeouts.transfer
            raise DownloadError(f"it did not come within {bound:g} s") from exc

    def _place(self) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        if self._places is None or self._places[0] is not loop:
            self._places = loop, asyncio.Semaphore(self._concurrency)
        return self._places[1]

    async def _try(self, job: _Job) -> Path:
        # Before anything is asked for, and not before it is this file's turn.
        await off_loop(job.part.open)
        conditions = job.transfer.conditions(job.part.size)
        async with self._source.ask(job.url, conditions) as response:
            self._check_status(response, job.result)
            use = job.transfer.admit(response, job.part.size)
            if use != "append":
                await off_loop(job.part.restart)
            if use == "useless":
                raise Again("the server answered with another range than was asked for")
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
        if status in _GONE or (status == 403 and self._is_old(result)):
            raise ResultExpiredError(f"{words}: it is no longer stored; {_ADVICE}")
        raise DownloadError(words)

    def _is_old(self, result: Result) -> bool:
        created_at = result.created_at
        return created_at is not None and self._now() - created_at > _SHORTER_LIFETIME


async def _gather(result: Result, tasks: Sequence[asyncio.Task[Path]]) -> list[Path]:
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()  # where one has failed, this also tells asyncio not to complain of it
        with anyio.move_on_after(_CLEANING, shield=True):
            await asyncio.wait(tasks)
        raise
    failures = {number: exc for number, task in enumerate(tasks, 1) if (exc := task.exception())}
    if not failures:
        return [task.result() for task in tasks]
    saved = [task.result() for task in tasks if task.exception() is None]
    raise _summary(result, failures, saved) from _root(next(iter(failures.values())))


def _root(exc: BaseException) -> BaseException:
    """Return what lies behind an error of ours, such as the OSError of a full disk."""
    return exc.__cause__ or exc


def _summary(
    result: Result, failures: dict[int, BaseException], saved: list[Path]
) -> DownloadError:
    expired = all(isinstance(exc, ResultExpiredError) for exc in failures.values())
    cls = ResultExpiredError if expired else DownloadError
    count = len(failures) + len(saved)
    told = "; ".join(f"file {number}: {exc}" for number, exc in failures.items())
    return cls(
        f"{result.ref}: {len(failures)} of {count} files not saved: {told}",
        model=result.model,
        task_id=result.task_id,
        saved=saved,
    )

"""Disks for tests of journals: slow ones in virtual time, and one that hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from apixo_async.journal._writer import Writer


@contextmanager
def slow_disk(seconds: float | None) -> Iterator[list[Disk]]:
    """Have each commit, and each closing, of journals opened here take seconds of the loop's time.

    They go to the journal's thread one after the other, each that much later, so that virtual time
    passes: a sleep in the thread would stop it. None is a disk that hangs: nothing is done before
    the context ends. Opening takes no time. The disks may be given other seconds at any time.
    """
    disks: list[Disk] = []
    init = Writer.__init__

    def slow(writer: Writer, *args: Any, **options: Any) -> None:
        init(writer, *args, **options)
        disk: Any = Disk(writer, seconds)
        writer._loop = writer._thread = disk
        disks.append(disk)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Writer, "__init__", slow)
        try:
            yield disks
        finally:
            for disk in disks:
                disk.end()


class Disk:
    """The loop and the thread of one writer, with seconds between them.

    Attributes:
        seconds: What the next commit takes.
    """

    def __init__(self, writer: Writer, seconds: float | None) -> None:
        self._loop, self._thread, self.seconds = writer._loop, writer._thread, seconds
        self._close = writer._store.close
        self._free_at = 0.0
        self._waiting: list[Callable[[], object]] = []
        self.create_future, self.call_soon = self._loop.create_future, self._loop.call_soon
        self.call_later = self._loop.call_later

    def run_in_executor(
        self, _: object, act: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(partial(act, *args))
        if self.seconds is not None:
            self._free_at = max(self._free_at, self._loop.time()) + self.seconds
            self._loop.call_at(self._free_at, self._do, future)
        return future

    def _do(self, future: asyncio.Future[Any]) -> None:
        done = self._loop.run_in_executor(self._thread, self._waiting.pop(0))
        done.add_done_callback(partial(_hand_on, future))

    def shutdown(self, wait: bool) -> None:
        """Keep the thread for what is still to come."""

    def end(self) -> None:
        """Do what waits, and close the file."""
        for act in (*self._waiting, self._close):
            self._thread.submit(act)
        self._waiting.clear()
        self._thread.shutdown()


def _hand_on(future: asyncio.Future[Any], done: asyncio.Future[Any]) -> None:
    if future.done():
        return
    error = done.exception()
    if error is None:
        future.set_result(done.result())
    else:
        future.set_exception(error)

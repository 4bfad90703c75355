"""Which event loop and which process a client belongs to."""

from __future__ import annotations

import asyncio
import os

from apixo_async._core.errors import ConfigurationError

_OTHER_LOOP = (
    "this client belongs to another event loop, which still runs: make one client for each loop"
)


class Binding:
    """Bind to the loop of the first use; bind anew only when that loop is closed."""

    __slots__ = ("_loop", "_pid")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether the running loop is the one bound to."""
        try:
            return self._loop is not None and asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    @property
    def is_orphaned(self) -> bool:
        """Whether the loop bound to is closed."""
        return self._loop is not None and self._loop.is_closed()

    def check_elsewhere(self) -> None:
        """Refuse to go on where another loop, which still runs, is the one bound to.

        Raises:
            ConfigurationError: It is, or this process is a fork.
        """
        if self._loop is None:
            return
        self._check_process()
        if not self.is_here and not self._loop.is_closed():
            raise ConfigurationError(_OTHER_LOOP)

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ConfigurationError(
                "this client was used before the process forked: make a new one in the child"
            )

    def bind(self, unfinished: int) -> bool:
        """Bind to the running loop; say whether that is a new one.

        Args:
            unfinished: Tasks in flight on the loop bound to so far.

        Raises:
            ConfigurationError: No loop is running; another one is bound and alive, or was left
                with tasks in flight; or this process is a fork of the one that used the client.
        """
        loop = _running_loop()
        if self._loop is None:
            self._loop, self._pid = loop, os.getpid()
            return True
        self._check_process()
        if loop is self._loop:
            return False
        if not self._loop.is_closed():
            raise ConfigurationError(_OTHER_LOOP)
        if unfinished:
            raise ConfigurationError(
                f"the event loop of this client was closed with {unfinished} tasks in flight: "
                "make a new client and attach to them (their refs are in `client.unfinished`)"
            )
        self._loop = loop
        return True


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigurationError(
            "no asyncio event loop is running here: call this from a coroutine"
        ) from None

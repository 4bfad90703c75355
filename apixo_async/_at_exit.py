"""What runs on the event loop of another thread is closed when the main thread ends."""

from __future__ import annotations

import atexit

# Its hook at exit is to run after the one here, and so to be registered before.
import concurrent.futures.thread  # noqa: F401  # pyright: ignore[reportUnusedImport]
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from apixo_async.errors import ApixoError


class Closable(Protocol):
    """What can be closed from any thread, in bounded time."""

    def close(self) -> None:
        """Close it."""
        ...


#: What is open: it is closed at the end, unless it is taken out before.
open_things: Final[set[Closable]] = set()


def _close_all() -> None:
    for each in tuple(open_things):
        with suppress(ApixoError):  # In a child process, where it is not used.
            each.close()


# `atexit` would be too late: stores and names of hosts need threads of executors, which end in a
# hook of this kind, too. The hook registered last is run first.
_register: Callable[[Callable[[], None]], object] = getattr(
    threading, "_register_atexit", atexit.register
)
_register(_close_all)

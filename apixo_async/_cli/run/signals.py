"""Signals that end a run in two steps: the first one is a request, the second an order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_NUMBERS: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def first_signal(told: Callable[[signal.Signals], None]) -> Generator[None]:
    """Give the first Ctrl-C or SIGTERM to a function; the next one does what it did before.

    Args:
        told: Called on the running event loop.
    """
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _NUMBERS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, _frame: FrameType | None) -> None:
        restore()
        loop.call_soon_threadsafe(told, signal.Signals(number))

    for number in _NUMBERS:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()

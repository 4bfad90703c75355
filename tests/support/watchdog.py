"""A bound on the processor time of one life: one that spins or freezes is ended and found."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final

#: Seconds of processor time that a life may take; the longest takes less than a tenth of it.
MOST: Final = 30.0


class FrozenError(KeyboardInterrupt):
    """A life took too long. An event loop lets this through, as it does a KeyboardInterrupt."""


@contextmanager
def watchdog(seconds: float = MOST) -> Generator[None]:
    """Raise `FrozenError` in whatever runs when so much processor time is over, and again later.

    Only the main thread can be interrupted; elsewhere nothing is bounded.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def bark(_: int, frame: FrameType | None) -> None:
        where = "nowhere" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
        raise FrozenError(f"{seconds:.0f} s of processor time are over, in {where}")

    before = signal.signal(signal.SIGPROF, bark)
    signal.setitimer(signal.ITIMER_PROF, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)

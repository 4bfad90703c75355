"""The wall clock of a simulated life: right, off by hours, or stepping in the middle of it."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from datetime import datetime, tzinfo
from typing import Final
from unittest.mock import patch

EPOCH: Final = 1_700_000_000.0
HOUR: Final = 3_600.0


class WallClock:
    """Tell the local Unix time, which need not be the service's.

    Args:
        rng: Decides how wrong it is.
        now: Returns the virtual time.
        from_: The virtual time at which the life begins.
    """

    def __init__(self, rng: random.Random, now: Callable[[], float], from_: float) -> None:
        self._now = now
        self._offset = rng.choice((0.0, 0.0, 0.0, rng.uniform(-12, 12) * HOUR))
        self._steps = [
            (from_ + rng.uniform(0, 400), rng.choice((-1, 1)) * rng.choice((1, 90, HOUR, 5 * HOUR)))
            for _ in range(rng.choice((0, 0, 0, 1, 3)))
        ]

    @property
    def steps(self) -> bool:
        """Whether it is set anew while the life goes on."""
        return bool(self._steps)

    @property
    def is_right(self) -> bool:
        """Whether it tells the service's time throughout."""
        return not self._offset and not self._steps

    def __call__(self) -> float:
        now = self._now()
        return EPOCH + now + self._offset + sum(by for at, by in self._steps if at <= now)


class _AnyDatetime(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, datetime)


@contextmanager
def wall_clock(clock: Callable[[], float]) -> Generator[None]:
    """Have `time.time` and the `datetime.now` of the package tell this clock's time."""

    class Stamp(datetime, metaclass=_AnyDatetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.fromtimestamp(clock(), tz)

    with ExitStack() as patches:
        patches.enter_context(patch("time.time", clock))
        for name, module in tuple(sys.modules.items()):
            if name.startswith("apixo_async.") and vars(module).get("datetime") is datetime:
                patches.enter_context(patch.object(module, "datetime", Stamp))
        yield

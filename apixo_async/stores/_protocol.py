"""What a store does for the limits of an account; the rules are in `_limits.shared`."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class SharedValue(NamedTuple):
    """A value as it was read.

    Attributes:
        body: The value; None where there is none.
        version: What `save` wants.
        now: The time of the store, in seconds, between the call and its return.
        is_lost: Whether there was one within the last minutes that is not there any more.
        open_tasks: How many tasks of the account exist, or may exist, by what the store knows.
    """

    body: bytes | None
    version: int
    now: float
    is_lost: bool = False
    open_tasks: int = 0


class LimitsStore(Protocol):
    """One small value that processes change in turns. It may be lost at any time.

    Every method is awaited on the event loop of its caller, and takes no time from it: the clock is
    the store's own. `StoreError` means that it was not done, as far as the store knows.
    """

    async def load(self) -> SharedValue:
        """Read the value."""
        ...

    async def save(self, body: bytes, version: int) -> bool:
        """Keep a value if none was kept since that version was read; return True if it was."""
        ...

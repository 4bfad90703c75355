"""Refused submits wait while one of them finds out whether they may be repeated."""

from __future__ import annotations

from functools import partial

from apixo_async._bounds import bound_at
from apixo_async._waiters import Waiters


class Probes:
    """One submit at a time asks whether what failed works again; the others wait for its word.

    What can fail is named by a key: a model that is unavailable, or the way to the service. So a
    service that is down meets one repeat now and then, and not one from everybody who waits.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, Waiters[bool]] = {}

    def is_taken(self, key: str) -> bool:
        """Say whether somebody probes."""
        return key in self._waiting

    def take(self, key: str) -> None:
        """Begin to probe."""
        self._waiting.setdefault(key, Waiters())

    async def wait(self, key: str, until: float) -> bool:
        """Wait for the word of whoever probes.

        Returns:
            True if it works again; False if the waiter is to probe from now on.

        Raises:
            TimeoutError: There was no word in time.
        """
        async with bound_at(until):
            return await self._waiting[key].join(lambda: None, partial(self._returned, key))

    def works(self, key: str) -> None:
        """Send everybody on: what failed works again."""
        waiting = self._waiting.pop(key)
        while waiting:
            waiting.hand(True)

    def pass_on(self, key: str) -> None:
        """Leave the probing to the next one in line, if there is one."""
        if self._waiting[key]:
            self._waiting[key].hand(False)
        else:
            del self._waiting[key]

    def _returned(self, key: str, works: bool) -> None:
        if not works:
            self.pass_on(key)

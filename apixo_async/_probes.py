"""Refused submits wait while one of them finds out whether they may be repeated."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Final

from apixo_async._bounds import bound_at
from apixo_async._waiters import Waiters

#: So many of those who wait follow each one that got through: 1,000 of them take ten steps.
_FOLLOW: Final = 2


class Probes:
    """One submit at a time asks whether what failed works again; the others wait for its word.

    What can fail is named by a key: a model that is unavailable, or the way to the service. So a
    service that is down meets one repeat now and then, and not one from everybody who waits. Nor
    does a service that answers now and then: each submit that gets through lets two more go.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, Waiters[bool]] = {}
        self._probing: Counter[str] = Counter()

    def is_taken(self, key: str) -> bool:
        """Say whether somebody probes."""
        return key in self._waiting

    def is_shared(self, key: str) -> bool:
        """Return True if several probe at once: one that fails then leaves it to the others."""
        return self._probing[key] > 1

    def take(self, key: str) -> None:
        """Begin to probe."""
        self._waiting.setdefault(key, Waiters())
        self._probing[key] += 1

    async def wait(self, key: str, until: float) -> bool:
        """Wait for the result of a probe; the waiter probes itself from then on.

        Returns:
            True if it is to go at once, as another one got through; False if after a pause.

        Raises:
            TimeoutError: There was no word in time.
        """
        async with bound_at(until):
            return await self._waiting[key].join(lambda: None, partial(self._returned, key))

    def works(self, key: str) -> None:
        """Stop probing after a success, and send the next ones on."""
        for _ in range(_FOLLOW):
            if self._waiting[key]:
                self._probing[key] += 1
                self._waiting[key].hand(True)
        self._leave(key)

    def pass_on(self, key: str) -> None:
        """Stop probing, and leave it to the next one in line, if no other probe is left."""
        if self._waiting[key] and not self.is_shared(key):
            self._probing[key] += 1
            self._waiting[key].hand(False)
        self._leave(key)

    def _leave(self, key: str) -> None:
        self._probing[key] -= 1
        if not self._probing[key]:
            del self._probing[key], self._waiting[key]

    def _returned(self, key: str, works: bool) -> None:
        if works and self._waiting[key]:
            self._waiting[key].hand(True)  # In its place.
        else:
            self.pass_on(key)

"""Whether and when a refused submit is sent again: one submit probes for all that wait."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final

from apixo_async._http.retry import RetryPolicy
from apixo_async._http.verdicts import Refused
from apixo_async._submit.requests import Ended
from apixo_async._sync import Bound, Waiters
from apixo_async.errors import ApixoError, retry_after_of

#: Waiting submits that each successful one releases: 1,000 of them are released in ten steps.
_FOLLOW: Final = 2


class RetryProbes:
    """One submit at a time probes whether what failed works again; the others wait for its result.

    A key names what failed: a model that is unavailable, or the way to the service. So a service
    that is down gets one repeat at a time, and not one from every waiting submit. Each submit that
    succeeds releases two more, and not all: 1,000 waiting submits would otherwise overrun a
    service that answers only now and then.

    Refusals that are no 429 only: a 429 is the limiter's, and its `CircuitBreaker` closes for all
    at once.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, Waiters[bool]] = {}
        self._probing: Counter[str] = Counter()

    def is_taken(self, key: str) -> bool:
        """Return True if a submit probes."""
        return key in self._waiting

    def is_shared(self, key: str) -> bool:
        """Return True if several submits probe: one that fails leaves probing to the others."""
        return self._probing[key] > 1

    def take(self, key: str) -> None:
        """Begin to probe."""
        self._waiting.setdefault(key, Waiters())
        self._probing[key] += 1

    async def wait(self, key: str, until: float) -> bool:
        """Wait for the result of a probe; from then on the waiter probes itself.

        Returns:
            True if it is to be sent now, since another one succeeded; False if after a pause.

        Raises:
            TimeoutError: There was no result in time.
        """

        def undo(works: bool) -> None:
            """Pass the turn on which a waiter got while it was cancelled."""
            if works and self._waiting[key]:
                self._waiting[key].hand(True)
            else:
                self.pass_on(key)

        with Bound(until):
            return await self._waiting[key].join(lambda: None, undo)

    def works(self, key: str) -> None:
        """Stop probing after a success, and release the next submits."""
        for _ in range(_FOLLOW):
            if self._waiting[key]:
                self._probing[key] += 1
                self._waiting[key].hand(True)
        self._leave(key)

    def pass_on(self, key: str) -> None:
        """Stop probing, and leave it to the next waiting submit if no other one probes."""
        if self._waiting[key] and not self.is_shared(key):
            self._probing[key] += 1
            self._waiting[key].hand(False)
        self._leave(key)

    def _leave(self, key: str) -> None:
        self._probing[key] -= 1
        if not self._probing[key]:
            del self._probing[key], self._waiting[key]


class SubmitRetries:
    """The repeats of one submit, after refusals that allow them."""

    def __init__(self, probes: RetryProbes, patience: RetryPolicy) -> None:
        self._probes = probes
        self._patience = patience
        self._key: str | None = None
        self._probing: str | None = None

    def note(self, ended: Ended, model: str) -> None:
        """Record how an attempt ended.

        If it succeeded, or failed by something else than what it probed for, that works again:
        the waiting submits are released.
        """
        key = _key(ended, model)
        self._key = key
        if self._probing is None:
            return
        if key is None or key != self._probing:
            self._probes.works(self._probing)
            self._probing = None
        elif self._probes.is_shared(key):
            self.end()

    async def again(
        self, refused: Refused, report: Callable[[ApixoError, float | None], None]
    ) -> bool:
        """Wait until the submit may be sent again; return False if it may not."""
        now = asyncio.get_running_loop().time()
        if self._key is not None and self._probing is None and self._probes.is_taken(self._key):
            until = self._patience.refused(now)
            report(refused.error, until - now)
            try:
                at_once = await self._probes.wait(self._key, until)
            except TimeoutError:
                return False
            self._probing = self._key
            if at_once:
                return True
            now = asyncio.get_running_loop().time()
        pause = self._patience.pause(refused.repeat, now, retry_after_of(refused.error))
        # Repeats after a 429 are reported as `LimitReached`, once for all submits that it closes.
        if pause is None or refused.repeat != "throttled":
            report(refused.error, pause)
        if pause is None:
            return False
        if self._key is not None and self._probing is None:
            self._probing = self._key
            self._probes.take(self._key)
        await asyncio.sleep(pause)
        return True

    def end(self) -> None:
        """Leave probing to another submit."""
        if self._probing is not None:
            self._probes.pass_on(self._probing)
            self._probing = None


def _key(ended: Ended, model: str) -> str | None:
    """Return the key of what failed: "" for the way to the service, a model, or None."""
    if not isinstance(ended, Refused):
        return None
    return {"unsent": "", "unavailable": model}.get(ended.repeat or "")

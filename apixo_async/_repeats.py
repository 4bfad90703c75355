"""Whether, and when, a refused submit is sent again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from apixo_async._core.errors import ApixoError, retry_after_of
from apixo_async._core.retry import Patience
from apixo_async._core.verdicts import Refused
from apixo_async._posts import Ended
from apixo_async._probes import Probes


class Repeats:
    """The repeats of one submit, after refusals that allow them."""

    def __init__(self, probes: Probes, patience: Patience) -> None:
        self._probes = probes
        self._patience = patience
        self._key: str | None = None
        self._probing: str | None = None

    def note(self, ended: Ended, model: str) -> None:
        """Note how an attempt ended; another end than before is good news for those who wait."""
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
        """Wait until the submit is to be repeated; say whether it is at all."""
        now = asyncio.get_running_loop().time()
        if self._key is not None and self._probing is None and self._probes.is_taken(self._key):
            until = self._patience.until(now)
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
        """Leave the probing to somebody else."""
        if self._probing is not None:
            self._probes.pass_on(self._probing)
            self._probing = None


def _key(ended: Ended, model: str) -> str | None:
    """Return what failed: the way to the service, a model that is unavailable, or nothing."""
    if not isinstance(ended, Refused):
        return None
    return {"unsent": "", "unavailable": model}.get(ended.repeat or "")

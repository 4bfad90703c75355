"""The balance of the key: one GET, repeated within a budget of time."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from typing import Final

from apixo_async._config import Timeouts
from apixo_async._http.api import Api
from apixo_async._http.channel import Unanswered
from apixo_async._http.retry import Repeat, RetryPolicy, RetryQuota
from apixo_async._http.verdicts import decisive_code, status_error
from apixo_async._http.wire import as_envelope, read_balance, read_object
from apixo_async.errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    ApixoError,
    RateLimitError,
    retry_after_of,
)

_PATH: Final = "/apikeys/current-balance"

#: Codes that a repeat cannot change (RFC 9110, section 15.5), and the API's 402 for no credit.
_FINAL: Final = frozenset({400, 401, 402, 403, 404, 422})


async def ask_balance(
    api: Api, timeouts: Timeouts, rng: random.Random, quota: RetryQuota
) -> Decimal:
    """Return the USD left on the key.

    Raises:
        APIStatusError: The service refused.
        APIConnectionError: No readable answer came within the budget of repeats.
    """
    loop = asyncio.get_running_loop()
    quota.earn(loop.time())
    policy = RetryPolicy(budget=timeouts.retry, throttled=timeouts.throttled, rng=rng, quota=quota)
    while True:
        found = await _ask_once(api, timeouts.throttled)
        if isinstance(found, Decimal):
            return found
        repeat: Repeat | None = "unavailable"
        if isinstance(found, RateLimitError):
            repeat = "throttled"
        elif isinstance(found, APIStatusError) and _FINAL & {found.status, found.code}:
            repeat = None
        pause = policy.pause(repeat, loop.time(), retry_after_of(found))
        if pause is None:
            raise found
        await asyncio.sleep(pause)


async def _ask_once(api: Api, patience: float) -> Decimal | ApixoError:
    permit = await api.admit_asked(patience)
    try:
        answer = await api.get(permit, _PATH)
    except Unanswered as exc:
        if exc.untrusted:
            raise APIConnectionError(f"the balance was not asked for ({exc.reason})") from None
        cls = APITimeoutError if exc.timed_out else APIConnectionError
        return cls(f"the balance got no answer ({exc.reason}); try again later")
    found = read_object(answer.body, cut=answer.cut)
    envelope = as_envelope(found)
    if decisive_code(answer, envelope) >= 400:
        return status_error(answer, found)
    balance = read_balance(envelope) if envelope is not None and envelope.code == 200 else None
    if balance is None:
        return APIConnectionError(
            f"the balance came as HTTP {answer.status} without a readable number; try again later"
        )
    return balance

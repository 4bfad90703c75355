from __future__ import annotations

import asyncio
import random

import pytest

from apixo_async import APIConnectionError, InternalServerError, RateLimitError
from apixo_async._http.retry import RetryPolicy, RetryQuota
from apixo_async._http.verdicts import Refused
from apixo_async._submit.retries import RetryProbes, SubmitRetries

MODEL = "flux-kontext"
UNSENT = Refused(APIConnectionError("x"), "unsent")
UNAVAILABLE = Refused(InternalServerError("x", status=503), "unavailable")
THROTTLED = Refused(RateLimitError("x", status=429), "throttled")
FINAL = Refused(InternalServerError("x", status=500), None)


def repeats_on(probes: RetryProbes, *, budget: float = 60.0) -> SubmitRetries:
    """Return the repeats of a submit that begins now."""
    now = asyncio.get_running_loop().time()
    patience = RetryPolicy(
        budget=budget, throttled=60.0, rng=random.Random(1), quota=RetryQuota(now)
    )
    return SubmitRetries(probes, patience)


def silent(_error: object, _again_in: float | None) -> None:
    """Report nothing."""


async def test_final_refusal() -> None:
    """A refusal that allows no repeat ends at once."""
    repeats = repeats_on(RetryProbes())
    repeats.note(FINAL, MODEL)
    assert await repeats.again(FINAL, silent) is False


async def test_throttled_is_repeated_at_once() -> None:
    """After a 429 the limiter does the waiting, and nobody probes."""
    probes = RetryProbes()
    repeats, start = repeats_on(probes), asyncio.get_running_loop().time()
    repeats.note(THROTTLED, MODEL)
    assert await repeats.again(THROTTLED, silent) is True
    assert asyncio.get_running_loop().time() == start
    assert not probes.is_taken(MODEL)


@pytest.mark.parametrize(("refused", "key"), [(UNSENT, ""), (UNAVAILABLE, MODEL)])
async def test_the_first_probes_and_the_others_wait(refused: Refused, key: str) -> None:
    """Of two refused submits one repeats, and its success lets the other go."""
    probes, reports = RetryProbes(), list[float | None]()
    first, second = repeats_on(probes), repeats_on(probes)
    first.note(refused, MODEL)
    assert await first.again(refused, silent) is True
    assert probes.is_taken(key)
    second.note(refused, MODEL)
    waiting = asyncio.create_task(second.again(refused, lambda _, after: reports.append(after)))
    await asyncio.sleep(5)
    assert not waiting.done()
    first.note(FINAL, MODEL)
    assert await waiting is True
    assert reports == [pytest.approx(60.0)]
    second.note(FINAL, MODEL)
    assert not probes.is_taken(key)


async def test_other_models_do_not_wait() -> None:
    """A model that is unavailable keeps nobody from another one."""
    probes = RetryProbes()
    first, second = repeats_on(probes), repeats_on(probes)
    first.note(UNAVAILABLE, MODEL)
    await first.again(UNAVAILABLE, silent)
    second.note(UNAVAILABLE, "gpt-image-2")
    assert await asyncio.wait_for(second.again(UNAVAILABLE, silent), 10) is True


async def test_end_hands_the_probing_on() -> None:
    """Whoever stops probing leaves it to the next, who pauses before it tries."""
    probes = RetryProbes()
    first, second = repeats_on(probes), repeats_on(probes)
    first.note(UNSENT, MODEL)
    await first.again(UNSENT, silent)
    second.note(UNSENT, MODEL)
    waiting = asyncio.create_task(second.again(UNSENT, silent))
    await asyncio.sleep(1)
    first.end()
    assert await waiting is True
    assert probes.is_taken("")
    second.end()
    assert not probes.is_taken("")


async def test_budget_of_a_waiter() -> None:
    """A submit that waits for another's word gives up when its own budget is spent."""
    probes = RetryProbes()
    first, second = repeats_on(probes), repeats_on(probes, budget=9.0)
    first.note(UNSENT, MODEL)
    await first.again(UNSENT, silent)
    second.note(UNSENT, MODEL)
    start = asyncio.get_running_loop().time()
    assert await second.again(UNSENT, silent) is False
    assert asyncio.get_running_loop().time() - start == pytest.approx(9.0)

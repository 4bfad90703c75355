"""The first signal is a request, the second one an order."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator

import pytest
import typer

from apixo_async._cli import session
from apixo_async._cli.run.buying import first_signal


@pytest.fixture
def before() -> Iterator[list[int]]:
    """Collect the signals that get through to what handled them before."""
    seen: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    former = [signal.signal(number, lambda number, _: seen.append(number)) for number in numbers]
    yield seen
    for number, handler in zip(numbers, former, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
async def test_only_the_first_one_is_told(first: signal.Signals, before: list[int]) -> None:
    """Whichever comes first is told on the loop; what follows does what it did before."""
    told: list[signal.Signals] = []
    with first_signal(told.append):
        signal.raise_signal(first)
        assert told == []
        await asyncio.sleep(0)
        assert told == [first]
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert before == [signal.SIGTERM, signal.SIGINT]
    assert told == [first]


async def test_afterwards_all_is_as_before(before: list[int]) -> None:
    """A signal after the context is nobody's request."""
    with first_signal(pytest.fail):
        pass
    signal.raise_signal(signal.SIGINT)
    await asyncio.sleep(0)
    assert before == [signal.SIGINT]


@pytest.mark.skipif(sys.platform == "win32", reason="there interrupts are not ignored so")
def test_a_second_sigterm_leaves_where_interrupts_are_ignored() -> None:
    """In a script's background job, SIGTERM is told first and ends the run the next time."""
    told: list[signal.Signals] = []

    async def buy() -> None:
        with first_signal(told.append):
            signal.raise_signal(signal.SIGINT)  # It is ignored, and stays so.
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(0)
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(60)

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with session.terminated_as_interrupted(), pytest.raises(typer.Exit):
            session.run(buy())
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.signal(signal.SIGINT, before)
    assert told == [signal.SIGTERM]

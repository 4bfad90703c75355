"""How long a run waits for what is bought when a signal has ended the buying, in virtual time."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from apixo_async import AsyncClient, Limits
from apixo_async._cli.console import Screen
from apixo_async._cli.exits import ExitCode
from apixo_async._cli.rows.question import check
from apixo_async._cli.run import buying
from apixo_async._cli.run.buying import RunResult
from apixo_async._cli.run.history import read_history
from apixo_async._cli.run.options import RunOptions
from apixo_async.testing import Simulator

LIMITS = Limits(concurrent_tasks=3)


async def signalled(number: signal.Signals, options: RunOptions) -> tuple[RunResult, float]:
    """Run, send a signal after ten seconds, and return what came of it, and when after that."""
    screen, rows = Screen(), options.open_rows()
    history = await read_history(options)
    report = check(rows, is_bought=history.is_bought)
    run = buying.Runner(options, "a run", rows.entries(), report.rows, screen, lines=history.lines)
    going = asyncio.create_task(run.buy(None))
    await asyncio.sleep(10)
    began = asyncio.get_running_loop().time()
    signal.raise_signal(number)
    result = await going
    return result, asyncio.get_running_loop().time() - began


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("lasts", [12.0, 1_000.0])
async def test_the_wait_is_bounded(
    number: signal.Signals, lasts: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks that end in time are saved, the others are left to the next run; no more are bought."""
    service = Simulator(seed=1, durations=lasts)

    @asynccontextmanager
    async def client(*_: object) -> AsyncGenerator[AsyncClient]:
        async with AsyncClient("test-key", transport=service.transport(), limits=LIMITS) as made:
            yield made

    monkeypatch.setattr(buying, "open_client", client)
    (tmp_path / "a.txt").write_text("fox\n" * 10)
    options = RunOptions(
        str(tmp_path / "a.txt"), tmp_path / "out", model="gpt-image-2", limits=LIMITS
    )
    result, took = await signalled(number, options)
    assert result.code is ExitCode.INTERRUPTED
    assert result.signal is number
    assert service.created == 3
    bound = buying.DRAIN[number]
    if lasts < bound:
        assert result.progress.succeeded == 3
        assert took < bound
    else:
        assert result.progress.in_progress == 3
        assert took == pytest.approx(bound, abs=1)

"""Maps whose journals lie on slow disks, and on disks that hang."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from apixo_async import AsyncClient, FluxKontext, JournalError, Limits, Outcomes, Polling
from apixo_async._submit.submitter import Submitter
from apixo_async.testing import Simulator

from ..support.maps import castles
from ..support.slow_disks import slow_disk

ClientOf = Callable[..., AsyncClient]
CASTLE = FluxKontext(mode="pro", prompt="a castle")


@pytest.mark.parametrize("commit", [0.002, 0.1])
async def test_throughput_on_slow_disks(client_of: ClientOf, tmp_path: Path, commit: float) -> None:
    """A slow disk bounds no throughput: as many submits wait for it as the rate needs."""
    # The documented limits take 50 submits a second for tasks of 20 s; four turns of 0.15 s are 27.
    simulator = Simulator(seed=1, durations=3_600.0)
    client = client_of(simulator, polling=Polling.fixed(3_600, 5))
    with slow_disk(commit):
        outcomes = client.map(castles(500), journal=tmp_path / "run.db")
        taking = asyncio.create_task(anext(outcomes))
        await asyncio.sleep(8.0)
        assert simulator.count("submit") >= 8 * 50
        turns = submitter_of(outcomes)._journal_places.limit.size
        # So many may be uncertain although they were never sent, if the process is killed.
        assert turns == 4 if commit < 0.01 else 4 < turns <= 100
        taking.cancel()
        await client.aclose()


def submitter_of(outcomes: Outcomes) -> Submitter:
    return outcomes._run._buyer._submitter


async def test_a_disk_that_hangs_holds_up_nobody_else(client_of: ClientOf, tmp_path: Path) -> None:
    """Its map ends after 30 s, with nothing bought; other maps and callers go on meanwhile."""
    simulator, loop = Simulator(seed=1, durations=5.0), asyncio.get_running_loop()
    client = client_of(simulator, limits=Limits(300), polling=Polling.fixed(5, 1))
    with slow_disk(0.01) as disks:
        stuck = client.map(castles(200), journal=tmp_path / "stuck.db")
        ended = asyncio.create_task(taken(stuck))
        while not simulator.count("submit"):  # noqa: ASYNC110  # its log has no waiters
            await asyncio.sleep(0.01)
        disks[0].seconds = None
        start = loop.time()
        await asyncio.sleep(1.0)
        sent = simulator.count("submit")
        others = client.map(castles(40), journal=tmp_path / "others.db")
        assert [outcome.error async for outcome in others] == [None] * 40
        await client.generate(CASTLE)
        assert loop.time() - start < 20.0
        with pytest.raises(JournalError, match="the disk has not answered for 30 s"):
            await ended
        assert loop.time() - start < 65.0  # Closing waits for the disk, too.
        assert simulator.count("submit") == sent + 41
        assert client.statistics().slots_used == 0


async def taken(outcomes: Outcomes) -> None:
    async for _ in outcomes:
        pass

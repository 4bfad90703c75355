"""Watching a run, in virtual time."""

from __future__ import annotations

import asyncio
import io

import pytest
from rich.console import Console

from apixo_async import Progress, Statistics
from apixo_async._cli.console import Screen
from apixo_async._cli.run.live_view import TICK, Notices, RunSnapshot, watched


class Run:
    """A run that finishes one row each time it is looked at."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self) -> RunSnapshot:
        self.looks += 1
        counts = Statistics(slots_limit=10, requests_limit=10)
        return RunSnapshot("apixo run", 1_000, Progress(read=self.looks), counts)


async def watch(screen: Screen, seconds: float) -> Run:
    """Watch a run for so long."""
    run = Run()
    async with watched(run, Notices(screen), screen):
        await asyncio.sleep(seconds)
    return run


async def test_a_pipe_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    """The title, a line after ten seconds, then one each half a minute; looks come all the time."""
    run = await watch(Screen(), 101)
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "apixo run"
    assert [int(line.split()[0]) for line in told[1:]] == [
        pytest.approx(due / TICK, abs=2) for due in (10, 40, 70, 100)
    ]
    assert run.looks == pytest.approx(101 / TICK, abs=3)


async def test_a_terminal_gets_a_picture_that_moves() -> None:
    """It is drawn four times a second, and a last time when the run is over."""
    screen = Screen()
    target = io.StringIO()
    screen.err = Console(  # type: ignore[assignment]  # a terminal of our own
        file=target, force_terminal=True, width=80, _environ={"TERM": "xterm"}
    )
    run = await watch(screen, 2.0)
    drawn = [line for line in target.getvalue().splitlines() if "finished" in line]
    assert len(drawn) == pytest.approx(2.0 / TICK, abs=3)
    assert f"{run.looks - 1} of 1,000 rows" in drawn[-1]


async def test_a_reader_that_left_stops_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where stderr is closed the run goes on, and is looked at to its end."""

    def gone(*_: object, **__: object) -> None:
        raise BrokenPipeError

    screen = Screen()
    monkeypatch.setattr(screen.err, "print", gone)
    run = await watch(screen, 30.0)
    assert run.looks == 2


async def test_a_defect_of_the_picture_is_no_secret() -> None:
    """What goes wrong in the watching is raised once the run is over, and does not end it."""
    run = Run()
    ended: list[bool] = []

    def look() -> RunSnapshot:
        if run.looks == 3:
            run.looks += 1
            raise ZeroDivisionError
        return run()

    async def go() -> None:
        async with watched(look, Notices(Screen()), Screen()):
            await asyncio.sleep(10)
            ended.append(True)

    with pytest.raises(ZeroDivisionError):
        await go()
    assert ended == [True]

"""Waiting for one task, in virtual time: what is shown, and how the wait ends."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator

import pytest

from apixo_async import AsyncClient, GptImage1, TaskFailedError, WaitTimeoutError
from apixo_async._cli.console import Screen
from apixo_async._cli.generate import watch
from apixo_async.testing import Fault, Simulator

FOX = GptImage1(prompt="a fox", aspect_ratio="1:1", num_images=1)


def half_a_minute(*_: object) -> float:
    """Have every task take 30 s."""
    return 30.0


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say yes."""
        return True


@pytest.fixture
def simulator() -> Simulator:
    """Have a simulator whose tasks take half a minute."""
    return Simulator(durations=half_a_minute)


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[AsyncClient]:
    """Have a client of that simulator."""
    async with AsyncClient("test-key", transport=simulator.transport()) as client:
        yield client


async def test_each_new_state_is_a_line(
    client: AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a pipe the wait prints one line a state, the first with the documents' time."""
    task = await client.submit(FOX)
    result = await watch(task, Screen(), kind=FOX.kind)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert result.task_id == task.id
    assert all(line.startswith(f"{task.id}: ") for line in lines)
    assert lines[0].endswith("typically 20-40 s")
    assert "success, after 3" in lines[-1]
    assert len(lines) == len({line.split(":")[1].split(",")[0] for line in lines})


async def test_a_timeout_ends_the_wait_and_not_the_task(client: AsyncClient) -> None:
    """After the timeout the wait is over, and the task can still be awaited."""
    task = await client.submit(FOX)
    before = asyncio.get_running_loop().time()
    with pytest.raises(WaitTimeoutError) as caught:
        await watch(task, Screen(), timeout=5)
    assert asyncio.get_running_loop().time() - before == pytest.approx(5, abs=0.3)
    assert caught.value.ref == task.ref
    assert (await task).urls


async def test_a_failure_is_raised(client: AsyncClient, simulator: Simulator) -> None:
    """A task that fails raises what awaiting it raises."""
    simulator.faults.submit(Fault.task_fails())
    with pytest.raises(TaskFailedError, match="CONTENT_VIOLATION"):
        await watch(await client.submit(FOX), Screen())


async def test_a_terminal_has_one_moving_line(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal the state moves in a line that is gone when the wait is over."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    task = await client.submit(FOX)
    await watch(task, Screen(), kind=FOX.kind)
    shown = terminal.getvalue()
    assert task.id in shown
    assert "typically 20-40 s" in shown
    assert shown.endswith("\x1b[2K")

"""Journals that are read from outside: while another process writes them, and after its kill."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from apixo_async import AsyncClient, GptImage2, Input, JournalError, Polling
from apixo_async.journal import JournalEntry, open_journal
from apixo_async.testing import Simulator

#: Buy items on a simulator, and say of each that is finished its key.
BUYER = textwrap.dedent(
    """
    import asyncio, sys
    from apixo_async import AsyncClient, GptImage2, Polling
    from apixo_async.testing import Simulator

    async def main():
        service = Simulator(seed=1, speed=200, key="key")
        often = Polling.fixed(0.02, 0.02)
        async with AsyncClient("key", transport=service.transport(), polling=often) as client:
            inputs = ((str(n), GptImage2(prompt=f"castle {n}")) for n in range(int(sys.argv[2])))
            outcomes = client.map(inputs, journal=sys.argv[1])
            async for outcome in outcomes:
                print(outcome.key, flush=True)

    asyncio.run(main())
    """
)


@contextmanager
def buyer(path: Path, items: int) -> Iterator[subprocess.Popen[str]]:
    """Run a buyer, and end it."""
    command = [sys.executable, "-c", BUYER, str(path), str(items)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def finished(process: subprocess.Popen[str], count: int) -> set[str]:
    """Wait until a buyer has finished so many items, and return their keys."""
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(count)]
    assert all(line.endswith("\n") for line in lines)
    return {line.strip() for line in lines}


async def entries(path: Path) -> dict[str, JournalEntry]:
    """Return what a journal holds, by its keys."""
    async with open_journal(path) as journal:
        found = {entry.key: entry async for entry in journal.entries()}
        assert sum((await journal.counts()).values()) == len(found)
        assert (await journal.totals()).purchases == sum(one.purchases for one in found.values())
        return found


def test_while_a_run_writes_and_after_its_kill(tmp_path: Path) -> None:
    """Whatever a run has finished is read at any time, and its run goes on as if nobody read."""
    path = tmp_path / "run.db"
    done: set[str] = set()
    with buyer(path, 100_000) as process:
        for _ in range(3):
            done |= finished(process, 100)
            found = asyncio.run(entries(path))
            # An outcome is handed out before its end is durable, and its purchase before both.
            assert {found[key].state for key in done} <= {"submitted", "success"}
            assert all(found[key].purchases == 1 and found[key].task for key in done)
        assert process.poll() is None
        process.kill()
        process.wait()
    files = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    found = asyncio.run(entries(path))
    assert {found[key].state for key in done} <= {"submitted", "success"}
    assert "intent" not in {entry.state for entry in found.values()}
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == files
    # The next run finds what the reader found.
    with buyer(path, 200) as process:
        finished(process, 200)
    assert asyncio.run(entries(path)).keys() == found.keys()


def test_in_the_process_that_writes(tmp_path: Path) -> None:
    """Reading a journal in its writer's process lets no other run in, nor any other program."""
    path = tmp_path / "run.db"

    async def run() -> None:
        service = Simulator(seed=1, speed=200)
        often = Polling.fixed(0.02, 0.02)
        client = AsyncClient("test-key", transport=service.transport(), polling=often)
        was_read = asyncio.Event()

        async def inputs() -> AsyncIterator[Input]:
            for number in range(50):
                if number == 25:
                    await was_read.wait()
                yield GptImage2(prompt=f"castle {number}")

        async with client, client.map(inputs(), journal=path) as outcomes:
            await anext(outcomes)
            for _ in range(3):
                assert len(await entries(path)) > 0
            with pytest.raises(JournalError, match="another run is using it"):
                _ = [one async for one in client.map([GptImage2(prompt="a hen")], journal=path)]
            other = await asyncio.to_thread(second_run, path)
            assert "another run is using it" in other
            assert await asyncio.to_thread(looked_at, path) == "database is locked"
            was_read.set()
            async for _ in outcomes:
                pass
        assert service.created == 50

    asyncio.run(run())
    assert [one.name for one in tmp_path.iterdir()] == ["run.db"]
    assert {entry.state for entry in asyncio.run(entries(path)).values()} == {"success"}


def second_run(path: Path) -> str:
    """Return what a run in another process says."""
    command = [sys.executable, "-c", BUYER, str(path), "1"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stderr


def looked_at(path: Path) -> str:
    """Return what another program's SQLite says of the file."""
    program = (
        "import sqlite3, sys\n"
        "try:\n    sqlite3.connect(sys.argv[1], timeout=0).execute('SELECT * FROM item')\n"
        "except sqlite3.Error as error:\n    print(error)"
    )
    command = [sys.executable, "-c", program, str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return ran.stdout.strip()


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """A journal in a read-only folder is read, and nothing is put beside it."""
    path = tmp_path / "kept" / "run.db"
    path.parent.mkdir()
    with buyer(path, 20) as process:
        finished(process, 20)
        process.wait(30)
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        assert len(asyncio.run(entries(path))) == 20
        assert [one.name for one in path.parent.iterdir()] == ["run.db"]
    finally:
        path.parent.chmod(0o700)
        shutil.rmtree(path.parent)

"""Journals of other processes: in use, and killed in the middle of their writes."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from apixo_async import JournalError, OtherModel

from ..support.inside import Journal

ITEMS, KILLS, LINES = 20_000, 5, 300

#: Buy items, and say of each what is durable: that it was meant to be bought, and its task.
BUYER = textwrap.dedent(
    """
    import asyncio, os, sys
    from decimal import Decimal
    from apixo_async import GptImage2, Result
    from apixo_async.journal._journal import Journal

    def say(what, key):
        os.write(1, f"{what} {key}\\n".encode())

    async def buy(journal, numbers):
        for number in numbers:
            entry = await journal.enter(str(number), GptImage2(prompt=f"castle {number}"))
            if entry.state != "new":
                continue
            await journal.intend(entry, f"mark {number}", Decimal("0.02"))
            say("intent", entry.key)
            journal.submitted(entry, f"task {number}")
            await journal.flush()
            say("submitted", entry.key)
            journal.succeeded(entry, Result(f"task {number}", "gpt-image-2", ()))

    async def main():
        journal = await Journal.open(sys.argv[1])
        say("open", "journal")
        numbers = iter(range(int(sys.argv[2])))
        await asyncio.gather(*(buy(journal, numbers) for _ in range(20)))

    asyncio.run(main())
    """
)

#: Open a journal, and hold it until the input ends.
HOLDER = textwrap.dedent(
    """
    import asyncio, sys
    from apixo_async.journal._journal import Journal

    async def main():
        journal = await Journal.open(sys.argv[1])
        print("open", flush=True)
        sys.stdin.read()
        await journal.aclose()

    asyncio.run(main())
    """
)


@contextmanager
def program(text: str, *args: object, stderr: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run a program, and end it."""
    command = [sys.executable, "-c", text, *map(str, args)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=stderr, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def lines_until_the_kill(path: Path, lines: int) -> list[str]:
    """Kill a buyer after so many lines, and return all that it has said."""
    with program(BUYER, path, ITEMS) as buyer:
        assert buyer.stdout is not None
        said = [buyer.stdout.readline() for _ in range(lines)]
        buyer.kill()
        # The last line may be cut off in the middle.
        said += [line for line in buyer.stdout.read().splitlines(keepends=True) if "\n" in line]
    return [line.strip() for line in said]


def test_another_process_uses_it(tmp_path: Path) -> None:
    """A journal that another process has open is refused within seconds, and untouched."""
    path = tmp_path / "run.db"
    with program(HOLDER, path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(JournalError, match="another run is using it, and did not close it"):
            asyncio.run(Journal.open(path))
        holder.communicate("", timeout=30)
        assert holder.returncode == 0
    assert [one.name for one in tmp_path.iterdir()] == ["run.db"]
    asyncio.run(open_and_close(path))


def test_another_process_after_a_copy(tmp_path: Path) -> None:
    """A copy or a look at the journal in the process that has it open lets no other one in."""
    path = tmp_path / "run.db"

    async def run() -> None:
        journal = await Journal.open(path)
        shutil.copy(path, tmp_path / "copy.db")
        assert path.read_bytes()
        with program(HOLDER, path, stderr=subprocess.PIPE) as other:
            _, said = other.communicate("", timeout=30)
        assert "another run is using it" in said
        await journal.aclose()

    asyncio.run(run())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGKILL is one of POSIX")
def test_the_files_of_a_killed_run_belong_together(tmp_path: Path) -> None:
    """A killed run's file is refused without its log; with it all is there, and nothing locked."""
    path, log, away = tmp_path / "run.db", tmp_path / "run.db-wal", tmp_path / "away"
    said = lines_until_the_kill(path, LINES)
    assert {one.name for one in tmp_path.iterdir()} == {"run.db", "run.db-wal", "run.db-lock"}
    log.rename(away)
    for _ in range(2):
        with pytest.raises(JournalError, match=r"its log .*run\.db-wal is missing"):
            asyncio.run(open_and_close(path))
    away.rename(log)
    asyncio.run(open_and_close(path))
    assert [one.name for one in tmp_path.iterdir()] == ["run.db"]
    assert {line.split()[1] for line in said[1:]} <= items(path).keys()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("nobody but root mounts a disk, and that on Linux")
    yield place
    subprocess.run(["umount", str(place)], check=True, timeout=10)


def test_a_full_disk(small_disk: Path) -> None:
    """On a disk without room a run ends with an error, and goes on when there is room again."""
    path, ballast = small_disk / "run.db", small_disk / "ballast"
    ballast.write_bytes(b"x" * (500 << 10))
    confirmed: list[str] = []
    with pytest.raises(JournalError, match=r"the disk is full .*free some space"):
        asyncio.run(fill(path, confirmed))
    before = bought(path)
    assert before == confirmed
    ballast.unlink()
    with pytest.raises(JournalError, match="the disk is full"):
        asyncio.run(fill(path, confirmed))
    assert bought(path) == confirmed
    assert len(confirmed) > len(before) > 20


def bought(path: Path) -> list[str]:
    """Return the keys of what was begun to be bought, each once."""
    found = [(key, purchases) for key, (_, purchases, _) in items(path).items() if purchases]
    assert {purchases for _, purchases in found} == {1}
    return [key for key, _ in found]


async def fill(path: Path, confirmed: list[str]) -> None:
    """Note one intent after the other, until there is no room."""
    journal = await Journal.open(path)
    try:
        for number in range(10_000):
            entry = await journal.enter(f"{number}", OtherModel("m", prompt="x" * 500))
            if entry.state == "new":
                await journal.intend(entry, None, None)
                confirmed.append(entry.key)
    finally:
        with suppress(JournalError):
            await journal.aclose()


async def open_and_close(path: Path) -> None:
    await (await Journal.open(path)).aclose()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGKILL is one of POSIX")
def test_kills_lose_nothing_that_was_confirmed(tmp_path: Path) -> None:
    """After each SIGKILL the file is whole, all that was confirmed is in it, nothing is twice."""
    path = tmp_path / "run.db"
    confirmed = Counter[str]()
    for kill in range(KILLS):
        said = lines_until_the_kill(path, LINES + 7 * kill)
        confirmed.update(line for line in said if not line.startswith("open"))
        found = items(path)
        for line, times in confirmed.items():
            what, key = line.split()
            assert times == 1, f"{line}: bought twice"
            state, purchases, task_id = found[key]
            assert purchases == 1
            if what == "submitted":
                assert (state, task_id) in {
                    ("submitted", f"task {key}"),
                    ("success", f"task {key}"),
                }
            else:
                assert state in {"intent", "uncertain", "submitted", "success"}
    assert len(confirmed) > KILLS * LINES // 2
    states = Counter(state for state, *_ in items(path).values())
    assert states["success"] > 0
    asyncio.run(open_and_close(path))
    assert "intent" not in {state for state, *_ in items(path).values()}


def items(path: Path) -> dict[str, tuple[str, int, str | None]]:
    """Return what a file holds, which must be whole."""
    connection = sqlite3.connect(path)
    try:
        # Otherwise SQLite needs room for a file that processes share.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute("SELECT key, state, purchases, task_id FROM item").fetchall()
        return {key: (state, purchases, task_id) for key, state, purchases, task_id in rows}
    finally:
        connection.close()

"""Runs that are killed, interrupted and run again: nothing is bought twice, nothing is lost."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any

import pytest

from ....support.inside import ExitCode
from .conftest import Serve, Service

Apixo = Callable[..., CompletedProcess[str]]
Start = Callable[..., "Popen[str]"]
Rows = Callable[..., str]

BOUND = 60
ROWS = 120
RUN = ("--out", "out", "--yes", "--yes-unknown-price", "--concurrent-tasks", "20")


def until(reached: Callable[[], bool], process: Popen[str]) -> None:
    """Wait until something is so; a process that ends before fails."""
    deadline = time.monotonic() + BOUND
    while not reached():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def files(folder: Path) -> list[str]:
    """Return the names of the pictures of a run."""
    return sorted(path.name for path in folder.glob("task_*"))


def results(folder: Path) -> list[dict[str, Any]]:
    """Return what results.jsonl has."""
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def one_way_or_the_other(service: Service, folder: Path) -> Counter[str]:
    """Check a finished run against the service: each row once, or uncertain; return the states."""
    bought = service.bought()
    assert {*bought.values()} <= {1}
    found = results(folder)
    assert len(found) == ROWS
    states = Counter(one["state"] for one in found)
    assert states.total() == states["downloaded"] + states["uncertain"]
    assert bought.keys() >= {one["model"] for one in found if one["state"] == "downloaded"}
    assert len(files(folder)) == states["downloaded"]
    return states


@pytest.mark.heavy
def test_killed_runs_go_on(start: Start, spawn: Apixo, serve: Serve, rows: Rows) -> None:
    """After three SIGKILLs the same command finishes the job, and no row was bought twice."""
    name = rows(ROWS)
    with serve(latency=0.1) as service:
        arguments = ("run", name, *RUN, "--base-url", service.url)
        for kill in range(1, 4):
            process = start(*arguments)
            least = kill * ROWS // 4
            until(lambda least=least: service.bought().total() >= least, process)  # type: ignore[misc]
            process.kill()
            process.communicate(timeout=BOUND)
        done = spawn(*arguments)
        states = one_way_or_the_other(service, Path("out"))
        assert states["uncertain"] <= 3 * 20
        assert done.returncode == (ExitCode.UNCERTAIN if states["uncertain"] else ExitCode.OK)
        again = service.bought().total()
        assert spawn(*arguments).returncode == done.returncode
        assert service.bought().total() == again
        if states["uncertain"]:
            (command,) = [line for line in done.stderr.splitlines() if "--resubmit-unc" in line]
            assert spawn(*shlex.split(command)[1:]).returncode == ExitCode.OK
            assert len(files(Path("out"))) == ROWS


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)]
)
def test_one_signal_ends_the_buying_and_waits(
    number: signal.Signals, start: Start, spawn: Apixo, serve: Serve, rows: Rows
) -> None:
    """What is bought is waited for and saved; the command that is printed buys the rest."""
    name = rows(ROWS)
    with serve() as service:
        process = start("run", name, *RUN, "--base-url", service.url)
        until(lambda: service.bought().total() >= 20, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=BOUND)
        assert process.returncode == ExitCode.INTERRUPTED, err
        assert "buying has ended" in err
        assert "Traceback" not in err
        bought = service.bought().total()
        assert 20 <= bought < ROWS
        states = Counter(one["state"] for one in results(Path("out")))
        # A moment is all that the sender of SIGTERM grants; it is enough for these tasks.
        assert states["downloaded"] + states["unfinished"] == bought
        assert states["unfinished"] == 0
        assert f"{bought} succeeded" in out
        assert json.loads(Path("out/report.json").read_text())["exit"] == "interrupted"
        (command,) = [line for line in err.splitlines() if line.startswith("  apixo run")]
        assert spawn(*shlex.split(command)[1:]).returncode == ExitCode.OK
        assert one_way_or_the_other(service, Path("out")) == {"downloaded": ROWS}


def test_a_second_signal_leaves_at_once(
    start: Start, spawn: Apixo, serve: Serve, rows: Rows
) -> None:
    """Ctrl-C twice ends a run whose tasks take long; they are there when it goes on."""
    name = rows(10)
    with serve(speed=10) as service:
        process = start("run", name, *RUN, "--base-url", service.url)
        until(lambda: service.bought().total() == 10, process)
        process.send_signal(signal.SIGINT)
        assert process.stderr
        watchdog = threading.Timer(BOUND, process.kill)
        watchdog.start()
        assert any("buying has ended" in line for line in process.stderr)
        watchdog.cancel()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=BOUND)
        assert process.returncode == ExitCode.INTERRUPTED
        assert "Nothing is lost" in err
        assert not Path("out/report.json").exists()
        (command,) = [line for line in err.splitlines() if line.startswith("  apixo run")]
        done = spawn(*shlex.split(command)[1:])
        assert done.returncode == ExitCode.OK, done.stderr
        assert service.bought().total() == 10
        assert len(files(Path("out"))) == 10
        assert {one["resumed"] for one in results(Path("out"))} == {True}


def test_two_runs_share_no_journal(start: Start, spawn: Apixo, serve: Serve, rows: Rows) -> None:
    """A second run on the same folder is told so, and buys nothing; the first one goes on."""
    name = rows(20)
    with serve(speed=10) as service:
        first = start("run", name, *RUN, "--base-url", service.url)
        until(lambda: service.bought().total() == 20, first)
        # Stopped, it cannot end before the second one has begun, however busy the machine is.
        first.send_signal(signal.SIGSTOP)
        try:
            second = spawn("run", name, *RUN, "--base-url", service.url)
        finally:
            first.send_signal(signal.SIGCONT)
        assert second.returncode == ExitCode.JOURNAL
        assert second.stderr.count("\n") == 1
        assert "another run is using it" in second.stderr
        first.communicate(timeout=BOUND)
        assert first.returncode == ExitCode.OK
        assert service.bought().total() == 20


def test_a_pipe_gets_plain_lines(serve: Serve, rows: Rows) -> None:
    """Without a terminal nothing moves: a title, failures, a summary; rows may come from stdin."""
    name = rows(5)
    with serve(failure_rate=1.0) as service:
        command = f"cat {name} | apixo run - {' '.join(RUN)} --base-url {service.url}"
        done = shell(command)
    assert done.returncode == ExitCode.FAILED, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "apixo run: 5 rows of stdin into out" in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("line ")]) == 5
    assert done.stdout.startswith("Rows     5: 5 failed\n")


def shell(command: str) -> CompletedProcess[str]:
    """Run a line of the shell."""
    function = f'apixo() {{ {shlex.quote(sys.executable)} -m apixo_async "$@"; }}; '
    return subprocess.run(
        ["bash", "-c", function + command],
        capture_output=True, text=True, timeout=BOUND, check=False,
    )  # fmt: skip

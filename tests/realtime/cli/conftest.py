"""The real command and the simulators that it talks to, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from apixo_async import AsyncClient, Polling
from apixo_async._cli import app, session
from apixo_async.testing import serve_process

KEY = 'canary/key+7f="3a'  # With what JSON escapes.
COMMAND = (sys.executable, "-m", "apixo_async")
#: Seconds after which a command that hangs fails its test.
BOUND = 60

Apixo = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="session")
def key() -> str:
    """Name the key that must appear in no output."""
    return KEY


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """Have a simulator on which everything goes well, a hundred times as fast."""
    with serve_process(key=KEY, speed=100) as url:
        yield url


@pytest.fixture(scope="session")
def slow_url() -> Iterator[str]:
    """Have a simulator whose tasks take their real time."""
    with serve_process(key=KEY) as url:
        yield url


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("APIXO_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("APIXO_API_KEY", KEY)
    # A checkout is found from any folder; an installed package is found anyway.
    monkeypatch.setenv("PYTHONPATH", str(Path(app.__file__).parents[2]))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have clients that poll at once and often, as the simulator's time is fast."""
    hasty = partial(AsyncClient, polling=Polling.fixed(0.05, 0.05))
    monkeypatch.setattr(session, "AsyncClient", hasty)


def checked(done: CompletedProcess[str]) -> CompletedProcess[str]:
    """Check what holds for every run: no key in its output, and no traceback."""
    said = done.stdout + done.stderr
    assert not [key for key in (KEY, json.dumps(KEY)[1:-1]) if key in said]
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def apixo(capfd: pytest.CaptureFixture[str]) -> Apixo:
    """Have the command, in this process, where coverage sees it."""

    def run(*arguments: str) -> CompletedProcess[str]:
        code = app.run(arguments)
        out, err = capfd.readouterr()
        return checked(CompletedProcess(arguments, code, out, err))

    return run


@pytest.fixture
def spawn() -> Apixo:
    """Have the command, in a process of its own."""

    def run(*arguments: str) -> CompletedProcess[str]:
        command = [*COMMAND, *arguments]
        return checked(
            subprocess.run(command, capture_output=True, text=True, timeout=BOUND, check=False)
        )

    return run


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Have the command started, and left to run; it is ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str, background: bool = False) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        # The shell of a script has interrupts ignored for its jobs in the background.
        command = ["bash", "-c", 'trap "" INT; exec "$@"', "script"] if background else []
        command += [*COMMAND, *arguments]
        started.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def submitted(apixo: Apixo) -> Callable[[str], tuple[str, str]]:
    """Have something that submits a task to a URL, and returns its model and id."""

    def submit(url: str) -> tuple[str, str]:
        done = apixo("generate", "gpt-image-2", "a fox", "--no-wait", "--base-url", url)
        assert done.returncode == 0, done.stderr
        assert "apixo wait gpt-image-2" in done.stderr
        model, task_id = done.stdout.split()
        return model, task_id

    return submit


@pytest.fixture
def over(apixo: Apixo) -> Callable[[str, str, str], str]:
    """Have something that polls a task until it is over, and returns its state."""

    def poll(url: str, model: str, task_id: str) -> str:
        deadline = time.monotonic() + BOUND
        while time.monotonic() < deadline:
            done = apixo("status", model, task_id, "--json", "--base-url", url)
            state = str(json.loads(done.stdout)["state"])
            if state in ("success", "failed"):
                return state
        pytest.fail("the task did not end")

    return poll

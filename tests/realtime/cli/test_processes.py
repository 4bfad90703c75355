"""The command as a process: signals, pipes, and the simulator that it serves."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import IO

import pytest

from apixo_async._cli import generate, simulate
from apixo_async._cli.console import Screen

from ...support.inside import ExitCode

Apixo = Callable[..., CompletedProcess[str]]
Start = Callable[..., "Popen[str]"]
Over = Callable[[str, str, str], str]

BOUND = 60
SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def first_line(process: Popen[str], stream: IO[str] | None, beginning: str = "") -> str:
    """Return the next such line of a stream; a process that says nothing is killed."""
    assert stream
    watchdog = threading.Timer(BOUND, process.kill)
    watchdog.start()
    try:
        return next(line for line in stream if line.startswith(beginning))
    finally:
        watchdog.cancel()


@SIGNALS
def test_an_interrupted_wait_says_how_to_go_on(
    number: signal.Signals, start: Start, spawn: Apixo, over: Over, url: str, tmp_path: Path
) -> None:
    """Ctrl-C and SIGTERM end a wait with 130; the command that they print finishes the job."""
    process = start("generate", "gpt-image-1", "a fox", "--out", "made", "--base-url", url)
    task_id = first_line(process, process.stderr, "task_").partition(":")[0]
    process.send_signal(number)
    out, rest = process.communicate(timeout=BOUND)
    assert process.returncode == ExitCode.INTERRUPTED
    assert "Traceback" not in rest
    assert out == ""
    (command,) = [line for line in rest.splitlines() if "apixo wait" in line]
    words = shlex.split(command)
    assert words[:4] == ["apixo", "wait", "gpt-image-1", task_id]
    assert over(url, "gpt-image-1", task_id) == "success"
    done = spawn(*words[1:])
    assert done.returncode == ExitCode.OK, done.stderr
    assert (tmp_path / done.stdout.strip()).is_file()


@SIGNALS
def test_an_interrupt_keeps_the_id(
    number: signal.Signals, apixo: Apixo, slow_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The id of a task whose wait is interrupted is printed once, with the command to go on."""

    async def interrupted(*_: object, **__: object) -> None:
        signal.raise_signal(number)
        await asyncio.sleep(BOUND)

    monkeypatch.setattr(generate, "watch", interrupted)
    done = apixo("generate", "gpt-image-1", "a fox", "--base-url", slow_url)
    assert done.returncode == ExitCode.INTERRUPTED
    assert done.stdout == ""
    pattern = rf"^  apixo wait gpt-image-1 task_\d+ --out \. --base-url {slow_url}$"
    assert len(re.findall(pattern, done.stderr, re.M)) == 1


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    """`apixo models | true` ends without a word on stderr, and with 0."""
    script = f"{shlex.join([sys.executable, '-m', 'apixo_async'])} models --json"
    # The reader is gone before the first byte comes.
    command = f"{{ sleep 0.2; {script}; echo $? > code; }} | true"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=BOUND, check=False
    )
    assert done.stderr == ""
    assert (tmp_path / "code").read_text() == "0\n"


@SIGNALS
def test_simulate_serves_until_it_is_told_to_end(number: signal.Signals, start: Start) -> None:
    """The curl line that it prints works as it is; a signal ends it with 0."""
    process = start("simulate", "--port", "0", "--json", "--speed", "50", "--key", "it's a key")
    told = json.loads(first_line(process, process.stdout))
    assert told["page"] == f"{told['base_url']}/"
    if shutil.which("curl"):
        answer = subprocess.run(
            ["bash", "-c", f"{told['curl']} --silent"],
            capture_output=True, text=True, timeout=BOUND, check=True,
        )  # fmt: skip
        assert json.loads(answer.stdout)["data"]["taskId"].startswith("task_")
    process.send_signal(number)
    out, err = process.communicate(timeout=BOUND)
    assert (process.returncode, out, err) == (ExitCode.OK, "", "")


BACKGROUND = {
    "simulate": (("simulate", "--port", "0", "--json"), '{"base_url"', ExitCode.OK),
    "demo": (("demo", "--speed", "0.1", "--json"), "", ExitCode.INTERRUPTED),
    "generate": (("generate", "gpt-image-1", "a fox"), "task_", ExitCode.INTERRUPTED),
}


@pytest.mark.parametrize("name", BACKGROUND)
def test_sigterm_ends_what_a_script_started_in_the_background(
    name: str, start: Start, slow_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Ctrl-C is ignored SIGTERM still ends a command, in order, and Ctrl-C is ignored."""
    monkeypatch.setenv("APIXO_BASE_URL", slow_url)
    arguments, said, code = BACKGROUND[name]
    process = start(*arguments, background=True)
    first_line(process, process.stdout if name == "simulate" else process.stderr, said)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.3)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=BOUND)
    assert process.returncode == code, err
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_simulate_introduces_itself(
    arguments: tuple[str, ...], apixo: Apixo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person is told the address, the page and two things to try; a program gets the same."""
    introduce = simulate.introduce

    def introduce_and_end(url: str, key: str, screen: Screen) -> None:
        introduce(url, key, screen)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(simulate, "introduce", introduce_and_end)
    done = apixo("simulate", "--port", "0", *arguments)
    assert done.returncode == ExitCode.OK, done.stderr
    found = re.search(r"http://127\.0\.0\.1:\d+", done.stdout)
    assert found
    url = found[0]
    assert f"curl -X POST {url}/api/v1/generateTask/" in done.stdout
    assert f"{url}/" in done.stdout.replace('"', " ").split()
    if not arguments:
        assert f"APIXO_BASE_URL={url} APIXO_API_KEY=test-key" in done.stdout


def test_simulate_for_everybody_warns(start: Start) -> None:
    """Who listens on all addresses is told who may poll, and gets a URL that works."""
    process = start("simulate", "--port", "0", "--json", "--host", "0.0.0.0")
    told = json.loads(first_line(process, process.stdout))
    assert told["base_url"].startswith("http://127.0.0.1:")
    assert "whoever reaches this machine" in first_line(process, process.stderr)


def test_simulate_takes_its_options(start: Start, spawn: Apixo) -> None:
    """The balance of the simulated account is what it was told to be."""
    process = start("simulate", "--port", "0", "--json", "--balance", "12.34", "--key", "k")
    url = json.loads(first_line(process, process.stdout))["base_url"]
    Path("key").write_text("k")
    Path("key").chmod(0o600)
    done = spawn("balance", "--base-url", url, "--api-key-file", "key")
    assert done.stdout == "$12.34\n", done.stderr


def test_a_port_that_is_taken_is_one_line(apixo: Apixo) -> None:
    """A busy port names itself, and the option that chooses another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = apixo("simulate", "--port", port)
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.count("\n") == 1
    assert port in done.stderr
    assert "--port" in done.stderr


def test_a_wrong_simulator_is_one_line(apixo: Apixo) -> None:
    """An option that the simulator refuses is wrong usage."""
    done = apixo("simulate", "--port", "0", "--speed", "0")
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.count("\n") == 1
    assert "speed" in done.stderr


@pytest.mark.parametrize("command", ["demo", "simulate"])
def test_without_the_simulators_extra_one_line_names_it(
    command: str, apixo: Apixo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where uvicorn is not installed the command says what brings it."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    done = apixo(command)
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.count("\n") == 1
    assert "pip install 'apixo-async[simulator]'" in done.stderr

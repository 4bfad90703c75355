"""The real command, on real sockets, against a simulator in a second process."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from apixo_async import AsyncClient, Polling
from apixo_async._cli import app, demo, session
from apixo_async._cli.exits import ExitCode
from apixo_async.testing import serve_process

KEY = "canary-key-7f3a"
CLI = (sys.executable, "-m", "apixo_async")
#: Seconds after which a command that hangs fails its test.
BOUND = 60


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Have a simulator on which everything goes well, a hundred times as fast."""
    with serve_process(key=KEY, speed=100) as url:
        yield url


@pytest.fixture(scope="module")
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
    monkeypatch.setenv("PYTHONPATH", str(Path(app.__file__).parents[2]))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have clients that look at once and often, as the simulator's time is fast."""
    monkeypatch.setattr(
        session, "AsyncClient", partial(AsyncClient, polling=Polling.fixed(0.05, 0.05))
    )


@pytest.fixture(autouse=True)
def _no_key_in_output(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Whatever a test does, the key is in none of its output."""
    yield
    out, err = capfd.readouterr()
    assert KEY not in out + err


class Outcome:
    """What a command printed, and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        assert KEY not in out + err
        assert "Traceback" not in err
        self.code = code
        self.out = out
        self.err = err

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        (line,) = self.out.splitlines()
        return json.loads(line)


class Command:
    """Runs the command in this process, where coverage sees it."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *arguments: str) -> Outcome:
        code = app.run(arguments)
        return Outcome(code, *self._capfd.readouterr())


@pytest.fixture
def apixo(capfd: pytest.CaptureFixture[str]) -> Command:
    """Have the command."""
    return Command(capfd)


def spawn(*arguments: str) -> Outcome:
    """Run the command in a process of its own."""
    done = subprocess.run(
        [*CLI, *arguments], capture_output=True, text=True, timeout=BOUND, check=False
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def submitted(apixo: Command, url: str, model: str = "gpt-image-2") -> tuple[str, str]:
    """Submit a task, and return its model and id."""
    done = apixo("generate", model, "a fox", "--no-wait", "--base-url", url)
    assert done.code == ExitCode.OK
    assert f"apixo wait {model}" in done.err
    found, task_id = done.out.split()
    return found, task_id


def over(apixo: Command, url: str, model: str, task_id: str) -> str:
    """Look at a task until it is over, and return its state."""
    deadline = time.monotonic() + BOUND
    while time.monotonic() < deadline:
        state = apixo("status", model, task_id, "--json", "--base-url", url).document["state"]
        if state in ("success", "failed"):
            return str(state)
    pytest.fail("the task did not end")


# --- one task, from the price to the files ---------------------------------------------------


@pytest.mark.usefixtures("_hasty")
def test_generate_saves_the_files_and_prints_them(apixo: Command, url: str, tmp_path: Path) -> None:
    """stdout holds the paths of the files and nothing else; the price comes first on stderr."""
    done = apixo(
        "generate", "gpt-image-1", "a fox", "--num-images", "2", "--aspect-ratio", "3:2",
        "--out", "made/here", "--base-url", url,
    )  # fmt: skip
    assert done.code == ExitCode.OK, done.err
    paths = [tmp_path / line for line in done.out.splitlines()]
    assert len(paths) == 2
    assert all(path.stat().st_size for path in paths)
    assert sorted(paths) == sorted((tmp_path / "made/here").iterdir())
    lines = done.err.splitlines()
    assert lines[0] == "gpt-image-1: $0.70 by the documents' prices"
    assert "success, after" in lines[-1]


@pytest.mark.usefixtures("_hasty")
def test_generate_speaks_json(apixo: Command, url: str, tmp_path: Path) -> None:
    """With --json one document tells the task, its files and when they expire."""
    done = apixo("generate", "flux-kontext", "a fox", "--json", "--base-url", url)
    assert done.code == ExitCode.OK, done.err
    document = done.document
    assert document["state"] == "success"
    assert document["model"] == "flux-kontext"
    assert document["expires_at"] > document["created_at"]
    assert [(tmp_path / name).is_file() for name in document["files"]] == [True]
    assert len(document["urls"]) == 1


@pytest.mark.usefixtures("_hasty")
def test_any_model_and_any_field(apixo: Command, url: str) -> None:
    """A model without a page is made with the fields that it is given, at an unknown price."""
    done = apixo(
        "generate", "nano-banana", "a fox", "--set", "seed=7", "--base-url", f"{url}/api/v1/"
    )
    assert done.code == ExitCode.OK, done.err
    assert "no documented price" in done.err


def test_a_task_is_submitted_here_and_waited_for_there(
    apixo: Command, url: str, tmp_path: Path
) -> None:
    """A ref from --no-wait serves status and wait, with and without saving."""
    model, task_id = submitted(apixo, url)
    assert over(apixo, url, model, task_id) == "success"
    seen = apixo("status", model, task_id, "--base-url", url)
    assert (seen.code, seen.out) == (ExitCode.OK, "success\n")
    waited = apixo("wait", model, task_id, "--base-url", url)
    assert waited.code == ExitCode.OK
    assert re.fullmatch(rf"{re.escape(url)}/\S+\n", waited.out)
    saved = apixo("wait", model, task_id, "--out", "made", "--base-url", url)
    assert saved.code == ExitCode.OK
    assert (tmp_path / saved.out.strip()).is_file()
    again = apixo("wait", model, task_id, "--json", "--base-url", url)
    assert again.document["files"] == []


def test_no_wait_speaks_json(apixo: Command, url: str) -> None:
    """With --json a submit tells the task and the command that waits for it."""
    done = apixo("generate", "gpt-image-2", "x", "--no-wait", "--json", "--base-url", url)
    document = done.document
    assert document["wait"] == (
        f"apixo wait gpt-image-2 {document['task_id']} --out . --base-url {url}"
    )


def test_the_balance(apixo: Command, slow_url: str, tmp_path: Path) -> None:
    """The balance is one line, or one number; the key may come from a file."""
    key_file = tmp_path / "key"
    key_file.write_text(f"{KEY}\n")
    key_file.chmod(0o600)
    os.environ["APIXO_API_KEY"] = "wrong"
    done = apixo("balance", "--api-key-file", str(key_file), "--base-url", slow_url)
    assert done.code == ExitCode.OK, done.err
    assert re.fullmatch(r"\$\d+\.\d\d\n", done.out)
    done = apixo("balance", "--json", "--api-key-file", str(key_file), "--base-url", slow_url)
    assert 0 < done.document["balance"] <= 1000


# --- errors ------------------------------------------------------------------------------------


def test_a_failed_task_ends_with_4(apixo: Command) -> None:
    """A failed task is one line with its code; its status is an answer, so 0."""
    with serve_process(key=KEY, speed=1000, failure_rate=1) as url:
        model, task_id = submitted(apixo, url)
        assert over(apixo, url, model, task_id) == "failed"
        done = apixo("wait", model, task_id, "--base-url", url)
        assert done.code == ExitCode.FAILED
        (line,) = [line for line in done.err.splitlines() if line.startswith("apixo: ")]
        assert task_id in line
        seen = apixo("status", model, task_id, "--base-url", url)
        assert seen.code == ExitCode.OK
        code = seen.out.split(": ")[1]
        assert code in line


def test_refusals_end_with_3(
    apixo: Command, slow_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong key, an unknown task and an empty account are refused, in one line each."""
    unknown = apixo("status", "gpt-image-1", "task_00000000", "--base-url", slow_url)
    assert unknown.code == ExitCode.REFUSED
    with serve_process(key=KEY, balance=0.01) as url:
        poor = apixo("generate", "gpt-image-2", "x", "--base-url", url)
    assert poor.code == ExitCode.REFUSED
    assert poor.out == ""
    monkeypatch.setenv("APIXO_API_KEY", "another")
    wrong = apixo("generate", "gpt-image-2", "x", "--base-url", slow_url)
    assert wrong.code == ExitCode.REFUSED
    assert "APIXO_API_KEY" in wrong.err


def test_a_dead_server_ends_with_5(apixo: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing listens the command says that it repeats, and then that it gives up."""
    monkeypatch.setattr(session, "_TIMEOUTS", session.Timeouts(retry=1.0))
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    done = apixo("generate", "gpt-image-2", "x", "--base-url", f"http://127.0.0.1:{port}")
    assert done.code == ExitCode.NO_ANSWER
    assert "again in" in done.err
    assert done.err.splitlines()[-1].startswith("apixo: ")
    assert apixo("balance", "--base-url", f"http://127.0.0.1:{port}").code == ExitCode.NO_ANSWER


@contextmanager
def mute_server() -> Generator[str]:
    """Serve connections that are closed once a request was read."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65_536)

        threading.Thread(target=answer, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


def test_an_uncertain_submit_ends_with_6(apixo: Command) -> None:
    """A submit whose answer is lost says what to do, and is not sent again."""
    with mute_server() as url:
        done = apixo("generate", "gpt-image-2", "x", "--base-url", url)
    assert done.code == ExitCode.UNCERTAIN
    assert "look at your account" in done.err


def test_a_result_that_is_gone_ends_with_7(apixo: Command) -> None:
    """A result that cannot be saved is one line."""
    with serve_process(key=KEY, speed=1000, result_lifetime=0.001) as url:
        model, task_id = submitted(apixo, url)
        assert over(apixo, url, model, task_id) == "success"
        done = apixo("wait", model, task_id, "--out", "made", "--base-url", url)
    assert done.code == ExitCode.NOT_SAVED
    assert done.out == ""


@pytest.mark.usefixtures("_hasty")
def test_a_timeout_ends_with_5_and_says_how_to_go_on(apixo: Command, slow_url: str) -> None:
    """The wait ends at its timeout, the task goes on, and the command for it is printed."""
    done = apixo(
        "generate", "gpt-image-1", "x", "--timeout", "0.3", "--out", "made", "--base-url", slow_url
    )
    assert done.code == ExitCode.NO_ANSWER
    assert re.search(
        rf"apixo wait gpt-image-1 task_\d+ --out made --base-url {slow_url}$", done.err, re.M
    )
    assert "goes on" in done.err.splitlines()[-1]


# --- signals and pipes ---------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_wait_says_how_to_go_on(
    number: signal.Signals, apixo: Command, url: str, tmp_path: Path
) -> None:
    """Ctrl-C and SIGTERM end a wait with 130; the command that they print finishes the job."""
    arguments = ["generate", "gpt-image-1", "a fox", "--out", "made", "--base-url", url]
    with subprocess.Popen(
        [*CLI, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        assert process.stdout
        watchdog = threading.Timer(BOUND, process.kill)
        watchdog.start()
        seen = next(line for line in process.stderr if line.startswith("task_"))
        process.send_signal(number)
        rest = process.stderr.read()
        out = process.stdout.read()
        watchdog.cancel()
    task_id = seen.partition(":")[0]
    assert process.returncode == ExitCode.INTERRUPTED
    assert "Traceback" not in rest
    assert out == ""
    (command,) = [line for line in rest.splitlines() if "apixo wait" in line]
    words = shlex.split(command)
    assert words[:4] == ["apixo", "wait", "gpt-image-1", task_id]
    assert over(apixo, url, "gpt-image-1", task_id) == "success"
    done = spawn(*words[1:])
    assert done.code == ExitCode.OK
    assert (tmp_path / done.out.strip()).is_file()


def test_a_reader_that_leaves_early_is_no_error() -> None:
    """`apixo models | head -1` ends without a word on stderr."""
    script = f"set -o pipefail; {shlex.join(CLI)} models 2>&1 >&3 | cat >&2; exit 0"
    command = f"exec 3>&1; ({script}) | head -0; {shlex.join(CLI)} models | (sleep 0.1; head -1)"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=BOUND, check=False
    )
    assert done.stdout.count("model\t") >= 1
    assert "Error" not in done.stderr
    assert "Exception" not in done.stderr


# --- the simulator ---------------------------------------------------------------------------------


@contextmanager
def simulating(*arguments: str) -> Generator[tuple[subprocess.Popen[str], str]]:
    """Run `apixo simulate`, and yield its process and first line."""
    command = [*CLI, "simulate", "--port", "0", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        try:
            yield process, process.stdout.readline()
        finally:
            if process.poll() is None:
                process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_simulate_serves_until_it_is_told_to_end(number: signal.Signals) -> None:
    """The curl line that it prints works as it is; a signal ends it with 0."""
    with simulating("--json", "--speed", "50", "--key", "it's a key") as (process, line):
        told = json.loads(line)
        if shutil.which("curl"):
            answer = subprocess.run(
                ["bash", "-c", f"{told['curl']} --silent --noproxy '*'"],
                capture_output=True, text=True, timeout=BOUND, check=True,
            )  # fmt: skip
            assert json.loads(answer.stdout)["data"]["taskId"].startswith("task_")
        process.send_signal(number)
        assert process.wait(BOUND) == ExitCode.OK
        assert process.stderr
        assert process.stderr.read() == ""


def test_simulate_introduces_itself() -> None:
    """A person is told the address, the page and two things to try."""
    with simulating() as (process, line):
        assert re.fullmatch(r"base URL +http://127\.0\.0\.1:\d+\n", line)
        assert process.stdout
        page, curl, generate = (process.stdout.readline() for _ in range(3))
        assert page.split()[1] == f"{line.split()[-1]}/"
        assert "curl -X POST" in curl
        assert "apixo generate" in generate


def test_a_port_that_is_taken_is_one_line(apixo: Command) -> None:
    """A busy port names itself, and the option that chooses another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = apixo("simulate", "--port", port)
    assert done.code == ExitCode.USAGE
    assert done.err.count("\n") == 1
    assert port in done.err
    assert "--port" in done.err


def test_a_wrong_simulator_is_one_line(apixo: Command) -> None:
    """An option that the simulator refuses is wrong usage."""
    done = apixo("simulate", "--port", "0", "--speed", "0")
    assert done.code == ExitCode.USAGE
    assert "speed" in done.err


@pytest.mark.parametrize("command", ["demo", "simulate"])
def test_without_the_simulators_extra_one_line_names_it(
    command: str, apixo: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where uvicorn is not installed the command says what brings it."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    done = apixo(command)
    assert done.code == ExitCode.USAGE
    assert "pip install 'apixo-async[simulator]'" in done.err


# --- the demo ------------------------------------------------------------------------------------------


def test_the_demo_does_the_main_job(tmp_path: Path) -> None:
    """Without a key and within 20 s: 24 tasks, failures among them, files, sheet and summary."""
    del os.environ["APIXO_API_KEY"]
    began = time.monotonic()
    done = spawn("demo", "--json")
    took = time.monotonic() - began
    assert done.code == ExitCode.OK, done.err
    document = done.document
    assert took < 20
    assert len(document["tasks"]) == 24
    assert document["succeeded"] == 21
    failed = [task for task in document["tasks"] if task["state"] == "failed"]
    assert "CONTENT_VIOLATION" in {task["fail_code"] for task in failed}
    assert {task["model"] for task in document["tasks"]} == {
        "gpt-image-1", "gpt-image-2", "flux-kontext"
    }  # fmt: skip
    files = [tmp_path / name for task in document["tasks"] for name in task["files"]]
    assert len(files) > 21
    assert all(path.stat().st_size for path in files)
    page = (tmp_path / document["contact_sheet"]).read_text(encoding="utf-8")
    assert page.count("<img") == len(files)
    assert all(f'"./{path.name}"' in page for path in files)
    assert document["spent"] == pytest.approx(sum(task["cost"] for task in document["tasks"]))


@pytest.mark.usefixtures("_hasty")
def test_the_demo_speaks_to_people(apixo: Command, tmp_path: Path) -> None:
    """In a pipe each task is a line, and a summary says where the sheet lies and what is next."""
    done = apixo("demo", "--tasks", "7", "--speed", "200", "--out", "shown")
    assert done.code == ExitCode.OK, done.err
    assert sum(line.startswith(("done", "failed")) for line in done.err.splitlines()) == 7
    assert "CONTENT_VIOLATION" in done.err
    assert "7: 6 succeeded, 1 failed" in done.out
    assert str(Path("shown/index.html")) in done.out
    assert "Try next" in done.err
    assert (tmp_path / "shown/index.html").is_file()


def test_the_demo_moves_on_a_terminal(
    apixo: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal the picture is redrawn, and --open shows the sheet in a browser."""
    opened: list[str] = []
    monkeypatch.setattr(demo.webbrowser, "open", opened.append)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "110")
    done = apixo("demo", "--tasks", "3", "--speed", "200", "--open")
    assert done.code == ExitCode.OK, done.err
    assert opened == [(tmp_path / "apixo-demo/index.html").as_uri()]
    assert "tasks in flight" in done.err
    assert "12" in done.err


def test_the_demo_shows_what_breaks(apixo: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A submit that is refused is a failure of that task, not of the demo."""
    monkeypatch.setattr(demo, "_BALANCE", demo.Decimal("0.5"))
    done = apixo("demo", "--tasks", "6", "--speed", "200", "--json")
    assert done.code == ExitCode.OK, done.err
    refused = [task for task in done.document["tasks"] if task["task_id"] is None]
    assert {task["fail_code"] for task in refused} == {"InsufficientBalanceError"}

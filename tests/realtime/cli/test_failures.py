"""What goes wrong with the service, and the exit code that it ends with."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from apixo_async import Timeouts
from apixo_async._cli import app, session
from apixo_async.testing import Fault, Simulator, serve_process, serve_thread

from ...support.inside import ExitCode

Apixo = Callable[..., CompletedProcess[str]]
Submitted = Callable[[str], tuple[str, str]]
Over = Callable[[str, str, str], str]


def test_a_failed_task_ends_with_4(
    apixo: Apixo, submitted: Submitted, over: Over, key: str
) -> None:
    """A failed task is one line with its code; its status is an answer, so 0."""
    with serve_process(key=key, speed=1000, failure_rate=1) as url:
        model, task_id = submitted(url)
        assert over(url, model, task_id) == "failed"
        done = apixo("wait", model, task_id, "--base-url", url)
        assert done.returncode == ExitCode.FAILED
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("apixo: ")]
        assert task_id in line
        seen = apixo("status", model, task_id, "--base-url", url)
        assert seen.returncode == ExitCode.OK
        code = seen.stdout.split(": ")[1]
        assert code in line


def test_refusals_end_with_3(
    apixo: Apixo, key: str, slow_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong key, an unknown task and an empty account are refused, in one line each."""
    unknown = apixo("status", "gpt-image-1", "task_00000000", "--base-url", slow_url)
    assert unknown.returncode == ExitCode.REFUSED
    with serve_process(key=key, balance=0.01) as url:
        poor = apixo("generate", "gpt-image-2", "x", "--base-url", url)
    assert poor.returncode == ExitCode.REFUSED
    assert poor.stdout == ""
    monkeypatch.setenv("APIXO_API_KEY", "another")
    wrong = apixo("generate", "gpt-image-2", "x", "--base-url", slow_url)
    assert wrong.returncode == ExitCode.REFUSED
    assert "APIXO_API_KEY" in wrong.stderr


def test_a_dead_server_ends_with_5(apixo: Apixo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing listens the command says that it repeats, and then that it gives up."""
    monkeypatch.setattr(session, "_TIMEOUTS", Timeouts(retry=1.0))
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    done = apixo("generate", "gpt-image-2", "x", "--base-url", f"http://127.0.0.1:{port}")
    assert done.returncode == ExitCode.NO_ANSWER
    assert "again in" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("apixo: ")
    done = apixo("balance", "--base-url", f"http://127.0.0.1:{port}")
    assert done.returncode == ExitCode.NO_ANSWER


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


def test_an_uncertain_submit_ends_with_6(apixo: Apixo) -> None:
    """A submit whose answer is lost says what to do, and is not sent again."""
    with mute_server() as url:
        done = apixo("generate", "gpt-image-2", "x", "--base-url", url)
    assert done.returncode == ExitCode.UNCERTAIN
    assert "look at your account" in done.stderr


def test_the_balance_says_what_became_of_uncertain_rows(
    apixo: Apixo, key: str, tmp_path: Path
) -> None:
    """A run whose answers get lost ends with 6, and says by the balance how many were bought."""
    simulator = Simulator(seed=1, key=key, speed=100)
    simulator.faults.submit(None, *[Fault.lost_answer()] * 2, Fault.reset_before())
    rows = tmp_path / "foxes.txt"
    rows.write_text("".join(f"a fox, study {n}\n" for n in range(8)))
    with serve_thread(simulator) as url:
        order = ("run", str(rows), "--model", "gpt-image-2", "--out", str(tmp_path / "out"))
        done = apixo(*order, "--yes", "--base-url", url)
    assert done.returncode == ExitCode.UNCERTAIN
    assert "Doubts   the balance fell by $0.14, 5 known purchases cost $0.10: 2 were" in done.stdout
    assert "3 rows may have been bought, and by the balance 2 were" in done.stderr


def test_a_result_that_is_gone_ends_with_7(
    apixo: Apixo, submitted: Submitted, over: Over, key: str
) -> None:
    """A result that cannot be saved is one line."""
    with serve_process(key=key, speed=1000, result_lifetime=0.001) as url:
        model, task_id = submitted(url)
        assert over(url, model, task_id) == "success"
        done = apixo("wait", model, task_id, "--out", "made", "--base-url", url)
    assert done.returncode == ExitCode.NOT_SAVED
    assert done.stdout == ""


@pytest.mark.usefixtures("_hasty")
def test_a_timeout_ends_with_5_and_says_how_to_go_on(apixo: Apixo, slow_url: str) -> None:
    """The wait ends at its timeout, the task goes on, and the command for it is printed."""
    done = apixo(
        "generate", "gpt-image-1", "x", "--timeout", "0.3", "--out", "made", "--base-url", slow_url
    )
    assert done.returncode == ExitCode.NO_ANSWER
    assert re.search(
        rf"apixo wait gpt-image-1 task_\d+ --out made --base-url {slow_url}$", done.stderr, re.M
    )
    assert "goes on" in done.stderr.splitlines()[-1]


def test_debugging_shows_everything_but_the_key(
    capfd: pytest.CaptureFixture[str], key: str, slow_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With APIXO_DEBUG=1 there is a log and a traceback, and still no key."""
    monkeypatch.setenv("APIXO_DEBUG", "1")
    code = app.run(["status", "gpt-image-1", "task_00000000", "--base-url", slow_url])
    out, err = capfd.readouterr()
    assert code == ExitCode.REFUSED
    assert "Traceback" in err
    assert "client opened for" in err
    assert key not in out + err

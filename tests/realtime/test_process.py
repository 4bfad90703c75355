"""Process: the simulator in a second process, and the command that serves it."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from typing import Any

import pytest

from apixo_async.testing import serve_process
from apixo_async.testing.__main__ import main
from apixo_async.testing.process import KEY_VARIABLE

BALANCE = "/api/v1/apikeys/current-balance"
SUBMIT = "/api/v1/generateTask/sora-2"
BOUND = 20.0


def ask(url: str, key: str = "test-key", data: bytes | None = None) -> tuple[int, Any]:
    """Ask with nothing but the standard library; return status and JSON."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, data=data, headers=headers)  # http only
    try:
        with urllib.request.urlopen(request, timeout=BOUND) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_a_second_process_serves_with_the_options_given() -> None:
    """A process of its own has the options asked for, and tells what it saw."""
    with serve_process(
        key="another", balance=0.05, no_credit="400", latency=0.2, keep_log=2, speed=50.0
    ) as url:
        assert ask(url + BALANCE)[0] == 401
        statuses = [ask(url + SUBMIT, "another", b'{"input":{}}')[0] for _ in range(2)]
        log = ask(url + "/_simulator/log")[1]
        statistics = ask(url + "/_simulator/statistics")[1]
    assert statuses == [200, 400]
    assert [(record["kind"], record["status"]) for record in log] == [
        ("submit", 200),
        ("submit", 400),
    ]
    assert all(record["answered_at"] - record["at"] >= 0.19 for record in log)
    assert (statistics["created"], statistics["charged"]) == (1, "0.05")
    with pytest.raises(urllib.error.URLError):
        ask(url)


def test_a_second_process_posts_callbacks() -> None:
    """Callbacks come from the second process, as often as its options say."""
    told: Counter[str] = Counter()

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            told[json.loads(content)["data"]["taskId"]] += 1
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 100

    with Server(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hook = f"http://127.0.0.1:{server.server_port}/hook"
        order = {"request_type": "callback", "callback_url": hook, "input": {}}
        with serve_process(
            speed=1000.0, lost_callbacks=0.5, duplicate_callbacks=0.5, callback_spread=100.0
        ) as url:
            bought = [ask(url + SUBMIT, data=json.dumps(order).encode())[1] for _ in range(20)]
            deadline = time.monotonic() + BOUND
            counts = ask(url + "/_simulator/statistics")[1]["callbacks"]
            while counts["delivered"] < 2 * (20 - counts["lost"]) and time.monotonic() < deadline:
                counts = ask(url + "/_simulator/statistics")[1]["callbacks"]
            log = ask(url + "/_simulator/callbacks")[1]
        server.shutdown()
    assert 0 < counts["lost"] < 20
    assert counts["tasks"] == counts["lost"] + counts["duplicated"] == 20
    assert told.keys() < {one["data"]["taskId"] for one in bought}
    assert list(told.values()) == [2] * (20 - counts["lost"])
    assert Counter(one["task_id"] for one in log) == told


@pytest.mark.parametrize("models", [["gpt-image-1", "sora-2"], {"sora-2"}, ()])
def test_a_second_process_knows_the_models_given(models: list[str]) -> None:
    """Any model but those is answered 404; of none there is nothing."""
    with serve_process(models=models) as url:
        statuses = [
            ask(url + path, data=b'{"input":{}}')[0] for path in (SUBMIT, SUBMIT.replace("2", "3"))
        ]
    assert statuses == [200 if models else 404, 404]


def test_models_are_no_text() -> None:
    """A name where a collection of names belongs is an error, and starts no process."""
    with pytest.raises(ValueError, match="collection of names"), serve_process(models="sora-2"):
        pytest.fail("sora-2 is no collection of names")


def test_the_key_is_on_no_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second process gets its key through the environment."""
    started: list[list[str]] = []
    real = subprocess.Popen

    def popen(command: list[str], **options: Any) -> subprocess.Popen[str]:
        started.append(command)
        assert options["env"][KEY_VARIABLE] == "sekret"
        return real(command, **options)

    monkeypatch.setattr(subprocess, "Popen", popen)
    with serve_process(key="sekret", seed=5) as url:
        assert ask(url + BALANCE, "sekret")[0] == 200
    assert started[0][1:] == ["-m", "apixo_async.testing", "--seed=5"]


def test_a_process_that_does_not_start_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    """Options that the simulator refuses end in a clear error, with the process's own words."""
    with pytest.raises(RuntimeError, match="did not start"), serve_process(no_credit="403"):
        pytest.fail("403 is no form of no credit")
    assert "invalid choice: '403'" in capfd.readouterr().err


def test_a_silent_process_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that says nothing in time is ended, by force if need be."""
    module = "apixo_async.testing.process"
    silent = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    monkeypatch.setattr(f"{module}._STARTING", 1.0)
    monkeypatch.setattr(f"{module}._ENDING", 0.2)
    real = subprocess.Popen

    def no_arguments(_: object) -> list[str]:
        return []

    monkeypatch.setattr(f"{module}._arguments", no_arguments)
    ended: list[subprocess.Popen[str]] = []

    def popen(_: list[str], **options: Any) -> subprocess.Popen[str]:
        ended.append(real([sys.executable, "-c", silent], **options))
        return ended[0]

    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(RuntimeError, match="it said nothing"), serve_process():
        pytest.fail("nothing was served")
    assert ended[0].returncode is not None


def test_a_terminated_process_ends_in_order() -> None:
    """SIGTERM ends the served simulator with status 0, and SIGINT without a traceback."""
    for number in (signal.SIGTERM, signal.SIGINT):
        command = [sys.executable, "-W", "error", "-m", "apixo_async.testing"]
        with subprocess.Popen(command, stdout=-1, stderr=-1, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("http://127.0.0.1:")
            process.send_signal(number)
            _, said = process.communicate(timeout=BOUND)
        assert (process.returncode, said) == (0, "")


def test_main_serves_until_it_is_interrupted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """main() prints the base URL first, serves with its options, and ends on SIGTERM."""
    monkeypatch.setenv(KEY_VARIABLE, "k")
    real_print, seen = builtins.print, list[str]()

    def print_and_end(url: str, *, flush: bool) -> None:
        real_print(url, flush=flush)
        seen.append(url)
        asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(builtins, "print", print_and_end)
    main(["--latency", "0.1", "--speed", "10", "--models", "a, b"])
    assert capsys.readouterr().out.splitlines() == seen
    assert seen[0].startswith("http://127.0.0.1:")


def test_main_may_be_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is an orderly end."""

    def interrupt(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(builtins, "print", interrupt)
    with contextlib.suppress(SystemExit):
        main([])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

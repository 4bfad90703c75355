"""DBOS: a process is killed within a step, which runs again; the picture is bought once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import apixo_async
from apixo_async.testing import Fault, Simulator, serve_thread

from ..test_readme import blocks

pytestmark = [pytest.mark.realtime, pytest.mark.heavy]

PACKAGE = Path(apixo_async.__file__).parents[1]
BOUND = 90.0


def test_a_step_that_runs_twice(tmp_path: Path) -> None:
    """The step of the guide, killed with -9 while its task runs."""
    page = (PACKAGE / "apixo_async/guides/pipelines.md").read_text("utf-8")
    [program] = [block.text for block in blocks(page) if "@DBOS.step()" in block.text]
    (tmp_path / "example.py").write_text(program, "utf-8")
    simulator = Simulator(seed=1, key="test-key", speed=20)
    simulator.faults.submit(Fault.task_lasts(200.0))
    with serve_thread(simulator) as url, (tmp_path / "said").open("w") as said:
        environment = {"PYTHONPATH": str(PACKAGE), "APIXO_BASE_URL": url}

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [sys.executable, "example.py"],
                cwd=tmp_path,
                env=os.environ | environment | {"APIXO_API_KEY": "test-key"},
                stdout=said,
                stderr=subprocess.STDOUT,
            )

        with start() as process:
            over = time.monotonic() + BOUND
            while simulator.count("poll") == 0 and time.monotonic() < over:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        with start() as process:
            try:
                assert process.wait(BOUND) == 0, (tmp_path / "said").read_text()
            finally:
                process.kill()
    printed = (tmp_path / "said").read_text()
    assert printed.count("buying\n") == 2, printed
    assert f"['{url}/results/" in printed
    assert simulator.created == simulator.count("submit") == 1

"""`apixo demo`, the main job on the embedded simulator."""

from __future__ import annotations

import json
import webbrowser
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from apixo_async._cli import demo

from ...support.inside import ExitCode

Apixo = Callable[..., CompletedProcess[str]]


@pytest.mark.heavy
def test_the_demo_does_the_main_job(
    spawn: Apixo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key: 24 tasks, failures among them, files, sheet and summary."""
    monkeypatch.delenv("APIXO_API_KEY")
    # The simulator is on this machine: a proxy has no part in it.
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    done = spawn("demo", "--json")
    assert done.returncode == ExitCode.OK, done.stderr
    document = json.loads(done.stdout)
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
    assert page.count('"./task_') == len(files)
    assert all(f'"./{path.name}"' in page for path in files)
    assert document["spent"] == pytest.approx(sum(task["cost"] for task in document["tasks"]))


def test_the_demo_speaks_to_people(apixo: Apixo, tmp_path: Path) -> None:
    """In a pipe each task is a line, and a summary says where the sheet lies and what is next."""
    done = apixo("demo", "--tasks", "7", "--speed", "200", "--out", "shown")
    assert done.returncode == ExitCode.OK, done.stderr
    assert sum(line.startswith(("done", "failed")) for line in done.stderr.splitlines()) == 7
    assert "CONTENT_VIOLATION" in done.stderr
    assert "7: 6 succeeded, 1 failed" in done.stdout
    assert str(Path("shown/index.html")) in done.stdout
    assert "Try next" in done.stderr
    assert (tmp_path / "shown/index.html").is_file()


def test_the_demo_moves_on_a_terminal(
    apixo: Apixo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal the picture is redrawn, and --open shows the sheet in a browser."""
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "110")
    done = apixo("demo", "--tasks", "3", "--speed", "200", "--open")
    assert done.returncode == ExitCode.OK, done.stderr
    assert opened == [(tmp_path / "apixo-demo/index.html").as_uri()]
    assert "tasks in flight" in done.stderr
    assert "12" in done.stderr


def test_the_demo_shows_what_breaks(apixo: Apixo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A submit that is refused is a failure of that task, not of the demo."""
    monkeypatch.setattr(demo, "_BALANCE", Decimal("0.5"))
    done = apixo("demo", "--tasks", "6", "--speed", "200", "--json")
    assert done.returncode == ExitCode.OK, done.stderr
    refused = [task for task in json.loads(done.stdout)["tasks"] if task["task_id"] is None]
    assert {task["fail_code"] for task in refused} == {"InsufficientBalanceError"}

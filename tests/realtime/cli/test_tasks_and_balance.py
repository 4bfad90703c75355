"""One task, from the price to the files, and the account behind it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from ...support.inside import ExitCode

Apixo = Callable[..., CompletedProcess[str]]
Submitted = Callable[[str], tuple[str, str]]
Over = Callable[[str, str, str], str]


@pytest.mark.usefixtures("_hasty")
def test_generate_saves_the_files_and_prints_them(apixo: Apixo, url: str, tmp_path: Path) -> None:
    """The paths of the files are all that is on stdout; the price comes first on stderr."""
    done = apixo(
        "generate", "gpt-image-1", "a fox", "--num-images", "2", "--aspect-ratio", "3:2",
        "--out", "made/here", "--base-url", url,
    )  # fmt: skip
    assert done.returncode == ExitCode.OK, done.stderr
    paths = [tmp_path / line for line in done.stdout.splitlines()]
    assert len(paths) == 2
    assert all(path.stat().st_size for path in paths)
    assert sorted(paths) == sorted((tmp_path / "made/here").iterdir())
    lines = done.stderr.splitlines()
    assert lines[0] == "gpt-image-1: $0.70 by the documents' prices"
    assert "success, after" in lines[-1]


@pytest.mark.usefixtures("_hasty")
def test_generate_speaks_json(apixo: Apixo, url: str, tmp_path: Path) -> None:
    """With --json one document tells the task, its files and when they expire."""
    done = apixo("generate", "flux-kontext", "a fox", "--json", "--base-url", url)
    assert done.returncode == ExitCode.OK, done.stderr
    document = json.loads(done.stdout)
    assert document["state"] == "success"
    assert document["model"] == "flux-kontext"
    assert document["expires_at"] > document["created_at"]
    assert [(tmp_path / name).is_file() for name in document["files"]] == [True]
    assert len(document["urls"]) == 1


@pytest.mark.usefixtures("_hasty")
def test_any_model_and_any_field(apixo: Apixo, url: str) -> None:
    """A model without a page is made with the fields that it is given, at an unknown price."""
    done = apixo(
        "generate", "nano-banana", "a fox", "--set", "seed=7", "--base-url", f"{url}/api/v1/"
    )
    assert done.returncode == ExitCode.OK, done.stderr
    assert "no documented price" in done.stderr


def test_a_task_is_submitted_here_and_waited_for_there(
    apixo: Apixo, submitted: Submitted, over: Over, url: str, tmp_path: Path
) -> None:
    """A ref from --no-wait serves status and wait, with and without saving."""
    model, task_id = submitted(url)
    assert over(url, model, task_id) == "success"
    seen = apixo("status", model, task_id, "--base-url", url)
    assert (seen.returncode, seen.stdout) == (ExitCode.OK, "success\n")
    waited = apixo("wait", model, task_id, "--base-url", url)
    assert waited.returncode == ExitCode.OK
    assert re.fullmatch(rf"{re.escape(url)}/\S+\n", waited.stdout)
    saved = apixo("wait", model, task_id, "--out", "made", "--base-url", url)
    assert saved.returncode == ExitCode.OK
    assert (tmp_path / saved.stdout.strip()).is_file()
    again = apixo("wait", model, task_id, "--json", "--base-url", url)
    assert json.loads(again.stdout)["files"] == []


def test_no_wait_speaks_json(apixo: Apixo, url: str) -> None:
    """With --json a submit tells the task and the command that waits for it."""
    done = apixo("generate", "gpt-image-2", "x", "--no-wait", "--json", "--base-url", url)
    document = json.loads(done.stdout)
    assert document["wait"] == (
        f"apixo wait gpt-image-2 {document['task_id']} --out . --base-url {url}"
    )


def test_the_balance(
    apixo: Apixo, key: str, slow_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The balance is one line, or one number; the key may come from a file."""
    key_file = tmp_path / "key"
    key_file.write_text(f"{key}\n")
    key_file.chmod(0o600)
    monkeypatch.setenv("APIXO_API_KEY", "wrong")
    done = apixo("balance", "--api-key-file", str(key_file), "--base-url", slow_url)
    assert done.returncode == ExitCode.OK, done.stderr
    assert re.fullmatch(r"\$\d+\.\d\d\n", done.stdout)
    done = apixo("balance", "--json", "--api-key-file", str(key_file), "--base-url", slow_url)
    assert 0 < json.loads(done.stdout)["balance"] <= 1000

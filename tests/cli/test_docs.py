"""The guides in a terminal and in a pipe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import apixo_async
from apixo_async._cli import app, console
from apixo_async._cli.docs import ORDER, OTHERS

from ..support.inside import ExitCode

FOLDER = Path(apixo_async.__file__).parent / "guides"
GUIDES = [FOLDER / f"{name}.md" for name in ORDER]
FILES = [*GUIDES, *(FOLDER / name for name in OTHERS)]


def test_all_files_are_known() -> None:
    """Each file of the folder is shown, and listed if it is a guide."""
    assert {*FOLDER.iterdir()} == {*FILES}


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a name each guide is listed in order, with what it is about."""
    assert app.run(["docs"]) == ExitCode.OK
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.partition("\t")[0] for line in lines] == [path.stem for path in GUIDES]
    heads = [path.read_text("utf-8").splitlines()[0] for path in GUIDES]
    assert [f"# {line.partition(chr(9))[2]}" for line in lines] == heads


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_in_a_pipe(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A guide goes into a pipe as it is, and so does a file that one names."""
    assert app.run(["docs", path.name.removesuffix(".md")]) == ExitCode.OK
    assert capsys.readouterr().out == path.read_text("utf-8")


def test_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal it is laid out, without the marks of its tests."""
    monkeypatch.setattr(console._Pipe, "is_terminal", True)
    assert app.run(["docs", "webhooks"]) == ExitCode.OK
    shown = capsys.readouterr().out
    assert "WebhookReceiver" in shown
    assert "<!-- run" not in shown
    assert "```" not in shown


def test_a_file_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no guide is not laid out."""
    monkeypatch.setattr(console._Pipe, "is_terminal", True)
    assert app.run(["docs", "grafana.json"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["panels"]


def test_one_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that no guide has is an error that lists those that there are."""
    assert app.run(["docs", "nothing"]) == ExitCode.USAGE
    listed = f"there are {', '.join(path.name.removesuffix('.md') for path in FILES)}"
    assert listed in " ".join(capsys.readouterr().err.split())

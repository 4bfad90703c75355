"""The guides in a terminal and in a pipe."""

from __future__ import annotations

from pathlib import Path

import pytest

import apixo_async
from apixo_async._cli import app, console
from apixo_async._cli.docs import ORDER

from ..support.inside import ExitCode

GUIDES = sorted(
    (Path(apixo_async.__file__).parent / "guides").glob("*.md"),
    key=lambda path: ORDER.index(path.stem),
)


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a name each guide is listed in order, with what it is about."""
    assert app.run(["docs"]) == ExitCode.OK
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.partition("\t")[0] for line in lines] == [path.stem for path in GUIDES]
    heads = [path.read_text("utf-8").splitlines()[0] for path in GUIDES]
    assert [f"# {line.partition(chr(9))[2]}" for line in lines] == heads


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.stem)
def test_in_a_pipe(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A guide goes into a pipe as it is."""
    assert app.run(["docs", path.stem]) == ExitCode.OK
    assert capsys.readouterr().out == path.read_text("utf-8")


def test_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal it is laid out, without the marks of its tests."""
    monkeypatch.setattr(console._Pipe, "is_terminal", True)
    assert app.run(["docs", "webhooks"]) == ExitCode.OK
    shown = capsys.readouterr().out
    assert "WebhookReceiver" in shown
    assert "<!-- run" not in shown
    assert "```" not in shown


def test_one_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that no guide has is an error that lists those that there are."""
    assert app.run(["docs", "nothing"]) == ExitCode.USAGE
    listed = f"there are {', '.join(path.stem for path in GUIDES)}"
    assert listed in " ".join(capsys.readouterr().err.split())

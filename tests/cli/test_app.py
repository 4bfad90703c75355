"""The command as a whole, without a network: help, usage errors, defects, the models."""

from __future__ import annotations

import inspect
import json
import os
import pkgutil
import runpy
import subprocess
import sys
from collections.abc import Callable

import pytest
import typer

from apixo_async import __main__, __version__
from apixo_async._cli import app, models
from apixo_async._cli.exits import ExitCode

COMMANDS = ("demo", "generate", "status", "wait", "balance", "models", "simulate", "docs")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("APIXO_API_KEY", "APIXO_BASE_URL", "APIXO_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "120")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_names_every_command_and_exit_code(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without arguments, and with --help, the command explains itself and ends well."""
    assert app.run(arguments) == ExitCode.OK
    out, err = capsys.readouterr()
    assert err == ""
    for command in COMMANDS:
        assert f" {command} " in out
    for code in ExitCode:
        assert f"{code:d}: {code.meaning}" in " ".join(out.split())


@pytest.mark.parametrize("command", app.COMMANDS)
def test_the_line_of_a_command_is_its_own(command: str) -> None:
    """The help of all commands, which imports none of them, has the first paragraph of each."""
    place, about = app.COMMANDS[command]
    found = pkgutil.resolve_name(f"apixo_async._cli.{place}")
    words = found.info.help if isinstance(found, typer.Typer) else inspect.getdoc(found)
    assert about == " ".join(str(words).partition("\n\n")[0].split())


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["models"]])
def test_what_needs_no_client_imports_none(arguments: list[str]) -> None:
    """The version, the help and the models are there before a client could be imported."""
    program = f"""
import sys
from apixo_async._cli.app import run
code = run({arguments})
print(code, *sys.modules, file=sys.stderr)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    code, *loaded = ran.stderr.splitlines()[-1].split()
    assert code == "0"
    assert "typer" in loaded
    assert {"asyncio", "httpx2", "apixo_async._client"} & {*loaded} == set()
    assert ("pydantic" in loaded) == (arguments == ["models"])


def test_a_shell_can_complete_the_options_of_a_command() -> None:
    """Where a shell completes a line, each command is there with all of its options."""
    ran = subprocess.run(
        [sys.executable, "-m", "apixo_async"],
        env=os.environ
        | {
            "_APIXO_COMPLETE": "complete_bash",
            "COMP_WORDS": "apixo generate --num",
            "COMP_CWORD": "2",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "--num-images" in ran.stdout.split()


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command explains itself."""
    assert app.run([command, "--help"]) == ExitCode.OK
    assert f"apixo {command}" in capsys.readouterr().out


def test_help_of_generate_shows_its_own_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    """The values that the command fills in by itself are told."""
    app.run(["generate", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert "gpt-image-1: 1:1 unless given" in out
    assert "gpt-image-1: 1 unless given" in out
    assert "flux-kontext: pro unless given" in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints one line."""
    assert app.run(["--version"]) == ExitCode.OK
    assert capsys.readouterr().out == f"apixo {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["paint"], ("No such command", "apixo --help")),
        (["generate"], ("Missing argument", "apixo generate --help")),
        (["wait", "gpt-image-1"], ("Missing argument", "TASK_ID")),
        (["balance", "--api-key", "secret"], ("No such option", "--api-key")),
        (["generate", "m", "p", "--num-images", "two"], ("Invalid value", "--num-images")),
        (["simulate", "--port", "70000"], ("Invalid value", "--port")),
        (["generate", "sora-2", "x", "--set", "seconds"], ("--set seconds", "NAME=VALUE")),
        (["generate", "sora-2", "x", "--set", "=1"], ("--set =1", "NAME=VALUE")),
        (["generate", "so/ra", "x"], ("so/ra", "letters")),
        (["generate", "gpt-image-1", "x", "--num-images", "3"], ("num_images", "3 given")),
        (["generate", "gpt-image-2", "x", "--mode", "auto"], ("mode", "'auto' given")),
        (["status", "gpt-image-1", " "], ("task_id", "non-empty")),
        (["balance"], ("no API key", "APIXO_API_KEY", "--api-key-file")),
        (["balance", "--api-key-file", "/nowhere/key"], ("/nowhere/key", "No such file")),
        (["generate", "gpt-image-2", "x", "--out", "/dev/null"], ("/dev/null", "exists")),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str], words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong on the command line is said in one line, before anything is sent."""
    assert app.run(arguments) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("apixo: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err
    assert "secret" not in err


def fail_with(error: BaseException) -> Callable[..., None]:
    """Return something that raises an error whatever it is given."""

    def fail(*_: object) -> None:
        raise error

    return fail


def test_a_defect_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unexpected exception ends with code 1 and a line that says how to see more."""
    monkeypatch.setattr(models, "tiers", fail_with(RuntimeError("boom")))
    assert app.run(["models"]) == ExitCode.DEFECT
    assert capsys.readouterr().err == (
        "apixo: unexpected RuntimeError: boom (APIXO_DEBUG=1 shows the traceback)\n"
    )


def test_a_defect_shows_its_traceback_when_debugging(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With APIXO_DEBUG=1 the traceback comes first."""
    monkeypatch.setenv("APIXO_DEBUG", "1")
    monkeypatch.setattr(models, "tiers", fail_with(RuntimeError("boom")))
    assert app.run(["models"]) == ExitCode.DEFECT
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_anywhere_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C where no event loop runs ends the command without a word."""
    monkeypatch.setattr(models, "tiers", fail_with(KeyboardInterrupt()))
    assert app.run(["models"]) == ExitCode.INTERRUPTED


def test_a_pipe_that_nobody_reads_is_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reader that has gone ends the command with 0, and no later write can fail."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", pipe)
        assert app.run(["models"]) == ExitCode.OK
        pipe.write("what Python flushes at its end")
    assert capsys.readouterr().err == ""


def test_models_lists_every_documented_task(capsys: pytest.CaptureFixture[str]) -> None:
    """The table has a line for each price, with the documents' times."""
    assert app.run(["models"]) == ExitCode.OK
    out, err = capsys.readouterr()
    rows = [line.split("\t") for line in out.splitlines()]
    assert rows[0][:3] == ["model", "task", "price"]
    assert len(rows) == 9
    assert ["gpt-image-2", "resolution 4k", "$0.04", "120-240 s", "240 s", "120 s", "10 s"] in rows
    assert "1,000 tasks at once" in err
    assert "10,000 requests a minute" in err


def test_models_shows_the_fields_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    """A model by name shows its prices and what each field takes."""
    assert app.run(["models", "flux-kontext"]) == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert "mode\tpro | max\tpro" in lines
    assert "gpt" not in "".join(lines)


def test_models_says_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    """A model without a page has an unknown price, and times that are called a guess."""
    assert app.run(["models", "sora-2"]) == ExitCode.OK
    out, err = capsys.readouterr()
    assert "sora-2\tany\tunknown\t" in out
    assert "guess" in err


def test_models_as_json_is_a_document_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Each model is one JSON document in a line of its own."""
    assert app.run(["models", "--json"]) == ExitCode.OK
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [document["model"] for document in documents] == [
        "gpt-image-1", "gpt-image-2", "flux-kontext"
    ]  # fmt: skip
    assert documents[0]["tasks"][2]["price"] == 1.4
    assert documents[0]["fields"][0]["name"] == "prompt"


def test_the_entry_point_runs_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m apixo_async` is the command."""
    monkeypatch.setattr(sys, "argv", ["apixo", "--version"])
    monkeypatch.delitem(sys.modules, "apixo_async.__main__")
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("apixo_async", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"apixo {__version__}\n"


@pytest.mark.parametrize("module", ["typer", "rich"])
def test_without_the_extra_one_line_says_how_to_get_it(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where typer or rich is missing, the command names the extra and ends with 2."""
    for name in [name for name in sys.modules if name.startswith("apixo_async._cli")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, f"{module}.console", None)
    assert __main__.main() == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "python -m pip install 'apixo-async[cli]'" in err


def test_another_missing_module_is_no_matter_of_extras() -> None:
    """A base dependency that is missing is not taken for the extra."""
    program = "import sys; sys.modules['pydantic'] = None; import apixo_async.__main__ as main;"
    ran = subprocess.run(
        [sys.executable, "-c", f"{program} main.main()", "models"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 1
    assert "ModuleNotFoundError: import of pydantic" in ran.stderr
    assert __main__.MISSING not in ran.stderr

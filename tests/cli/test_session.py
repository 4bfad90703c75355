"""How the account is reached and how a run ends: keys, transports, remarks, signals."""

from __future__ import annotations

import asyncio
import gc
import shlex
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import httpx2
import pytest
import typer

from apixo_async import ConfigurationError, OtherModel, SubmitUncertainError, TaskRef, events
from apixo_async._cli.console import Screen
from apixo_async._cli.exits import ExitCode
from apixo_async._cli.session import (
    Access,
    connect,
    fastest_transport,
    orphaned,
    read_key,
    remark,
    run,
)

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


def key_file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    """Write a key file."""
    path = folder / "key file"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("content", [b"k-1", b"k-1\n", b"  k-1 \r\nsecond line\n"])
def test_the_key_is_the_first_line(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """The key is the stripped first line; a file of one's own needs no warning."""
    assert read_key(key_file(tmp_path, content), Screen()) == "k-1"
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("mode", "who"), [(0o644, "everybody"), (0o640, "its group")])
def test_a_key_that_others_can_read_warns(
    mode: int, who: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key file that others can read is used, with a warning that says how to mend it."""
    path = key_file(tmp_path, b"k-1", mode)
    assert read_key(path, Screen()) == "k-1"
    out, err = capsys.readouterr()
    assert out == ""
    assert f"can be read by {who} here" in err.replace("\n", " ")
    assert f"chmod 600 {shlex.quote(str(path))}" in err
    assert "k-1" not in err


@pytest.mark.parametrize("content", [b"", b"\nk-1\n", b"   \n"])
def test_an_empty_first_line_is_an_error(tmp_path: Path, content: bytes) -> None:
    """A file without a key on its first line is refused."""
    with pytest.raises(ConfigurationError, match="first line is empty"):
        read_key(key_file(tmp_path, content), Screen())


def test_a_file_that_is_no_text_is_an_error_without_its_bytes(tmp_path: Path) -> None:
    """Bytes that are no text are refused, and appear in no part of the error."""
    with pytest.raises(ConfigurationError, match="UTF-8") as caught:
        read_key(key_file(tmp_path, b"secret\xff\xfe"), Screen())
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert "secret" not in str(caught.value)


def test_the_command_to_go_on_can_be_pasted() -> None:
    """The command names the task and every option that this run was given, quoted."""
    access = Access(Path("my key"), "http://127.0.0.1:8000")
    command = access.wait_command(TaskRef("gpt-image-1", "task_1"), Path("a b"))
    assert shlex.split(command) == [
        "apixo", "wait", "gpt-image-1", "task_1",
        "--out", "a b", "--api-key-file", "my key", "--base-url", "http://127.0.0.1:8000",
    ]  # fmt: skip


def test_the_command_to_go_on_is_short_where_it_can_be() -> None:
    """Options that were not given are not repeated."""
    assert Access().wait_command(TaskRef("m", "t")) == "apixo wait m t"


def test_garbage_is_looked_for_among_new_objects_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a client is open, collections leave out what was there before; then they do not."""
    monkeypatch.setenv("APIXO_API_KEY", "k-1")

    async def frozen() -> int:
        async with connect(Access(), Screen()):
            return gc.get_freeze_count()

    assert run(frozen()) > 1_000
    assert gc.get_freeze_count() == 0


class OtherTransport(httpx2.AsyncBaseTransport):
    """Stands for the aiohttp transport."""


@pytest.fixture
def aiohttp_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the module of the aiohttp transport, whatever is installed."""
    module = ModuleType("apixo_async.aiohttp")
    module.AiohttpTransport = OtherTransport  # type: ignore[attr-defined]  # a stand-in
    monkeypatch.setitem(sys.modules, "apixo_async.aiohttp", module)


@pytest.mark.usefixtures("aiohttp_module")
def test_the_aiohttp_transport_is_used_where_it_is_installed() -> None:
    """Without a proxy the cheaper transport is taken."""
    assert isinstance(fastest_transport(), OtherTransport)


@pytest.mark.usefixtures("aiohttp_module")
@pytest.mark.parametrize("name", PROXIES)
def test_a_proxy_keeps_the_default_transport(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any proxy of the environment leaves the choice to the client, which obeys it."""
    monkeypatch.setenv(name, "http://proxy.example.com:3128")
    assert fastest_transport() is None


def test_without_aiohttp_the_default_transport_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the extra is not installed the client chooses."""
    monkeypatch.delitem(sys.modules, "apixo_async.aiohttp", raising=False)
    monkeypatch.setitem(sys.modules, "httpx_aiohttp.httpx2", None)
    assert fastest_transport() is None


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (events.SubmitRefused("m", "busy", 0.5), True),
        (events.SubmitRefused("m", "no credit", None), False),
        (events.PollFailed("m", "t", "no answer", 3.0), True),
        (events.PollFailed("m", "t", "wrong key", None), False),
        (events.LimitReached("submits", 2.0), True),
        (events.TaskAttached("m", "t"), False),
    ],
)
def test_what_makes_the_wait_longer_is_said(
    event: events.Event, said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A repeat and a limit are a line; what ends the wait is left to the error."""
    remark(Screen(), event)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (f"{event}\n" if said else "")


def test_an_uncertain_submit_without_a_caller_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """A submit that was cut short and may have bought a task is an error and an advice."""
    error = SubmitUncertainError(
        "sent, and not answered",
        model="m",
        input=OtherModel("m", prompt="x"),
        sent_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    orphaned(Screen(), error)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "apixo: sent, and not answered"
    assert "look at your account" in lines[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_and_closes_what_was_open(number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM cancel the command, which cleans up, and end it with the given code."""
    closed: list[bool] = []

    async def wait() -> None:
        try:
            signal.raise_signal(number)
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    before = signal.getsignal(number)
    with pytest.raises(typer.Exit) as ended:
        run(wait())
    assert ended.value.exit_code == ExitCode.INTERRUPTED
    with pytest.raises(typer.Exit) as ended:
        run(wait(), interrupted=ExitCode.OK)
    assert ended.value.exit_code == ExitCode.OK
    assert closed == [True, True]
    assert signal.getsignal(number) is before

"""`apixo run` in this process: what it refuses, what it asks, what it leaves."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from rich.prompt import Confirm

from apixo_async._cli.run import command

from ....support.inside import ExitCode
from .conftest import Serve

Apixo = Callable[..., CompletedProcess[str]]
Rows = Callable[..., str]

SIMULATED = ("--out", "out", "--simulate")


@pytest.fixture
def plain(tmp_path: Path) -> str:
    """Have a file of two prompts."""
    (tmp_path / "two.txt").write_text("a fox\na hen\n")
    return "two.txt"


@pytest.mark.heavy
def test_a_simulated_run_needs_nothing(
    apixo: Apixo, plain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key: files, three reports, a summary; once more, nothing is bought again."""
    monkeypatch.delenv("APIXO_API_KEY")
    arguments = ("run", plain, "--model", "gpt-image-2", *SIMULATED)
    done = apixo(*arguments)
    assert done.returncode == ExitCode.OK, done.stderr
    assert "Rows     2: 2 succeeded\n" in done.stdout
    names = {path.suffix for path in Path("out").iterdir()}
    assert names >= {".db", ".json", ".jsonl", ".html"}
    again = apixo(*arguments, "--json")
    assert again.returncode == ExitCode.OK
    document = json.loads(again.stdout)
    assert document["items"]["from_earlier_runs"] == 2
    assert document["money"]["spent_in_this_run"] == 0
    assert (document["exit_code"], document["next"]) == (0, [])
    assert "all 2 rows are bought already" in again.stderr
    refused = apixo("run", plain, "--model", "gpt-image-2", "--out", "out", "--yes")
    assert refused.returncode == ExitCode.USAGE
    assert "holds a simulated run" in refused.stderr


@pytest.mark.heavy
def test_files_are_named_by_a_template(apixo: Apixo, plain: str) -> None:
    """With --name the files are named so, and a wrong template buys nothing."""
    arguments = ("run", plain, "--model", "gpt-image-2", *SIMULATED, "--name")
    refused = apixo(*arguments, "{line}")
    assert refused.returncode == ExitCode.USAGE
    assert "{line} in '{line}' is no field; there are {row}, {key}, {slug}" in refused.stderr
    assert apixo(*arguments, "{row:03}-{slug}").returncode == ExitCode.OK
    assert {"001-a-fox", "002-a-hen"} <= {path.stem for path in Path("out").iterdir()}


def test_bad_rows_are_named_and_nothing_is_sent(apixo: Apixo, tmp_path: Path) -> None:
    """Each bad row is a line; no key is needed to say so."""
    (tmp_path / "a.csv").write_text("model,prompt,num_images\ngpt-image-1,a,9\n!,b,\nm,c,\n")
    done = apixo("run", "a.csv", "--out", "out", "--base-url", "http://127.0.0.1:1")
    assert done.returncode == ExitCode.USAGE
    told = done.stderr.splitlines()
    assert [line.split(": ")[1] for line in told] == ["line 2", "line 3", "a.csv"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--yes",), "no API key"),
        ((), "give --yes"),
        (("--max-cost", "-1"), "--max-cost -1: give an amount"),
        (("--set", "x"), "--set x: give NAME=VALUE"),
        (("--attempts", "0"), "attempts"),
    ],
)
def test_what_is_missing_is_one_line(
    arguments: tuple[str, ...], said: str, apixo: Apixo, plain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key, an answer, or a right option nothing is bought, and the reason is said."""
    monkeypatch.delenv("APIXO_API_KEY")
    done = apixo("run", plain, "--model", "gpt-image-2", "--out", "out", *arguments)
    assert done.returncode == ExitCode.USAGE
    assert said in done.stderr.splitlines()[-1]


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize("answer", [True, False])
def test_somebody_is_asked(
    answer: bool, apixo: Apixo, serve: Serve, plain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question has the price and the balance at hand; a no buys nothing and ends with 130."""
    asked: list[str] = []

    def ask(question: object, **_: object) -> bool:
        asked.append(str(question))
        return answer

    monkeypatch.setattr(command, "is_attended", lambda _: True)
    monkeypatch.setattr(Confirm, "ask", ask)
    with serve(balance=0.03) as service:
        arguments = ("--model", "gpt-image-2", "--out", "out", "--base-url", service.url)
        done = apixo("run", plain, *arguments)
        bought = service.bought().total()
    assert asked == ["Buy 2 tasks for $0.04?"]
    assert "the balance of $0.03 is less than $0.04" in done.stderr
    if not answer:
        assert (done.returncode, bought) == (ExitCode.INTERRUPTED, 0)
        return
    # The account is empty after the first: what is bought is finished, the rest waits.
    assert (done.returncode, bought) == (ExitCode.REFUSED, 1)
    assert "1 succeeded, 1 not bought" in done.stdout
    assert "To go on where this ended" in done.stderr


@pytest.mark.usefixtures("_hasty")
def test_money_and_rows_between_runs(apixo: Apixo, serve: Serve, tmp_path: Path) -> None:
    """Each run stops at its --max-cost; rows put in between are bought, the others are not."""
    file = tmp_path / "a.csv"
    file.write_text("key,prompt\na,one\nb,two\nc,three\n")
    with serve() as service:
        options = ("--model", "gpt-image-2", "--out", "out", "--yes", "--base-url", service.url)
        first = apixo("run", "a.csv", *options, "--max-cost", "0.05")
        assert first.returncode == ExitCode.BUDGET
        assert "--max-cost $0.05 is reached: $0.04 are spent" in first.stderr
        assert "--max-cost 0.06" in first.stderr.splitlines()[-1]
        file.write_text("key,prompt\nz,zero\na,one\nb,two\nc,three\n")
        second = apixo("run", "a.csv", *options)
        assert second.returncode == ExitCode.OK, second.stderr
        assert service.bought().total() == 4
        assert "2 of 4 rows are bought already" in second.stderr
        file.write_text("key,prompt\na,another one\n")
        third = apixo("run", "a.csv", *options)
        assert third.returncode == ExitCode.USAGE
        assert "line 2: key: 'a' is the key of another input" in third.stderr
        assert service.bought().total() == 4
    report = json.loads(Path("out/report.json").read_text())
    assert (report["money"]["spent"], report["money"]["spent_in_this_run"]) == (0.08, 0.04)
    lines = [json.loads(line) for line in Path("out/results.jsonl").read_text().splitlines()]
    assert {one["key"]: (one["line"], one["resumed"]) for one in lines} == {
        "a": (3, True), "b": (4, True), "c": (5, False), "z": (2, False),
    }  # fmt: skip


@pytest.mark.usefixtures("_hasty")
def test_failed_tasks_are_bought_again_where_asked(apixo: Apixo, serve: Serve, plain: str) -> None:
    """Failures end with 4 and their reasons; --attempts buys those again that may pass."""
    with serve(failure_rate=1.0) as service:
        options = ("--model", "gpt-image-2", "--out", "out", "--yes", "--base-url", service.url)
        done = apixo("run", plain, *options)
        assert done.returncode == ExitCode.FAILED
        assert done.stderr.count(" failed with ") == 2
        again = apixo("run", plain, *options)
        assert again.returncode == ExitCode.FAILED
        assert service.bought().total() == 2
        assert " failed with " not in again.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("nobody but root mounts a disk, and that on Linux")
    yield place
    subprocess.run(["umount", str(place)], check=True, timeout=10)


@pytest.mark.usefixtures("_hasty")
def test_a_full_disk_loses_nothing(
    apixo: Apixo, serve: Serve, rows: Rows, small_disk: Path
) -> None:
    """The run ends in bounded time and says why; with room again the same command finishes it."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (120 << 10))
    name = rows(30)
    with serve() as service:
        options = ("--yes", "--yes-unknown-price", "--base-url", service.url)
        done = apixo("run", name, "--out", str(small_disk), *options, "--concurrent-tasks", "5")
        assert done.returncode in (ExitCode.JOURNAL, ExitCode.NOT_SAVED)
        assert "disk is full" in done.stderr or "No space left" in done.stderr
        subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True, timeout=10)
        again = apixo("run", name, "--out", str(small_disk), *options)
        assert again.returncode in (ExitCode.OK, ExitCode.UNCERTAIN), again.stderr
        assert {*service.bought().values()} == {1}
    if again.returncode == ExitCode.OK:
        assert len(list(small_disk.glob("task_*"))) == 30


def test_a_read_only_folder_is_said_before_anything_else(
    apixo: Apixo, small_disk: Path, plain: str
) -> None:
    """Nothing is asked and nothing sent where the journal cannot be written."""
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True, timeout=10)
    done = apixo("run", plain, "--model", "gpt-image-2", "--out", str(small_disk), "--yes")
    assert done.returncode == ExitCode.JOURNAL
    assert done.stderr.count("\n") == 1
    assert "read-only" in done.stderr
    assert "allow writing" in done.stderr


def test_a_second_ctrl_c_is_no_report(
    apixo: Apixo, plain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is left at once says that nothing is lost, and how to go on."""

    class Runner:
        def __init__(self, *_: object) -> None: ...

        async def buy(self, _: object) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(command, "Runner", Runner)
    done = apixo("run", plain, "--model", "gpt-image-2", *SIMULATED)
    assert done.returncode == ExitCode.INTERRUPTED
    assert "Nothing is lost" in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "  apixo run two.txt --out out --model gpt-image-2 --simulate"
    )

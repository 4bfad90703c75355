"""`apixo conform`: a service on a port against the contract, and the report of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

from apixo_async.testing import OpenPoints, Simulator, serve_thread
from apixo_async.testing.contract import STATEMENTS

from ...support.inside import ExitCode

Apixo = Callable[..., CompletedProcess[str]]


def test_the_simulator_conforms(apixo: Apixo, url: str, key: str, tmp_path: Path) -> None:
    """What can be asked for 10 cents agrees, and the report holds nothing of the account."""
    done = apixo("conform", "--max-cost", "0.10", "--report", "report.json", "--base-url", url)
    assert done.returncode == ExitCode.OK, done.stdout
    assert "0 differ" in done.stderr.splitlines()[-1]
    assert "one task of gpt-image-2, for $0.02" in done.stderr
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert [one["number"] for one in report["statements"]] == sorted(STATEMENTS)
    verdicts = [one["verdict"] for one in report["statements"]]
    assert verdicts.count("agree") >= 45
    assert report["host"] == "loopback"
    assert key not in json.dumps(report) + done.stdout + done.stderr


def test_a_service_that_differs(apixo: Apixo, key: str) -> None:
    """A difference has an exit code of its own, and names what it contradicts."""
    points = OpenPoints(error_data="missing", errors="code")
    with serve_thread(Simulator(key=key, open_points=points)) as url:
        done = apixo("conform", "--json", "--base-url", url)
    assert done.returncode == ExitCode.DIFFERS, done.stderr
    found = {one["number"]: one for one in json.loads(done.stdout)["statements"]}
    differ = {number for number, one in found.items() if one["verdict"] == "differ"}
    assert differ == {11, 12}
    assert "OpenPoints.error_data" in found[12]["evidence"]


def test_without_money_nothing_is_bought(apixo: Apixo, key: str) -> None:
    """Unless money is given, only what is free is asked."""
    simulator = Simulator(key=key)
    with serve_thread(simulator) as url:
        done = apixo("conform", "--base-url", url)
    assert done.returncode == ExitCode.OK, done.stdout
    assert (simulator.created, simulator.count("submit")) == (0, 1)


def test_wrong_options(apixo: Apixo, url: str) -> None:
    """What is wrong is said before anything is asked."""
    for option, value in (("--max-cost", "-1"), ("--old-task", "sora-2")):
        done = apixo("conform", option, value, "--base-url", url)
        assert done.returncode == ExitCode.USAGE
        assert option in done.stderr


def test_open_points_of_a_served_simulator(apixo: Apixo) -> None:
    """`apixo simulate --open` refuses other names and words than there are."""
    for given, allowed in (("polls", "polls_count"), ("errors=loud", "'status' or 'code'")):
        done = apixo("simulate", "--port", "0", "--open", given)
        assert done.returncode == ExitCode.USAGE
        assert allowed in done.stderr

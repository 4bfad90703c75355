"""Ray Data on a local Ray of two CPUs: an actor is killed while a submit is under way."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pytest
import ray

from apixo_async import AsyncClient, GptImage2
from apixo_async.events import ClientOpened
from apixo_async.pipelines import RowBuyer
from apixo_async.pipelines.ray import buy_rows
from apixo_async.testing import Fault, Simulator, serve_thread

from ..support.row_buyers import buyer_of

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.heavy,
    pytest.mark.filterwarnings("default"),  # Ray warns of what Ray does.
]

ROWS: Final = 2_000
#: The submit that is not answered for as long.
HELD, HOLD = 700, 60.0


@pytest.fixture(scope="module", autouse=True)
def local_ray() -> Iterator[None]:
    """Have Ray, with the package and these tests on the path of its workers."""
    path = os.pathsep.join(sys.path)
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": path}},
    )
    yield
    ray.shutdown()


def noted(url: str, folder: Path) -> RowBuyer:
    """Return a buyer that notes the process of each client."""
    pids = folder / "pids"

    def note(event: object) -> None:
        if isinstance(event, ClientOpened):
            with pids.open("a") as file:
                file.write(f"{os.getpid()}\n")

    return buyer_of(url, folder, on_event=note)


def rows() -> list[dict[str, Any]]:
    return [{"id": number, "caption": f"castle {number}"} for number in range(ROWS)]


def kill_at_a_submit(simulator: Simulator, folder: Path, killed: list[int]) -> None:
    """Kill the actor once the service has a submit that it has not answered."""
    over = time.monotonic() + 120
    while time.monotonic() < over:
        held = [one for one in simulator.log if one.kind == "submit" and one.fault]
        if held and held[0].answered_at is None:
            pid = int((folder / "pids").read_text().split()[-1])
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
            return
        time.sleep(0.01)


def test_a_batch_is_run_again(tmp_path: Path) -> None:
    """Every row is there once, and none was bought twice; what was in flight is a doubt."""
    simulator = Simulator(seed=1, key="test-key", speed=20)
    simulator.faults.submit(*[None] * HELD, Fault.delay(HOLD))
    killed: list[int] = []
    with serve_thread(simulator) as url:
        killer = threading.Thread(target=kill_at_a_submit, args=(simulator, tmp_path, killed))
        killer.start()
        bought = buy_rows(ray.data.from_items(rows()), noted(url, tmp_path)).take_all()
        killer.join()
    [dead] = killed
    first, *others = map(int, (tmp_path / "pids").read_text().split())
    assert first == dead
    assert others, "no other actor has run the dead one's batches again"
    assert Counter(row["id"] for row in bought) == Counter(range(ROWS))
    prompts = Counter(str(task.input["prompt"]) for task in simulator.tasks.values())
    assert max(prompts.values()) == 1
    states = Counter(row["state"] for row in bought)
    sys.stdout.write(f"\n{dict(states)}, {simulator.created} bought\n")
    assert states.keys() == {"success", "uncertain"}
    assert 1 <= states["uncertain"] <= 100  # of the held one up to all that may be in flight
    found = {row["caption"] for row in bought if row["state"] == "success"}
    assert found <= prompts.keys()
    assert all(row["urls"] for row in bought if row["state"] == "success")


def test_a_cell_that_python_cannot_have(tmp_path: Path) -> None:
    """Its row says so, and the others of its batch are bought."""
    words = pa.array([b"castle", b"\xff\xff"]).view(pa.string())
    table = pa.table({"id": [1, 2], "caption": words})
    simulator = Simulator(seed=1, key="test-key", speed=100)
    with serve_thread(simulator) as url:
        bought = buy_rows(ray.data.from_arrow(table), noted(url, tmp_path))
        shown = bought.select_columns(["id", "state"]).take_all()
    states = {row["id"]: row["state"] for row in shown}
    assert states == {1: "success", 2: "unbought"}


def test_its_time_against_one_process(tmp_path: Path) -> None:
    """The same rows through Ray and through `client.map`: the times are printed."""
    took: list[float] = []

    async def mapped(url: str) -> int:
        inputs = (GptImage2(prompt=row["caption"]) for row in rows())
        async with AsyncClient("test-key", base_url=url) as client:
            return sum([outcome.ok async for outcome in client.map(inputs)])

    for through in ("map", "ray"):
        simulator = Simulator(seed=1, key="test-key", speed=20)
        with serve_thread(simulator) as url:
            began = time.monotonic()
            if through == "map":
                assert asyncio.run(mapped(url)) == ROWS
            else:
                bought = buy_rows(ray.data.from_items(rows()), noted(url, tmp_path)).take_all()
                assert [row["state"] for row in bought] == ["success"] * ROWS
            took.append(time.monotonic() - began)
        assert simulator.created == ROWS
        assert simulator.statistics().refused == 0
    sys.stdout.write(
        f"\n{ROWS} rows: map {took[0]:.1f} s, Ray {took[1]:.1f} s, {took[1] / took[0]:.2f}x\n"
    )

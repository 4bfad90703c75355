"""Page: the state that a person watches."""

from __future__ import annotations

import json
from decimal import Decimal

from apixo_async.testing.exchanges import Call
from apixo_async.testing.faults import Fault
from apixo_async.testing.server import state
from apixo_async.testing.simulator import Simulator


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        """Return the time that was set."""
        return self.now


def submit(simulator: Simulator, prompt: str, key: str = "a") -> None:
    """Submit a task that takes 10 s."""
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    content = json.dumps({"input": {"prompt": prompt}}).encode()
    call = Call("POST", "/api/v1/generateTask/sora-2", headers=headers, body=content)
    simulator.arrive(call, simulator.begin(call))


def test_the_state_shows_tasks_newest_first() -> None:
    """Each task comes with its state, progress, times, price and, in the end, its pictures."""
    clock = Clock()
    simulator = Simulator(key="a", clock=clock, durations=10.0)
    simulator.faults.submit(None, Fault.task_fails("NSFW"), Fault.task_lasts(40))
    for prompt in ("first", "second", "x" * 1_000):
        submit(simulator, prompt)
    clock.now = 110.0
    third, second, first = json.loads(json.dumps(state(simulator)["tasks"]))
    assert (third["state"], third["progress"], third["lasted"]) == ("processing", 0.25, 10.0)
    assert len(third["prompt"]) == 140
    assert (second["state"], second["fail_code"], second["pictures"]) == ("failed", "NSFW", [])
    assert (first["prompt"], first["state"], first["price"]) == ("first", "success", "0.05")
    assert first["pictures"] == [f"/results/{first['id']}/0.mp4"]
    assert state(simulator)["latest"] == first["pictures"]


def test_the_state_is_bounded() -> None:
    """However many tasks there are, the newest 60 are shown."""
    simulator = Simulator(key="a", clock=Clock(), durations=0.0)
    for number in range(70):
        submit(simulator, str(number))
    found = json.loads(json.dumps(state(simulator), default=str))
    assert [task["prompt"] for task in found["tasks"]] == [str(69 - n) for n in range(60)]
    assert len(found["latest"]) == 16


def test_the_busiest_account_comes_first() -> None:
    """Accounts come with balance and use, limits and history beside them."""
    clock = Clock()
    keys = {"a": Decimal(1), "b": Decimal(2)}
    simulator = Simulator(keys=keys, clock=clock, concurrent_tasks=5, requests_per_minute=9)
    submit(simulator, "p", "b")
    clock.now = 103.5
    found = state(simulator)
    assert [account["balance"] for account in found["accounts"]] == ["1.95", "1"]  # type: ignore[attr-defined]  # JSON
    assert found["limits"] == {"tasks": 5, "requests": 9}
    assert found["history"] == [(3.5, 1, 1), (0.5, 1, 1)]

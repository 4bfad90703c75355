"""Open points: what each switch changes, at the service's own door."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import fields
from decimal import Decimal
from typing import Any

import pytest

from apixo_async.testing import Fault, OpenPoints, Simulator
from apixo_async.testing.exchanges import Call, Reply

HEADERS = {"authorization": "Bearer test-key", "content-type": "application/json"}
MODEL = "gpt-image-2"
NO_TASK = "Task not found: no submit was answered with this taskId"
EPOCH = 1_700_000_000.0


def ask(simulator: Simulator, method: str, path: str, at: float, **more: Any) -> Reply:
    """Carry out one call."""
    call = Call(method, f"/api/v1/{path}", headers=HEADERS, **more)
    return simulator.arrive(call, simulator.begin(call, at), at).reply


def submit(simulator: Simulator, at: float = 0.0) -> Reply:
    """Submit a task of $0.02."""
    body = json.dumps({"input": {"mode": "text-to-image", "prompt": "p"}}).encode()
    return ask(simulator, "POST", f"generateTask/{MODEL}", at, body=body)


def poll(simulator: Simulator, at: float, model: str = MODEL) -> Any:
    """Return the status of the first task, or the envelope where it is refused."""
    query = {"taskId": next(iter(simulator.tasks))}
    envelope = json.loads(ask(simulator, "GET", f"statusTask/{model}", at, query=query).body)
    return envelope["data"] if envelope["code"] == 200 else envelope


def balance(simulator: Simulator, at: float = 0.0) -> Reply:
    """Ask for the balance."""
    return ask(simulator, "GET", "apikeys/current-balance", at)


def made(options: dict[str, Any] | None = None, **points: Any) -> Simulator:
    """Return a simulator with these switches, and tasks of 40 s."""
    points_of = OpenPoints(**points)
    return Simulator(durations=40.0, epoch=EPOCH, open_points=points_of, **(options or {}))


def counted(**points: Any) -> int:
    """Return how many requests counted of a submit, a poll, and one that was answered 429."""
    simulator = made({"requests_per_minute": 2}, **points)
    submit(simulator)
    poll(simulator, 1.0)
    balance(simulator, 1.0)
    balance(simulator, 1.0)
    return simulator.most_in_window()


def allowed(**points: Any) -> list[bool]:
    """Return whether a request is allowed in the next minute, 2 s after one that was."""
    simulator = made({"requests_per_minute": 1}, **points)
    return [balance(simulator, at).status == 200 for at in (119.0, 121.0)]


def error(**points: Any) -> tuple[int, object]:
    """Return how a task that does not exist is answered."""
    reply = ask(made(**points), "GET", f"statusTask/{MODEL}", 0.0, query={"taskId": "x"})
    return reply.status, json.loads(reply.body).get("data", "missing")


def bought(**points: Any) -> int:
    """Return how many tasks three submits made that were answered 500, 503 and 504."""
    simulator = made(**points)
    for code in (500, 503, 504):
        simulator.faults.submit(Fault.status(code))
        assert submit(simulator).status == code
    return simulator.created


def seen(at: float, fails: bool = False, model: str = MODEL, **points: Any) -> Any:
    """Return the status of a task of 40 s at a moment."""
    simulator = made({"failure_rate": float(fails)}, **points)
    submit(simulator, 0.25)
    return poll(simulator, at, model)


def spent(fails: bool = True, price: str = "0.02", **points: Any) -> Decimal:
    """Return by how much the balance has fallen after the end of a task."""
    simulator = made({"failure_rate": float(fails), "balance": Decimal("1.004")}, **points)
    submit(simulator)
    assert simulator.charged == Decimal(price)
    left = json.loads(balance(simulator, 60.0).body, parse_float=Decimal)["data"]
    return Decimal("1.004") - left


def status_of_range(**points: Any) -> int:
    """Return the HTTP status of a request for a part of a file."""
    simulator = made(**points)
    submit(simulator)
    (task,) = simulator.tasks.values()
    call = Call("GET", task.result_paths()[0], headers={"range": "bytes=0-9"})
    return simulator.download(call, 60.0).status


def allowed_after(**points: Any) -> list[int]:
    """Return how the submits are answered that come 1 s and 6 s after the end of another task."""
    simulator = made({"concurrent_tasks": 1}, **points)
    submit(simulator)
    return [submit(simulator, at).status for at in (41.0, 87.0)]


def headers(**points: Any) -> set[str]:
    """Return the headers of an answer beside its type."""
    return {*balance(made(**points)).headers} - {"content-type"}


SWITCHED = {
    "polls_count": lambda value: counted(polls_count=value),
    "refused_count": lambda value: counted(refused_count=value),
    "window": lambda value: allowed(window=value),
    "errors": lambda value: error(errors=value)[0],
    "error_data": lambda value: error(error_data=value)[1],
    "errors_buy": lambda value: bought(errors_buy=value),
    "created_late": lambda value: seen(1.0, created_late=value)["createTime"],
    "whole_seconds": lambda value: seen(1.0, whole_seconds=value)["createTime"],
    "failed_times": lambda value: {
        *seen(60.0, fails=True, failed_times=value)
    } & {"createTime", "completeTime"},
    "refunds": lambda value: spent(refunds=value),
    "any_model": lambda value: seen(1.0, model="sora-2", any_model=value).get("code"),
    "result_json": lambda value: type(seen(60.0, result_json=value)["resultJson"]),
    "pending": lambda value: seen(0.3, pending=value)["state"],
    "odd_state": lambda value: seen(39.0, odd_state=value)["state"],
    "task_ids": lambda value: re.sub(r"[0-9a-f]", "0", seen(1.0, task_ids=value)["taskId"]),
    "limit_headers": lambda value: headers(limit_headers=value),
    "cents": lambda value: spent(cents=value),
    "ranges": lambda value: status_of_range(ranges=value),
    "places_linger": lambda value: allowed_after(places_linger=value),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "assumed", "other", "other_value"),
    [
        ("polls_count", 2, 1, False),
        ("refused_count", 2, 4, True),
        ("window", [True, False], [True, True], "minute"),
        ("errors", 404, 200, "code"),
        ("error_data", None, "missing", "missing"),
        (
            "error_data",
            None,
            {"error": "Task not found: no submit was answered with this taskId"},
            "object",
        ),
        ("errors_buy", 0, 2, True),
        ("created_late", 1_700_000_000_250, 1_700_000_002_250, 2.0),
        ("whole_seconds", 1_700_000_000_250, 1_700_000_000_000, True),
        ("failed_times", {"createTime", "completeTime"}, set(), False),
        ("refunds", Decimal("0.02"), Decimal(0), True),
        ("any_model", 404, None, True),
        ("result_json", str, dict, "object"),
        ("pending", "pending", "processing", False),
        ("odd_state", "processing", "processing_r2", True),
        ("task_ids", "t0sk_00000000", "00000000-0000-0000-0000-000000000000", "uuid"),
        (
            "limit_headers",
            set(),
            {"x-request-id", "x-ratelimit-limit", "x-ratelimit-remaining"},
            True,
        ),
        ("cents", Decimal("0.02"), Decimal("0.024"), True),
        ("ranges", 206, 200, False),
        ("places_linger", [200, 200], [429, 200], 5.0),
    ],
)
def test_switch(name: str, assumed: object, other: object, other_value: object) -> None:
    """A switch changes what it says, and is as clients assume unless given."""
    assert SWITCHED[name](getattr(OpenPoints(), name)) == assumed
    assert SWITCHED[name](other_value) == other


def test_all_switches_are_tested() -> None:
    """No switch is without a test; callbacks are posted in virtual time, below."""
    of_callbacks = {"bare_callbacks", "signed_callbacks"}
    assert SWITCHED.keys() | of_callbacks == {field.name for field in fields(OpenPoints)}


@pytest.mark.parametrize("other", [False, True])
async def test_callbacks(other: bool) -> None:
    """A callback is the status object in its envelope, or alone; without a signature, or with."""
    simulator = made(bare_callbacks=other, signed_callbacks=other)
    bodies: list[bytes] = []
    names: set[bytes] = set()

    async def receiver(scope: Any, receive: Any, send: Any) -> None:
        names.update(name for name, _ in scope["headers"])
        bodies.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    simulator.deliver_to(receiver)
    body = {
        "request_type": "callback",
        "callback_url": "https://app.example.com/x",
        "input": {"mode": "text-to-image", "prompt": "p"},
    }
    call = Call(
        "POST", f"/api/v1/generateTask/{MODEL}", headers=HEADERS, body=json.dumps(body).encode()
    )
    simulator.arrive(call, simulator.begin(call))
    await asyncio.sleep(60)
    (found,) = map(json.loads, bodies)
    assert (found if other else found["data"])["taskId"] in simulator.tasks
    assert (b"x-signature" in names) is other


def test_wrong_words() -> None:
    """A word that a point does not have is refused, with those that it has."""
    wrong: Any = "hourly"
    with pytest.raises(ValueError, match="window: 'hourly' given; allowed is sliding, minute"):
        OpenPoints(window=wrong)

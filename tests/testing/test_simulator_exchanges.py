"""Simulator: the course of an exchange under faults, and what is known of it afterwards."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from decimal import Decimal
from typing import Any

from apixo_async.testing.callbacks import Callback, CallbackCounts
from apixo_async.testing.exchanges import Call, ServedRequest
from apixo_async.testing.faults import Fault
from apixo_async.testing.simulator import Simulator

HEADERS = {"authorization": "Bearer test-key", "content-type": "application/json"}
BALANCE = Call("GET", "/api/v1/apikeys/current-balance", headers=HEADERS, host="api.apixo.ai")
SUBMIT = Call("POST", "/api/v1/generateTask/sora-2", headers=HEADERS, body=b'{"input":{}}')


def take(simulator: Simulator, call: Call, now: float = 0.0) -> ServedRequest:
    """Let one request arrive at ``now``."""
    return simulator.arrive(call, simulator.begin(call, now), now)


def body(turn: ServedRequest) -> dict[str, Any]:
    """Return the envelope of a turn."""
    found: dict[str, Any] = json.loads(turn.reply.body)
    return found


def test_speed_and_failure_rate_hold() -> None:
    """Durations shrink by speed; at rate 1 every task fails with a code of its model."""
    simulator = Simulator(speed=100.0, failure_rate=1.0)
    take(simulator, SUBMIT)
    (task,) = simulator.tasks.values()
    assert task.ends - task.created <= 3.0
    assert task.fail_code is not None


def test_an_exchange_is_logged_with_its_times() -> None:
    """The log says what came when, and when its answer left."""
    simulator = Simulator()
    turn = take(simulator, SUBMIT, 5.0)
    (before,) = simulator.log
    simulator.answered(turn, 5.5)
    (record,) = simulator.log
    (task_id,) = simulator.tasks
    assert before.answered_at is None
    assert (record.at, record.answered_at, record.kind) == (5.0, 5.5, "submit")
    assert (record.model, record.task_id) == ("sora-2", task_id)
    assert (record.status, record.code, record.fault) == (200, 200, None)
    assert record.account == simulator.tasks[task_id].account
    assert record.had_authorization
    assert "test-key" not in repr(simulator.log)


def test_a_fault_without_carrying_out_spares_the_service() -> None:
    """A scripted answer stands in for the service, which does nothing; the request counts."""
    simulator = Simulator()
    simulator.faults.submit(Fault.status(500), Fault.html(), Fault.reset_before())
    answers = [take(simulator, SUBMIT).reply.status for _ in range(2)]
    take(simulator, SUBMIT)
    assert answers == [500, 502]
    assert simulator.created == 0
    assert [record.status for record in simulator.log] == [500, 502, None]
    assert [record.fault for record in simulator.log] == ["status 500", "html 502", "reset_before"]
    assert simulator.most_in_window() == 3


def test_a_fault_that_carries_out_creates_and_charges() -> None:
    """The task exists and is paid for, whatever the client meets."""
    simulator = Simulator()
    faults = (
        Fault.status(500, carried_out=True),
        Fault.lost_answer(),
        Fault.reset_after(),
        Fault.hang(),
        Fault.truncated(),
    )
    simulator.faults.submit(*faults)
    for _ in faults:
        take(simulator, SUBMIT)
    assert simulator.created == 5
    assert simulator.charged == Decimal("0.25")
    assert [record.status for record in simulator.log] == [500, None, None, None, 200]
    assert all(record.task_id in simulator.tasks for record in simulator.log)


def test_a_scripted_429_does_not_count() -> None:
    """What is answered 429 is in no window, scripted or not."""
    simulator = Simulator()
    simulator.faults.balance(Fault.status(429), None)
    take(simulator, BALANCE)
    take(simulator, BALANCE)
    assert simulator.most_in_window() == 1
    assert simulator.statistics().refused == 1


def test_a_refused_connection_is_logged_and_is_no_request() -> None:
    """Connections never made stand in the log, not in the counts."""
    simulator = Simulator()
    simulator.faults.submit(Fault.refused(), Fault.unreachable())
    assert [simulator.begin(SUBMIT, 1.0).end for _ in range(2)] == ["refuse", "unreachable"]
    assert [(record.at, record.arrived, record.model) for record in simulator.log] == [
        (1.0, False, "sora-2")
    ] * 2
    assert (simulator.count(), simulator.most_in_window()) == (0, 0)


def test_an_alteration_meets_healthy_answers_only() -> None:
    """Alterations change a success, and leave an error as it is."""
    simulator = Simulator(requests_per_minute=1)
    simulator.faults.balance(Fault.repeat(2, Fault.data("odd")))
    assert body(take(simulator, BALANCE))["data"] == "odd"
    assert body(take(simulator, BALANCE)) == {
        "code": 429,
        "message": "Rate limit exceeded",
        "data": None,
    }


def test_the_end_of_a_task_can_be_scripted() -> None:
    """task_lasts and task_fails meet the task that their submit creates."""
    simulator = Simulator(speed=2.0)
    simulator.faults.submit(Fault.task_lasts(8.0, Fault.task_fails("NSFW", "no")))
    take(simulator, SUBMIT, 10.0)
    (task,) = simulator.tasks.values()
    assert (task.ends, task.fail_code, task.fail_msg) == (14.0, "NSFW", "no")


def test_faults_of_one_task_and_outages_by_the_clock() -> None:
    """A poll is matched by its task, an outage by the service's clock."""
    simulator = Simulator()
    poll = Call("GET", "/api/v1/statusTask/gpt-image-1", {"taskId": "task_12345678"}, HEADERS)
    simulator.faults.poll(Fault.odd_state(), task_id="task_12345678")
    simulator.faults.during(10.0, 20.0, Fault.status(503))
    states = [body(take(simulator, poll, now)) for now in (0.0, 1.0, 10.0, 20.0)]
    assert states[0]["data"]["state"] == "processing_r2"
    assert states[1]["data"]["state"] == "success"
    assert (states[2]["code"], states[3]["code"]) == (503, 200)


def test_a_bounded_log_keeps_totals() -> None:
    """keep_log bounds the log, not the statistics."""
    simulator = Simulator(keep_log=2)
    for _ in range(5):
        take(simulator, BALANCE)
    assert len(simulator.log) == 2
    assert simulator.count("balance") == simulator.count() == 5
    assert simulator.statistics().most_requests == 5


def test_statistics_sum_up() -> None:
    """All totals come as one frozen value."""
    simulator = Simulator()
    simulator.faults.poll(None, None)
    take(simulator, SUBMIT)
    take(simulator, BALANCE)
    found = simulator.statistics()
    assert found.requests == {"submit": 1, "poll": 0, "balance": 1, "download": 0, "other": 0}
    assert (found.created, found.charged, found.refused) == (1, Decimal("0.05"), 0)
    assert (found.most_requests, found.most_tasks, found.turns_left) == (2, 1, 2)
    assert found.callbacks == CallbackCounts()
    simulator.callbacks.next(Callback(lost=True), None)
    assert simulator.statistics().turns_left == 4


def test_a_task_knows_what_becomes_of_its_callbacks() -> None:
    """Options and script reach the tasks in callback mode; without a way out nothing is posted."""
    simulator = Simulator(lost_callbacks=1.0)
    simulator.callbacks.next(Callback(early=True))
    order = {"request_type": "callback", "callback_url": "https://a.example/x", "input": {}}
    call = replace(SUBMIT, body=json.dumps(order).encode())
    turns = [take(simulator, one, 5.0) for one in (call, call, SUBMIT)]
    early, lost, polled = simulator.tasks.values()
    assert [turn.after for turn in turns] == [None] * 3
    assert (early.callback, early.ends) == (Callback(early=True), 5.0)
    assert (lost.callback, lost.ends > 5.0) == (Callback(lost=True), True)
    assert polled.callback is None
    assert simulator.statistics().callbacks == CallbackCounts(tasks=2, early=1, lost=1)


def test_stamps_are_wall_times_by_default() -> None:
    """CreateTime is Unix time in milliseconds, fixed at the first request."""
    simulator = Simulator()
    take(simulator, SUBMIT, 50.0)
    (task_id,) = simulator.tasks
    poll = Call("GET", "/api/v1/statusTask/sora-2", {"taskId": task_id}, HEADERS)
    stamps = {body(take(simulator, poll, now))["data"]["createTime"] for now in (50.0, 60.0)}
    (stamp,) = stamps
    assert abs(stamp / 1000 - time.time()) < 10


def test_the_clock_is_real_outside_of_a_loop() -> None:
    """Without a loop and without a clock of its own the service lives in monotonic time."""
    assert abs(Simulator().now() - time.monotonic()) < 1
    assert Simulator(clock=lambda: 7.0).now() == 7.0


async def test_the_clock_is_the_running_loops() -> None:
    """In a loop the service lives in its time, virtual or not."""
    simulator = Simulator()
    simulator.answered(simulator.arrive(BALANCE, simulator.begin(BALANCE)))
    (record,) = simulator.log
    assert (simulator.now(), record.at, record.answered_at) == (1000.0, 1000.0, 1000.0)

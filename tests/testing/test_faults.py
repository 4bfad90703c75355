"""Faults: what each carries out, and what it makes of a healthy answer."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from apixo_async.testing import Simulator
from apixo_async.testing.exchanges import Reply
from apixo_async.testing.faults import Fault, framed

CARRIED_OUT = [
    (Fault.none(), True, "answer"),
    (Fault.delay(1), True, "answer"),
    (Fault.status(500), False, "answer"),
    (Fault.status(500, carried_out=True), True, "answer"),
    (Fault.html(502), False, "answer"),
    (Fault.html(502, carried_out=True), True, "answer"),
    (Fault.raw(200, b"x"), False, "answer"),
    (Fault.raw(200, b"x", carried_out=True), True, "answer"),
    (Fault.lost_answer(), True, "close"),
    (Fault.reset_after(), True, "reset"),
    (Fault.truncated(), True, "answer"),
    (Fault.hang(), True, "hang"),
    (Fault.hang(carried_out=False), False, "hang"),
    (Fault.reset_before(), False, "reset"),
    (Fault.refused(), False, "refuse"),
    (Fault.unreachable(), False, "unreachable"),
    (Fault.odd_state(), True, "answer"),
    (Fault.task_fails(), True, "answer"),
    (Fault.task_lasts(1), True, "answer"),
    (Fault.delay(1, Fault.refused()), False, "refuse"),
]


@pytest.mark.parametrize(("fault", "carried_out", "end"), CARRIED_OUT)
def test_the_table_of_faults_holds(fault: Fault, carried_out: bool, end: str) -> None:
    """Each fault carries the request out, or does not, and ends the exchange in its way."""
    assert (fault.carried_out, fault.end) == (carried_out, end)


@pytest.mark.parametrize(
    ("fault", "status", "body"),
    [
        (Fault.status(429), 429, {"code": 429, "message": "Rate limit exceeded", "data": None}),
        (
            Fault.status(400, message="Insufficient credits"),
            400,
            {"code": 400, "message": "Insufficient credits", "data": None},
        ),
        (
            Fault.status(200, code_in_body=500, data={"error": "x"}),
            200,
            {"code": 500, "message": "Server error", "data": {"error": "x"}},
        ),
        (Fault.status(403, has_data=False, message="m"), 403, {"code": 403, "message": "m"}),
        (Fault.status(418), 418, {"code": 418, "message": "error", "data": None}),
        (Fault.status(500, envelope=False), 500, {"error": "Server error"}),
    ],
)
def test_a_status_comes_in_the_envelope_asked_for(
    fault: Fault, status: int, body: dict[str, object]
) -> None:
    """Status, code, message and data can be combined freely."""
    assert fault.reply is not None
    assert fault.reply.status == status
    assert json.loads(fault.reply.body) == body
    assert "retry-after" not in fault.reply.headers


def test_a_status_may_tell_when_to_retry() -> None:
    """retry_after becomes the header, in seconds."""
    reply = Fault.status(429, retry_after=2).reply
    assert reply is not None
    assert reply.headers["retry-after"] == "2"


def test_html_and_raw_answers_are_no_json() -> None:
    """A gateway's page is HTML; raw bytes go out as they are, with the headers given."""
    page, raw = Fault.html(504).reply, Fault.raw(302, b"", "text/plain", headers={"location": "/"})
    assert page is not None
    assert page.headers == {"content-type": "text/html"}
    assert page.body.startswith(b"<html><head><title>504")
    assert raw.reply == Reply(302, b"", {"content-type": "text/plain", "location": "/"})


SUCCESS: dict[str, Any] = {
    "taskId": "t",
    "state": "success",
    "resultJson": '{"resultUrls":["u"]}',
    "createTime": 1,
    "completeTime": 2,
    "costTime": 1,
}
RUNNING: dict[str, Any] = {"taskId": "t", "state": "processing", "createTime": 1}


def altered(fault: Fault, data: object) -> dict[str, Any]:
    """Return the healthy envelope of ``data`` as the fault leaves it."""
    envelope = {"code": 200, "message": "success", "data": data}
    assert fault.alter is not None
    fault.alter(envelope)
    return envelope


@pytest.mark.parametrize(
    ("fault", "data", "expected"),
    [
        (Fault.odd_state(), RUNNING, {**RUNNING, "state": "processing_r2"}),
        (Fault.odd_state("x"), SUCCESS, {"taskId": "t", "state": "x", "createTime": 1}),
        (
            Fault.result_json_as_object(),
            SUCCESS,
            {**SUCCESS, "resultJson": {"resultUrls": ["u"]}},
        ),
        (Fault.result_json_as_object(), RUNNING, RUNNING),
        (Fault.result_json("{"), SUCCESS, {**SUCCESS, "resultJson": "{"}),
        (Fault.result_json("{"), RUNNING, RUNNING),
        (Fault.no_result_urls(), SUCCESS, {**SUCCESS, "resultJson": '{"resultUrls":[]}'}),
        (
            Fault.no_timestamps(),
            SUCCESS,
            {"taskId": "t", "state": "success", "resultJson": '{"resultUrls":["u"]}'},
        ),
        (Fault.no_timestamps(), {"taskId": "t"}, {"taskId": "t"}),
        (Fault.odd_state(), 74.87, 74.87),
        (Fault.data_null(), SUCCESS, None),
        (Fault.data(74.87), SUCCESS, 74.87),
    ],
)
def test_alterations_change_the_healthy_answer(
    fault: Fault, data: object, expected: object
) -> None:
    """An alteration changes the data as its name says, and touches nothing that it is not for."""
    assert altered(fault, copy.copy(data))["data"] == expected


def test_data_may_be_missing() -> None:
    """Without a value the key data is left out."""
    assert "data" not in altered(Fault.data(), SUCCESS)


def test_faults_combine() -> None:
    """Delays add up and keep what they delay; the end of a task and a lost answer go together."""
    late = Fault.delay(1.5, Fault.delay(2, Fault.status(500)))
    assert (late.wait, late.name) == (3.5, "delay, delay, status 500")
    lost = Fault.task_lasts(5, Fault.task_fails("X", "y", Fault.lost_answer()))
    assert (lost.lasts, lost.fails, lost.end) == (5, ("X", "y"), "close")
    assert lost.name == "task_lasts, task_fails, lost_answer"
    assert Fault.delay(1).name == "delay"


def test_a_fault_takes_its_turns() -> None:
    """Repeats multiply, and there is no repeat of nothing."""
    assert Fault.repeat(3, Fault.repeat(2, Fault.html())).turns == 6
    with pytest.raises(ValueError, match="n: 0 given"):
        Fault.repeat(0, Fault.none())


def test_a_truncated_body_is_announced_whole_or_not_at_all() -> None:
    """Framed, the announced length is the whole; unframed, there is none."""
    reply = Reply(200, b"0123456789", {"x": "y"})
    assert framed(reply, Fault.none()) == ({"x": "y", "content-length": "10"}, 10)
    assert framed(reply, Fault.truncated(0.25)) == ({"x": "y", "content-length": "10"}, 2)
    assert framed(reply, Fault.truncated(0.5, content_length=False)) == ({"x": "y"}, 5)


@pytest.mark.parametrize("turn", ["lost_answer", Fault.lost_answer, 3])
def test_what_is_no_fault_is_refused(turn: Any) -> None:
    """A slip in a script is an error where it is made, and not a fault of the network later."""
    script = Simulator().faults
    for add in (script.submit, script.poll, script.balance, script.download):
        with pytest.raises(TypeError, match="is no fault"):
            add(None, turn)
    with pytest.raises(TypeError, match="is no fault"):
        script.during(0, 1, turn)
    assert script.left == 0

"""Replies: envelopes and status objects exactly as the documents show them."""

from __future__ import annotations

import json
from decimal import Decimal

from apixo_async.testing.lifecycles import SimulatedTask
from apixo_async.testing.replies import Refusal, as_json, envelope, status_object, success


def task(**changes: object) -> SimulatedTask:
    """Return a task that lasts from 100 to 130, its cost 29.5 s."""
    fields: dict[str, object] = {
        "id": "task_00000001",
        "model": "gpt-image-1",
        "input": {"prompt": "x"},
        "kind": "gpt-image-1",
        "account": "a",
        "price": Decimal("0.35"),
        "created": 100.0,
        "started": 101.0,
        "ends": 130.0,
        "cost": 29.5,
    }
    return SimulatedTask(**(fields | changes))  # type: ignore[arg-type]  # a test's shorthand


def test_success_has_the_documents_envelope() -> None:
    """A success is code 200, message "success" and the data, as JSON."""
    reply = success({"taskId": "task_12345678"})
    assert reply.body == b'{"code":200,"message":"success","data":{"taskId":"task_12345678"}}'
    assert (reply.status, reply.code) == (200, 200)
    assert reply.headers["content-type"] == "application/json"


def test_a_refusal_has_the_same_code_twice_and_null_data() -> None:
    """An error's HTTP status equals its envelope's code, and data is null."""
    reply = Refusal(429, "Rate limit exceeded", {"retry-after": "7"}).reply()
    assert (reply.status, reply.code) == (429, 429)
    assert json.loads(reply.body) == {"code": 429, "message": "Rate limit exceeded", "data": None}
    assert reply.headers["retry-after"] == "7"


def test_an_envelope_may_contradict_its_status() -> None:
    """HTTP 200 around an error code can be expressed."""
    reply = envelope(500, "Server error", None, status=200)
    assert (reply.status, reply.code) == (200, 500)


def test_json_without_a_code_has_none() -> None:
    """Only an envelope's whole number is a code."""
    assert as_json([1], status=200).code is None
    assert as_json({"code": "200"}, status=200).code is None


def test_half_a_character_is_escaped() -> None:
    """JSON that holds half a character holds its escape, which is the only way to write it."""
    assert as_json({"code": 200, "data": "\ud83d \u00e9"}, status=200).body == (
        b'{"code":200,"data":"\\ud83d \\u00e9"}'
    )


def test_a_running_task_shows_its_creation_only() -> None:
    """Pending and processing carry no result, no failure and no completion."""
    assert status_object(task(), 100.5, 0.0, "") == {
        "taskId": "task_00000001",
        "state": "pending",
        "createTime": 100_000,
    }
    assert status_object(task(), 101.0, 1_000.0, "") == {
        "taskId": "task_00000001",
        "state": "processing",
        "createTime": 1_100_000,
    }


def test_a_success_shows_its_urls_in_a_string_of_json() -> None:
    """ResultJson is a string that holds JSON, with one URL for each image."""
    found = status_object(task(images=2, file_type="png"), 130.0, 0.0, "https://r2.apixo.ai")
    assert found == {
        "taskId": "task_00000001",
        "state": "success",
        "resultJson": '{"resultUrls":["https://r2.apixo.ai/results/task_00000001/0.png",'
        '"https://r2.apixo.ai/results/task_00000001/1.png"]}',
        "createTime": 100_000,
        "completeTime": 130_000,
        "costTime": 29_500,
    }


def test_a_failure_shows_its_code_and_times() -> None:
    """FailCode and failMsg come with failed, and no result."""
    found = status_object(task(fail_code="Timeout", fail_msg="late"), 131.0, 0.0, "")
    assert found == {
        "taskId": "task_00000001",
        "state": "failed",
        "failCode": "Timeout",
        "failMsg": "late",
        "createTime": 100_000,
        "completeTime": 130_000,
        "costTime": 29_500,
    }


def test_a_failure_of_gpt_image_2_has_no_cost_time() -> None:
    """gpt-image-2's page gives costTime after success only."""
    failed = status_object(task(model="gpt-image-2", fail_code="TIMEOUT"), 131.0, 0.0, "")
    assert "costTime" not in failed
    assert "costTime" in status_object(task(model="gpt-image-2"), 131.0, 0.0, "")

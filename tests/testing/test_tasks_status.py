"""Status objects: the keys and forms that the documentation shows in each state."""

from __future__ import annotations

from decimal import Decimal

from apixo_async.testing.tasks import SimulatedTask, status_object


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

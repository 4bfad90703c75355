"""The life of a task: durations around the documented times, seeded ids, states in their order."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any, Literal

import pytest

from apixo_async._catalog import TIMINGS, timing
from apixo_async.testing import Simulator
from apixo_async.testing.submissions import Submission
from apixo_async.testing.tasks import (
    FAILURES,
    SAMPLE_ID,
    SimulatedTask,
    Tasks,
    task_id,
    usual_duration,
)

TASK = SimulatedTask(
    id="task_00000001",
    model="flux-kontext",
    input={"prompt": "a castle"},
    kind="flux-kontext",
    account="a",
    price=Decimal("0.03"),
    created=10.0,
    started=12.0,
    ends=40.0,
    cost=29.0,
    images=2,
)


@pytest.mark.parametrize(
    ("now", "state", "progress"),
    [
        (10.0, "pending", 0.0),
        (12.0, "processing", 2 / 30),
        (39.9, "processing", 29.9 / 30),
        (40.0, "success", 1.0),
        (1e9, "success", 1.0),
    ],
)
def test_states_follow_each_other(now: float, state: str, progress: float) -> None:
    """A task is pending, then processing, and over from its end on."""
    assert TASK.state(now) == state
    assert TASK.progress(now) == pytest.approx(progress)


def test_a_task_of_no_duration_is_over_at_once() -> None:
    """A task may end in the moment of its creation."""
    ended = SimulatedTask("t", "m", {}, "m", "a", Decimal(0), 5.0, 5.0, 5.0, 0.0, fail_code="X")
    assert (ended.state(5.0), ended.progress(5.0), ended.prompt) == ("failed", 1.0, "")


@pytest.mark.parametrize(
    ("file_type", "extension"), [("png", "png"), ("jpeg", "jpg"), ("webp", "webp")]
)
def test_result_paths_name_task_index_and_type(
    file_type: Literal["png", "jpeg", "webp"], extension: str
) -> None:
    """Each image has a path of its own, with the extension of its type."""
    task = SimulatedTask(
        "t", "m", {}, "m", "a", Decimal(0), 0.0, 0.0, 0.0, 0.0, images=2, file_type=file_type
    )
    assert task.result_paths() == [f"/results/t/0.{extension}", f"/results/t/1.{extension}"]


def test_ids_are_the_documents_and_never_repeat() -> None:
    """20,000 ids of a seed are task_ and eight digits, all different, none the sample's."""
    ids = {task_id(3, serial) for serial in range(1, 20_001)}
    assert len(ids) == 20_000
    assert all(found.startswith("task_") and len(found) == len(SAMPLE_ID) for found in ids)
    assert SAMPLE_ID not in ids


def test_the_serial_that_would_make_the_samples_id_makes_another() -> None:
    """No task of a simulator is taken for the documentation's sample."""
    serial = 12_345_678 * pow(61_803_399, -1, 10**8) % 10**8
    assert task_id(0, serial) == task_id(0, 0) != SAMPLE_ID


@pytest.mark.parametrize("kind", [*TIMINGS, "sora-2"])
def test_durations_spread_within_the_documented_range(kind: str) -> None:
    """Usual durations lie in the typical range, around its middle, and differ."""
    source = random.Random(1)
    known = timing(kind)
    drawn = [usual_duration(kind, source) for _ in range(500)]
    middle = (known.typical_low + known.typical_high) / 2
    assert min(drawn) >= known.typical_low
    assert max(drawn) <= known.typical_high
    assert sum(drawn) / 500 == pytest.approx(middle, rel=0.05)
    assert len(set(drawn)) > 250


def created(model: str = "gpt-image-1", count: int = 1, **options: Any) -> list[SimulatedTask]:
    """Create tasks of one model at 100."""
    tasks = Tasks(Simulator(seed=5, **options).options)
    submission = Submission(model, {}, model, Decimal(1), "async", None, None)
    return [tasks.create(submission, "a", 100.0) for _ in range(count)]


def test_a_task_is_sped_up() -> None:
    """All seconds of a task shrink with speed, and cost is close to the whole but not it."""
    (slow,) = created(durations=30.0)
    (fast,) = created(durations=30.0, speed=10.0)
    assert slow.ends == 130.0
    assert fast.ends == pytest.approx(103.0)
    assert fast.started - 100 == pytest.approx((slow.started - 100) / 10)
    assert 100.6 <= slow.started <= 103.0
    assert 29.1 <= slow.cost < 30.0
    assert fast.cost == pytest.approx(slow.cost / 10)
    assert (slow.fail_code, slow.fail_msg) == (None, None)


@pytest.mark.parametrize("model", [*FAILURES, "sora-2"])
def test_tasks_fail_at_the_rate_with_the_models_codes(model: str) -> None:
    """At rate 1 every task fails, with one of its model's documented failCodes."""
    failed = created(model, 100, failure_rate=1.0)
    expected = FAILURES.get(model, FAILURES["gpt-image-2"])
    assert {(task.fail_code, task.fail_msg) for task in failed} == set(expected)

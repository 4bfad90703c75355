"""Tasks: created with seeded ends, found by id and model."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

from apixo_async.testing import Simulator
from apixo_async.testing.submissions import Submission
from apixo_async.testing.tasks import SAMPLE_ID, Tasks

SUBMISSION = Submission(
    "gpt-image-1", {"prompt": "p"}, "gpt-image-1", Decimal(1), "async", None, None
)


def tasks_of(**options: Any) -> Tasks:
    """Return the tasks of a simulator with these options."""
    return Tasks(Simulator(**options).options)


def test_the_same_seed_makes_the_same_tasks() -> None:
    """Ids, durations and ends replay with the seed, and differ from seed to seed."""
    runs = [
        [tasks_of(seed=seed, failure_rate=0.5).create(SUBMISSION, "a", 10.0) for _ in range(1)]
        for seed in (1, 1, 2)
    ]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_tasks_of_a_seed_differ() -> None:
    """Each task has an id and a duration of its own."""
    tasks = tasks_of()
    made = [tasks.create(SUBMISSION, "a", 10.0) for _ in range(20)]
    assert len({task.id for task in made}) == 20
    assert len({task.ends for task in made}) > 10
    assert list(tasks.created.values()) == made


def test_durations_may_be_given() -> None:
    """A number, or a function of model, input and a random source, sets durations before speed."""
    asked: list[tuple[str, dict[str, object]]] = []

    def durations(model: str, fields: dict[str, object], source: random.Random) -> float:
        asked.append((model, fields))
        return 10.0 + source.random()

    assert tasks_of(speed=2.0, durations=30.0).create(SUBMISSION, "a", 100.0).ends == 115.0
    task = tasks_of(speed=2.0, durations=durations).create(SUBMISSION, "a", 100.0)
    assert 105.0 <= task.ends < 105.5
    assert 100.0 < task.started < task.ends
    assert asked == [("gpt-image-1", {"prompt": "p"})]


def test_the_end_of_one_task_may_be_given() -> None:
    """Lasts and fails override what would be drawn."""
    tasks = tasks_of(speed=2.0)
    task = tasks.create(SUBMISSION, "a", 100.0, lasts=8.0, fails=("X", "why"))
    assert (task.ends, task.fail_code, task.fail_msg) == (104.0, "X", "why")
    assert task.state(104.0) == "failed"


def test_a_task_is_found_under_its_own_model_only() -> None:
    """An id of another model's task, and an unknown one, find nothing."""
    tasks = tasks_of()
    task = tasks.create(SUBMISSION, "a", 0.0)
    assert tasks.find(task.id, "gpt-image-1", 0.0) is task
    assert tasks.find(task.id, "flux-kontext", 0.0) is None
    assert tasks.find("task_1", "gpt-image-1", 0.0) is None
    assert tasks.find(None, "gpt-image-1", 0.0) is None
    assert tasks.of_result(task.id, 0.0) is task
    assert tasks.of_result("task_1", 0.0) is None


def test_the_documents_sample_is_there_and_counts_nowhere() -> None:
    """task_12345678 is a finished task of each documented model, and in no list."""
    tasks = tasks_of()
    sample = tasks.find(SAMPLE_ID, "gpt-image-1", 500.0)
    assert sample is not None
    assert sample.state(500.0) == "success"
    assert tasks.find(SAMPLE_ID, "gpt-image-1", 900.0) is sample
    assert sample.images == 2
    for model in ("flux-kontext", "gpt-image-2"):
        other = tasks.find(SAMPLE_ID, model, 500.0)
        assert other is not None
        assert (other.images, other.file_type) == (1, "png")
    assert tasks.of_result(SAMPLE_ID, 600.0) is sample
    assert tasks.find(SAMPLE_ID, "sora-2", 500.0) is None
    assert len(tasks.created) == 0

"""All tasks of a simulated service: made with seeded ids and fates, found by id and model."""

from __future__ import annotations

import random
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType

from apixo_async.inputs import DOCUMENTED
from apixo_async.testing.callbacks import Callback
from apixo_async.testing.lifecycles import (
    SAMPLE_ID,
    DurationOf,
    SimulatedTask,
    draw_fate,
    task_id,
    usual_duration,
)
from apixo_async.testing.submissions import Submission

_SAMPLE_LASTED = 41.388  # seconds, as the documents' sample of a success says
_SAMPLE_IMAGES = {"gpt-image-1": 2}  # one of its pages shows two URLs, the other models' show one


class Tasks:
    """Make tasks and find them again."""

    def __init__(
        self, seed: int, speed: float, durations: DurationOf | None, failure_rate: float
    ) -> None:
        self._seed = seed
        self._speed = speed
        self._durations = durations
        self._failure_rate = failure_rate
        self._made: dict[str, SimulatedTask] = {}
        self._samples: dict[str, SimulatedTask] = {}

    @property
    def made(self) -> Mapping[str, SimulatedTask]:
        """Every task made by a submit, by id and in the order of creation."""
        return MappingProxyType(self._made)

    def make(
        self,
        submission: Submission,
        account: str,
        now: float,
        *,
        lasts: float | None = None,
        fails: tuple[str, str] | None = None,
        callback: Callback | None = None,
    ) -> SimulatedTask:
        """Make the task of a submit; ``lasts`` (before speed) and ``fails`` override its fate."""
        serial = len(self._made) + 1
        source = random.Random(f"{self._seed}/{serial}")
        seconds = self._seconds(submission, source) if lasts is None else lasts
        fate = draw_fate(submission.model, seconds, self._failure_rate, self._speed, source)
        fail_code, fail_msg = fails or fate.failure or (None, None)
        task = SimulatedTask(
            id=task_id(self._seed, serial),
            model=submission.model,
            input=submission.fields,
            kind=submission.kind,
            account=account,
            price=submission.price,
            created=now,
            started=now + fate.pending,
            ends=now + fate.lasts,
            cost=fate.cost,
            fail_code=fail_code,
            fail_msg=fail_msg,
            images=submission.images,
            file_type=submission.file_type,
            request_type=submission.request_type,
            callback_url=submission.callback_url,
            callback=callback,
            provider=submission.provider,
        )
        self._made[task.id] = task
        return task

    def find(self, wanted: str | None, model: str | None, now: float) -> SimulatedTask | None:
        """Return a task; None for an unknown id, and for the id of another model's task."""
        if wanted == SAMPLE_ID and model is not None and model in DOCUMENTED:
            return self._sample(model, now)
        task = self._made.get(wanted or "")
        return task if task is not None and task.model == model else None

    def of_result(self, wanted: str | None, now: float) -> SimulatedTask | None:
        """Return the task that result files belong to."""
        if wanted == SAMPLE_ID:
            return self._sample("gpt-image-1", now)
        return self._made.get(wanted or "")

    def _seconds(self, submission: Submission, source: random.Random) -> float:
        if self._durations is None:
            return usual_duration(submission.kind, source)
        if callable(self._durations):
            return self._durations(submission.model, submission.fields, source)
        return self._durations

    def _sample(self, model: str, now: float) -> SimulatedTask:
        created = now - 2 * _SAMPLE_LASTED
        return self._samples.setdefault(
            model,
            SimulatedTask(
                id=SAMPLE_ID,
                model=model,
                input={"prompt": "a cozy cyberpunk cafe with neon lights", "aspect_ratio": "3:2"},
                kind=model,
                account="",
                price=Decimal(0),
                created=created,
                started=created,
                ends=created + _SAMPLE_LASTED,
                cost=_SAMPLE_LASTED,
                images=_SAMPLE_IMAGES.get(model, 1),
                file_type="png",
            ),
        )

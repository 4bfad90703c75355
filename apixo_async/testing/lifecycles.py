"""The life of one simulated task: how long it takes, how it ends, what it leaves behind."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, TypeAlias

from apixo_async._catalog import timing
from apixo_async.testing.callbacks import Callback

State = Literal["pending", "processing", "success", "failed"]
DurationOf: TypeAlias = float | Callable[[str, dict[str, object], random.Random], float]

SIGMA = 0.25  # spread of log(duration) around the middle of the documented range

#: The failCodes that each model's page documents, each with a message in their manner.
FAILURES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "gpt-image-1": (
        ("CONTENT_VIOLATION", "Content does not meet safety guidelines"),
        ("INVALID_IMAGE_URL", "Cannot access provided image URL"),
        ("SensitiveContent", "Content violates provider policy, please adjust the prompt"),
        ("PromptInvalid", "Prompt format or content was rejected"),
        ("ImageNotAccess", "A reference image URL could not be reached"),
        ("ImageFormatIncorrect", "Image format is incorrect"),
        ("RateLimited", "Provider or account rate limit was reached"),
        ("Timeout", "Generation did not finish in time"),
        ("Unknown error", "Unmapped provider-side failure"),
    ),
    "gpt-image-2": (
        ("CONTENT_VIOLATION", "Prompt or reference image failed safety checks"),
        ("INVALID_IMAGE_URL", "A reference image URL could not be fetched or decoded"),
        ("INVALID_PARAMETER", "A model parameter is unsupported or malformed"),
        ("INSUFFICIENT_BALANCE", "The account does not have enough balance for the task"),
        ("UPSTREAM_ERROR", "Provider-side failure"),
        ("TIMEOUT", "Generation did not finish in time"),
    ),
    "flux-kontext": (
        ("CONTENT_VIOLATION", "Content does not meet safety guidelines"),
        ("INVALID_IMAGE_URL", "Cannot access provided image URL"),
    ),
}

#: What an id counts in: prime to 10**8, so that 10**8 ids pass before one comes back.
_STRIDE = 61_803_399
_IDS = 10**8
SAMPLE_ID = "task_12345678"


@dataclass(frozen=True, slots=True)
class SimulatedTask:
    """One task of the simulated service; times are seconds of the service's clock.

    Attributes:
        id: As the documents write it, ``task_`` and eight digits.
        model: The name in the submit's path.
        input: The submit's ``input`` object, as it came.
        kind: What drives the duration, such as ``gpt-image-2/4k``.
        account: The short digest of the key that paid.
        price: What the submit cost, in USD.
        created: When the submit was carried out.
        started: When pending becomes processing.
        ends: When processing becomes success or failed.
        cost: Seconds that ``costTime`` states, close to ``ends - created``.
        fail_code: None where the task succeeds.
        fail_msg: None where the task succeeds.
        images: How many result URLs a success has.
        file_type: ``png``, ``jpeg`` or ``webp``.
        request_type: ``async`` or ``callback``.
        callback_url: Where to post callbacks to, if it is in callback mode.
        callback: What becomes of these callbacks; None in async mode.
        provider: None where the submit did not say.
    """

    id: str
    model: str
    input: Mapping[str, object]
    kind: str
    account: str
    price: Decimal
    created: float
    started: float
    ends: float
    cost: float
    fail_code: str | None = None
    fail_msg: str | None = None
    images: int = 1
    file_type: Literal["png", "jpeg", "webp"] = "webp"
    request_type: str = "async"
    callback_url: str | None = None
    callback: Callback | None = None
    provider: str | None = None

    def state(self, now: float) -> State:
        """Return the state at ``now``."""
        if now < self.started:
            return "pending"
        if now < self.ends:
            return "processing"
        return "success" if self.fail_code is None else "failed"

    def progress(self, now: float) -> float:
        """Return the part of the duration that has passed, 0 to 1."""
        lasts = self.ends - self.created
        return 1.0 if now >= self.ends or lasts <= 0 else max(0.0, (now - self.created) / lasts)

    def result_paths(self) -> list[str]:
        """Return the paths of the result files on their server."""
        extension = "jpg" if self.file_type == "jpeg" else self.file_type
        return [f"/results/{self.id}/{index}.{extension}" for index in range(self.images)]

    @property
    def prompt(self) -> str:
        """The prompt, or an empty text where the input has none."""
        prompt = self.input.get("prompt")
        return prompt if isinstance(prompt, str) else ""


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """How one task goes: seconds of the service's clock from its creation."""

    pending: float
    lasts: float
    cost: float
    failure: tuple[str, str] | None


def task_id(seed: int, serial: int) -> str:
    """Return the id of the ``serial``-th task: never twice in 10**8 tasks, never the sample's."""
    number = (seed * 7_919 + serial * _STRIDE) % _IDS
    found = f"task_{number:08d}"
    # The number in front of the first one is used by no task of this seed before 10**8 tasks.
    return found if found != SAMPLE_ID else f"task_{(seed * 7_919) % _IDS:08d}"


def usual_duration(kind: str, source: random.Random) -> float:
    """Draw a duration in seconds around the documented typical time, within its range."""
    known = timing(kind)
    middle = (known.typical_low + known.typical_high) / 2
    drawn = middle * source.lognormvariate(0.0, SIGMA)
    return min(max(drawn, known.typical_low), known.typical_high)


def draw_fate(
    model: str, lasts: float, failure_rate: float, speed: float, source: random.Random
) -> TaskPlan:
    """Draw how a task of ``lasts`` seconds before ``speed`` goes."""
    lasts /= speed
    fails = source.random() < failure_rate
    return TaskPlan(
        pending=lasts * source.uniform(0.02, 0.1),
        lasts=lasts,
        cost=lasts * source.uniform(0.97, 0.995),
        failure=source.choice(failures_of(model)) if fails else None,
    )


def failures_of(model: str) -> tuple[tuple[str, str], ...]:
    """Return the documented failCodes of a model with their messages."""
    return FAILURES.get(model, FAILURES["gpt-image-2"])

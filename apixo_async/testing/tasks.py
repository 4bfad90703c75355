"""Tasks: created by submits with seeded ids, durations and ends, found by id and model."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from types import MappingProxyType
from typing import Final, Literal

from apixo_async._catalog import timing
from apixo_async.inputs import DOCUMENTED
from apixo_async.testing.callbacks import Callback
from apixo_async.testing.open_points import DEFAULTS, OpenPoints
from apixo_async.testing.options import SimulatorOptions
from apixo_async.testing.submissions import FileType, Submission

State = Literal["pending", "processing", "success", "failed"]

SIGMA: Final = 0.25  # spread of log(duration) around the middle of the documented range

#: The failCodes that each model's pages document, each with a message in their manner. The pages
#: of gpt-image-1 have two lists in two spellings; its tasks fail with codes of both.
FAILURES: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
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

_UNREACHABLE: Final = "INVALID_IMAGE_URL", "Cannot access provided image URL"

#: Ids count in this step, which is prime to 10**8: 10**8 ids pass before one comes back.
_STRIDE: Final = 61_803_399
_IDS: Final = 10**8

#: The task of the documentation's samples, and the duration that a sample of a success has.
SAMPLE_ID: Final = "task_12345678"
_SAMPLE_LASTED: Final = 41.388
#: A page of gpt-image-1 shows two URLs of its result, the pages of the other models show one.
_SAMPLE_IMAGES: Final = {"gpt-image-1": 2}


@dataclass(frozen=True, slots=True)
class SimulatedTask:
    """One task of the simulated service; times are seconds of the service's clock.

    Attributes:
        id: As the documentation has it, ``task_`` and eight digits.
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
        images: How many results a success has: pictures, videos or tracks.
        file_type: Of them, ``png``, ``jpeg``, ``webp``, ``mp4`` or ``mp3``.
        request_type: ``async`` or ``callback``.
        callback_url: Where to post callbacks to, if it is in callback mode.
        callback: What becomes of these callbacks; None in async mode.
        provider: None where the submit named none.
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
    file_type: FileType = "webp"
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
        return [
            f"/results/{self.id}/{index}.{'jpg' if file_type == 'jpeg' else file_type}"
            for index, file_type in enumerate(self.file_types)
        ]

    @property
    def file_types(self) -> list[FileType]:
        """The type of each file; a track of music has its cover behind it."""
        each: list[FileType] = [self.file_type, "webp"] if self.has_covers else [self.file_type]
        return each * self.images

    @property
    def has_covers(self) -> bool:
        """Whether it is music, whose results are tracks."""
        return self.file_type == "mp3" and any(word in self.model for word in ("suno", "music"))

    def result(self, base: str) -> dict[str, object]:
        """Return what ``resultJson`` holds, in the shape that callers of such a model read.

        Args:
            base: Scheme and host for the URLs.
        """
        urls = [base + path for path in self.result_paths()]
        if self.has_covers:
            tracks = zip(urls[::2], urls[1::2], strict=True)
            return {
                "tracks": [
                    {"title": self.prompt[:80], "audio_url": audio, "image_url": cover}
                    for audio, cover in tracks
                ]
            }
        if self.file_type == "mp3":
            return {"audio_url": urls[0], "resultUrls": urls}
        return {"resultUrls": urls}

    @property
    def prompt(self) -> str:
        """The prompt, or an empty text where the input has none."""
        prompt = self.input.get("prompt")
        return prompt if isinstance(prompt, str) else ""


class Tasks:
    """Create tasks and find them again."""

    def __init__(self, options: SimulatorOptions) -> None:
        self._options = options
        self._created: dict[str, SimulatedTask] = {}
        self._samples: dict[str, SimulatedTask] = {}

    @property
    def created(self) -> Mapping[str, SimulatedTask]:
        """Every task that a submit created, by id and in the order of creation."""
        return MappingProxyType(self._created)

    def create(
        self,
        submission: Submission,
        account: str,
        now: float,
        *,
        lasts: float | None = None,
        fails: tuple[str, str] | None = None,
        callback: Callback | None = None,
    ) -> SimulatedTask:
        """Create the task of a submit, with all that will become of it.

        Args:
            submission: What the submit asks for.
            account: The name of the account that pays.
            now: The service's time.
            lasts: Seconds, before ``speed``, that are not drawn then.
            fails: failCode and failMsg that are not drawn then.
            callback: What becomes of its callbacks.
        """
        serial = len(self._created) + 1
        # Each task has a source of its own: what one draws changes nothing for the next.
        source = random.Random(f"{self._options.seed}/{serial}")
        if lasts is None:
            lasts = self._duration(submission, source)
        lasts /= self._options.speed
        failed = source.random() < self._options.failure_rate
        pending = lasts * source.uniform(0.02, 0.1)
        # In the documentation's samples costTime is a little less than completeTime - createTime.
        cost = lasts * source.uniform(0.97, 0.995)
        if failed:
            drawn = source.choice(FAILURES.get(submission.model, FAILURES["gpt-image-2"]))
            fails = fails or drawn
        if submission.has_unreachable_image:
            fails = _UNREACHABLE
        fail_code, fail_msg = fails or (None, None)
        found_id = task_id(self._options.seed, serial)
        is_plain = self._options.open_points.task_ids == "digits"
        task = SimulatedTask(
            id=found_id if is_plain else uuid_of(found_id),
            model=submission.model,
            input=submission.fields,
            kind=submission.kind,
            account=account,
            price=submission.price,
            created=now,
            started=now + pending,
            ends=now + lasts,
            cost=cost,
            fail_code=fail_code,
            fail_msg=fail_msg,
            images=submission.images,
            file_type=submission.file_type,
            request_type=submission.request_type,
            callback_url=submission.callback_url,
            callback=callback,
            provider=submission.provider,
        )
        self._created[task.id] = task
        return task

    def fail(self, task_id: str, fail_code: str) -> None:
        """Have a task that runs fail at its end, with a failCode of its model."""
        task = self._created[task_id]
        messages: dict[str, str] = dict(FAILURES.get(task.model, FAILURES["gpt-image-2"]))
        self._created[task_id] = replace(task, fail_code=fail_code, fail_msg=messages[fail_code])

    def find(self, wanted: str | None, model: str | None, now: float) -> SimulatedTask | None:
        """Return a task; None for an unknown id, and for the id of another model's task."""
        if wanted == SAMPLE_ID and model is not None and model in DOCUMENTED:
            return self._sample(model, now)
        task = self._created.get(wanted or "")
        return task if task is not None and task.model == model else None

    def of_result(self, wanted: str | None, now: float) -> SimulatedTask | None:
        """Return the task that result files belong to."""
        if wanted == SAMPLE_ID:
            return self._sample("gpt-image-1", now)
        return self._created.get(wanted or "")

    def _duration(self, submission: Submission, source: random.Random) -> float:
        durations = self._options.durations
        if durations is None:
            return usual_duration(submission.kind, source)
        if callable(durations):
            return durations(submission.model, submission.fields, source)
        return durations

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


def task_id(seed: int, serial: int) -> str:
    """Return the id of the ``serial``-th task: never twice in 10**8 tasks, never the sample's."""
    number = (seed * 7_919 + serial * _STRIDE) % _IDS
    found = f"task_{number:08d}"
    # The number in front of the first one is used by no task of this seed before 10**8 tasks.
    return found if found != SAMPLE_ID else f"task_{(seed * 7_919) % _IDS:08d}"


def uuid_of(task_id: str) -> str:
    """Return an id of the other form for the task of such an id."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, task_id))


def usual_duration(kind: str, source: random.Random) -> float:
    """Draw a duration in seconds around the documented typical time, within its range."""
    known = timing(kind)
    middle = (known.typical_low + known.typical_high) / 2
    drawn = middle * source.lognormvariate(0.0, SIGMA)
    return min(max(drawn, known.typical_low), known.typical_high)


def status_object(
    task: SimulatedTask, now: float, epoch: float, base: str, points: OpenPoints = DEFAULTS
) -> dict[str, object]:
    """Return the status object of a task at ``now``, with the keys that the documentation has.

    Args:
        task: The task.
        now: The service's time.
        epoch: Unix time, in seconds, at the zero of the service's clock.
        base: Scheme and host for the URLs of results.
        points: What no document settles.
    """
    state = task.state(now)
    found: dict[str, object] = {"taskId": task.id, "state": _word(task, state, now, points)}
    if state == "success":
        # JSON in a string, as all samples have it; some callers met an object instead.
        result = task.result(base)
        is_text = points.result_json == "string"
        found["resultJson"] = json.dumps(result, separators=(",", ":")) if is_text else result
    elif state == "failed":
        found |= {"failCode": task.fail_code, "failMsg": task.fail_msg}
        if not points.failed_times:
            return found

    def _milliseconds(seconds: float) -> int:
        return round(seconds) * 1000 if points.whole_seconds else round(seconds * 1000)

    found["createTime"] = _milliseconds(epoch + task.created + points.created_late)
    if state in ("success", "failed"):
        found["completeTime"] = _milliseconds(epoch + task.ends)
        # The page of gpt-image-2 has costTime after success only.
        if state == "success" or task.model != "gpt-image-2":
            found["costTime"] = _milliseconds(task.cost)
    return found


def _word(task: SimulatedTask, state: State, now: float, points: OpenPoints) -> str:
    if state == "pending" and not points.pending:
        return "processing"
    if state == "processing" and points.odd_state and 2 * now >= task.started + task.ends:
        return "processing_r2"
    return state

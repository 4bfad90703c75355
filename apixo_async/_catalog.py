"""What the documentation of the API says: limits, times of models, states and fail codes."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeAlias

#: Limits of an account by the documents: tasks at once, and requests in any 60 seconds.
CONCURRENT_TASKS: Final = 1_000
REQUESTS_PER_MINUTE: Final = 10_000
WINDOW: Final = 60.0

#: The routes that the documents list.
Provider: TypeAlias = Literal["auto", "value", "official"]

#: Seconds that a result's URLs stay valid: 15 days.
RESULT_LIFETIME: Final = 15 * 86_400.0

#: Seconds after a task's end in which callbacks may still come. By the documents there are four
#: deliveries of at most 30 s each, with pauses of 30 s, 2 min and 10 min between them.
REDELIVERY: Final = 4 * 30.0 + 30.0 + 120.0 + 600.0


class Timing(NamedTuple):
    """The documented times of one kind of task, in seconds.

    Attributes:
        first: From creation to the first poll.
        interval: From one poll to the next.
        typical_low: The lower end of the typical duration.
        typical_high: The upper end of the typical duration.
        longest: The longest documented time; an uncertain submit holds its slot for it.
        age_limit: The age at which a task is given up: 30 min for images, 2 h for all else.
    """

    first: float
    interval: float
    typical_low: float
    typical_high: float
    longest: float
    age_limit: float


IMAGE_AGE_LIMIT: Final = 1_800.0
OTHER_AGE_LIMIT: Final = 7_200.0

#: Kinds that the documents time themselves. "About 30 seconds" reads as 20 to 40.
TIMINGS: Final[dict[str, Timing]] = {
    "gpt-image-1": Timing(20, 3, 20, 40, 180, IMAGE_AGE_LIMIT),
    "gpt-image-2/1k": Timing(30, 10, 30, 120, 240, IMAGE_AGE_LIMIT),
    "gpt-image-2/2k": Timing(60, 10, 60, 180, 240, IMAGE_AGE_LIMIT),
    "gpt-image-2/4k": Timing(120, 10, 120, 240, 240, IMAGE_AGE_LIMIT),
    "flux-kontext": Timing(20, 3, 20, 40, 120, IMAGE_AGE_LIMIT),
}

#: Hints of public pages for kinds of media. For all other models, 600 s is the longest time.
_OTHER_LONGEST: Final = 600.0
_MEDIA: Final[dict[str, Timing]] = {
    "fast image": Timing(5, 3, 5, 20, _OTHER_LONGEST, IMAGE_AGE_LIMIT),
    "quality image": Timing(10, 5, 10, 60, _OTHER_LONGEST, IMAGE_AGE_LIMIT),
    "video": Timing(60, 15, 60, 300, _OTHER_LONGEST, OTHER_AGE_LIMIT),
    "audio": Timing(30, 10, 30, 120, _OTHER_LONGEST, OTHER_AGE_LIMIT),
    # Without documented times: polled like an image, and given as long as a video.
    "unknown": Timing(10, 5, 10, 120, _OTHER_LONGEST, OTHER_AGE_LIMIT),
}

#: Model names begin with one of these words, or hold it between dashes.
_MEDIUM_OF_WORD: Final[dict[str, str]] = {
    "nano-banana": "fast image",
    "flux": "quality image",
    "seedream": "quality image",
    "midjourney": "quality image",
    "gpt-image": "quality image",
    "image": "quality image",
    "sora": "video",
    "veo": "video",
    "seedance": "video",
    "kling": "video",
    "wan": "video",
    "happyhorse": "video",
    "video": "video",
    "suno": "audio",
    "music": "audio",
    "tts": "audio",
    "audio": "audio",
}

#: A medium that a name contains precedes the family that it begins with: "flux-video" is a video.
_SPOKEN: Final = ("video", "audio", "music", "tts", "image")


def medium(model: str) -> str:
    """Guess what a model makes from its name: a key of the public pages' table of times."""
    dashed = f"-{model.lower()}-"
    for word in _SPOKEN:
        if f"-{word}-" in dashed and not dashed.startswith("-gpt-image"):
            return _MEDIUM_OF_WORD[word]
    for word, found in _MEDIUM_OF_WORD.items():
        if dashed.startswith(f"-{word}"):
            return found
    return "unknown"


def timing(kind: str) -> Timing:
    """Return the documented times of a kind of task: a model name, with or without `/` and more."""
    known = kind
    while known not in TIMINGS and "/" in known:
        known = known.rpartition("/")[0]
    if known in TIMINGS:
        return TIMINGS[known]
    # A gpt-image-2 task attached by its id has no known resolution: it is polled like the quickest,
    # and all three have the same longest time.
    return TIMINGS["gpt-image-2/1k"] if known == "gpt-image-2" else _MEDIA[medium(known)]


_MODELS: Final = tuple(dict.fromkeys(kind.partition("/")[0] for kind in TIMINGS))

#: Characters in which a misspelt name differs from the right one, at most.
_SLIPS: Final = 2


@lru_cache(maxsize=256)
def similar_models(name: str) -> tuple[str, ...]:
    """Return the documented models for one of which a name is probably misspelt, or none.

    A name with other digits, or with a part more, is that of another model, which may well exist.
    """
    from difflib import SequenceMatcher  # Late: few programs name another model.

    if name in _MODELS:
        return ()
    given, digits = _fold(name), _digits(name)
    near: list[str] = []
    for model in _MODELS:
        known = _fold(model)
        if name.startswith(f"{model}-") or digits not in ("", _digits(model)):
            continue
        if abs(len(given) - len(known)) > _SLIPS:
            continue
        blocks = SequenceMatcher(None, given, known).get_matching_blocks()
        if len(given) + len(known) - 2 * sum(block.size for block in blocks) <= _SLIPS:
            near.append(model)
    return tuple(near)


def _digits(name: str) -> str:
    return "".join(filter(str.isdigit, name))


#: The states that end a task. Every other word, known or not, means that it still runs.
SUCCESS: Final = "success"
FAILED: Final = "failed"

#: The state of a task before its first poll.
PENDING: Final = "pending"


class Family(NamedTuple):
    """What a group of fail codes is about, and whether a new task may fare better.

    Attributes:
        name: The family's name.
        retryable: Whether the same input may succeed as a new task.
    """

    name: str
    retryable: bool


UNKNOWN: Final = Family("unknown", retryable=False)

#: Known fail codes, by family. The set is open, and codes come in three spellings.
_CODES: Final[dict[Family, tuple[str, ...]]] = {
    Family("content", retryable=False): (
        "CONTENT_VIOLATION",
        "SensitiveContent",
        "SensitiveContentDetected",
        "InputImageSensitiveContentDetected",
        "InputOutputSensitiveContentDetected",
        "OutputVideoSensitiveContentDetected",
        "NSFW",
        "NSFW_DETECTED",
        "ProhibitedContentDetected",
    ),
    Family("prompt", retryable=False): (
        "PromptInvalid",
        "INVALID_PROMPT",
        "PROMPT_TOO_LONG",
        "PromptLengthExceeded",
        "INVALID_PARAMETER",
    ),
    Family("image", retryable=False): (
        "INVALID_IMAGE_URL",
        "ImageNotAccess",
        "ImageFormatIncorrect",
        "IMAGE_TOO_LARGE",
        "UNSUPPORTED_FORMAT",
        "IMAGE_DOWNLOAD_FAILED",
        "INVALID_LORA_URL",
    ),
    Family("balance", retryable=False): ("INSUFFICIENT_BALANCE", "INSUFFICIENT_CREDITS"),
    Family("throttled", retryable=True): ("RateLimited",),
    Family("timeout", retryable=True): ("TIMEOUT", "PROCESSING_TIMEOUT"),
    Family("upstream", retryable=True): ("UPSTREAM_ERROR", "MODEL_UNAVAILABLE", "Unknown error"),
    # The documents suggest other parameters, so the same input is not tried again.
    Family("generation", retryable=False): ("GENERATION_FAILED",),
}


def _fold(code: str) -> str:
    return code.lower().translate({ord("_"): None, ord(" "): None, ord("-"): None})


_FAMILY_OF: Final = {_fold(code): family for family, codes in _CODES.items() for code in codes}


def family_of(fail_code: str | None) -> Family:
    """Return the family of a fail code; case, underscores, dashes and spaces do not matter."""
    return UNKNOWN if fail_code is None else _FAMILY_OF.get(_fold(fail_code), UNKNOWN)

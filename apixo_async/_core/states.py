"""The words in which the service speaks of a task: its states, and why it failed."""

from __future__ import annotations

from typing import Final, NamedTuple

#: The states that end a task. Every other word, known or not, means that it still runs.
SUCCESS: Final = "success"
FAILED: Final = "failed"

#: The state of a task that nobody has looked at yet.
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

#: The codes that callers met, by family. The set is open and comes in three spellings.
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

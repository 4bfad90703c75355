"""Every fail code that callers met has a family, in every spelling."""

from __future__ import annotations

import re

import pytest

from apixo_async._catalog import FAILED, PENDING, SUCCESS, UNKNOWN, Family, family_of

#: The documents' table: family, whether a new task may fare better, codes.
DOCUMENTED = [
    (
        "content",
        False,
        (
            "CONTENT_VIOLATION SensitiveContent SensitiveContentDetected "
            "InputImageSensitiveContentDetected InputOutputSensitiveContentDetected "
            "OutputVideoSensitiveContentDetected NSFW NSFW_DETECTED ProhibitedContentDetected"
        ),
    ),
    (
        "prompt",
        False,
        "PromptInvalid INVALID_PROMPT PROMPT_TOO_LONG PromptLengthExceeded INVALID_PARAMETER",
    ),
    (
        "image",
        False,
        (
            "INVALID_IMAGE_URL ImageNotAccess ImageFormatIncorrect IMAGE_TOO_LARGE "
            "UNSUPPORTED_FORMAT IMAGE_DOWNLOAD_FAILED INVALID_LORA_URL"
        ),
    ),
    ("balance", False, "INSUFFICIENT_BALANCE INSUFFICIENT_CREDITS"),
    ("throttled", True, "RateLimited"),
    ("timeout", True, "TIMEOUT Timeout PROCESSING_TIMEOUT"),
    ("upstream", True, "UPSTREAM_ERROR MODEL_UNAVAILABLE Unknown·error"),
    ("generation", False, "GENERATION_FAILED"),
]
ROWS = [
    pytest.param(code.replace("·", " "), family, retryable, id=code)
    for family, retryable, codes in DOCUMENTED
    for code in codes.split()
]


def words(code: str) -> list[str]:
    """Split a code of any spelling into its words."""
    return re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", code)


def spellings(code: str) -> set[str]:
    """Return a code in the three spellings and their cases."""
    parts = words(code)
    joined = {glue.join(parts) for glue in ("_", " ", "-", "")}
    camel = "".join(part.capitalize() for part in parts)
    return {code, camel} | {case for one in joined for case in (one.upper(), one.lower(), one)}


@pytest.mark.parametrize(("code", "name", "retryable"), ROWS)
def test_family_of_a_code(code: str, name: str, retryable: bool) -> None:
    """A code belongs to its family in every spelling, and the family says whether to retry."""
    assert len(spellings(code)) >= (3 if len(words(code)) == 1 else 6)
    assert {family_of(spelling) for spelling in spellings(code)} == {Family(name, retryable)}


@pytest.mark.parametrize("code", [None, "", " ", "_", "E42", "TIMEOUTS", "content", "超时", "0"])
def test_an_unknown_code_is_not_retried(code: str | None) -> None:
    """A code that nobody met is a failure of an unknown family."""
    assert family_of(code) is UNKNOWN
    assert not UNKNOWN.retryable


def test_the_words_of_the_service() -> None:
    """The states are written as the service writes them."""
    assert (SUCCESS, FAILED, PENDING) == ("success", "failed", "pending")

"""What the documents say of time, as their tables have it."""

from __future__ import annotations

import pytest

from apixo_async._catalog import (
    CONCURRENT_TASKS,
    REDELIVERY,
    REQUESTS_PER_MINUTE,
    RESULT_LIFETIME,
    TIMINGS,
    WINDOW,
    Timing,
    medium,
    similar_models,
    timing,
)

HALF_HOUR, TWO_HOURS = 1_800.0, 7_200.0


@pytest.mark.parametrize(
    ("kind", "first", "interval", "low", "high", "longest", "age_limit"),
    [
        ("gpt-image-1", 20, 3, 20, 40, 180, HALF_HOUR),
        ("gpt-image-2/1k", 30, 10, 30, 120, 240, HALF_HOUR),
        ("gpt-image-2/2k", 60, 10, 60, 180, 240, HALF_HOUR),
        ("gpt-image-2/4k", 120, 10, 120, 240, 240, HALF_HOUR),
        ("flux-kontext", 20, 3, 20, 40, 120, HALF_HOUR),
        ("gpt-image-2", 30, 10, 30, 120, 240, HALF_HOUR),
        ("gpt-image-2/8k", 30, 10, 30, 120, 240, HALF_HOUR),
        ("nano-banana-2", 5, 3, 5, 20, 600, HALF_HOUR),
        ("seedream-4-5", 10, 5, 10, 60, 600, HALF_HOUR),
        ("sora-2", 60, 15, 60, 300, 600, TWO_HOURS),
        ("sora-2/1080p", 60, 15, 60, 300, 600, TWO_HOURS),
        ("suno", 30, 10, 30, 120, 600, TWO_HOURS),
        ("whatever", 10, 5, 10, 120, 600, TWO_HOURS),
    ],
)
def test_times(
    kind: str,
    first: float,
    interval: float,
    low: float,
    high: float,
    longest: float,
    age_limit: float,
) -> None:
    """First poll, interval, typical and longest time of a kind are those of the documents."""
    assert timing(kind) == Timing(first, interval, low, high, longest, age_limit)


@pytest.mark.parametrize("kind", TIMINGS)
def test_times_make_sense(kind: str) -> None:
    """A task is first polled within its typical time, and over within the longest."""
    times = TIMINGS[kind]
    assert 0 < times.interval <= times.first <= times.typical_low < times.typical_high
    assert times.typical_high <= times.longest < times.age_limit


@pytest.mark.parametrize(
    ("model", "made"),
    [
        ("nano-banana", "fast image"),
        ("nano-banana-2", "fast image"),
        ("flux-2", "quality image"),
        ("seedream-4-5", "quality image"),
        ("midjourney", "quality image"),
        ("gpt-image-3", "quality image"),
        ("qwen-image", "quality image"),
        ("sora-2", "video"),
        ("veo-3-1", "video"),
        ("seedance-2-0", "video"),
        ("kling-2-6", "video"),
        ("happyHorse", "video"),
        ("wan-2-6-video", "video"),
        ("wan-2-6-image", "quality image"),
        ("midjourney-video", "video"),
        ("some-audio-model", "audio"),
        ("suno", "audio"),
        ("minimax-music", "audio"),
        ("Eleven-TTS", "audio"),
        ("my-sora-2", "unknown"),
        ("x", "unknown"),
        ("", "unknown"),
    ],
)
def test_what_a_model_makes(model: str, made: str) -> None:
    """A medium said outright beats the family, and nobody guesses at an unknown name."""
    assert medium(model) == made


def test_limits_of_the_account() -> None:
    """1,000 tasks at once, 10,000 requests in 60 s, results for 15 days."""
    assert (CONCURRENT_TASKS, REQUESTS_PER_MINUTE, WINDOW) == (1_000, 10_000, 60.0)
    assert RESULT_LIFETIME == 15 * 24 * 60 * 60


def test_redelivery() -> None:
    """Callbacks may come until the fourth delivery has had its 30 s, by the documents."""
    assert REDELIVERY == 30 + 30 + 30 + 120 + 30 + 600 + 30


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("gpt-imge-2", ("gpt-image-2",)),
        ("GPT_Image_1", ("gpt-image-1",)),
        ("gpt-image", ("gpt-image-1", "gpt-image-2")),
        ("flux-context", ("flux-kontext",)),
        ("gpt-image-2", ()),
        ("gpt-image-3", ()),
        ("gpt-image-1.5", ()),
        ("gpt-image-2-hd", ()),
        ("flux-kontext-max", ()),
        ("sora-2", ()),
        ("x" * 100_000, ()),
    ],
)
def test_names_that_look_misspelt(name: str, meant: tuple[str, ...]) -> None:
    """A few wrong letters are a mistake; another version or variant is a model of its own."""
    assert similar_models(name) == meant

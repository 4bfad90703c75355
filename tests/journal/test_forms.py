from __future__ import annotations

import json
import warnings
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from apixo_async import FluxKontext, GptImage1, GptImage2, Input, OtherModel, Result
from apixo_async.journal._forms import files_of, files_text, input_of, result_of, result_text

RESULT = Result(
    "task_1",
    "sora-2",
    ("https://cdn.apixo.ai/a.png", "https://cdn.apixo.ai/b.png"),
    {"resultUrls": ["https://cdn.apixo.ai/a.png"], "seed": 7, "odd": "\ud800"},
    datetime(2026, 11, 21, 8, 0, 0, 123000, tzinfo=UTC),
    datetime(2026, 11, 21, 8, 0, 30, tzinfo=timezone(timedelta(hours=2))),
    9.04,
)


@pytest.mark.parametrize("result", [RESULT, Result("task_1", "sora-2", ())])
def test_a_result_comes_back(result: Result) -> None:
    """A result that was kept is equal to the one that was noted."""
    assert result_of(result_text(result), "sora-2", "task_1") == result


def test_a_result_with_odd_values() -> None:
    """What has the wrong type reads as missing, and the rest stays."""
    stored = '{"urls": ["a", 3], "raw": [], "created_at": 5, "cost_time": "x"}'
    assert result_of(stored, "m", "t") == Result("t", "m", ("a",))
    with pytest.raises(ValueError, match="no JSON object"):
        result_of("[]", "m", "t")


@pytest.mark.parametrize("levels", [100, 101, 5000])
def test_a_result_that_is_nested_too_deeply(levels: int) -> None:
    """A result nested beyond what Python writes and reads anywhere keeps all but its own JSON."""
    inner: object = {}
    for _ in range(levels - 2):
        inner = [inner]
    raw = {"in": inner}
    kept = result_of(result_text(replace(RESULT, raw=raw)), "sora-2", "task_1")
    assert kept == replace(RESULT, raw=raw if levels <= 100 else {})


@pytest.mark.parametrize(
    "given",
    [
        GptImage1(prompt="x", aspect_ratio="3:2", num_images=2),
        GptImage2(prompt="x", image_urls=("https://example.com/a.png",)),
        FluxKontext(mode="max", prompt="x", safety_tolerance=2, watermark=True),
        OtherModel("sora-2", prompt="x", **{"a-b": [1, None]}),
    ],
)
def test_an_input_comes_back(given: Input) -> None:
    """An input that was kept as a payload is equal to the one that was given."""
    assert input_of(given.model, json.dumps(given.payload())) == given


def test_an_input_warns_once() -> None:
    """What an input has warned of when it was made is not said again."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = input_of("flux-kontext", '{"mode": "pro", "prompt": "x", "aspect_ratio": "5:1"}')
    assert kept.payload()["aspect_ratio"] == "5:1"


def test_an_input_out_of_bounds() -> None:
    """An input that this version would refuse comes back with its payload as it was."""
    kept = input_of("gpt-image-2", '{"prompt": "x", "resolution": "8k"}')
    assert kept == OtherModel("gpt-image-2", prompt="x", resolution="8k")


def test_files_come_back() -> None:
    """The paths of files are kept, those included that are no UTF-8."""
    paths = (Path("out/a.png"), Path("out/\udcff.png"))
    assert files_of(files_text(paths)) == paths
    assert files_of("{}") == ()

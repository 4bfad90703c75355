"""The files of a result, wherever a model puts them."""

from __future__ import annotations

from typing import Any

import pytest

from apixo_async import Result, ResultFile, TaskRef
from apixo_async._http.wire import Status, read_result
from apixo_async._result_files import files_of, kind_of_url

CDN = "https://cdn.apixo.ai/"


def found(raw: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    return [(file.url.removeprefix(CDN), file.path, file.kind) for file in files_of(raw)]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"resultUrls": [f"{CDN}a.png", f"{CDN}b"]},
         [("a.png", "resultUrls[0]", "image"), ("b", "resultUrls[1]", None)]),
        ({"resultUrls": f"{CDN}a.webm"}, [("a.webm", "resultUrls", "video")]),
        ({"tracks": [{"title": "x", "audio_url": f"{CDN}1", "imageUrl": f"{CDN}1.JPG?x=1"}]},
         [("1", "tracks[0].audio_url", "audio"), ("1.JPG?x=1", "tracks[0].imageUrl", "image")]),
        ({"cover": f"{CDN}c", "resultUrls": [f"{CDN}a.mp3"], "data": {"audio": f"{CDN}a.mp3"}},
         [("a.mp3", "resultUrls[0]", "audio"), ("c", "cover", "image")]),
        ({"a b": {"0": f"{CDN}x"}}, [("x", "['a b']['0']", None)]),
        ({"url": "ftp://x", "note": f"see {CDN}", "more": f"{CDN}a b", "n": 3, "z": None}, []),
    ],
)  # fmt: skip
def test_every_url_with_its_place(
    raw: dict[str, Any], expected: list[tuple[str, str, str | None]]
) -> None:
    """Those of `resultUrls` come first; each has a guess by its suffix, or else by its name."""
    assert found(raw) == expected


def test_urls_fall_back_to_files() -> None:
    """`urls` is what it was where there are `resultUrls`, and all files where there are none."""
    ref = TaskRef("suno", "t")
    music = {"audio_url": f"{CDN}a.mp3", "image_url": f"{CDN}a.jpg"}
    assert read_result(Status(resultJson=music), ref).urls == (f"{CDN}a.mp3", f"{CDN}a.jpg")
    both = read_result(Status(resultJson={**music, "resultUrls": [f"{CDN}a.mp3"]}), ref)
    assert both.urls == (f"{CDN}a.mp3",)
    assert [file.path for file in both.files] == ["resultUrls[0]", "image_url"]
    assert both.with_files().urls == (f"{CDN}a.mp3", f"{CDN}a.jpg")
    assert both.with_files().files == both.files
    assert Result("t", "m", (f"{CDN}a.png",)).files == (
        ResultFile(f"{CDN}a.png", "resultUrls[0]", "image"),
    )


def test_hostile_results() -> None:
    """Deep, wide and odd ones end in bounded time, with what can be had."""
    deep: dict[str, Any] = {"url": f"{CDN}deep"}
    for _ in range(5_000):
        deep = {"x": deep}
    many = {"urls": [f"{CDN}{n}" for n in range(5_000)]}
    assert found({"deep": deep, **many})[0][0] == "0"
    assert len(files_of(many)) == 1_000
    assert files_of({"url": CDN + "a" * 10_000, "other": f"{CDN}\u202e.png"}) == ()
    assert kind_of_url("https://[x") is None


def test_a_url_is_not_shown() -> None:
    """A signed one is enough to download."""
    [file] = files_of({"url": f"{CDN}?token=secret"})
    assert "secret" not in repr(file)

"""Videos, audio and music: made by the simulator, found in results, and saved whole."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apixo_async import AsyncClient, OtherModel
from apixo_async.testing import Simulator

ClientOf = Callable[..., AsyncClient]


@pytest.mark.parametrize(
    ("model", "fields", "urls", "files", "saved"),
    [
        ("sora-2", {}, ["mp4"], [("resultUrls[0]", "video")], ["mp4"]),
        ("kling-2-6", {"num_images": 2}, ["mp4"] * 2,
         [("resultUrls[0]", "video"), ("resultUrls[1]", "video")], ["mp4"] * 2),
        ("tts-1", {}, ["mp3"], [("resultUrls[0]", "audio")], ["mp3"]),
        ("suno", {}, ["mp3", "webp"],
         [("tracks[0].audio_url", "audio"), ("tracks[0].image_url", "image")], ["mp3", "webp"]),
        ("seedream-4-5", {"output_format": "jpg"}, ["jpg"], [("resultUrls[0]", "image")], ["jpg"]),
    ],
)  # fmt: skip
async def test_what_models_make(
    simulator: Simulator,
    client_of: ClientOf,
    tmp_path: Path,
    model: str,
    fields: dict[str, Any],
    urls: list[str],
    files: list[tuple[str, str]],
    saved: list[str],
) -> None:
    """Each in its shape; the client finds all files, and saves them with the right suffix."""
    client = client_of(simulator)
    result = await client.generate(OtherModel(model, prompt="a calm sea", **fields))
    assert [url.rpartition(".")[2] for url in result.urls] == urls
    assert [(file.path, file.kind) for file in result.files] == files
    paths = await client.download(result.with_files(), tmp_path)
    assert [path.suffix[1:] for path in paths] == saved
    read = [file.media_type.partition("/")[0] for file in await client.read(result.with_files())]
    assert read == [kind for _, kind in files]


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="needs ffprobe, of FFmpeg")
@pytest.mark.parametrize(("model", "codec"), [("sora-2", "h264"), ("suno", "mp3")])
async def test_a_player_can_play_them(
    simulator: Simulator, client_of: ClientOf, tmp_path: Path, model: str, codec: str
) -> None:
    """A second of a picture that moves, or of a tone."""
    client = client_of(simulator)
    result = await client.generate(OtherModel(model, prompt="a calm sea"))
    path = (await client.download(result, tmp_path))[0]
    command = ["ffprobe", "-v", "error", "-show_streams", "-of", "json", str(path)]
    ran = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=True
    )
    [stream] = json.loads(ran.stdout)["streams"]
    assert stream["codec_name"] == codec
    assert 0.9 < float(stream["duration"]) < 1.2

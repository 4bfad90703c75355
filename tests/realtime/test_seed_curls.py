"""The curl commands of APIXO's documents work against the simulator, apart from host and key."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import Any

import httpx2
import pytest

from apixo_async.testing import Simulator, serve

pytestmark = [
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]

TEXT_TO_IMAGE = """{
    "request_type": "async",
    "input": {
      "mode": "gpt-image-1",
      "prompt": "a cozy cyberpunk cafe with neon lights",
      "aspect_ratio": "3:2",
      "num_images": 2
    }
  }"""
QUICKSTART = TEXT_TO_IMAGE.replace('"num_images": 2', '"num_images": 1')
REFERENCE_GUIDED = """{
    "request_type": "async",
    "provider": "official",
    "input": {
      "mode": "gpt-image-1",
      "prompt": "a futuristic cityscape at sunset",
      "aspect_ratio": "3:2",
      "num_images": 4,
      "image_urls": [
        "https://example.com/ref1.jpg",
        "https://example.com/ref2.jpg"
      ]
    }
  }"""
REFERENCE_GUIDED_BODY = """{
  "request_type": "async",
  "input": {
    "mode": "gpt-image-1",
    "prompt": "turn these references into a futuristic cityscape at sunset",
    "image_urls": [
      "https://example.com/ref1.jpg",
      "https://example.com/ref2.png"
    ],
    "aspect_ratio": "3:2",
    "num_images": 2
  }
}"""
CALLBACK = """{
    "request_type": "callback",
    "callback_url": "https://your-server.com/webhooks/apixo",
    "input": {
      "mode": "gpt-image-1",
      "prompt": "a clean product photo of wireless earbuds on soft stone",
      "aspect_ratio": "1:1",
      "num_images": 1
    }
  }"""
FLUX_TEXT_TO_IMAGE = """{
    "request_type": "async",
    "input": {
      "mode": "pro",
      "prompt": "a castle on the hill at sunset",
      "aspect_ratio": "16:9",
      "output_format": "jpeg"
    }
  }"""
FLUX_IMAGE_TO_IMAGE = """{
    "request_type": "async",
    "provider": "official",
    "input": {
      "mode": "max",
      "prompt": "transform this into a watercolor painting",
      "aspect_ratio": "16:9",
      "image_urls": ["https://example.com/ref.jpg"],
      "output_format": "png",
      "safetyTolerance": 2
    }
  }"""


async def curl(*arguments: str) -> bytes:
    """Run curl, quietly apart from errors, and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "--max-time", "20", *arguments, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed


async def submit(url: str, model: str, body: str) -> dict[str, Any]:
    """Run the documents' submit command; return the envelope."""
    printed = await curl(
        *("-X", "POST", f"{url}/api/v1/generateTask/{model}"),
        *("-H", "Authorization: Bearer test-key"),
        *("-H", "Content-Type: application/json"),
        *("-d", body),
    )
    found: dict[str, Any] = json.loads(printed)
    return found


async def poll(url: str, model: str, task_id: str) -> dict[str, Any]:
    """Run the documents' status command; return the envelope."""
    printed = await curl(
        *("-X", "GET", f"{url}/api/v1/statusTask/{model}?taskId={task_id}"),
        *("-H", "Authorization: Bearer test-key"),
    )
    found: dict[str, Any] = json.loads(printed)
    return found


@pytest.mark.parametrize(
    ("model", "body", "images", "price"),
    [
        ("gpt-image-1", TEXT_TO_IMAGE, 2, "0.70"),
        ("gpt-image-1", QUICKSTART, 1, "0.35"),
        ("gpt-image-1", REFERENCE_GUIDED, 4, "1.40"),
        ("gpt-image-1", REFERENCE_GUIDED_BODY, 2, "0.70"),
        ("gpt-image-1", CALLBACK, 1, "0.35"),
        ("flux-kontext", FLUX_TEXT_TO_IMAGE, 1, "0.03"),
        ("flux-kontext", FLUX_IMAGE_TO_IMAGE, 1, "0.06"),
    ],
)
async def test_a_submit_as_documented_makes_a_task(
    model: str, body: str, images: int, price: str
) -> None:
    """Each submit command answers a task id, and that task succeeds with the images asked for."""
    simulator = Simulator(speed=1000.0)
    # The callback of the documents' example stays on this machine.
    simulator.deliver_to(httpx2.MockTransport(lambda _: httpx2.Response(200)))
    async with asyncio.timeout(30), serve(simulator) as url:
        made = await submit(url, model, body)
        assert (made["code"], made["message"], list(made["data"])) == (200, "success", ["taskId"])
        task = simulator.tasks[made["data"]["taskId"]]
        assert dict(task.input) == json.loads(body)["input"]
        await asyncio.sleep(max(0.0, task.ends - simulator.now()))
        seen = await poll(url, model, task.id)
        urls = json.loads(seen["data"]["resultJson"])["resultUrls"]
        magic = {"png": b"\x89PNG", "jpeg": b"\xff\xd8\xff\xe0"}[task.file_type]
        assert (await curl(urls[0])).startswith(magic)
    assert (len(urls), str(simulator.charged)) == (images, price)


@pytest.mark.parametrize(
    ("model", "images"), [("gpt-image-1", 2), ("gpt-image-2", 1), ("flux-kontext", 1)]
)
async def test_a_poll_as_documented_shows_the_sample(model: str, images: int) -> None:
    """The status command with the documents' own task id answers what the documents show."""
    async with asyncio.timeout(30), serve(Simulator()) as url:
        seen = await poll(url, model, "task_12345678")
        assert seen["code"] == 200
        assert list(seen["data"]) == [
            "taskId",
            "state",
            "resultJson",
            "createTime",
            "completeTime",
            "costTime",
        ]
        urls = json.loads(seen["data"]["resultJson"])["resultUrls"]
        assert len(urls) == images
        assert (await curl(urls[-1])).startswith(b"\x89PNG")


async def test_a_submit_without_credit_answers_the_documents_error() -> None:
    """The documents' sample of an error is what an account without credit gets."""
    simulator = Simulator(key="test-key", balance=Simulator().charged, no_credit="400")
    async with asyncio.timeout(30), serve(simulator) as url:
        assert await submit(url, "gpt-image-1", TEXT_TO_IMAGE) == {
            "code": 400,
            "message": "Insufficient credits",
            "data": None,
        }

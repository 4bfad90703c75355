"""Inputs with images of files and bytes: equal by content, counted as images, digests in JSON."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import TypeAdapter, ValidationError

from apixo_async import (
    FluxKontext,
    GptImage1,
    GptImage2,
    Input,
    InputWarning,
    LocalImage,
    OtherModel,
    Outcome,
    from_dict,
    from_json,
    to_json,
)
from apixo_async._canonical import identity

from .support.pictures import png

PNG, OTHER = png(8, 8, 1), png(8, 8, 2)
URL = "https://example.com/cat.png"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Write a picture."""
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    return path


@pytest.mark.parametrize("cls", [GptImage1, GptImage2, FluxKontext])
def test_equal_by_content(path: Path, cls: Any) -> None:
    """A path and the bytes in it make equal inputs, of one identity; other bytes do not."""
    one, same = cls(prompt="x", image_urls=[path]), cls(prompt="x", image_urls=[PNG])
    other = cls(prompt="x", image_urls=[OTHER])
    assert one == same
    assert hash(one) == hash(same)
    assert identity(one, None) == identity(same, None)
    assert one != other
    assert identity(one, None).digest != identity(other, None).digest
    assert one.kind.endswith("/edit")
    for made in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one), copy.copy(one)):
        assert made == one
        assert [image.source for image in made.image_urls] == [path]


def test_local_images_are_images(path: Path) -> None:
    """They make the mode of a `GptImage2`, and count where images are bounded."""
    edit = GptImage2(prompt="x", image_urls=[path, URL])
    assert edit.mode == "image-to-image"
    with pytest.raises(ValidationError, match="at most 5 items"):
        GptImage1(prompt="x", image_urls=[path] * 6)
    with pytest.warns(InputWarning, match="documented for mode image-to-image only"):
        GptImage2(mode="text-to-image", prompt="x", image_urls=[path])
    with pytest.warns(InputWarning, match="2 URLs given"):
        FluxKontext(prompt="x", image_urls=[path, PNG])


def test_in_a_payload_they_are_digests(path: Path) -> None:
    """A payload and JSON hold the digest of a local image, in its place among URLs."""
    edit = GptImage2(prompt="x", image_urls=[URL, path])
    shown = [URL, str(LocalImage.of(PNG))]
    assert edit.payload()["image_urls"] == edit.model_dump(mode="json")["image_urls"] == shown
    assert edit.model_dump()["image_urls"] == tuple(shown)
    assert Outcome("k", edit, None, None, None, 0).to_dict()["image_urls"] == shown


def test_no_image_comes_back_from_json(path: Path) -> None:
    """A digest is no image: it is refused by name, and read where an old input is only shown."""
    edit = GptImage2(prompt="x", image_urls=[path])
    with pytest.raises(ValidationError, match="digest of a local image: give its Path or its byt"):
        from_dict("gpt-image-2", edit.payload())
    kept = from_json(to_json(Outcome("k", edit, None, None, None, 0)))
    assert isinstance(kept, Outcome)
    assert isinstance(kept.input, OtherModel)
    assert kept.input.payload() == edit.payload()


def test_a_body_reads_no_files(path: Path) -> None:
    """Text in JSON never names a file of the server; the schema has texts only."""
    with pytest.raises(ValidationError, match=r"or the Path of a file"):
        TypeAdapter[Input](Input).validate_json(
            f'{{"model": "gpt-image-2", "prompt": "x", "image_urls": ["{path}"]}}'
        )
    app = FastAPI()

    @app.post("/")
    async def edit(input: Input) -> Input:
        return input

    with TestClient(app) as client:
        body = {"model": "gpt-image-2", "prompt": "x", "image_urls": [str(path)]}
        assert client.post("/", json=body).status_code == 422
        body["image_urls"] = [URL]
        assert client.post("/", json=body).json()["image_urls"] == [URL]
        schemas = client.get("/openapi.json").json()["components"]["schemas"]
    items = {
        name: schema["properties"]["image_urls"]["items"]
        for name, schema in schemas.items()
        if "image_urls" in schema.get("properties", {})
    }
    assert items
    assert {str(item) for item in items.values()} == {"{'type': 'string'}"}


@pytest.mark.parametrize("given", [Path("cat.png"), PNG, [Path("cat.png")], {"a": b"x"}])
def test_other_models(given: object) -> None:
    """Where nothing is known of a field, a file is refused, and the error names `share`."""
    with pytest.raises(ValueError, match=r"give the URL that `WebhookReceiver\.share` returns"):
        OtherModel("sora-2", prompt="x", image=given)

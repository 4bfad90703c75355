"""An input is a part of pydantic's models, and so a body of FastAPI's handlers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, TypeAdapter, ValidationError

from apixo_async import AsyncClient, FluxKontext, GptImage1, GptImage2, Input, OtherModel
from apixo_async.inputs import DOCUMENTED
from apixo_async.testing import Simulator

URL = "https://example.com/ref.jpg"

BODIES: list[tuple[dict[str, Any], Input]] = [
    (
        {"model": "gpt-image-1", "prompt": "a", "aspect_ratio": "1:1", "num_images": 2},
        GptImage1(prompt="a", aspect_ratio="1:1", num_images=2),
    ),
    ({"model": "gpt-image-2", "prompt": "a"}, GptImage2(prompt="a")),
    (
        {"model": "gpt-image-2", "prompt": "a", "image_urls": [URL]},
        GptImage2(prompt="a", image_urls=[URL]),
    ),
    (
        {"model": "flux-kontext", "mode": "pro", "prompt": "a", "safetyTolerance": 1},
        FluxKontext(mode="pro", prompt="a", safety_tolerance=1),
    ),
    (
        {"model": "sora-2", "prompt": "a", "seconds": 8, "shots": [{"at": 1.5}]},
        OtherModel("sora-2", prompt="a", seconds=8, shots=[{"at": 1.5}]),
    ),
]
#: What is refused, where the error lies, and what it says.
REFUSED: list[tuple[object, list[str], str]] = [
    ({"model": "gpt-image-2", "prompt": ""}, ["gpt-image-2", "prompt"], "at least 1 character"),
    ({"model": "gpt-image-2"}, ["gpt-image-2", "prompt"], "Field required"),
    ({"model": "gpt-image-2", "prompt": "a", "n": 1}, ["gpt-image-2", "n"], "not permitted"),
    (
        {"model": "gpt-image-2", "prompt": "a", "image_urls": URL},
        ["gpt-image-2", "image_urls"],
        "give a list of URLs",
    ),
    ({"model": "sora/2", "prompt": "a"}, ["other"], "a name is letters, digits"),
    ({"prompt": "a"}, [], "give an object with the name of a model"),
    ({"model": 2, "prompt": "a"}, [], "give an object with the name of a model"),
    ([], [], "give an object with the name of a model"),
]


@pytest.fixture
async def web() -> AsyncIterator[httpx2.AsyncClient]:
    """Have an app whose handlers take inputs as bodies, and its client."""
    app = FastAPI()
    simulator = Simulator(seed=1)
    apixo = AsyncClient("test-key", transport=simulator.transport())

    @app.post("/images")
    async def image(input: Input) -> dict[str, object]:
        result = await apixo.generate(input)
        return {"model": result.model, "input": input.payload()}

    @app.post("/posters")
    async def poster(input: GptImage2) -> dict[str, object]:
        return input.payload()

    transport = httpx2.ASGITransport(app)
    async with apixo, httpx2.AsyncClient(transport=transport, base_url="http://app") as client:
        yield client


@pytest.mark.parametrize(("body", "built"), BODIES, ids=lambda one: str(one)[:40])
async def test_a_body_is_an_input(
    web: httpx2.AsyncClient, body: dict[str, Any], built: Input
) -> None:
    """An object with the model's name and its fields buys that; the input that is sent has no name.

    The simulator refuses a `model` in the input of a documented model, as of any unknown name.
    """
    answer = await web.post("/images", json=body)
    assert answer.json() == {"model": built.model, "input": built.payload()}
    assert "model" not in built.payload()


@pytest.mark.parametrize(("body", "place", "words"), REFUSED, ids=lambda one: str(one)[:40])
async def test_what_is_refused(
    web: httpx2.AsyncClient, body: object, place: list[str], words: str
) -> None:
    """A wrong body is answered 422, with one error that names the field and what is allowed."""
    answer = await web.post("/images", json=body)
    assert answer.status_code == 422
    (error,) = answer.json()["detail"]
    assert error["loc"] == ["body", *place]
    assert words in error["msg"]


@pytest.mark.parametrize("body", [{"prompt": "a"}, {"model": "gpt-image-2", "prompt": "a"}])
async def test_one_model_needs_no_name(web: httpx2.AsyncClient, body: dict[str, str]) -> None:
    """Where only one model is possible, the name may be left out; that of another is refused."""
    assert (await web.post("/posters", json=body)).json() == GptImage2(prompt="a").payload()
    answer = await web.post("/posters", json=body | {"model": "gpt-image-1"})
    assert answer.json()["detail"][0]["msg"] == "Input should be 'gpt-image-2'"


async def test_the_page_describes_every_field(web: httpx2.AsyncClient) -> None:
    """OpenAPI has the words of the docstrings, the bounds and the defaults, for every field."""
    page = (await web.get("/openapi.json")).json()
    body = page["paths"]["/images"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    *documented, other = body["oneOf"]
    names = [one["$ref"].rpartition("/")[2] for one in documented]
    assert names == [cls.__name__ for cls in DOCUMENTED.values()]
    assert other["properties"]["model"]["not"]["enum"] == [*DOCUMENTED]
    assert (other["required"], other["additionalProperties"]) == (["model"], True)
    schemas = page["components"]["schemas"]
    for name in names:
        assert "Attributes" not in schemas[name]["description"]
        assert next(iter(schemas[name]["properties"])) == "model"
        for field, schema in schemas[name]["properties"].items():
            assert schema.get("description"), f"{name}.{field}"
    prompt = schemas["GptImage2"]["properties"]["prompt"]
    assert prompt["description"] == "1 to 20,000 characters."
    assert (prompt["minLength"], prompt["maxLength"]) == (1, 20_000)
    assert schemas["GptImage2"]["properties"]["resolution"]["default"] == "1k"
    assert "safetyTolerance" in schemas["FluxKontext"]["properties"]


@pytest.mark.parametrize(("body", "built"), BODIES, ids=lambda one: str(one)[:40])
def test_inputs_are_parts_of_models(body: dict[str, Any], built: Input) -> None:
    """A model may hold inputs, made or as objects; a dump of it has no model's name."""

    class Order(BaseModel):
        wanted: Input

    for order in (Order.model_validate({"wanted": body}), Order(wanted=built)):
        assert order.wanted == built
        assert type(order.wanted) is type(built)
        assert "model" not in order.model_dump()["wanted"]
        assert order.model_dump(mode="json", by_alias=True)["wanted"].items() >= (
            built.payload().items()
        )


def test_an_other_model_of_any_name_stays_one() -> None:
    """An `OtherModel` that was made for a documented model is passed on untouched."""
    made = OtherModel("gpt-image-2", prompt="a", seed=7)
    assert TypeAdapter[Input](Input).validate_python(made) is made
    alone = TypeAdapter(OtherModel)
    assert alone.validate_python({"model": "sora-2", "n": 1}) == OtherModel("sora-2", n=1)
    for wrong in ({"n": 1}, 7, {"model": None}):
        with pytest.raises(ValidationError, match="a model is named by a str such as 'sora-2'"):
            alone.validate_python(wrong)

"""Rows of a file become inputs, by the names of Python or of the wire."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import ValidationError

from apixo_async.inputs import DOCUMENTED, OtherModel, from_dict

FLUX: dict[str, Any] = {"mode": "pro", "prompt": "a castle"}
BASE: dict[str, dict[str, Any]] = {
    "gpt-image-1": {"prompt": "a cozy cafe", "aspect_ratio": "3:2", "num_images": 2},
    "gpt-image-2": {"prompt": "a cozy cafe"},
    "flux-kontext": FLUX,
}


@pytest.mark.parametrize("model", BASE)
def test_from_dict_takes_any_mapping(model: str) -> None:
    """Rows may be any mapping, and stay as they were."""
    row = MappingProxyType(BASE[model])
    made = from_dict(model, row)
    assert type(made) is DOCUMENTED[model]
    assert from_dict(model, made.payload()) == made


def test_from_dict_takes_names_of_python_and_of_the_wire() -> None:
    """Both names of a field will do, but not both at once."""
    python = {"safety_tolerance": 1, "prompt_upsampling": True, "enable_translation": False}
    wire = {"safetyTolerance": 1, "promptUpsampling": True, "enableTranslation": False}
    assert from_dict("flux-kontext", FLUX | python) == from_dict("flux-kontext", FLUX | wire)
    for name, other in zip(python, wire, strict=True):
        with pytest.raises(ValidationError, match="Extra inputs"):
            from_dict("flux-kontext", FLUX | {name: python[name], other: wire[other]})


def test_from_dict_of_another_model() -> None:
    """A model without a class of its own passes its fields through untouched."""
    fields = {"z": 1, "prompt": "x", "a": 1.0, "aspect": "16:9"}
    assert from_dict("sora-2", fields) == OtherModel("sora-2", **fields)
    assert json.dumps(from_dict("sora-2", fields).payload()) == json.dumps(fields)


@pytest.mark.parametrize("model", ["gpt-image-1", "sora-2"])
@pytest.mark.parametrize("fields", [None, "prompt", 7, [("prompt", "x")], {"x"}], ids=repr)
def test_from_dict_of_no_mapping(model: str, fields: Any) -> None:
    """What is no mapping is refused, and shown."""
    with pytest.raises(TypeError, match=f"the input of {model} is a mapping"):
        from_dict(model, fields)


@pytest.mark.parametrize("row", [None, "x", 7, [("prompt", "x")]], ids=repr)
@pytest.mark.parametrize("model", BASE)
def test_validating_no_mapping(model: str, row: object) -> None:
    """What is no mapping is refused by pydantic's own way in as well."""
    with pytest.raises(ValidationError, match="valid dictionary or instance"):
        DOCUMENTED[model].model_validate(row)


def test_from_dict_of_no_model() -> None:
    """A name that no model can have is refused."""
    with pytest.raises(ValueError, match="a name is letters"):
        from_dict("gpt-image-1/../x", {})
    for name in (None, 7, ["gpt-image-1"]):
        with pytest.raises(TypeError, match="a model is named by a str"):
            from_dict(name, {})  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("model", BASE)
def test_odd_keys(model: str) -> None:
    """A key that is no str is refused."""
    with pytest.raises((ValidationError, TypeError), match=r"(?i)strings?\b"):
        from_dict(model, {1: 2})  # type: ignore[dict-item]  # wrong on purpose

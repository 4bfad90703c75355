"""What callers hand to a client is checked before anything is sent."""

from __future__ import annotations

import math
from typing import Any

import pytest

from apixo_async._types import POLLED, Delivery, Limits, TaskRef
from apixo_async._validation import (
    check_delivery,
    check_hook,
    check_input,
    check_ref,
    check_timeout,
    check_type,
    require,
)
from apixo_async.errors import ConfigurationError
from apixo_async.inputs import FluxKontext, GptImage1, GptImage2, Input, OtherModel

REF = TaskRef("gpt-image-1", "task_1")


def test_a_value_of_its_type() -> None:
    """A value of the right class passes, and so does None where there may be none."""
    limits = Limits()
    assert check_type("limits", limits, Limits) is limits
    assert check_type("limits", None, Limits) is None
    assert require("limits", limits, Limits) is limits


@pytest.mark.parametrize(
    "given", [Limits, {"concurrent_tasks": 1}, 5], ids=["class", "dict", "int"]
)
def test_a_value_of_another_type(given: Any) -> None:
    """Anything else is refused; a class in place of an instance, too."""
    with pytest.raises(ConfigurationError, match=r"limits: .* given; it takes a Limits"):
        check_type("limits", given, Limits)
    with pytest.raises(ConfigurationError, match=f"takes a Limits, not a {type(given).__name__}"):
        require("limits", given, Limits)


def test_required_is_not_none() -> None:
    """What is required may not be None."""
    with pytest.raises(ConfigurationError, match="download takes a Limits, not a NoneType"):
        require("download", None, Limits)


@pytest.mark.parametrize(
    "given",
    [
        GptImage1(prompt="x", aspect_ratio="1:1", num_images=1),
        GptImage2(prompt="x"),
        FluxKontext(mode="pro", prompt="x"),
        OtherModel("sora-2"),
    ],
    ids=lambda given: given.model,
)
def test_an_input(given: Input) -> None:
    """An input of every class passes as it is."""
    assert check_input(given) is given


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"prompt": "a secret"}, "dict"),
        ("a secret", "str"),
        (None, "NoneType"),
        (OtherModel, "type"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_input(given: object, name: str) -> None:
    """Anything else is refused with a hint, and without what it holds."""
    with pytest.raises(ConfigurationError, match=rf"a {name} given; .*`from_dict\(model") as caught:
        check_input(given)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("given", [None, 0, 0.0, 5, 2.5])
def test_a_timeout(given: float | None) -> None:
    """A timeout is None or a number from zero up."""
    check_timeout(given)


@pytest.mark.parametrize(
    "given", [-1, -0.1, math.nan, math.inf, True, "5", [5], 10**400], ids=lambda v: repr(v)[:9]
)
def test_no_timeout(given: object) -> None:
    """Anything else is refused, and shown."""
    with pytest.raises(ConfigurationError, match=r"timeout: .* given; seconds from 0 up, or None"):
        check_timeout(given)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook",
        "https://example.com:8443/hook?token=1#x",
        "HTTPS://EXAMPLE.COM",
        "http://localhost:8000/hook",
        "http://127.0.0.1/hook",
        "https://[::1]/hook",
        "https://1.1.1.1/hook",
    ],
)
def test_a_callback_url(url: str) -> None:
    """A callback goes to a public https URL, or to this machine."""
    assert check_delivery(url, None) == Delivery(url, None)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/hook",
        "http://example.com/hook",
        "ftp://localhost/hook",
        "//localhost/hook",
        "https://",
        "https:///hook",
        "https://[::1/hook",
        "http://localhost.example.com",
        "https://10.0.0.1/hook",
        "https://192.168.1.4/hook",
        "https://169.254.169.254/hook",
        "https://[fd00::1]/hook",
        "https://0.0.0.0/hook",
        "https://intranet/hook",
        "https://127.1/hook",
        b"https://example.com",
        7,
    ],
)
def test_no_callback_url(url: Any) -> None:
    """Anything else is refused, and not shown: it may hold a token."""
    with pytest.raises(ConfigurationError, match=r"^callback_url: a public https:// URL") as caught:
        check_delivery(url, None)
    assert "hook" not in str(caught.value)


@pytest.mark.parametrize("provider", ["auto", "value", "official"])
def test_a_provider(provider: str) -> None:
    """The providers are those of the documents, and none is named unless it is given."""
    assert check_delivery(None, provider) == Delivery(None, provider)
    assert check_delivery(None, None) == POLLED


@pytest.mark.parametrize("provider", ["", "Auto", "cheap", 7, ["auto"]], ids=repr)
def test_no_provider(provider: Any) -> None:
    """Any other is refused; the error says which there are."""
    with pytest.raises(
        ConfigurationError, match=r"provider: .* given; allowed are 'auto', 'value', 'official'"
    ):
        check_delivery(None, provider)


def test_a_ref() -> None:
    """A task is named by its ref, or by model and id."""
    assert check_ref(REF, None) is REF
    assert check_ref("gpt-image-1", "task_1") == REF
    assert check_ref(REF, None, {"task_1": "gpt-image-1", "task_2": "flux-kontext"}) is REF


@pytest.mark.parametrize(
    ("model", "task_id", "words"),
    [
        (REF, "task_1", "attach takes a TaskRef, or a model and a task id"),
        ("gpt-image-1", None, "attach: the model and the task id of the task; got 'gpt-image-1'"),
        (None, None, "attach: the model and the task id of the task; got None"),
        ("gpt-image-1", "", "TaskRef: task_id=''"),
        (7, "task_1", "TaskRef: model=7"),
        ("gpt-image-1", 12345678, "TaskRef: task_id=12345678"),
        ("gpt-image-1", "\ud800", "TaskRef: task_id="),
    ],
)
def test_no_ref(model: Any, task_id: Any, words: str) -> None:
    """Half a reference, or two, or one of the wrong parts, is none."""
    with pytest.raises(ConfigurationError, match=words):
        check_ref(model, task_id)


def test_a_task_of_another_model() -> None:
    """A known id under another model is a slip, and the error says whose it is."""
    models = {"task_2": "flux-kontext", "task_1": "sora-2"}
    with pytest.raises(
        ConfigurationError, match="task task_1 is one of sora-2, not of gpt-image-1"
    ):
        check_ref(REF, None, models)


@pytest.mark.parametrize("model", ["..", "a/b", "a b", "sora-2\n", "é"], ids=ascii)
def test_a_model_that_no_url_holds(model: str) -> None:
    """A task's model stands in a URL, and what could lead elsewhere is refused."""
    for given in ((model, "task_1"), (TaskRef(model, "task_1"), None)):
        with pytest.raises(ConfigurationError, match="a name is letters"):
            check_ref(*given)


def test_a_hook() -> None:
    """A hook is a plain function, or none."""
    assert check_hook("on_event", print) is print
    assert check_hook("on_event", None) is None


async def coroutine_function(event: object) -> None:
    """Do nothing, later."""


@pytest.mark.parametrize("hook", ["print", 7, coroutine_function], ids=["str", "int", "async"])
def test_no_hook(hook: Any) -> None:
    """What cannot be called, or whose call nobody would await, is refused."""
    with pytest.raises(ConfigurationError, match=r"on_event: .* given; a plain function of one"):
        check_hook("on_event", hook)

from __future__ import annotations

import hashlib
import json

import hypothesis.strategies as st
import pytest
from hypothesis import given

from apixo_async import FluxKontext, GptImage2, OtherModel
from apixo_async._canonical import canonical, identity, key_of, short_forms

from .support.pictures import png


def test_the_form_is_canonical() -> None:
    """The order and the notation in which fields are given make no difference."""
    one = identity(OtherModel("sora-2", prompt="a b", n=1, more={"y": 1, "x": [2]}), None)
    other = identity(OtherModel("sora-2", more={"x": [2], "y": 1}, n=1, prompt="a b"), None)
    assert one == other
    assert one.payload == '{"more":{"x":[2],"y":1},"n":1,"prompt":"a b"}'
    assert one.text == f'["sora-2",null,{one.payload}]' == canonical(*one[:3])
    assert one.digest == hashlib.sha256(one.text.encode()).hexdigest()


def test_a_default_is_the_same_as_its_value() -> None:
    """An input which names a default is the same as one that leaves it out."""
    assert identity(GptImage2(prompt="x"), None) == identity(
        GptImage2(prompt="x", resolution="1k", aspect_ratio="auto"), None
    )


def test_what_makes_a_difference() -> None:
    """Model, route and payload all tell inputs apart."""
    inputs = [
        identity(OtherModel("sora-2", prompt="x"), None),
        identity(OtherModel("sora-2", prompt="x"), "value"),
        identity(OtherModel("sora-2", prompt="X"), None),
        identity(OtherModel("sora-2", prompt="x", n=1), None),
        identity(OtherModel("sora-3", prompt="x"), None),
        identity(FluxKontext(mode="pro", prompt="x"), None),
    ]
    assert len({one.digest for one in inputs}) == len(inputs)


def shared(sha256: str, *, token: str = "-_Aa0" * 12, mount: str = "https://a.example/x") -> str:
    """Return the URL of a shared file, as it looks."""
    return f"{mount}/apixo-file-{sha256}-{token}.png"


def test_a_shared_file_counts_by_its_content() -> None:
    """Whichever process shares an image, and when: its URLs, paths and bytes are one input."""
    image = png(8, 8, 1)
    sha256 = hashlib.sha256(image).hexdigest()
    given = [
        image,
        shared(sha256),
        shared(sha256, token="b" * 60),
        shared(sha256, mount="http://a.example:8000/x/y"),
    ]
    forms = {identity(GptImage2(prompt="x", image_urls=[one]), None) for one in given}
    assert len(forms) == 1
    [form] = forms
    assert form.payload.count(f'"apixo-file:sha256:{sha256}"') == 1
    assert identity(GptImage2(prompt="x", image_urls=[shared("0" * 64)]), None) != form
    tasks = [OtherModel("sora-2", deep={"image": [one]}) for one in given if isinstance(one, str)]
    assert len({identity(one, None) for one in tasks}) == 1


@pytest.mark.parametrize(
    "text",
    [
        shared("0" * 63),
        shared("0" * 64, token="b" * 59),
        shared("0" * 64, token="b" * 59 + "="),
        shared("0" * 64) + "?x=1",
        f"as in {shared('0' * 64)}",
        f'as in "{shared("0" * 64)}',
        f'as in "{shared("0" * 64)}"',
        f'\\"{shared("0" * 64)}',
        f"{shared('0' * 64)} as it is",
        shared("0" * 64, mount="ftp://a.example"),
        "apixo-file:sha256:0",
    ],
)
def test_all_else_counts_as_it_is(text: str) -> None:
    """A text that is not, as a whole, the URL of a shared file stays what it was."""
    assert identity(OtherModel("sora-2", url=text), None).payload == json.dumps(
        {"url": text}, separators=(",", ":")
    )


def test_the_form_is_ascii() -> None:
    """The form is the same whatever a file's encoding."""
    given = identity(OtherModel("sora-2", prompt="Tür"), None)
    assert given.payload == '{"prompt":"T\\u00fcr"}'


def test_a_key_tells_equal_inputs_apart() -> None:
    """A key is 64 bits of the digest and the number of the occurrence."""
    assert key_of("0123456789abcdef" * 4, 1) == "0123456789abcdef-1"
    assert key_of("0123456789abcdef" * 4, 12) == "0123456789abcdef-12"


@pytest.mark.parametrize(
    ("one", "other", "shown"),
    [
        ("same a", "same b", ("same a", "same b")),
        ("x" * 50 + "a", "x" * 50 + "b", ("…" + "x" * 30 + "a", "…" + "x" * 30 + "b")),
        ("a" * 200, "b", ("a" * 100 + "…", "b")),
        ("x" * 40, "x" * 40 + "y", ("…" + "x" * 30, "…" + "x" * 30 + "y")),
    ],
)
def test_short_forms_show_the_difference(one: str, other: str, shown: tuple[str, str]) -> None:
    """Long texts are cut to the place where they begin to differ."""
    assert short_forms(one, other) == shown


@given(one=st.text(max_size=300), other=st.text(max_size=300))
def test_short_forms_differ(one: str, other: str) -> None:
    """What is shown of two different texts is short, and different."""
    shown = short_forms(one, other)
    assert max(map(len, shown)) <= 102
    assert (shown[0] == shown[1]) == (one == other)

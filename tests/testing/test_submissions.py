"""Submissions: what the documents demand of a submit, and nothing more."""

from __future__ import annotations

import json
import sys
from decimal import Decimal

import pytest

from apixo_async.testing.exchanges import Call, Refusal
from apixo_async.testing.submissions import DEFAULT_PRICE, Submission, parse_submission

IMAGE_1 = {"mode": "gpt-image-1", "prompt": "p", "aspect_ratio": "3:2", "num_images": 2}
IMAGE_2 = {"mode": "text-to-image", "prompt": "p"}
FLUX = {"mode": "pro", "prompt": "p"}


def parse(model: str, body: object, content_type: str = "application/json") -> Submission:
    """Parse a submit of this body."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": content_type}
    return parse_submission(model, Call("POST", "/", headers=headers, body=content))


@pytest.mark.parametrize(
    ("model", "fields", "kind", "price", "images", "file_type"),
    [
        ("gpt-image-1", IMAGE_1, "gpt-image-1/2", "0.70", 2, "png"),
        ("gpt-image-2", {**IMAGE_2, "resolution": "4k"}, "gpt-image-2/4k", "0.04", 1, "png"),
        ("flux-kontext", FLUX, "flux-kontext/pro", "0.03", 1, "jpeg"),
        ("flux-kontext", {**FLUX, "output_format": "png"}, "flux-kontext/pro", "0.03", 1, "png"),
        ("sora-2", {"anything": [1]}, "sora-2", str(DEFAULT_PRICE), 1, "mp4"),
        ("suno", {}, "suno", str(DEFAULT_PRICE), 1, "mp3"),
        ("flux-2", {"output_format": "PNG"}, "flux-2", str(DEFAULT_PRICE), 1, "png"),
        ("flux-2", {"output_format": "tiff"}, "flux-2", str(DEFAULT_PRICE), 1, "webp"),
        ("gpt-image-1", {**IMAGE_1, "num_images": 4}, "gpt-image-1/4", "1.40", 4, "png"),
        ("midjourney", {"num_images": 4}, "midjourney/num_images=4", str(DEFAULT_PRICE), 4, "webp"),
        (
            "midjourney",
            {"num_images": "many"},
            "midjourney/num_images=many",
            str(DEFAULT_PRICE),
            1,
            "webp",
        ),
        (
            "midjourney",
            {"num_images": 10**6},
            "midjourney/num_images=1000000",
            str(DEFAULT_PRICE),
            1,
            "webp",
        ),
    ],
)
def test_a_submit_is_read(
    model: str, fields: dict[str, object], kind: str, price: str, images: int, file_type: str
) -> None:
    """Kind, price, number and type of the results follow from model and input."""
    found = parse(model, {"input": fields})
    assert (found.kind, found.price, found.images, found.file_type) == (
        kind,
        Decimal(price),
        images,
        file_type,
    )
    assert found.fields == fields
    assert (found.request_type, found.callback_url, found.provider) == ("async", None, None)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "request body is required"),
        (b"{", "not valid JSON: Expecting property name enclosed in double quotes in line 1"),
        (b"{'input': {}}", "not valid JSON: Expecting property name enclosed in double quotes"),
        (b"\xff", "not valid JSON: byte 0 is not UTF-8"),
        (b'\xef\xbb\xbf{"input": {}}', "not valid JSON: it begins with a byte order mark"),
        (b'{"input": {"mode": NaN}}', "not valid JSON"),
        pytest.param(b'{"input": ' + b"1" * 5000 + b"}", "not valid JSON", id="long"),
        ([1], "must be a JSON object"),
        (json.dumps({"input": IMAGE_1}), "must be a JSON object; it is a string"),
        ({}, "input is required"),
        ({"input": "p"}, "input is required and must be an object, not a string"),
        (IMAGE_1, "input is required and must be an object; mode belongs in it"),
        ({"input": IMAGE_1, "request_type": "sync"}, "request_type must be one of async, callback"),
        ({"input": IMAGE_1, "provider": "best"}, "provider must be one of auto, value, official"),
        ({"input": {**IMAGE_1, "mode": None}}, "input.mode is required"),
        ({"input": {"prompt": "p"}}, "input.mode is required"),
        ({"input": {**IMAGE_1, "prompt": ""}}, "input.prompt: "),
        ({"input": {**IMAGE_1, "num_images": 3}}, "input.num_images: Input should be 1, 2 or 4"),
        ({"input": {**IMAGE_1, "num_images": 4.0}}, "input.num_images: Input should be 1, 2 or 4"),
        ({"input": {**IMAGE_1, "num_images": 1.0}}, "input.num_images: Input should be 1, 2 or 4"),
        ({"input": {**IMAGE_1, "num_images": True}}, "input.num_images: "),
        ({"input": {**IMAGE_1, "num_images": "4"}}, "input.num_images: "),
        ({"input": {**IMAGE_1, "num_images": None}}, "input.num_images: "),
        ({"input": {**IMAGE_1, "aspect_ratio": "4:3"}}, "input.aspect_ratio: "),
        ({"input": {**IMAGE_1, "image_urls": ["ftp://x"]}}, "input.image_urls.0: "),
        ({"input": {**IMAGE_1, "size": 1}}, "input.size is not a parameter of gpt-image-1"),
        (
            {"input": {**IMAGE_1, "model": "gpt-image-1"}},
            "input.model is not a parameter of gpt-image-1",
        ),
    ],
)
def test_what_the_documents_do_not_allow_is_refused(body: object, told: str) -> None:
    """A wrong submit is answered 400 with a message that names what is wrong."""
    with pytest.raises(Refusal) as caught:
        parse("gpt-image-1", body)
    assert caught.value.code == 400
    assert told in caught.value.message


def test_names_of_python_are_not_names_of_the_wire() -> None:
    """SafetyTolerance is a parameter of flux-kontext, safety_tolerance is none."""
    assert parse("flux-kontext", {"input": {**FLUX, "safetyTolerance": 2}}).price
    with pytest.raises(Refusal, match="safety_tolerance"):
        parse("flux-kontext", {"input": {**FLUX, "safety_tolerance": 2}})


def test_what_only_other_pages_bound_passes_without_a_warning() -> None:
    """The service accepts what only other pages bound."""
    assert parse("flux-kontext", {"input": {**FLUX, "safetyTolerance": 6}}).fields


MODELS = ["gpt-image-1", "gpt-image-2", "flux-kontext", "sora-2"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "content",
    [
        b'{"input": {"x": NaN}}',
        b'{"input": {"x": -Infinity}}',
        b'{"input": {"x": "\\ud83d"}}',
        b'{"input": {"\\udc00": 1}}',
        b'{"input": {"x": [{"y": "a \\ude00\\ud83d"}]}}',
        b'{"input": {}, "beside": "\\uDFFF"}',
        b'{"input": {"x": "\xed\xa0\xbd"}}',
        b'{"input": {"x": "\xe9"}}',
        '{"input": {}}'.encode("utf-16"),
        '{"input": {}}'.encode("utf-16-le"),
        '{"input": {}}'.encode("utf-32"),
    ],
)
def test_a_body_that_is_no_json_in_utf_8_is_refused(model: str, content: bytes) -> None:
    """Every model takes the JSON of RFC 8259: UTF-8, no NaN, no half of a surrogate pair."""
    with pytest.raises(Refusal) as caught:
        parse(model, content)
    assert caught.value.code == 400
    assert caught.value.message.startswith("request body is not valid JSON")


def test_a_number_beyond_floats_is_refused() -> None:
    """What Python reads as infinite could not be given back as JSON."""
    with pytest.raises(Refusal, match="sora-2: x"):
        parse("sora-2", b'{"input": {"x": 1e999}}')


def test_a_surrogate_pair_is_one_character() -> None:
    """Escaped pairs are what JSON writes beyond the first 65,536 characters."""
    found = parse("sora-2", b'{"input": {"x": "\\ud83d\\ude00", "\xc3\xa9": "\xf0\x9f\x98\x80"}}')
    assert found.fields == {"x": "\N{GRINNING FACE}", "\u00e9": "\N{GRINNING FACE}"}


def nested(depth: int) -> bytes:
    """Return a submit whose input holds ``depth`` lists, each in the other."""
    return b'{"input":{"x":' + b"[" * depth + b"]" * depth + b"}}"


@pytest.mark.parametrize("model", MODELS)
def test_a_body_nested_without_reason_is_refused(model: str) -> None:
    """A depth that the parser cannot follow is a wrong body like any other."""
    with pytest.raises(Refusal) as caught:
        parse(model, nested(100_000))
    assert caught.value.code == 400
    assert caught.value.message == "request body is nested too deeply"


def test_every_depth_is_read_or_refused() -> None:
    """Wherever the interpreter's limit lies, below it is a task and above it a refusal."""

    def told(depth: int) -> str:
        try:
            return parse("sora-2", nested(depth)).model
        except Refusal as refusal:
            return refusal.message

    found = [told(depth) for depth in range(1, 3 * sys.getrecursionlimit() // 2)]
    accepted = found.count("sora-2")
    assert accepted >= 100
    assert found[:accepted] == ["sora-2"] * accepted
    assert all("nested" in message for message in found[accepted:])


def test_a_submit_needs_the_content_type() -> None:
    """The documents require Content-Type: application/json; a charset may follow."""
    for other, told in (
        ("text/plain", "not text/plain"),
        ("", "and none came"),
        ("application/x-www-form-urlencoded", "a form is not read"),
    ):
        with pytest.raises(Refusal, match=f"Content-Type must be application/json.*{told}"):
            parse("sora-2", {"input": {}}, other)
    for same in ("application/json; charset=utf-8", "Application/JSON"):
        assert parse("sora-2", {"input": {}}, same).model == "sora-2"


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_a_packed_body_is_refused(encoding: str) -> None:
    """The documents have no Content-Encoding: one that changes nothing is not read."""
    headers = {"content-type": "application/json", "content-encoding": encoding}
    with pytest.raises(Refusal, match=f"not valid JSON: Content-Encoding {encoding} is not docum"):
        parse_submission("sora-2", Call("POST", "/", headers=headers, body=b"\x1f\x8b"))
    plain = Call("POST", "/", headers=headers, body=b'{"input": {}}')
    assert parse_submission("sora-2", plain).model == "sora-2"


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://your-server.com/webhooks/apixo", True),
        ("https://8.8.8.8/hook", True),
        ("http://127.0.0.1:8000/hook", True),
        ("http://localhost/hook", True),
        ("http://[::1]/hook", True),
        ("http://your-server.com/hook", False),
        ("https://10.0.0.1/hook", False),
        ("https://intranet/hook", False),
        ("https:///hook", False),
        ("https://[", False),
        ("hook", False),
        (17, False),
        (None, False),
    ],
)
def test_a_callback_needs_a_public_https_url(url: object, allowed: bool) -> None:
    """Callback mode takes public HTTPS URLs, and, for tests, this machine."""
    body: object = {"request_type": "callback", "callback_url": url, "input": {}}
    if allowed:
        assert parse("sora-2", body).callback_url == url
    else:
        told = "is required" if url is None else "must be a public HTTPS URL"
        with pytest.raises(Refusal, match=f"callback_url {told}"):
            parse("sora-2", body)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "a public HTTPS URL"),
        ({"callback_url": None}, "a public HTTPS URL"),
        *(
            ({name: "https://a.example/x"}, f"({name} is not a documented field)")
            for name in ("webhook", "webhook_url", "callbackUrl", "callback", "notify_url")
        ),
        ({"input": {"callback_url": "https://a.example/x"}}, "beside input, not in it"),
    ],
)
def test_a_callback_under_another_name_is_named(body: dict[str, object], told: str) -> None:
    """Callback mode without callback_url is refused with the field that was meant."""
    with pytest.raises(Refusal) as caught:
        parse("sora-2", {"request_type": "callback", "input": {}, **body})
    assert caught.value.message.startswith("callback_url is required when request_type is callback")
    assert caught.value.message.endswith(told)


def test_all_options_are_kept() -> None:
    """What the submit says beside its input is kept for assertions."""
    body: object = {
        "request_type": "async",
        "callback_url": "https://a.example/x",
        "provider": "official",
        "input": {},
    }
    found = parse("sora-2", body)
    assert (found.callback_url, found.provider) == ("https://a.example/x", "official")

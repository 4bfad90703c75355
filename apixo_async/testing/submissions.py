"""What the documentation demands of a submit: the body, the callback URL, the model's bounds."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, NoReturn, cast
from urllib.parse import urlsplit

from pydantic import ValidationError

from apixo_async._catalog import medium
from apixo_async._hosts import takes_callbacks
from apixo_async.inputs import DOCUMENTED, GptImage1, Input, InputWarning, from_dict
from apixo_async.testing.exchanges import Call, Refusal

#: Charged, in USD, where the documentation has no price.
DEFAULT_PRICE: Final = Decimal("0.05")

#: The most results of one task of a model whose bounds are not documented.
_MOST_IMAGES: Final = 16

#: A model that never exists, and the end of hosts that no image can be fetched from (RFC 2606).
NO_MODEL: Final = "no-such-model"
NO_HOST: Final = ".invalid"
#: What may stand beside ``input``; and parts of the names that callers give a ``callback_url``.
_BESIDE: Final = ("request_type", "callback_url", "provider", "model")
_CALLBACK_WORDS: Final = ("callback", "hook", "notify")

FileType = Literal["png", "jpeg", "webp", "mp4", "mp3"]

#: Of images, by the word for them in an input's ``output_format``.
_FORMATS: Final[Mapping[str, FileType]] = {
    "png": "png",
    "jpeg": "jpeg",
    "jpg": "jpeg",
    "webp": "webp",
}


@dataclass(frozen=True, slots=True)
class Submission:
    """A submit that the documentation allows.

    Attributes:
        model: The name in its path.
        fields: Its ``input``, as it came.
        kind: What drives the duration of its task, such as ``gpt-image-2/4k``.
        price: What it costs, in USD.
        request_type: ``async`` or ``callback``.
        callback_url: Where callbacks go, if it names a URL.
        provider: None where it names none.
        images: How many results it asks for.
    """

    model: str
    fields: dict[str, object]
    kind: str
    price: Decimal
    request_type: str
    callback_url: str | None
    provider: str | None
    images: int = 1

    @property
    def has_unreachable_image(self) -> bool:
        """Whether one of its reference images is on a host of which there is none."""
        urls = self.fields.get("image_urls")
        given = cast("list[object]", urls) if isinstance(urls, list) else []
        return any(_host_of(url).endswith(NO_HOST) for url in given)

    @property
    def file_type(self) -> FileType:
        """The type of the results; of music, that of the tracks."""
        made = medium(self.model)
        if made in ("video", "audio"):
            return "mp4" if made == "video" else "mp3"
        usual: FileType = "webp"
        if self.model in DOCUMENTED:
            usual = "jpeg" if self.model == "flux-kontext" else "png"
        return _FORMATS.get(str(self.fields.get("output_format")).lower(), usual)


def parse_submission(model: str, call: Call) -> Submission:
    """Read a submit.

    Raises:
        Refusal: 400, naming what the documentation does not allow.
    """
    try:
        body = _body(call)
        # Newer pages mark request_type as required. Older ones have this default, which stands.
        request_type = _choice(body, "request_type", ("async", "callback")) or "async"
        callback_url = _callback_url(body, required=request_type == "callback")
        fields = body.get("input")
        if not isinstance(fields, dict):
            raise Refusal(400, _no_input(body))
        fields = cast("dict[str, object]", fields)
        parsed = _validated(model, fields)
        images = parsed.num_images if isinstance(parsed, GptImage1) else fields.get("num_images")
        return Submission(
            model=model,
            fields=fields,
            kind=parsed.kind,
            price=DEFAULT_PRICE if parsed.price is None else parsed.price,
            request_type=request_type,
            callback_url=callback_url,
            # Newer pages no longer have it; it is taken where it comes.
            provider=_choice(body, "provider", ("auto", "value", "official")),
            images=images if isinstance(images, int) and 1 <= images <= _MOST_IMAGES else 1,
        )
    except RecursionError:  # the depth at which that happens is the interpreter's
        raise Refusal(400, "request body is nested too deeply") from None


def _body(call: Call) -> dict[str, object]:
    content_type = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        came = f"not {content_type:.60}" if content_type else "and none came"
        form = "; a form is not read" if "form" in content_type else ""
        raise Refusal(400, f"Content-Type must be application/json, {came}{form}")
    if not call.body:
        raise Refusal(400, "request body is required, a JSON object with input")
    try:
        # RFC 8259 has UTF-8 only; Python's parser would take UTF-16, NaN and lone surrogates too.
        body = json.loads(call.body.decode(), parse_constant=_refuse_constant)
        json.dumps(body, ensure_ascii=False).encode()
    except ValueError as exc:
        encoding = call.headers.get("content-encoding")
        why = f": Content-Encoding {encoding:.20} is not documented" if encoding else _place_of(exc)
        raise Refusal(400, f"request body is not valid JSON{why}") from None
    if not isinstance(body, dict):
        twice = "; it is a string: was it encoded twice?" if isinstance(body, str) else ""
        raise Refusal(400, f"request body must be a JSON object{twice}")
    return cast("dict[str, object]", body)


def _place_of(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        if error.doc.startswith("\ufeff"):
            return ": it begins with a byte order mark"
        return f": {error.msg} in line {error.lineno}, column {error.colno}"
    return f": byte {error.start} is not UTF-8" if isinstance(error, UnicodeDecodeError) else ""


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _no_input(body: Mapping[str, object]) -> str:
    message = "input is required and must be an object"
    if isinstance(body.get("input"), str):
        return f"{message}, not a string"
    inside = [name for name in body if name not in ("input", *_BESIDE)]
    return f"{message}; {inside[0]:.60} belongs in it" if inside else message


def _choice(body: Mapping[str, object], name: str, allowed: tuple[str, ...]) -> str | None:
    value = body.get(name)
    if value is not None and value not in allowed:
        raise Refusal(400, f"{name} must be one of {', '.join(allowed)}")
    return None if value is None else str(value)


def _callback_url(body: Mapping[str, object], *, required: bool) -> str | None:
    url = body.get("callback_url")
    if url is None and not required:
        return None
    if url is None:
        raise Refusal(400, _no_callback_url(body))
    if not isinstance(url, str) or not _can_be_called(url):
        raise Refusal(400, "callback_url must be a public HTTPS URL when request_type is callback")
    return url


def _no_callback_url(body: Mapping[str, object]) -> str:
    message = "callback_url is required when request_type is callback: a public HTTPS URL"
    fields = body.get("input")
    if isinstance(fields, dict) and "callback_url" in fields:
        return f"{message} beside input, not in it"
    names = [name for name in body if name != "callback_url"]
    meant = [name for name in names if any(word in name.lower() for word in _CALLBACK_WORDS)]
    return f"{message} ({meant[0]:.60} is not a documented field)" if meant else message


def _host_of(url: object) -> str:
    try:
        return urlsplit(str(url)).hostname or ""
    except ValueError:
        return ""


def _can_be_called(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    # The service demands public HTTPS; receivers under test on this machine are allowed too.
    return takes_callbacks(parts.scheme, host)


def _validated(model: str, fields: dict[str, object]) -> Input:
    if model in DOCUMENTED:
        _check_names(model, fields)
    try:
        with warnings.catch_warnings():
            # What only other pages bound is a warning of the client, and allowed by the service.
            warnings.simplefilter("ignore", InputWarning)
            parsed = from_dict(model, fields)
    except ValidationError as exc:
        problems = exc.errors(include_url=False, include_context=False, include_input=False)
        found = [f"{'.'.join(map(str, ('input', *one['loc'])))}: {one['msg']}" for one in problems]
        raise Refusal(400, "; ".join(found)) from None
    except ValueError as exc:
        raise Refusal(400, str(exc)) from None
    if isinstance(parsed, GptImage1) and type(fields["num_images"]) is not int:  # such as 4.0
        raise Refusal(400, "input.num_images: Input should be 1, 2 or 4")
    return parsed


def _check_names(model: str, fields: Mapping[str, object]) -> None:
    if fields.get("mode") is None:
        raise Refusal(400, "input.mode is required")
    # Inputs may be built with Python's names; on the wire only the documented names count.
    known = {
        field.serialization_alias or name
        for name, field in DOCUMENTED[model].model_fields.items()
        if not field.exclude
    }
    for name in fields:
        if name not in known:
            raise Refusal(400, f"input.{name} is not a parameter of {model}")

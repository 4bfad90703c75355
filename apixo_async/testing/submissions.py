"""What the documents demand of a submit: the body, the callback URL, the model's own bounds."""

from __future__ import annotations

import ipaddress
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NoReturn, cast
from urllib.parse import urlsplit

from pydantic import ValidationError

from apixo_async.inputs import DOCUMENTED, GptImage1, Input, InputWarning, from_dict
from apixo_async.testing.replies import Call, Refusal

#: Charged where the documents at hand give no price, in USD.
DEFAULT_PRICE = Decimal("0.05")

FileType = Literal["png", "jpeg", "webp"]


@dataclass(frozen=True, slots=True)
class Submission:
    """A submit that the documents allow: ``input`` as it came, ``images`` results asked for."""

    model: str
    fields: dict[str, object]
    kind: str
    price: Decimal
    request_type: str
    callback_url: str | None
    provider: str | None
    images: int = 1

    @property
    def file_type(self) -> FileType:
        """Of which type the results are."""
        if self.model == "flux-kontext":
            return "png" if self.fields.get("output_format") == "png" else "jpeg"
        return "png" if self.model in DOCUMENTED else "webp"


def parse_submission(model: str, call: Call) -> Submission:
    """Read a submit.

    Raises:
        Refusal: 400, naming what the documents do not allow.
    """
    try:
        return _parsed(model, _body(call))
    except RecursionError:  # the depth at which that happens is the interpreter's
        raise Refusal(400, "request body is nested too deeply") from None


def _parsed(model: str, body: Mapping[str, object]) -> Submission:
    request_type = _choice(body, "request_type", ("async", "callback")) or "async"
    callback_url = _callback_url(body, required=request_type == "callback")
    fields = body.get("input")
    if not isinstance(fields, dict):
        raise Refusal(400, "input is required and must be an object")
    fields = cast("dict[str, object]", fields)
    made = _validated(model, fields)
    return Submission(
        model=model,
        fields=fields,
        kind=made.kind,
        price=DEFAULT_PRICE if made.price is None else made.price,
        request_type=request_type,
        callback_url=callback_url,
        provider=_choice(body, "provider", ("auto", "value", "official")),
        images=_images(made, fields),
    )


def _body(call: Call) -> dict[str, object]:
    content_type = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise Refusal(400, "Content-Type must be application/json")
    try:
        # RFC 8259 has UTF-8 only; Python's parser would take UTF-16, NaN and lone surrogates too.
        body = json.loads(call.body.decode(), parse_constant=_no_constant)
        json.dumps(body, ensure_ascii=False).encode()
    except ValueError:
        raise Refusal(400, "request body is not valid JSON") from None
    if not isinstance(body, dict):
        raise Refusal(400, "request body must be a JSON object")
    return cast("dict[str, object]", body)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _choice(body: Mapping[str, object], name: str, allowed: tuple[str, ...]) -> str | None:
    value = body.get(name)
    if value is not None and value not in allowed:
        raise Refusal(400, f"{name} must be one of {', '.join(allowed)}")
    return None if value is None else str(value)


def _callback_url(body: Mapping[str, object], *, required: bool) -> str | None:
    url = body.get("callback_url")
    if url is None and not required:
        return None
    if not isinstance(url, str) or not _can_be_called(url):
        raise Refusal(400, "callback_url must be a public HTTPS URL when request_type is callback")
    return url


def _can_be_called(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    # Plain http to this machine is what the simulator adds, for receivers under test.
    if _is_loopback(host):
        return parts.scheme in ("http", "https")
    return parts.scheme == "https" and not _is_private(host)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_private(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host


def _validated(model: str, fields: dict[str, object]) -> Input:
    if model in DOCUMENTED:
        _check_names(model, fields)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InputWarning)
            made = from_dict(model, fields)
    except ValidationError as exc:
        raise Refusal(400, _sentence(exc)) from None
    except ValueError as exc:
        raise Refusal(400, str(exc)) from None
    if isinstance(made, GptImage1) and type(fields["num_images"]) is not int:  # such as 4.0
        raise Refusal(400, "input.num_images: Input should be 1, 2 or 4")
    return made


def _images(made: Input, fields: Mapping[str, object]) -> int:
    if isinstance(made, GptImage1):
        return made.num_images
    asked = fields.get("num_images")  # of other models; a number beyond reason is not served
    return asked if isinstance(asked, int) and 1 <= asked <= 16 else 1


def _check_names(model: str, fields: Mapping[str, object]) -> None:
    if fields.get("mode") is None:
        raise Refusal(400, "input.mode is required")
    # Inputs may be built with Python's names; on the wire only the documents' names count.
    known = {
        field.serialization_alias or name for name, field in DOCUMENTED[model].model_fields.items()
    }
    for name in fields:
        if name not in known:
            raise Refusal(400, f"input.{name} is not a parameter of {model}")


def _sentence(exc: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, ('input', *problem['loc'])))}: {problem['msg']}"
        for problem in exc.errors(include_url=False, include_context=False, include_input=False)
    )

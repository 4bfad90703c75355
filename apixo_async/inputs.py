"""The inputs of tasks: a frozen class for each documented model, `OtherModel` for the rest.

Fields, bounds, defaults, names on the wire and prices are those of the APIXO documents. What they
require beside the prompt has its cheapest value as a default. A bound that the model's own page
states is enforced; one that only other pages state warns.
"""

from __future__ import annotations

import inspect
import json
import re
import threading
import warnings
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Self, TypeAlias, cast
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    StrictBool,
    Tag,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from apixo_async._canonical import LOCAL
from apixo_async._catalog import similar_models
from apixo_async._hosts import reach
from apixo_async._local_images import LocalImage

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

#: Fields, of all models, that drive how long a task takes: its duration is learned by their values.
TIME_FIELDS: Final = (
    "mode",
    "resolution",
    "quality",
    "size",
    "duration",
    "seconds",
    "n_frames",
    "num_images",
    "nVariants",
    "max_images",
    "n",
)


#: Levels of lists and objects in a field. Python's JSON takes a thousand at most, and fewer the
#: deeper the call: what is accepted here must be encodable again when it is sent or journalled.
_DEEPEST: Final = 100

_MODEL_NAME: Final = "[A-Za-z0-9][A-Za-z0-9._-]*"


class OtherModel:
    """A task of any other model, its input passed on unchanged and in the order given.

    `OtherModel("sora-2", mode="text-to-video", prompt="...")`. Nothing is bounded, nothing is
    priced; fields that are no Python names are given as `OtherModel(name, **{"a-b": 1})`.

    Raises:
        ValueError: The model's name has no place in a URL, or a field is not JSON, is nested deeper
            than 100 levels, or holds half a character.
        TypeError: The model's name is no str.

    Warns:
        InputWarning: The name looks like a misspelling of that of a documented model.
    """

    __slots__ = ("_text", "model")
    model: str
    _text: str

    def __init__(self, model: str, /, **fields: object) -> None:
        check_model_name(model)
        if near := similar_models(model):
            _warn(f"model: {model!r} given; did you mean {' or '.join(map(repr, near))}?")
        object.__setattr__(self, "model", model)
        # As text: the caller may change lists and dicts afterwards, and the input is frozen.
        encoded = (f"{json.dumps(name)}: {_encoded(model, name, fields[name])}" for name in fields)
        object.__setattr__(self, "_text", "{" + ", ".join(encoded) + "}")

    @property
    def kind(self) -> str:
        """The model, and its fields of `TIME_FIELDS`: they drive how long the task takes."""
        payload = self.payload()
        driven_by = [f"{name}={payload[name]!s:.32}" for name in TIME_FIELDS if name in payload]
        return "/".join([self.model, *driven_by])

    @property
    def price(self) -> None:
        """Always None: the documents give no price of other models."""
        return

    def payload(self) -> dict[str, object]:
        """Return the `input` object as it goes over the wire."""
        return cast("dict[str, object]", json.loads(self._text))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"OtherModel is frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"OtherModel is frozen: {name} cannot be deleted")

    @classmethod
    def _from_body(cls, given: object) -> OtherModel:
        if isinstance(given, OtherModel):
            return given
        fields = _fields_of(given)
        try:
            return cls(cast("str", fields.pop("model", None)), **fields)
        except TypeError as exc:  # Pydantic makes an error of the field of a ValueError only.
            raise ValueError(str(exc)) from None

    @classmethod
    def __get_pydantic_core_schema__(cls, _: object, __: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema  # Only where it is a part of another model.

        dumped = core_schema.plain_serializer_function_ser_schema(cls.payload)
        return core_schema.no_info_plain_validator_function(cls._from_body, serialization=dumped)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _: CoreSchema, __: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {
            "title": "OtherModel",
            "type": "object",
            "description": "Any other model, its fields passed on unchanged.",
            "properties": {
                "model": {
                    "type": "string",
                    "pattern": f"^{_MODEL_NAME}$",
                    "not": {"enum": [*DOCUMENTED]},
                    "description": 'Its name, such as "sora-2".',
                }
            },
            "required": ["model"],
            "additionalProperties": True,
        }

    def __reduce__(self) -> tuple[object, ...]:
        return _other_model, (self.model, self.payload())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, OtherModel):
            return NotImplemented
        return self.model == other.model and self._text == other._text

    def __hash__(self) -> int:
        return hash((self.model, self._text))

    def __repr__(self) -> str:
        fields = "".join(f", {name}={value!r}" for name, value in self.payload().items())
        return f"OtherModel({self.model!r}{fields})"


def _fields_of(given: object) -> dict[str, object]:
    return {**cast("Mapping[str, object]", given)} if isinstance(given, Mapping) else {}


def _other_model(model: str, fields: Mapping[str, object]) -> OtherModel:
    return OtherModel(model, **fields)


def check_model_name(model: object) -> None:
    """Check the name of a model, which becomes a part of a URL.

    Raises:
        TypeError: It is no str.
        ValueError: It holds anything but letters, digits, "-", "_" and ".", or begins with one of
            the last three.
    """
    if not isinstance(model, str):
        raise TypeError(f"model: {model!r:.200} given; a model is named by a str such as 'sora-2'")
    if not re.fullmatch(_MODEL_NAME, model):
        raise ValueError(
            f"model: {model!r:.200} given; a name is letters, digits, '-', '_' and '.'"
        )


def _encoded(model: str, name: str, value: object) -> str:
    try:
        text = json.dumps(value, allow_nan=False, default=_no_json)
        _check_depth(value)
        if "\\ud" in f"{json.dumps(name)}{text}":  # Half a character has no UTF-8; this raises.
            json.dumps({name: value}, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{model}: {name!a:.200}: it holds half a character (a lone surrogate), which cannot "
            "be sent; allowed is text"
        ) from None
    except RecursionError:
        raise ValueError(f"{model}: {name!r:.200}: nested deeper than {_DEEPEST} levels") from None
    except (TypeError, ValueError) as exc:
        given = f"{model}: {name}: {_shown(value)} given"
        raise ValueError(f"{given}; allowed is what JSON holds ({exc})") from exc
    return text


def _no_json(value: object) -> object:
    of_file = ": of a file, give the URL that `WebhookReceiver.share` returns"
    advice = of_file if isinstance(value, Path | bytes) else ""
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable{advice}")


def _check_depth(value: object, depth: int = 0) -> None:
    if depth > _DEEPEST:
        raise RecursionError
    if isinstance(value, Mapping):
        value = cast("Mapping[object, object]", value).values()
    elif not isinstance(value, list | tuple):
        return
    for inner in cast("Iterable[object]", value):
        _check_depth(inner, depth + 1)


def _shown(value: object) -> str:
    try:
        return f"{value!r:.200}"
    except ValueError:  # Python refuses to print a number with thousands of digits.
        return f"a {type(value).__name__}"


__all__ = [
    "DOCUMENTED",
    "FluxKontext",
    "GptImage1",
    "GptImage2",
    "Input",
    "InputWarning",
    "LocalImage",
    "OtherModel",
    "from_dict",
]


class InputWarning(UserWarning):
    """What may be a mistake, and is sent.

    A value that only another page of the API bounds; or a model that no page names, and whose name
    looks like a misspelling of one that is documented.
    """


def _public_url(url: str) -> str:
    if url.startswith(LOCAL):
        raise ValueError("this is the digest of a local image: give its Path or its bytes again")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            "a reference image is a public, direct http(s):// URL, or the Path of a file"
        )
    if reach(parts.hostname) != "public":
        _warn(f"image_urls: {parts.hostname} is not a public host; the service must fetch it")
    return url


def _warn(message: str) -> None:
    """Warn at the caller's line, which lies above frames of this module and of pydantic."""
    level, frame = 1, inspect.currentframe()
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module != __name__ and module.partition(".")[0] != "pydantic":
            break
        level, frame = level + 1, frame.f_back
    warnings.warn(message, InputWarning, stacklevel=level)


def _warn_elsewhere(field: str, value: object, allowed: str) -> None:
    _warn(f"{field}: {value} given; other pages of the API allow {allowed}")


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        # In Python True equals 1, and would pass as it.
        raise ValueError(f"{value} given; a number is no bool, allowed are 1, 2 and 4")
    return value


def _no_single_image(value: object) -> object:
    if isinstance(value, str | Path | bytes):
        given = type(value).__name__ if isinstance(value, str | bytes) else "Path"
        raise ValueError(f"a {given} given; give a list of URLs, such as [url]")
    return value


def _url_or_local(value: object, check_url: ValidatorFunctionWrapHandler) -> object:
    # Never a str: text of a visitor's body must not read files of the server.
    if isinstance(value, Path | bytes):
        return LocalImage.of(value)
    return value if isinstance(value, LocalImage) else check_url(value)


def _encodable(text: str) -> str:
    text.encode()  # Refuses lone surrogates, as pydantic itself does for a str with bounds.
    return text


#: Text of any length, never made from bytes.
Text: TypeAlias = Annotated[str, Field(strict=True), AfterValidator(_encodable)]
ImageUrl: TypeAlias = Annotated[Text, AfterValidator(_public_url)]
if TYPE_CHECKING:
    #: A list or a tuple of images, kept as a tuple of URLs and of a `LocalImage` for what is none.
    ImageList: TypeAlias = Sequence[ImageUrl | Path | bytes | LocalImage]
else:
    _Image = Annotated[
        ImageUrl, WrapValidator(_url_or_local), PlainSerializer(str, return_type=str)
    ]
    ImageList = Annotated[tuple[_Image, ...], BeforeValidator(_no_single_image)]


def _kind(model: str, tier: object, image_urls: Sequence[object]) -> str:
    return f"{model}/{tier}/edit" if image_urls else f"{model}/{tier}"


#: Before 2.14, pydantic has no lock of its own: two threads would build one class at once.
_BUILDING: Final = threading.RLock()


class _DocumentedInput(BaseModel):
    """What the documented inputs share: frozen, no unknown fields, names of the wire as aliases."""

    # Pydantic builds each class at its first use, so that importing the package is cheap.
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, defer_build=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        # Otherwise an adapter of the class is built late as well: that of FastAPI would warn, at
        # the first request.
        cls.model_config.pop("defer_build", None)

    @classmethod
    def model_rebuild(cls, **options: Any) -> bool | None:
        """Build the class; pydantic calls this at its first use."""
        with _BUILDING:
            return super().model_rebuild(**options)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        made = handler(core_schema)
        schema = handler.resolve_ref_schema(made)
        schema["description"], _, attributes = (inspect.getdoc(cls) or "").partition(
            "\n\nAttributes:\n"
        )
        for name, words in re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", attributes, re.MULTILINE):
            field = cls.model_fields.get(name)
            shown = schema["properties"].get(field.serialization_alias or name) if field else None
            if shown is not None:
                shown["description"] = " ".join(words.split())
        return made

    def payload(self) -> dict[str, object]:
        """Return the `input` object as it goes over the wire, unset options left out.

        A local image is `apixo-file:sha256:` and its digest here, and a URL on the wire.
        """
        body = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return {name: value for name, value in body.items() if value != []}


class GptImage1(_DocumentedInput):
    """A task of gpt-image-1: $0.35 an image, about 30 s.

    Attributes:
        prompt: 1 to 10,000 characters.
        aspect_ratio: "1:1" unless given, "2:3" or "3:2".
        num_images: 1 unless given, 2 or 4; each is billed.
        image_urls: Up to 5 public URLs of JPG, PNG or WebP images, at most 10 MB each; in Python
            also `Path`s and bytes (see `LocalImage`).
        mode: Always "gpt-image-1".
        model: Always "gpt-image-1"; no part of `payload()` or `model_dump()`.

    Raises:
        pydantic.ValidationError: A ValueError which names field, value and what is allowed.
    """

    price_per_image: ClassVar[Decimal] = Decimal("0.35")

    model: Literal["gpt-image-1"] = Field(default="gpt-image-1", exclude=True, repr=False)
    mode: Literal["gpt-image-1"] = "gpt-image-1"
    prompt: str = Field(strict=True, min_length=1, max_length=10_000)
    aspect_ratio: Literal["1:1", "2:3", "3:2"] = "1:1"
    num_images: Annotated[Literal[1, 2, 4], BeforeValidator(_no_bool)] = 1
    image_urls: ImageList = Field(default=(), max_length=5)

    @property
    def kind(self) -> str:
        """The model, the number of images to make, and "edit" if any are given."""
        return _kind(self.model, self.num_images, self.image_urls)

    @property
    def price(self) -> Decimal:
        """The documents' price of this task in USD: every image asked for is billed."""
        return self.price_per_image * self.num_images


class GptImage2(_DocumentedInput):
    """A task of gpt-image-2: one image, priced and timed by its resolution.

    Attributes:
        prompt: 1 to 20,000 characters.
        image_urls: 1 to 16 images for image-to-image, as of `GptImage1`; none for text-to-image.
        aspect_ratio: "auto", "1:1", "4:3", "3:4", "16:9" or "9:16".
        resolution: "1k" ($0.02, 30-120 s), "2k" ($0.03, 60-180 s) or "4k" ($0.04, 120-240 s).
        mode: "text-to-image" or "image-to-image"; follows from `image_urls` unless given.
        model: Always "gpt-image-2"; no part of `payload()` or `model_dump()`.

    Raises:
        pydantic.ValidationError: A ValueError which names field, value and what is allowed.
    """

    price_of_resolution: ClassVar[Mapping[str, Decimal]] = {
        "1k": Decimal("0.02"),
        "2k": Decimal("0.03"),
        "4k": Decimal("0.04"),
    }

    model: Literal["gpt-image-2"] = Field(default="gpt-image-2", exclude=True, repr=False)
    mode: Literal["text-to-image", "image-to-image"] = "text-to-image"
    prompt: str = Field(strict=True, min_length=1, max_length=20_000)
    image_urls: ImageList = Field(default=(), max_length=16)
    aspect_ratio: Literal["auto", "1:1", "4:3", "3:4", "16:9", "9:16"] = "auto"
    resolution: Literal["1k", "2k", "4k"] = "1k"

    @model_validator(mode="before")
    @classmethod
    def _mode_from_images(cls, data: object) -> object:
        if not isinstance(data, Mapping):
            return data
        fields = dict(cast("Mapping[str, object]", data))
        if fields.get("mode") is None:
            fields["mode"] = "image-to-image" if fields.get("image_urls") else "text-to-image"
        return fields

    @model_validator(mode="after")
    def _images_match_mode(self) -> Self:
        if self.mode == "image-to-image" and not self.image_urls:
            raise ValueError("image_urls: [] given; mode image-to-image takes 1 to 16 URLs")
        if self.mode == "text-to-image" and self.image_urls:
            _warn("image_urls: documented for mode image-to-image only; mode is text-to-image")
        return self

    @property
    def kind(self) -> str:
        """The model, the resolution, and "edit" if images are given."""
        return _kind(self.model, self.resolution, self.image_urls)

    @property
    def price(self) -> Decimal:
        """The documents' price of this task in USD, by resolution."""
        return self.price_of_resolution[self.resolution]


class FluxKontext(_DocumentedInput):
    """A task of flux-kontext: one image in about 30 s, $0.03 (`pro`) or $0.06 (`max`).

    Only `mode` and `output_format` are bounded by the model's page. The bounds of the rest, and
    the prices, come from other pages: a value outside them warns and is sent.

    Attributes:
        mode: "pro" unless given, or "max". The documents disagree on which is slower and better.
        prompt: 1 to 10,000 characters.
        aspect_ratio: "1:1", "4:3", "3:4", "9:16", "16:9" or "21:9".
        image_urls: One image, as of `GptImage1`.
        output_format: "jpeg" or "png".
        safety_tolerance: 0 to 2; `safetyTolerance` on the wire.
        prompt_upsampling: `promptUpsampling` on the wire.
        enable_translation: `enableTranslation` on the wire.
        watermark: A text, or True or False.
        model: Always "flux-kontext"; no part of `payload()` or `model_dump()`.

    Raises:
        pydantic.ValidationError: A ValueError which names field, value and what is allowed.
    """

    price_of_mode: ClassVar[Mapping[str, Decimal]] = {
        "pro": Decimal("0.03"),
        "max": Decimal("0.06"),
    }
    aspect_ratios: ClassVar[tuple[str, ...]] = ("1:1", "4:3", "3:4", "9:16", "16:9", "21:9")

    model: Literal["flux-kontext"] = Field(default="flux-kontext", exclude=True, repr=False)
    mode: Literal["pro", "max"] = "pro"
    prompt: Text
    aspect_ratio: Text | None = None
    image_urls: ImageList = ()
    output_format: Literal["jpeg", "png"] | None = None
    # Not `alias=`: for type checkers that would make the wire's names the only ones.
    safety_tolerance: int | None = Field(
        default=None,
        strict=True,
        validation_alias="safetyTolerance",
        serialization_alias="safetyTolerance",
    )
    # Strict: pydantic would take "yes" and 1 for True, and a bool above for a number.
    prompt_upsampling: StrictBool | None = Field(
        default=None, validation_alias="promptUpsampling", serialization_alias="promptUpsampling"
    )
    enable_translation: StrictBool | None = Field(
        default=None, validation_alias="enableTranslation", serialization_alias="enableTranslation"
    )
    watermark: Text | StrictBool | None = None

    @model_validator(mode="after")
    def _bounds_of_other_pages(self) -> Self:
        if not 1 <= len(self.prompt) <= 10_000:
            _warn_elsewhere("prompt", f"{len(self.prompt)} characters", "1 to 10,000")
        if self.aspect_ratio is not None and self.aspect_ratio not in self.aspect_ratios:
            given = f"{self.aspect_ratio!r:.200}"
            _warn_elsewhere("aspect_ratio", given, ", ".join(self.aspect_ratios))
        if len(self.image_urls) > 1:
            _warn_elsewhere("image_urls", f"{len(self.image_urls)} URLs", "one")
        if self.safety_tolerance is not None and not 0 <= self.safety_tolerance <= 2:
            _warn_elsewhere("safety_tolerance", self.safety_tolerance, "0 to 2")
        return self

    @property
    def kind(self) -> str:
        """The model, the mode, and "edit" if images are given."""
        return _kind(self.model, self.mode, self.image_urls)

    @property
    def price(self) -> Decimal:
        """The price of this task in USD, by mode, as other pages of the API give it."""
        return self.price_of_mode[self.mode]


DOCUMENTED: Final[Mapping[str, type[GptImage1 | GptImage2 | FluxKontext]]] = {
    "gpt-image-1": GptImage1,
    "gpt-image-2": GptImage2,
    "flux-kontext": FluxKontext,
}


def _tag(given: object) -> str | None:
    if isinstance(given, GptImage1 | GptImage2 | FluxKontext):
        return given.model
    model = "" if isinstance(given, OtherModel) else _fields_of(given).get("model")
    if not isinstance(model, str):
        return None
    return model if model in DOCUMENTED else "other"


#: An input of any model. In pydantic's models, and as a body of FastAPI, it is an object with the
#: model's name beside its fields, such as {"model": "gpt-image-2", "prompt": "a lighthouse"}.
Input: TypeAlias = Annotated[
    Annotated[GptImage1, Tag("gpt-image-1")]
    | Annotated[GptImage2, Tag("gpt-image-2")]
    | Annotated[FluxKontext, Tag("flux-kontext")]
    | Annotated[OtherModel, Tag("other")],
    Discriminator(
        _tag,
        custom_error_type="model_missing",
        custom_error_message="give an object with the name of a model, and its fields: "
        '{"model": "gpt-image-2", "prompt": "a lighthouse"}',
    ),
]


def from_dict(model: str, fields: Mapping[str, Any]) -> Input:
    """Build the input of a model from a mapping, such as one row of a JSON Lines file.

    Names may be those of Python or of the wire. A model without a class of its own becomes an
    `OtherModel`, its fields untouched.

    Raises:
        ValueError: A field is missing, unknown or out of bounds; the message names it, its
            value and what is allowed. (`pydantic.ValidationError` for documented models.)
        TypeError: `fields` is no mapping, or `model` is no str.
    """
    check_model_name(model)
    if not isinstance(cast("object", fields), Mapping):
        raise TypeError(f"fields: {fields!r:.200} given; the input of {model} is a mapping")
    cls = DOCUMENTED.get(model)
    return OtherModel(model, **fields) if cls is None else cls.model_validate(dict(fields))

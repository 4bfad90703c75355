"""What `apixo demo` asks for: a table over the documented models, failures included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Final

from apixo_async._cli.models import DEFAULTS
from apixo_async.inputs import Input, from_dict


@dataclass(frozen=True, slots=True)
class DemoPrompt:
    """One row of the demo.

    Attributes:
        model: The model to ask.
        prompt: What to ask it for.
        fields: The rest of the input.
        fails: The failCode and failMsg that the simulator is told to give, or None.
    """

    model: str
    prompt: str
    fields: Mapping[str, object] = field(default_factory=dict[str, object])
    fails: tuple[str, str] | None = None

    @property
    def input(self) -> Input:
        """The input to submit."""
        return from_dict(
            self.model, {**DEFAULTS.get(self.model, {}), "prompt": self.prompt, **self.fields}
        )

    @property
    def details(self) -> tuple[str, ...]:
        """What is worth a word about it, beside model and prompt."""
        shown = (self.fields.get(name) for name in ("resolution", "aspect_ratio", "mode"))
        return tuple(str(value) for value in shown if value is not None)


_ONE, _TWO, _FLUX = "gpt-image-1", "gpt-image-2", "flux-kontext"
_VIOLATION = ("CONTENT_VIOLATION", "Content does not meet safety guidelines")
_BAD_IMAGE = ("INVALID_IMAGE_URL", "A reference image URL could not be fetched or decoded")

WISHES: Final = (
    DemoPrompt(_TWO, "A lighthouse in a storm, oil on canvas", {"resolution": "4k"}),
    DemoPrompt(_ONE, "A cyberpunk cafe at night, neon in the puddles", {"aspect_ratio": "3:2"}),
    DemoPrompt(_FLUX, "Paper-cut mountains under a paper moon", {"aspect_ratio": "16:9"}),
    DemoPrompt(_TWO, "Isometric map of a tiny harbour town", {"aspect_ratio": "4:3"}),
    DemoPrompt(_ONE, "Four studies of a sleeping fox, charcoal", {"num_images": 4}),
    DemoPrompt(_FLUX, "A copper teapot on blue linen, morning light", {"output_format": "png"}),
    DemoPrompt(_TWO, "A violent scene that no page of this demo shows", fails=_VIOLATION),
    DemoPrompt(_ONE, "Botanical plate of an imaginary fern", {"aspect_ratio": "2:3"}),
    DemoPrompt(_FLUX, "Retro poster: trains to the sea", {"aspect_ratio": "9:16", "mode": "max"}),
    DemoPrompt(_TWO, "A library inside a hollow tree", {"resolution": "2k", "aspect_ratio": "3:4"}),
    DemoPrompt(_ONE, "A brass astronaut playing chess with a crab"),
    DemoPrompt(_FLUX, "Minimal logo of a heron, one line"),
    DemoPrompt(_TWO, "Rain on a tram window, bokeh of the old town", {"aspect_ratio": "16:9"}),
    DemoPrompt(_ONE, "Two variants of a winter postcard", {"num_images": 2, "aspect_ratio": "3:2"}),
    DemoPrompt(_FLUX, "A desert observatory at blue hour", {"aspect_ratio": "21:9"}),
    DemoPrompt(
        _TWO,
        "The same portrait, as a mosaic",
        {"image_urls": ["https://images.example.com/gone.png"]},
        fails=_BAD_IMAGE,
    ),
    DemoPrompt(_ONE, "A market of floating lanterns", {"aspect_ratio": "2:3"}),
    DemoPrompt(_FLUX, "Macro photograph of dew on a spider's web", {"mode": "max"}),
    DemoPrompt(_TWO, "Blueprint of a steam-powered bicycle", {"aspect_ratio": "4:3"}),
    DemoPrompt(_ONE, "A whale made of constellations", {"aspect_ratio": "3:2"}),
    DemoPrompt(_FLUX, "Children's book cover: the bear who baked", {"aspect_ratio": "3:4"}),
    DemoPrompt(_TWO, "An art deco ballroom under the sea", {"resolution": "2k"}),
    DemoPrompt(_ONE, "A portrait that the filter refuses", fails=_VIOLATION),
    DemoPrompt(_FLUX, "Terraced rice fields, drone view at dawn", {"aspect_ratio": "16:9"}),
)


def wishes(count: int) -> list[DemoPrompt]:
    """Return so many rows, from the beginning again where the table ends."""
    return list(islice(cycle(WISHES), count))

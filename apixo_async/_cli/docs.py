"""`apixo docs`: the guides, which come with the package."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Annotated

import typer
from rich.markdown import Markdown

from apixo_async import ConfigurationError
from apixo_async._cli.console import Screen


def docs(
    guide: Annotated[
        str | None, typer.Argument(metavar="[GUIDE]", help="Show this one, and not the list.")
    ] = None,
) -> None:
    """List the guides, or show one: as it is in a pipe, laid out on a terminal."""
    screen, guides = Screen(), dict(_guides())
    if guide is None:
        screen.table(("guide", "about"), [(name, _title(text)) for name, text in guides.items()])
    elif guide not in guides:
        raise ConfigurationError(f"there is no guide {guide!r}; there are {', '.join(guides)}")
    elif screen.out.is_terminal:
        screen.out.print(Markdown(_shown(guides[guide])))
    else:
        for line in guides[guide].splitlines():
            screen.line(line)


def _guides() -> Iterator[tuple[str, str]]:
    found: list[Traversable] = [*(files("apixo_async") / "guides").iterdir()]
    for file in sorted(found, key=lambda one: one.name):
        yield file.name.removesuffix(".md"), file.read_text("utf-8")


def _title(text: str) -> str:
    return text.partition("\n")[0].removeprefix("# ")


def _shown(text: str) -> str:
    """Return a guide without the marks by which its examples are tested."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("<!-- run:"))

"""`apixo docs`: the guides, which come with the package, and files that they name."""

from __future__ import annotations

from importlib.resources import files
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
    screen, folder = Screen(), files("apixo_async") / "guides"
    found = sorted(folder.iterdir(), key=lambda file: file.name)
    guides = {file.name.removesuffix(".md"): file.read_text("utf-8") for file in found}
    if guide is None:
        titles = {name: text.partition("\n")[0] for name, text in guides.items()}
        shown = [(name, title) for name, title in titles.items() if title.startswith("# ")]
        screen.table(("guide", "about"), [(name, title[2:]) for name, title in shown])
    elif guide not in guides:
        raise ConfigurationError(f"there is no guide {guide!r}; there are {', '.join(guides)}")
    elif screen.out.is_terminal and guides[guide].startswith("# "):
        # Without the marks by which the examples of the guides are tested.
        lines = (line for line in guides[guide].splitlines() if not line.startswith("<!-- run:"))
        screen.out.print(Markdown("\n".join(lines)))
    else:
        for line in guides[guide].splitlines():
            screen.line(line)

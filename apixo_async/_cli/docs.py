"""`apixo docs`: the guides, which come with the package."""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated, Final

import typer
from rich.markdown import Markdown

from apixo_async import ConfigurationError
from apixo_async._cli.console import Screen

#: The guides in the order of a reader's way: first steps, jobs, purchases, operation, questions.
ORDER: Final = (
    *("quickstart", "web-apps", "jobs", "webhooks", "bulk", "pipelines", "files", "running"),
    *("errors", "durable", "many-processes", "costs", "limits", "polling"),
    *("performance", "deployment", "proxies", "observability", "testing", "faq"),
)


def guides() -> dict[str, str]:
    """Return the text of each guide by its name, in order."""
    found = {
        file.name.removesuffix(".md"): file.read_text("utf-8")
        for file in (files("apixo_async") / "guides").iterdir()
    }
    return {name: found[name] for name in sorted(found, key=ORDER.index)}


def docs(
    guide: Annotated[
        str | None, typer.Argument(metavar="[GUIDE]", help="Show this one, and not the list.")
    ] = None,
) -> None:
    """List the guides, or show one: as it is in a pipe, laid out on a terminal."""
    screen, texts = Screen(), guides()
    if guide is None:
        titles = {name: text.partition("\n")[0] for name, text in texts.items()}
        rows = [(name, title.removeprefix("# ")) for name, title in titles.items()]
        screen.table(("guide", "about"), rows)
    elif guide not in texts:
        raise ConfigurationError(f"there is no guide {guide!r}; there are {', '.join(texts)}")
    elif screen.out.is_terminal:
        # Without the marks by which the examples of the guides are tested.
        shown = (line for line in texts[guide].splitlines() if not line.startswith("<!-- run:"))
        screen.out.print(Markdown("\n".join(shown)))
    else:
        for line in texts[guide].splitlines():
            screen.line(line)

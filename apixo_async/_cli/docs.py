"""`apixo docs`: the guides, which come with the package, and files that they name."""

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
    *("performance", "deployment", "proxies", "observability", "testing", "conformance", "faq"),
)

#: Files that guides name.
OTHERS: Final = ("grafana.json",)


def guides() -> dict[str, str]:
    """Return the text of each guide by its name, in order."""
    return {name: _text(f"{name}.md") for name in ORDER}


def docs(
    guide: Annotated[
        str | None, typer.Argument(metavar="[GUIDE]", help="Show this one, and not the list.")
    ] = None,
) -> None:
    """List the guides, or show one: as it is in a pipe, laid out on a terminal."""
    screen = Screen()
    if guide is None:
        titles = {name: text.partition("\n")[0] for name, text in guides().items()}
        rows = [(name, title.removeprefix("# ")) for name, title in titles.items()]
        screen.table(("guide", "about"), rows)
        return
    if guide not in (*ORDER, *OTHERS):
        known = ", ".join((*ORDER, *OTHERS))
        raise ConfigurationError(f"there is no guide {guide!r}; there are {known}")
    lines = _text(f"{guide}.md" if guide in ORDER else guide).splitlines()
    if guide in ORDER and screen.out.is_terminal:
        # Without the marks by which the examples of the guides are tested.
        shown = (line for line in lines if not line.startswith("<!-- run:"))
        screen.out.print(Markdown("\n".join(shown)))
        return
    for line in lines:
        screen.line(line)


def _text(name: str) -> str:
    return (files("apixo_async") / "guides" / name).read_text("utf-8")

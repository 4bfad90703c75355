"""The contact sheet: one self-contained HTML page that shows what a run of tasks made.

The page loads nothing but the image files beside it, by relative links, and only those that come
into sight, so that it also opens with thousands of images.
"""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final
from urllib.parse import quote

from apixo_async._cli.console import dollars, seconds
from apixo_async._cli.report.replacing import replacing

_TILE: Final = Template(
    '<li class="tile $outcome">\n$frame\n<div class="about">\n'
    '<p class="prompt" title="$prompt">$prompt</p>\n'
    '<p class="meta"><b>$model</b>$details<span class="id" title="$task_id">$task_id</span></p>\n'
    "</div>\n</li>"
)
_IMAGE: Final = Template(
    '<a href="$link"><img src="$link" alt="$alt" loading="lazy" decoding="async"></a>'
)
_FAILURE: Final = Template('<code>$code</code><p class="reason">$reason</p>')

#: The frame's class by the number of its images; more than two come in rows of two.
_LAYOUTS: Final[Mapping[int, str]] = {0: "frame", 1: "frame", 2: "frame two"}


@dataclass(frozen=True, slots=True)
class Tile:
    """What the sheet shows of one task.

    Attributes:
        prompt: What was asked for.
        model: The model's name.
        details: What else is worth a word, such as an aspect ratio.
        task_id: The service's id, or None where the task was never made.
        paths: The saved files.
        elapsed: Seconds from the submit to the outcome, or None.
        cost: USD by the documents, or None.
        failure: A code and a reason, or None where the task succeeded.
    """

    prompt: str
    model: str
    details: tuple[str, ...] = ()
    task_id: str | None = None
    paths: tuple[Path, ...] = ()
    elapsed: float | None = None
    cost: Decimal | None = None
    failure: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Sheet:
    """A whole page.

    Attributes:
        title: Its heading.
        facts: Names and values for the line below.
        tiles: The tasks, in the order of the page.
        footer: Its last line.
    """

    title: str
    facts: Mapping[str, str]
    tiles: Sequence[Tile]
    footer: str = ""

    def write(self, path: Path) -> None:
        """Write the page; links to files are relative to it, so that the folder can move."""
        with replacing(path) as draft:
            draft.write(self.render(path.parent).encode())

    def render(self, folder: Path) -> str:
        """Return the page as HTML for a folder."""
        failed = sum(tile.failure is not None for tile in self.tiles)
        template = files("apixo_async._cli").joinpath("contact_sheet.html")
        return Template(template.read_text(encoding="utf-8")).substitute(
            title=html.escape(self.title),
            facts="\n".join(_fact(name, value) for name, value in self.facts.items()),
            all=f"{len(self.tiles):,}",
            succeeded=f"{len(self.tiles) - failed:,}",
            failed=f"{failed:,}",
            tiles="\n".join(_tile(tile, folder) for tile in self.tiles),
            footer=html.escape(self.footer),
        )


def _fact(name: str, value: str) -> str:
    return f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"


def _tile(tile: Tile, folder: Path) -> str:
    return _TILE.substitute(
        outcome="succeeded" if tile.failure is None else "failed",
        frame=_frame(tile, folder),
        prompt=html.escape(tile.prompt),
        model=html.escape(tile.model),
        details="".join(f"<span>{html.escape(detail)}</span>" for detail in _details(tile)),
        task_id=html.escape(tile.task_id or "never submitted"),
    )


def _details(tile: Tile) -> list[str]:
    known = list(tile.details)
    if tile.elapsed is not None:
        known.append(seconds(tile.elapsed))
    if tile.cost is not None:
        known.append(dollars(tile.cost))
    return known


def _frame(tile: Tile, folder: Path) -> str:
    if tile.failure is not None:
        code, reason = tile.failure
        inside = _FAILURE.substitute(code=html.escape(code), reason=html.escape(reason))
    else:
        alt = html.escape(tile.prompt)
        inside = "".join(
            _IMAGE.substitute(link=_link(path, folder), alt=alt) for path in tile.paths
        )
    layout = _LAYOUTS.get(len(tile.paths), "frame many")
    return f'<div class="{layout}">{inside}</div>'


def _link(path: Path, folder: Path) -> str:
    relative = Path(os.path.relpath(path, folder)).as_posix()
    # A name is no URL: "a:b.png" would read as a scheme, "50%.png" as an escape.
    return html.escape(f"./{quote(relative)}")

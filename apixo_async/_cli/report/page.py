"""The sheet `index.html`: one file that shows a run, needs no network and opens from a disk.

Its texts are data and never markup: they come as JSON, and a script of its own puts them into
the page. The page's policy lets that one script and that one style sheet run, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Mapping
from importlib.resources import files
from string import Template
from typing import Final, Protocol

from apixo_async._cli.report.records import ItemRecord
from apixo_async._cli.report.rows import inside_html, row

_SCRIPTS: Final = ("plot.js", "tiles.js", "page.js")
_POLICY: Final = (
    "default-src 'none'; img-src 'self' file: data:; script-src '{script}'; style-src '{style}'; "
    "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


class Output(Protocol):
    """Where the page is written to."""

    def write(self, data: bytes, /) -> object:
        """Append bytes."""
        ...


class Page:
    """The page while it is written: a head, rows as they come, and the report at the end."""

    __slots__ = ("_comma", "_foot", "_output")

    def __init__(self, output: Output, title: str) -> None:
        head, self._foot = _halves(title)
        self._output = output
        self._comma = b""
        output.write(head)

    def add(self, record: ItemRecord) -> None:
        """Write a record's row."""
        self._output.write(self._comma + b"\n" + inside_html(row(record)))
        self._comma = b","

    def end(self, document: Mapping[str, object], note: str) -> None:
        """Write what `report.json` says, and whatever the page has below its data."""
        shown = inside_html({**document, "note": note})
        self._output.write(self._foot.replace(b"{report}", shown, 1))


def _halves(title: str) -> tuple[bytes, bytes]:
    style = _read("page.css")
    script = "\n".join(map(_read, _SCRIPTS))
    values = {
        "title": html.escape(title),
        "policy": _POLICY.format(script=_hash(script), style=_hash(style)),
        "style": style,
        "script": script,
    }
    head, _, foot = _read("page.html").partition("{rows}")
    # A title may hold half of a surrogate pair, which has no UTF-8.
    return (
        Template(head).substitute(values).encode("utf-8", "replace"),
        Template(foot).substitute(values).encode("utf-8", "replace"),
    )


def _read(name: str) -> str:
    return files(__package__ or "").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"

"""Writing a report: four files in one pass over the records, of which none is kept.

The page `index.html` is one file that needs no network and opens from a disk. Its texts are data
and never markup: they come as JSON, and a script of its own puts them into the page. The page's
policy lets that one script and that one style sheet run, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from string import Template
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, urlsplit

from apixo_async._cli.report.model import RunReport
from apixo_async._cli.report.records import FAILURE, KEPT, Failure, ItemRecord, ItemState, RunFacts
from apixo_async._cli.report.replacing import replacing

RESULTS: Final = "results.jsonl"
FAILED: Final = "failed.jsonl"
REPORT: Final = "report.json"
PAGE: Final = "index.html"

_SCRIPTS: Final = ("plot.js", "tiles.js", "page.js")
_POLICY: Final = (
    "default-src 'none'; img-src 'self' file: data:; script-src '{script}'; style-src '{style}'; "
    "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


class ReportWriter:
    """The four files of a report, each of which takes the place of an older one when it is whole.

    Left with an exception, it leaves what an earlier run has written untouched.

    Raises:
        ReportError: A file could not be written; its `filename` says which.
    """

    def __init__(self, folder: Path, title: str) -> None:
        self._folder = folder
        self._title = title
        self._document = RunReport()
        self._files = ExitStack()
        self._comma = b""

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            # report.json is opened first, and so put in its place last.
            self._report, self._results, self._failed, self._page = (
                opened.enter_context(replacing(self._folder / name))
                for name in (REPORT, RESULTS, FAILED, PAGE)
            )
            head, self._foot = _halves(self._title)
            self._page.write(head)
            self._files = opened.pop_all()
        return self

    def add(self, record: ItemRecord) -> None:
        """Write a record into `results.jsonl` and the page, and `failed.jsonl` if it failed."""
        self._document.add(record)
        self._results.write(line(result(record)) + b"\n")
        if record.failure is not None and _is_failed(record.state, record.failure):
            self._failed.write(line(failed_row(record, record.failure)) + b"\n")
        self._page.write(self._comma + b"\n" + inside_html(row(record)))
        self._comma = b","

    def finish(self, run: RunFacts) -> Mapping[str, Any]:
        """Write what is known of the run as a whole, and return what `report.json` says."""
        document = self._document.finish(run)
        shown = inside_html({**document, "note": run.note})
        self._page.write(self._foot.replace(b"{report}", shown, 1))
        # For people too: indented, but for the samples, hundreds of rows in one line at the end.
        plain = json.loads(line(document))
        samples = line(plain.pop("samples"))
        head = json.dumps(plain, ensure_ascii=False, indent=2).removesuffix("\n}")
        self._report.write(
            head.encode("utf-8", "backslashreplace") + b',\n  "samples": ' + samples + b"\n}\n"
        )
        return document

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._files.__exit__(exc_type, exc, traceback)


def write_report(folder: Path, records: Iterable[ItemRecord], run: RunFacts) -> Mapping[str, Any]:
    """Write the report of all records, and return what `report.json` says."""
    with ReportWriter(folder, run.title) as report:
        for record in records:
            report.add(record)
        return report.finish(run)


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


#: What some readers of lines take for the end of one, or some terminals for a command.
_BREAKS: Final = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029)}

#: What could end a script element, or begin a comment in it.
_MARKUP: Final = {**_BREAKS, ord("<"): "\\u003c"}


def line(value: object) -> bytes:
    """Return a value as one line of JSON in UTF-8, without the line's end."""
    return _encoded(value, _BREAKS)


def inside_html(value: object) -> bytes:
    """Return a value as JSON that may stand in a script element, whatever texts are in it."""
    return _encoded(value, _MARKUP)


def _encoded(value: object, escapes: Mapping[int, str]) -> bytes:
    try:
        text = _dump(value)
    except ValueError:  # NaN or infinity, which JSON does not have: they become texts.
        loose = json.dumps(value, default=_plain)
        text = _dump(json.loads(loose, parse_constant=str))
    # Half of a surrogate pair has no UTF-8; Python's escape of it is JSON's as well.
    return text.translate(escapes).encode("utf-8", "backslashreplace")


def _dump(value: object) -> str:
    return json.dumps(
        value, ensure_ascii=False, separators=(",", ":"), default=_plain, allow_nan=False
    )


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return dict(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # JSON takes any
    return value.isoformat() if isinstance(value, date) else str(value)


#: Characters of a text that the page has; `results.jsonl` has all of them.
CLIP: Final = 600


_NAMES: Final = (
    *("number", "key", "line", "model", "prompt", "state", "task_id", "cost", "created_at"),
    *("ended_at", "duration", "files", "urls", "failure", "resumed", "input", "kept"),
)

#: Categories of items for which nothing is bought as long as they are what they are.
_REFUSED: Final = ("refused", "configuration")


def _is_failed(state: ItemState, failure: Failure) -> bool:
    """Return True if an item is for `failed.jsonl`: all else is tried again by the same command."""
    return state == "failed" or (state == "unbought" and failure.category in _REFUSED)


def result(record: ItemRecord) -> Mapping[str, object]:
    """Return the object of `results.jsonl`: these names, in this order."""
    known = record._asdict()
    known["created_at"], known["ended_at"] = map(_stamp, (record.created_at, record.ended_at))
    known["files"] = [path.as_posix() for path in record.files]
    known["failure"] = record.failure and record.failure._asdict()
    return {name: known[name] for name in _NAMES}


def failed_row(record: ItemRecord, failure: Failure) -> Mapping[str, object]:
    """Return the object of `failed.jsonl`: a row that `apixo run` reads, and why it failed.

    A key that was made from the input is left out, so that the row can be changed.
    """
    about: dict[str, object] = {FAILURE: {**failure._asdict(), "task_id": record.task_id}}
    if record.kept:
        about[KEPT] = record.kept
    if record.is_key_given:
        about["key"] = record.key
    return {**record.input, "model": record.model, **about}


def row(record: ItemRecord) -> list[object]:
    """Return the page's row; its script knows the places. What is last and empty is left out."""
    failure = record.failure
    cells: list[object] = [
        record.number,
        record.state,
        record.model,
        _clipped(record.prompt),
        record.key,
        record.task_id,
        record.cost,
        None if record.duration is None else round(record.duration, 2),
        # A name is no URL: "a:b.png" would read as a scheme, "50%.png" as an escape.
        [f"./{quote(os.fsencode(path.as_posix()))}" for path in record.files],
        record.line,
        int(record.resumed) or None,
        None if failure is None else [failure.category, failure.code, _clipped(failure.message)],
        # Pictures come from the folder alone; these are links, for those who have no files.
        None if record.files else [url for url in record.urls if _is_web(url)] or None,
        _clipped(", ".join(f"{name}: {value}" for name, value in record.kept.items())) or None,
    ]
    while cells[-1] is None:
        cells.pop()
    return cells


def _stamp(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()


def _clipped(text: str) -> str:
    return text if len(text) <= CLIP else f"{text[: CLIP - 1]}…"


def _is_web(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https")
    except ValueError:
        return False

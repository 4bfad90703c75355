"""The page as a file: one script, one style sheet, no text of anybody in its markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from apixo_async._cli.report.records import Failure, ItemRecord
from apixo_async._cli.report.write import write_report

from ...support.records import failed, record, run

EVIL = "</script><script>alert(1)</script><!--<script>'\"&{rows}{report}$title ${x}\u2028\ud800"


class Parsed(HTMLParser):
    """Collects tags, and the text of each script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, str] = {}
        self._name = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._name = dict(attrs).get("id") or tag

    def handle_endtag(self, tag: str) -> None:
        del tag
        self._name = ""

    def handle_data(self, data: str) -> None:
        self.inside[self._name] = self.inside.get(self._name, "") + data


def page_of(*records: ItemRecord, title: str = "apixo run", note: str = "") -> str:
    """Write a report, and return its page."""
    with tempfile.TemporaryDirectory() as folder:
        write_report(Path(folder), records, run(title=title, note=note))
        return Path(folder, "index.html").read_text("utf-8")


def test_rows_and_report_are_data() -> None:
    """The page holds each record's row and what report.json says, as JSON."""
    page = Parsed(page_of(record(1), failed(2), note="The end"))
    rows = json.loads(page.inside["rows"])
    assert [row[0] for row in rows] == [1, 2]
    report = json.loads(page.inside["report"])
    assert (report["format"], report["items"]["total"], report["note"]) == (1, 2, "The end")
    assert page.inside["h1"] == "apixo run "


def test_a_page_without_rows() -> None:
    """A run of nothing has a page as well."""
    assert json.loads(Parsed(page_of()).inside["rows"]) == []


def test_no_text_becomes_markup() -> None:
    """Whatever anybody calls anything, the page has the same tags, and the text is there."""
    evil: dict[str, Any] = dict.fromkeys(("key", "model", "prompt", "task_id"), EVIL)
    page = Parsed(
        page_of(failed(failure=Failure(EVIL, EVIL, EVIL), **evil), title=EVIL[:-1], note=EVIL)
    )
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in Parsed(page_of()).tags]
    (row,) = json.loads(page.inside["rows"])
    assert row[2:6] == [EVIL] * 4
    assert row[11] == [EVIL] * 3
    assert json.loads(page.inside["report"])["note"] == EVIL
    assert page.inside["title"] == EVIL[:-1]


def test_the_policy_allows_what_is_there_and_nothing_else() -> None:
    """One script and one style sheet run, by their hashes; nothing is loaded but pictures."""
    page = Parsed(page_of(record()))
    (policy,) = (
        attrs["content"] or "" for _, attrs in page.tags if "http-equiv" in attrs
    )  # fmt: skip
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "'self' file: data:"
    for name in ("script", "style"):
        digest = hashlib.sha256(page.inside[name].encode()).digest()
        assert rules[f"{name}-src"] == f"'sha256-{base64.b64encode(digest).decode()}'"


def test_the_page_is_one_file() -> None:
    """It names no address with a host, imports nothing and parses no text as markup."""
    text = page_of(record(files=(), urls=()))
    addresses = set(re.findall(r"https?://[\w./]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # a name, which nobody asks for
    assert not re.search(
        r"@import|url\(|innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text
    )
    assert not [attrs for tag, attrs in Parsed(text).tags if "src" in attrs or "style" in attrs]

"""The API reference that `nox -s docs` wrote: it is complete, and its links lead somewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

import apixo_async
from apixo_async import AsyncClient

from ..support.browser import MISSING, Browser

SITE = Path(os.environ.get("APIXO_SITE", "no site"))
pytestmark = [
    pytest.mark.realtime,
    pytest.mark.skipif("APIXO_SITE" not in os.environ, reason="needs pages: nox -s docs"),
]

#: Resolves to the targets of a page's links, and to what they may point to.
LINKS = """({
  targets: [...document.links].map((one) => one.href),
  anchors: [...document.querySelectorAll("[id]")].map((one) => one.id),
})"""
#: Searches as a reader does, and resolves to the targets of what was found.
SEARCH = """new Promise((done) => {
  const field = document.querySelector("input[type=search]");
  field.focus();
  field.value = "%s";
  field.dispatchEvent(new Event("input", { bubbles: true }));
  const look = () => {
    const found = [...document.querySelectorAll("#search-results a, .search-result a")];
    if (found.length) done(found.map((one) => one.href)); else setTimeout(look, 50);
  };
  look();
})"""


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """Open a browser."""
    if MISSING:
        pytest.skip(MISSING)
    with Browser(tmp_path) as browser:
        yield browser


def test_every_public_name_has_an_entry() -> None:
    """Names that are imported lazily, and methods of a private base, are documented as well."""
    page = (SITE / "apixo_async.html").read_text("utf-8")
    methods = {f"AsyncClient.{name}" for name in dir(AsyncClient) if not name.startswith("_")}
    expected = {*apixo_async.__all__} | methods
    assert {"WebhookReceiver", "AsyncClient.balance"} <= expected
    assert {name for name in expected if f'id="{name}"' not in page} == set()


def test_every_link_leads_somewhere(browser: Browser) -> None:
    """A link ends at a page of the site and at an anchor on it, or at pdoc's own site."""
    targets: dict[str, set[str]] = {}
    places: set[str] = set()
    for path in sorted(SITE.rglob("*.html")):
        if path.name == "index.html":  # It only sends its reader on.
            continue
        browser.open(path.as_uri())
        found = browser.ask(LINKS)
        places |= {path.as_uri(), *(f"{path.as_uri()}#{anchor}" for anchor in found["anchors"])}
        for target in found["targets"]:
            targets.setdefault(unquote(target), set()).add(path.name)
        assert browser.complaints() == []
    assert len(targets) > 500
    assert any(urldefrag(target)[0].endswith("errors.html") for target in targets)
    elsewhere = {target for target in targets if not target.startswith("file:")}
    assert elsewhere == {"https://pdoc.dev/"}
    broken = targets.keys() - places - elsewhere
    assert {target: targets[target] for target in broken} == {}


def test_the_search_finds_submit(browser: Browser) -> None:
    """A reader who searches a method's name from the first page is led to it."""
    browser.open((SITE / "apixo_async.html").as_uri())
    found = browser.ask(SEARCH % "submit")
    assert any(target.endswith("apixo_async.html#AsyncClient.submit") for target in found)

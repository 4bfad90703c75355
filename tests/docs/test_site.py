"""The site that `nox -s docs` wrote: API and guides are complete, and links lead somewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

import apixo_async
from apixo_async import AsyncClient

from ..support.browser import MISSING, Browser
from ..support.inside import guides

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

#: How a guide is laid out: its head, what is left of Markdown, what is highlighted and drawn, and
#: whether the page is wider than the window.
LAID_OUT = """(() => {
  const blocks = [...document.querySelectorAll("main pre")];
  const prose = document.querySelector("main").cloneNode(true);
  prose.querySelectorAll("code").forEach((one) => one.remove());
  return {
  head: document.querySelector("main h1").textContent,
  here: [...document.querySelectorAll("nav [aria-current]")].map((one) => one.textContent.trim()),
  listed: [...document.querySelectorAll("nav a")].map((one) => one.pathname.split("/").pop()),
  blocks: blocks.length,
  coloured: blocks.filter((one) => one.querySelector("span[class]")).length,
  prose: prose.textContent,
  undrawn: [...document.images].filter((one) => !one.naturalWidth).length,
  overflows: document.documentElement.scrollWidth > innerWidth,
  };
})()"""


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
    """A link ends at a page of the site and at an anchor on it, or where a guide cites others."""
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
    cited = {url for text in guides().values() for url in re.findall(r"\]\((http.+?)\)", text)}
    assert elsewhere == {"https://pdoc.dev/", *cited}
    broken = targets.keys() - places - elsewhere
    assert {target: targets[target] for target in broken} == {}


@pytest.mark.parametrize("name", guides())
def test_a_guide_is_laid_out(browser: Browser, name: str) -> None:
    """A guide is a page whose code is highlighted, and that each page's navigation lists."""
    text = guides()[name]
    title = text.partition("\n")[0].removeprefix("# ")
    browser.look(1280)
    browser.open((SITE / f"apixo_async/guides/{name}.html").as_uri())
    found = browser.ask(LAID_OUT)
    assert found["head"] == title
    assert found["here"] == [title.partition(":")[0]]
    assert {f"{other}.html" for other in guides()} <= {*found["listed"]}
    assert found["blocks"] == len(re.findall(r"^```\w", text, re.MULTILINE))
    assert found["coloured"] == found["blocks"]
    assert found["undrawn"] == 0
    assert re.findall(r"<!-- run|```|\*\*|^\|", found["prose"], re.MULTILINE) == []
    for width in (400, 1280):
        browser.look(width)
        assert not browser.ask(LAID_OUT)["overflows"], width


def test_the_search_finds_submit(browser: Browser) -> None:
    """A reader who searches a method's name from the first page is led to it."""
    browser.open((SITE / "apixo_async.html").as_uri())
    found = browser.ask(SEARCH % "submit")
    assert any(target.endswith("apixo_async.html#AsyncClient.submit") for target in found)


def test_the_search_finds_a_guide(browser: Browser) -> None:
    """A reader who searches a word of a guide is led to that."""
    browser.open((SITE / "apixo_async.html").as_uri())
    found = browser.ask(SEARCH % "quickstart")
    assert any("guides/quickstart.html" in target for target in found)

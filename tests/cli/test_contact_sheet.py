"""The contact sheet: complete, escaped, self-contained."""

from __future__ import annotations

import hashlib
import os
import re
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from apixo_async._cli.contact_sheet import Sheet, Tile


class Page(HTMLParser):
    """Collects tags and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def values(self, tag: str, name: str) -> list[str]:
        """Return the values of an attribute."""
        return [attrs[name] or "" for found, attrs in self.tags if found == tag and name in attrs]


def page_of(*tiles: Tile, folder: Path = Path("/out"), facts: dict[str, str] | None = None) -> Page:
    """Render tiles, and read the page."""
    return Page(Sheet("A run", facts or {}, tiles, "The end").render(folder))


MADE = Tile(
    prompt="A fox",
    model="gpt-image-1",
    details=("3:2",),
    task_id="task_1",
    paths=(Path("/out/images/task_1-0.png"), Path("/out/images/task_1-1.png")),
    elapsed=2.04,
    cost=Decimal("0.70"),
)
FAILED = Tile(
    prompt="No fox",
    model="gpt-image-2",
    task_id="task_2",
    failure=("CONTENT_VIOLATION", "not allowed"),
)


def test_same_bytes() -> None:
    """The tiles decide every byte of the page."""
    page = Sheet("A run", {"tasks": "2", "cost": "$0.70"}, (MADE, FAILED), "The end").render(
        Path("/out")
    )
    assert hashlib.sha256(page.encode()).hexdigest()[:16] == "e4d17c1684bd8f38"


def test_a_success_shows_images_prompt_model_time_and_cost() -> None:
    """A success shows each of its files, and what was asked, by whom it was made, and its price."""
    page = page_of(MADE)
    assert page.values("img", "src") == ["./images/task_1-0.png", "./images/task_1-1.png"]
    assert page.values("a", "href") == page.values("img", "src")
    assert {"A fox", "gpt-image-1", "3:2", "2.0 s", "$0.70", "task_1"} <= set(page.texts)


def test_a_failure_shows_its_code_and_reason() -> None:
    """A failure shows the service's code and words instead of an image."""
    page = page_of(FAILED)
    assert {"CONTENT_VIOLATION", "not allowed", "No fox", "task_2"} <= set(page.texts)
    assert not page.values("img", "src")


def test_the_counts_and_facts_are_shown() -> None:
    """The page counts its tasks by outcome, and shows the facts that it is given."""
    page = page_of(MADE, MADE, FAILED, facts={"Spent": "$1.42"})
    assert {"All 3", "Succeeded 2", "Failed 1", "Spent", "$1.42", "The end"} <= set(page.texts)


def test_images_are_loaded_when_they_come_into_sight() -> None:
    """Every image is lazy and described by its prompt."""
    page = page_of(MADE)
    assert set(page.values("img", "loading")) == {"lazy"}
    assert set(page.values("img", "alt")) == {"A fox"}


def test_a_task_that_was_never_made_has_no_id() -> None:
    """A submit that was refused says that there is no task."""
    refused = Tile("x", "m", failure=("InsufficientBalanceError", "no credit"))
    assert "never submitted" in page_of(refused).texts


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_the_frame_follows_the_number_of_images(count: int) -> None:
    """No, one, two and more images each have a layout of their own."""
    tile = Tile("x", "m", paths=tuple(Path(f"/out/{n}.png") for n in range(count)))
    (frame,) = (name for name in page_of(tile).values("div", "class") if "frame" in name)
    assert frame == {2: "frame two", 3: "frame many", 4: "frame many"}.get(count, "frame")


def test_nothing_of_a_task_can_become_markup() -> None:
    """Texts of people and of the service stay texts, also in attributes; `$` is no placeholder."""
    evil = "\"><script>alert(1)</script>'&$title ${x}"
    tile = Tile(evil, evil, (evil,), evil, (Path("/out/a.png"),))
    page = page_of(tile, Tile("x", "m", failure=(evil, evil)), facts={evil: evil})
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.texts.count(evil) == 8
    assert page.values("img", "alt") == [evil]


def test_a_file_name_cannot_become_another_url() -> None:
    """Names with `:`, `%`, `?`, `#`, spaces and quotes link to the file of that name."""
    name = "a:b 50%?#'\".png"
    (link,) = page_of(Tile("x", "m", paths=(Path("/out") / name,))).values("a", "href")
    assert re.fullmatch(r"\./[\w%.-]+", link)
    assert unquote(link) == f"./{name}"


def test_the_page_loads_nothing_from_elsewhere() -> None:
    """The page has its styles inside, no script, and no address with a host."""
    text = Sheet("A run", {}, [MADE, FAILED]).render(Path("/out"))
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<link|<script", text)


def test_the_page_is_written_beside_its_files(tmp_path: Path) -> None:
    """Links are relative to the page, so that the folder can be moved as a whole."""
    Sheet("Ünïcode ✓", {}, [Tile("x", "m", paths=(tmp_path / "a.png",))]).write(
        tmp_path / "index.html"
    )
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'href="./a.png"' in text
    assert "<h1>Ünïcode ✓</h1>" in text
    if os.name == "posix":
        assert (tmp_path / "index.html").stat().st_mode & 0o077 == 0  # It holds prompts.


def test_ten_thousand_tiles() -> None:
    """The page of 10,000 tasks has a tile for each, and no more text for each than one of ten."""
    few, many = (Sheet("Many", {}, [MADE] * count).render(Path("/out")) for count in (10, 10_000))
    assert many.count('<li class="tile') == 10_000
    assert len(many) < 1_010 * len(few)

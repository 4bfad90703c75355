"""The page in a browser: fast with 10,000 pictures, usable by anybody, deaf to hostile texts."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from apixo_async._cli.report.records import Failure, ItemRecord, ItemState, RunFacts
from apixo_async._cli.report.samples import RunSample
from apixo_async._cli.report.write import write_report

from ....support.browser import MISSING, Browser
from ....support.pictures import fill

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

MANY = 10_000
#: A folder for pictures of the page, for people who work on it.
SCREENSHOTS = os.environ.get("APIXO_SCREENSHOTS")
BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SUBJECTS = ("fox", "lighthouse", "harbour", "fern", "whale")
STYLES = ("oil on canvas", "charcoal", "rain at night, neon in the puddles, a very long exposure")
#: By the last two digits of an item's number; all others have pictures.
ENDS: dict[int, tuple[ItemState, Failure | None]] = {
    10: ("failed", Failure("content", "CONTENT_VIOLATION", "Content does not meet the guidelines")),
    35: ("failed", Failure("content", "NSFW", "")),
    60: ("failed", Failure("timeout", "PROCESSING_TIMEOUT", "It took too long")),
    70: ("uncertain", None),
    80: ("unbought", Failure("balance", "InsufficientBalanceError", "Not enough credit")),
    90: ("unfinished", None),
    95: ("success", None),
}

#: Resolves, to the time since the navigation began, when all pictures in sight are painted.
PAINTED = """new Promise((done) => {
  const inSight = (one) => {
    const box = one.getBoundingClientRect();
    return box.top < innerHeight && box.bottom > 0;
  };
  const look = () => {
    const images = [...document.querySelectorAll("#tiles img")].filter(inSight);
    if (!images.length || !images.every((one) => one.complete && one.naturalWidth)) {
      requestAnimationFrame(look);
    } else {
      requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now())));
    }
  };
  look();
})"""

#: Sets the filters' fields, and resolves to the milliseconds until that is painted.
SET = """new Promise((done) => {
  const began = performance.now();
  for (const [id, value] of Object.entries(%s)) {
    const field = document.getElementById(id);
    if (field.type === "checkbox") field.checked = value; else field.value = value;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }
  requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - began)));
})"""


def item(number: int) -> ItemRecord:
    """Make the record of an item of which all is known by its number."""
    state, failure = ENDS.get(number % 100, ("downloaded", None))
    saved = (number, number % MANY + 1) if number % 7 == 0 else (number,)
    return ItemRecord(
        number,
        key=f"key-{number:05}",
        model=("gpt-image-1", "gpt-image-2", "flux-kontext")[number % 3],
        prompt=f"A {SUBJECTS[number % 5]}, {STYLES[number % 3]}",
        state=state,
        line=number,
        task_id=None if state in ("unbought", "uncertain") else f"task_{number:08}",
        cost=None if state == "unbought" else Decimal(number % 4 + 1) / 50,
        duration=None if state == "unbought" else 5 + number % 40,
        urls=("https://files.example.com/a.png",) if state == "success" else (),
        files=tuple(Path(f"images/{one}.png") for one in saved) if state == "downloaded" else (),
        failure=failure,
        resumed=number < 50,
    )


def course() -> list[RunSample]:
    """Make samples of 20 minutes, at the account's limits for the most part."""
    ramp = [min(1.0, second / 60, (1200 - second) / 60) for second in range(0, 1201, 2)]
    return [
        RunSample(2.0 * place, int(500 / 60 * 2 * place), int(1000 * part), 1000,
               int(6000 * part) + place % 7 * 90, 10_000, Decimal(place) / 2)
        for place, part in enumerate(ramp)
    ]  # fmt: skip


@dataclass(frozen=True)
class Written:
    """A report in a folder."""

    folder: Path

    def url(self, hash_: str = "") -> str:
        """Return the page's address."""
        return (self.folder / "index.html").as_uri() + hash_


def write(folder: Path, records: Iterator[ItemRecord] | list[ItemRecord], **fields: Any) -> Written:
    """Write a report."""
    ended = BEGAN + timedelta(seconds=1200)
    common: dict[str, Any] = {"exit_word": "complete", "samples": course()}
    write_report(folder, records, RunFacts(BEGAN, ended, **common | fields))
    return Written(folder)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Have the report of 10,000 items."""
    folder = tmp_path_factory.mktemp("many")
    fill(folder / "images", MANY)
    money = {
        "estimated": Decimal(600),
        "balance_before": Decimal(900),
        "balance_after": Decimal(402),
    }
    return write(folder, map(item, range(1, MANY + 1)), **money)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Have one Chromium for all tests."""
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    """Have a window of a desktop's size."""
    chromium.look()
    return chromium


@pytest.fixture
def shoot(chromium: Browser) -> Callable[[str], None]:
    """Have something that keeps a picture of the page, where a folder for them is named."""

    def photograph(name: str) -> None:
        if SCREENSHOTS:
            chromium.photograph(Path(SCREENSHOTS) / f"{name}.png")

    return photograph


def put(browser: Browser, **fields: object) -> float:
    """Fill in filters, and return the milliseconds until they show."""
    return float(browser.ask(SET % json.dumps(fields)))


def count(browser: Browser) -> str:
    """Return what the page says about how many there are."""
    return str(browser.ask("document.getElementById('count').textContent"))


def numbers(browser: Browser) -> list[int]:
    """Return the numbers of the items whose tiles are in the document."""
    script = "[...document.querySelectorAll('.tile .ids span')].map((one) => one.textContent)"
    return [int(text.strip("↺ #").replace(",", "")) for text in browser.ask(script)]


def settle(browser: Browser) -> None:
    """Wait until what was asked for is drawn."""
    browser.ask("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_ten_thousand_pictures_are_usable_at_once(
    browser: Browser, many: Written, shoot: Callable[[str], None]
) -> None:
    """The first screen is painted and a filter answers before the rest is loaded."""
    browser.open(many.url(), wait=False)
    browser.ask(PAINTED)
    shoot("desktop")
    put(browser, text="fox charcoal")
    wanted = sum("fox, charcoal" in item(number).prompt for number in range(1, MANY + 1))
    assert count(browser) == f"{wanted:,} of 10,000"
    assert browser.ask("document.querySelectorAll('.tile').length") < 80
    assert browser.ask("document.querySelectorAll('img[loading=lazy][decoding=async]').length") > 4
    assert not browser.complaints()
    assert 4 < len([url for url in browser.requests() if url.endswith(".png")]) < 200
    assert {url.partition(":")[0] for url in browser.requests()} <= {"file", "data", "about"}


def fits(number: int, **wanted: Any) -> bool:
    """Say whether an item fits, by the rules of the page."""
    one = item(number)
    return (
        one.state in wanted.get("states", (one.state,))
        and all(word in one.prompt.lower() for word in wanted.get("text", "").lower().split())
        and ("min" not in wanted or (one.cost is not None and one.cost >= Decimal(wanted["min"])))
        and ("max" not in wanted or (one.cost is not None and one.cost <= Decimal(wanted["max"])))
        and ("family" not in wanted or (one.failure or Failure("", ""))[0] == wanted["family"])
    )


@pytest.mark.parametrize(
    "wanted",
    [
        {"states": ["failed", "uncertain", "unfinished"]},
        {"text": "NEON whale"},
        pytest.param({"states": ["failed"]}, marks=pytest.mark.long),
        pytest.param({"min": "0.04"}, marks=pytest.mark.long),
        pytest.param({"max": "0.04"}, marks=pytest.mark.long),
        pytest.param({"min": "0.04", "max": "0.06"}, marks=pytest.mark.long),
        pytest.param({"family": "content"}, marks=pytest.mark.long),
        pytest.param({"family": "content", "states": ["uncertain"]}, marks=pytest.mark.long),
        {"states": ["downloaded"], "text": "charcoal", "min": "0.08"},
        {"states": ["failed"], "text": "a fox", "max": "0.06", "family": "timeout"},
    ],
    ids=str,
)
def test_filters_combine(
    browser: Browser, many: Written, shoot: Callable[[str], None], wanted: dict[str, Any]
) -> None:
    """What fits all filters is counted and shown; the choice is in the address, and comes back."""
    expected = [number for number in range(1, MANY + 1) if fits(number, **wanted)]
    fields = {name: value for name, value in wanted.items() if name != "states"}
    browser.open(many.url())
    put(browser, **{f"is-{state}": True for state in wanted.get("states", ())}, **fields)
    shoot(f"filter-{'-'.join(wanted)}-{len(expected)}")
    for _ in range(2):
        assert count(browser) == f"{len(expected):,} of 10,000"
        shown = numbers(browser)
        assert shown == expected[: len(shown)]
        assert bool(shown) == bool(expected)
        assert browser.ask("document.getElementById('none').hidden") == bool(expected)
        browser.open(str(browser.ask("location.href")))
    browser.ask("document.getElementById('clear').click()")
    settle(browser)
    assert count(browser) == "10,000 items"
    assert browser.ask("location.hash") == ""


@pytest.mark.parametrize("odd", ["#state=none&family=x&min=a&max=", "#%%%&&==", "#text=%00%ff"])
def test_an_odd_address_is_no_harm(browser: Browser, many: Written, odd: str) -> None:
    """An address that somebody made up filters by what can be understood of it."""
    browser.open(many.url(odd))
    assert count(browser) in ("10,000 items", "0 of 10,000")
    assert not browser.complaints()


def test_going_back_in_the_address(browser: Browser, many: Written) -> None:
    """An address that is changed by hand changes the filters."""
    browser.open(many.url("#state=failed"))
    browser.ask("new Promise((done) => { addEventListener('hashchange', () => done()); "
                "location.hash = '#family=timeout'; })")  # fmt: skip
    assert count(browser) == "100 of 10,000"
    assert browser.ask("document.querySelector('#is-failed').checked") is False


def test_the_whole_sheet_can_be_scrolled(browser: Browser, many: Written) -> None:
    """Tiles come and go, the page keeps its height, and the last item is at its end."""
    browser.open(many.url())
    browser.ask(PAINTED)
    height = browser.ask("document.documentElement.scrollHeight")
    for part in (0.3, 0.9, 0.5, 1.0):
        browser.ask(f"scrollTo(0, {height * part})")
        settle(browser)
        browser.ask(PAINTED)
        assert browser.ask("document.querySelectorAll('.tile').length") < 80
    assert numbers(browser)[-1] == MANY
    assert browser.ask("document.documentElement.scrollHeight") == height
    heights = "[...document.querySelectorAll('.tile')].map((one) => one.offsetHeight)"
    assert len(set(browser.ask(heights))) == 1
    put(browser, text="fox")
    assert numbers(browser)[0] == 5
    assert browser.ask("document.querySelector('.tile').getBoundingClientRect().top") > 0


def test_another_width_keeps_the_place(browser: Browser, many: Written) -> None:
    """What was at the top stays there when the window gets another size."""
    top = """(() => { const low = document.getElementById("filters").getBoundingClientRect().bottom;
      const tile = [...document.querySelectorAll(".tile")].find((one) =>
        one.getBoundingClientRect().bottom > low);
      return Number(tile.getAttribute("aria-posinset")); })()"""
    browser.open(many.url())
    browser.ask(PAINTED)
    browser.ask("scrollTo(0, document.documentElement.scrollHeight / 2)")
    settle(browser)
    before = browser.ask(top)
    browser.look(900, 900)
    settle(browser)
    settle(browser)
    assert abs(browser.ask(top) - before) <= 10


def test_a_tile_says_what_there_is(browser: Browser, many: Written) -> None:
    """A tile has its prompt, model, cost, time, id and file, which opens beside the page."""
    browser.open(many.url("#text=key-00007"))
    settle(browser)
    text = browser.ask("document.querySelector('.tile').innerText")
    assert text.split("\n")[0].startswith("A harbour, charcoal")
    assert {"gpt-image-2", "$0.08", "12 s", "task_00000007", "↺ #7"} <= set(text.split("\n"))
    link = "document.querySelector('.frame a')"
    assert browser.ask(f"{link}.href") == (many.folder / "images/7.png").as_uri()
    assert browser.ask(f"{link}.target") == "_blank"
    assert browser.ask(f"{link}.getAttribute('aria-label')").startswith("Open image 1 of 2: A harb")
    assert browser.ask("document.querySelectorAll('.frame img').length") == 2


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (10, "CONTENT_VIOLATION\n\nContent does not meet the guidelines"),
        (35, "NSFW\n\nThe task failed."),
        (70, "Uncertain"),
        (80, "InsufficientBalanceError"),
        (90, "Unfinished"),
        (95, "File 1 at the service"),
    ],
)
def test_a_tile_without_a_picture_says_why(
    browser: Browser, many: Written, number: int, words: str
) -> None:
    """Where there is no picture, there is a reason, in the service's words if it gave any."""
    browser.open(many.url(f"#text=key-{number:05}"))
    settle(browser)
    assert words in browser.ask("document.querySelector('.frame').innerText")
    assert browser.ask("document.querySelectorAll('.tile').length") == 1


def test_files_that_are_no_pictures(browser: Browser, tmp_path: Path) -> None:
    """A film and a sound have an icon and a link, a picture that is gone says so."""
    names = ("a film.mp4", "song.MP3", "data.json", "gone.png", "5.png", "6.png")
    one = item(1)._replace(files=tuple(map(Path, names[:4])))
    browser.open(write(tmp_path, [one, item(2)._replace(files=tuple(map(Path, names)))]).url())
    browser.ask("new Promise((done) => setTimeout(done, 200))")
    tiles = browser.ask("[...document.querySelectorAll('.frame')].map((one) => one.innerText)")
    assert [words in tiles[0] for words in (*names[:3], "gone.png cannot be shown")] == [True] * 4
    assert "+2" in tiles[1]
    links = browser.ask("[...document.querySelectorAll('.frame a')].map((one) => one.ariaLabel)")
    kinds = ("video 1", "audio 2", "file 3", "image 4")
    assert links[:4] == [f"Open {kind} of 4: {one.prompt}" for kind in kinds]


RUN = "document.title='ran';window.ran=1;alert(1)"
NASTY = [
    f"</script><img src=x onerror=\"{RUN}\">",
    f"<script>{RUN}</script>",
    f"</script><script>{RUN}</script>",
    f"<!--<script>{RUN}//--></script>",
    f"]]></script><svg onload={RUN}>",
    f"\"><svg/onload={RUN}>",
    f"' onmouseover='{RUN}' x='",
    f"\" autofocus onfocus=\"{RUN}\" x=\"",
    f"</title><script>{RUN}</script>",
    f"</style><script>{RUN}</script>",
    f"</textarea></noscript><script>{RUN}</script>",
    f"javascript:{RUN}",
    f"<a href=\"javascript:{RUN}\">x</a>",
    f"<iframe srcdoc=\"<script>{RUN}</script>\"></iframe>",
    f"<math><mtext><img src=x onerror={RUN}>",
    f"<base href=\"https://evil.example/\"><meta http-equiv=refresh content=0>{RUN}",
    f"\\u003c/script>\\\"+{RUN}+\"",
    f"`${{{RUN}}}`{{{{constructor.constructor('{RUN}')()}}}}",
    f"\u2028{RUN}\u2029//\r\n\0{RUN}",
    f"\ud800</SCRIPT\t><IMG SRC=x ONERROR={RUN}>",
    "$title {rows} {report} %s ${x}",
    "\u202etxt.exe \u200b\ufeff Z\u0351\u0352\u0353" + "A" * 400,
]  # fmt: skip


def test_hostile_texts_are_texts(
    browser: Browser, tmp_path: Path, shoot: Callable[[str], None]
) -> None:
    """Whatever a text says, it is shown as it is, and nothing of it runs or loads."""
    records = [
        item(10)._replace(
            number=number, key=evil, model=evil, prompt=evil, task_id=evil,
            state=("failed", "downloaded", "success")[number % 3],
            files=(Path(re.sub("[/\0\ud800]", "_", evil)[:200]),) if number % 3 == 1 else (),
            urls=(evil, f"javascript:{RUN}", f"data:text/html,<script>{RUN}</script>"),
            failure=Failure(evil, evil, evil),
        )
        for number, evil in enumerate(NASTY)
    ]  # fmt: skip
    written = write(tmp_path, records, exit_word=NASTY[0], title="A run", note=NASTY[1],
                    versions={NASTY[0]: NASTY[1]})  # fmt: skip
    browser.look(1280, 3000)
    browser.open(written.url())
    browser.ask("new Promise((done) => setTimeout(done, 300))")
    shoot("hostile")
    shown = browser.ask("[...document.querySelectorAll('.prompt')].map((one) => one.textContent)")
    assert shown == [evil.replace("\ud800", "\ufffd") for evil in NASTY] or shown == NASTY
    assert browser.ask("document.getElementById('exit').textContent") == NASTY[0]
    assert browser.ask("document.getElementById('note').textContent") == NASTY[1]
    put(browser, text="onerror")
    assert count(browser) == f"{sum('onerror' in evil.lower() for evil in NASTY)} of {len(NASTY)}"
    put(browser, text="", family=NASTY[0])
    assert count(browser) == f"1 of {len(NASTY)}"
    browser.ask("document.querySelector('.tile').dispatchEvent(new MouseEvent('mouseover'))")
    browser.ask("document.querySelector('.ids button').click()")
    assert browser.ask("[typeof window.ran, document.title]") == ["undefined", "A run"]
    assert (
        browser.ask("document.querySelectorAll('iframe, base, #tiles script, [onerror]').length")
        == 0
    )
    assert browser.ask("[...document.links].every((one) => one.protocol === 'file:')")
    assert {url.partition(":")[0] for url in browser.requests()} <= {"file", "data", "about"}
    assert not [one for one in browser.complaints() if "ERR_FILE_NOT_FOUND" not in one]


def test_the_policy_stops_what_gets_in_all_the_same(browser: Browser, many: Written) -> None:
    """Should markup ever get into the page, the browser refuses to run it, and to parse it."""
    browser.open(many.url())
    settle(browser)
    script = """(() => { const one = document.createElement("script");
      one.append("window.ran = 1"); document.body.append(one);
      try { document.body.innerHTML = "<b>x</b>"; } catch (error) {
        return [typeof window.ran, error.name];
      }
    })()"""
    assert browser.ask(script) == ["undefined", "TypeError"]


def test_it_is_usable_by_keyboard(
    browser: Browser, many: Written, shoot: Callable[[str], None]
) -> None:
    """Tab leads through plot, filters and tiles; arrows walk along the plot, Enter copies an id."""
    browser.open(many.url())
    browser.ask(PAINTED)
    browser.ask(
        "window.taken = []; navigator.clipboard.writeText = async (text) => taken.push(text)"
    )
    reached, instants = [], set()
    for _ in range(20):
        browser.press("Tab")
        reached.append(browser.ask("document.activeElement.id || document.activeElement.className "
                                   "|| document.activeElement.tagName"))  # fmt: skip
        if reached[-1] == "plot":
            for key in ("Home", "ArrowRight", "ArrowRight", "ArrowLeft", "x"):
                browser.press(key)
                instants.add(browser.ask("document.activeElement.ariaValueText"))
        if reached[-1] == "is-failed":
            browser.press(" ", " ")
            browser.press(" ", " ")
        if browser.ask("document.activeElement.closest('.ids') !== null"):
            browser.press("Enter", "\r")
            break
    shoot("keyboard")
    assert reached[:7] == ["SUMMARY", "plot", "is-downloaded", "is-success", "is-failed",
                           "is-uncertain", "is-unbought"]  # fmt: skip
    assert {"text", "family", "min", "max"} <= set(reached)
    assert len(instants) == 3
    assert any(one.startswith("After 2 s: 16 finished") for one in instants)
    settle(browser)
    assert browser.ask("taken") == ["task_00000001"]
    assert browser.ask("document.getElementById('said').textContent") == "Copied task_00000001"
    assert count(browser) == "10,000 items"


def test_an_id_is_copied_without_the_clipboard_interface(browser: Browser, many: Written) -> None:
    """Where a page from a disk may not use the clipboard's own interface, it falls back twice."""
    browser.open(many.url())
    browser.ask(PAINTED)
    browser.ask("""navigator.clipboard.writeText = () => Promise.reject(new Error("no"));
      window.taken = [];
      addEventListener("copy", () => taken.push(String(getSelection())));""")
    browser.ask("document.querySelector('.ids button').click()")
    settle(browser)
    assert browser.ask("taken") == ["task_00000001"]
    browser.ask("document.execCommand = () => false")
    browser.ask("document.querySelectorAll('.ids button')[1].click()")
    settle(browser)
    said = browser.ask("document.getElementById('said').textContent")
    assert said == "task_00000002 is selected, and yours to copy"
    assert browser.ask("String(getSelection())") == "task_00000002"


def test_everything_has_an_accessible_name(browser: Browser, many: Written) -> None:
    """Whatever can be reached and used has a name that a screen reader can say."""
    browser.open(many.url())
    browser.ask(PAINTED)
    browser.send("Accessibility.enable")
    nodes = browser.send("Accessibility.getFullAXTree")["nodes"]
    named: dict[str, list[str]] = {}
    for node in nodes:
        if not node.get("ignored"):
            name = node.get("name", {}).get("value", "")
            named.setdefault(node["role"]["value"], []).append(name.strip())
    for role in ("button", "link", "checkbox", "searchbox", "slider", "spinbutton", "combobox",
                 "img", "image", "list", "search", "group"):  # fmt: skip
        unnamed = [name for name in named.get(role, []) if not name]
        # The legend is a list that its own words explain.
        assert len(unnamed) <= (role == "list"), (role, named[role])
    assert named["slider"] == ["Instant of the run"]
    assert "Copy task_00000001" in named["button"]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 768])
def test_it_fits_narrow_and_dark_screens(
    browser: Browser, many: Written, shoot: Callable[[str], None], width: int, dark: bool
) -> None:
    """Nothing is wider than the screen, pictures are on the first one, and dark is dark."""
    browser.look(width, 844, dark=dark)
    browser.open(many.url())
    browser.ask(PAINTED)
    shoot(f"width-{width}-{'dark' if dark else 'light'}")
    assert browser.ask("document.documentElement.scrollWidth") == width
    assert browser.ask("document.getElementById('course').open") == (width > 640)
    paper, ink = browser.ask("""["backgroundColor", "color"].map((name) =>
      getComputedStyle(document.body)[name].match(/\\d+/g)
        .reduce((sum, one) => sum + Number(one), 0))
    """)
    assert (paper < 120 < 600 < ink) if dark else (ink < 120 < 600 < paper)
    browser.ask("document.getElementById('course').open = true")
    browser.ask("scrollTo(0, document.getElementById('course').offsetTop - 20)")
    settle(browser)
    shoot(f"plot-{width}-{'dark' if dark else 'light'}")
    assert browser.ask("document.documentElement.scrollWidth") == width


def test_the_plot_shows_throughput_and_both_limits(browser: Browser, many: Written) -> None:
    """Three curves over one time, each explained by figures; the money stands above them."""
    browser.open(many.url())
    settle(browser)
    curves = browser.ask("""[...document.querySelectorAll("#plot .curve")].map((one) =>
      [one.className.baseVal, one.getAttribute("d").split("L").length])""")
    assert curves == [["curve pace", 601], ["curve requests", 601], ["curve tasks", 601]]
    legend = browser.ask("document.getElementById('legend').innerText").replace("\xa0", " ")
    assert "Items a minute 500, peak 50" in legend
    assert "Tasks in flight 95 % of 1,000, peak 100 %" in legend
    assert "Requests a minute 60 % of 10,000, peak 65 %" in legend
    facts = browser.ask("document.getElementById('facts').innerText")
    spent = sum(item(number).cost or 0 for number in range(1, MANY + 1) if number % 100 != 70)
    assert f"${spent:.2f} of $600.00 estimated" in facts
    assert "$402.00 $498.00 less than before" in facts
    box = browser.ask(
        "JSON.parse(JSON.stringify(document.getElementById('plot').getBoundingClientRect()))"
    )
    for x, words in (
        (box["x"], "After 0 s: 0 finished"),
        (box["x"] + box["width"], "After 20 min"),
    ):
        browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=box["y"] + 50)
        assert browser.ask("document.getElementById('instant').textContent").startswith(words)


def test_a_run_without_a_course(browser: Browser, tmp_path: Path) -> None:
    """A run of nothing, or of a moment, has no plot; its page stands all the same."""
    browser.open(write(tmp_path, [], samples=[]).url())
    settle(browser)
    assert browser.ask("document.getElementById('course').hidden")
    assert count(browser) == "0 items"
    assert not browser.complaints()

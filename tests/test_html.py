"""In a notebook files are shown as what they are, and hostile words are no markup."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from apixo_async import Result
from apixo_async._html import page

HOSTILE = "\"'><script>alert(1)</script>"


class Tags(HTMLParser):
    """Collect the tags of a page, and the values of their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.values: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.values += [f"{name}={value}" for name, value in attrs]


@pytest.mark.parametrize(
    ("url", "model", "tag"),
    [
        ("https://x/a.MP4?sig=1", "m", "<video "),
        ("https://x/a.webm", "m", "<video "),
        ("https://x/a.mp3#t=3", "m", "<audio "),
        ("https://x/a.flac", "sora-2", "<audio "),
        ("https://x/a.png", "suno", "<img "),
        ("HTTP://x/a.jpeg", "m", "<img "),
        ("https://x/a", "gpt-image-1", "<img "),
        ("https://x/a", "sora-2", "<video "),
        ("https://x/a", "suno-music", "<audio "),
        ("https://[", "m", "<img "),
        ("https://x/a.zip", "sora-2", "a.zip</a>"),
    ],
)
def test_a_file_is_shown_as_what_it_is(url: str, model: str, tag: str) -> None:
    """The URL's suffix says how; where there is none, what the model makes."""
    shown = Result("task_1", model, (url,))._repr_html_()
    assert tag in shown
    assert sum(shown.count(one) for one in ("<video ", "<audio ", "<img ", "</a></div>")) == 1


@pytest.mark.parametrize(
    "url",
    [
        *(f"https://x/{HOSTILE}{suffix}" for suffix in (".mp4", ".mp3", ".png", ".zip", "")),
        *(
            "javascript:alert(1)",
            "JavaScript:alert(1)//a.mp4",
            " javascript:alert(1)",
            "data:a.mp3",
        ),
        *("file:///etc/passwd", "java\nscript:alert(1)", "//x/a.png"),
    ],
)
def test_hostile_words_are_no_markup(url: str) -> None:
    """Whatever the service says, no tag of its own comes from it, and only http URLs are links."""
    shown = Tags(page(HOSTILE, (url,), note=HOSTILE))
    assert set(shown.names) <= {"div", "a", "img", "video", "audio"}
    links = [value for value in shown.values if value.startswith(("href=", "src="))]
    assert bool(links) == url.startswith("https://")
    assert all(link.partition("=")[2] == url for link in links)
    assert not any(value.startswith("on") for value in shown.values)

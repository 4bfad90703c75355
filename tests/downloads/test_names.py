"""Templates of names: what they may hold, and that what comes of them is harmless."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apixo_async._downloads.names import MAP_FIELDS, RESULT_FIELDS, NameTemplate, slug
from apixo_async.errors import ConfigurationError

VALUES: dict[str, str | int] = {
    "row": 7,
    "key": "order 12/a",
    "slug": "a-castle",
    "model": "gpt-image-2",
    "task_id": "task_1",
    "index": 2,
}


def stem(template: str, *, several: bool = False, **values: str | int) -> str:
    """Return what a template makes of some values."""
    checked = NameTemplate.checked(template, MAP_FIELDS)
    return checked.stem({**VALUES, **values}, several=several)


@pytest.mark.parametrize(
    ("template", "several", "name"),
    [
        ("{row:04}-{slug}", False, "0007-a-castle"),
        ("{row}", False, "7"),
        ("{row:3}x", False, "7x"),  # Spaces at an end are no part of a name.
        ("{key}", False, "order_12_a"),
        ("{model} {task_id}", False, "gpt-image-2 task_1"),
        ("{slug}", True, "a-castle-2"),
        ("{slug}_{index:02}", True, "a-castle_02"),
        ("cat {{1}}", False, "cat {1}"),
        ("con", False, "_con"),
        ("NUL.{row}", False, "_NUL.7"),
        ("console", False, "console"),
    ],
)
def test_names(template: str, several: bool, name: str) -> None:
    """Fields are filled in; several files of one result are numbered in any case."""
    assert stem(template, several=several) == name


@pytest.mark.parametrize(
    "template",
    [
        "",
        " . ",
        ".{row}",
        "a/{row}",
        "..\\{row}",
        "{row}\0",
        "{row}:{key}",
        "\x1b[2J{row}",
        "{row",
        "row}",
        "{}",
        "{0}",
        "{rows}",
        "{row.__class__}",
        "{key[0]}",
        "{row!r}",
        "{row:999999999}",
        "{row:{index}}",
        "{row:x}",
        "{key:.3}",
        "{slug:04}",
        "half \ud83d of a character",
        b"{row}",
        7,
    ],
)
def test_what_is_no_template(template: object) -> None:
    """What could leave the directory, reach inside a value or fill the memory is refused."""
    with pytest.raises(ConfigurationError, match=r"^name: "):
        NameTemplate.checked(template, MAP_FIELDS)


def test_what_a_result_does_not_know() -> None:
    """The error names the fields that there are."""
    with pytest.raises(ConfigurationError, match=r"\{slug\}.*\{task_id\}, \{index\}, \{model\}$"):
        NameTemplate.checked("{slug}", RESULT_FIELDS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A castle, at NIGHT!", "a-castle-at-night"),
        ("../../etc/passwd", "etc-passwd"),
        ("\0\x1b[2J", "2j"),
        ("城の絵", "城の絵"),
        ("half \ud83d", "half"),
        ("...", "untitled"),
        ("", "untitled"),
        ("x" * 1_000_000, "x" * 48),
    ],
)
def test_slugs(text: str, words: str) -> None:
    """A slug has letters and digits of any script, and no more than 48 characters."""
    assert slug(text) == words


HOSTILE = st.text(st.characters(codec=None), max_size=300) | st.sampled_from(
    ["../../x", "CON", "a\0b", ".", "..", "x" * 300, "😀" * 300, "aux.png", "C:\\x", " ", "-"]
)


@given(key=HOSTILE, prompt=HOSTILE, model=HOSTILE, several=st.booleans())
def test_no_value_escapes(key: str, prompt: str, model: str, several: bool) -> None:
    """Whatever the values hold, the name is one component that file systems take."""
    name = stem("{key}-{slug}-{model}", several=several, key=key, slug=slug(prompt), model=model)
    assert 1 <= len(name.encode()) <= 121
    assert not set(name) & set('/\\:*?"<>|\0' + string.whitespace.replace(" ", ""))
    assert not name.startswith(".")
    assert name.strip(" .") == name


@given(key=HOSTILE)
def test_reserved_words_are_none(key: str) -> None:
    """A value that is a device on Windows gets a mark before it."""
    assert stem("{key}", key=key).partition(".")[0].lower() not in ("con", "prn", "aux", "nul")

"""Bytes become lines of text, or problems that name the line and the byte."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apixo_async._cli.rows.source import LONGEST, Problem, TextLine, lines


def test_lines_are_counted_from_one() -> None:
    """Each line keeps its number and its end, the last one needs none."""
    assert [*lines(io.BytesIO(b"a\nb\r\n\nc"))] == [
        TextLine(1, "a\n"),
        TextLine(2, "b\r\n"),
        TextLine(3, "\n"),
        TextLine(4, "c"),
    ]


def test_a_byte_order_mark_is_left_out() -> None:
    """The mark is no text at the beginning of a file, and text everywhere else."""
    assert [*lines(io.BytesIO(b"\xef\xbb\xbfa\n\xef\xbb\xbfb"))] == [
        TextLine(1, "a\n"),
        TextLine(2, "\ufeffb"),
    ]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"ab\xff\n", "byte 3 (0xff) is no UTF-8; save the file as UTF-8"),
        (b"\xc3", "byte 1 (0xc3) is no UTF-8"),
        (b"a\0b", "byte 2 is a NUL"),
        (b"x" * (LONGEST + 1), "longer than 1,048,576 bytes"),
        (b"x" * (3 * LONGEST) + b"\n", "longer than 1,048,576 bytes"),
        (b"x" * LONGEST + b"\n", "longer than 1,048,576 bytes"),
    ],
    ids=["latin-1", "cut off", "NUL", "long", "very long", "one too long"],
)
def test_a_bad_line_is_a_problem_and_the_next_is_read(raw: bytes, words: str) -> None:
    """What is no text names its line, and the lines after it are read."""
    good, problem, *rest = lines(io.BytesIO(b"good\n" + raw + (b"" if b"\n" in raw else b"\n")))
    assert good == TextLine(1, "good\n")
    assert isinstance(problem, Problem)
    assert problem.line == 2
    assert words in problem.why
    assert rest == []
    after = [*lines(io.BytesIO(raw.rstrip(b"\n") + b"\nafter"))]
    assert after[1:] == [TextLine(2, "after")]


def test_a_long_line_that_still_fits() -> None:
    """The limit itself is allowed."""
    (line,) = lines(io.BytesIO(b"x" * LONGEST))
    assert isinstance(line, TextLine)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_utf_16_is_one_problem(encoding: str) -> None:
    """A file in another encoding is told once, and not line by line."""
    (problem,) = lines(io.BytesIO("\ufeffa\nb\nc".encode(encoding)))
    assert isinstance(problem, Problem)
    assert str(problem).startswith("line 1: ")


@given(st.lists(st.text(st.characters(exclude_characters="\n\0\ufeff"))))
def test_any_text_is_read_back(texts: list[str]) -> None:
    """Text without NUL comes out as it went in."""
    try:
        raw = "".join(f"{text}\n" for text in texts).encode()
    except UnicodeEncodeError:
        return
    assert [*lines(io.BytesIO(raw))] == [
        TextLine(number, f"{text}\n") for number, text in enumerate(texts, 1)
    ]


@given(st.binary())
def test_any_bytes_are_lines_or_problems(raw: bytes) -> None:
    """Nothing crashes, and every line is accounted for."""
    found = [*lines(io.BytesIO(raw))]
    if not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        assert len(found) == len(io.BytesIO(raw).readlines())

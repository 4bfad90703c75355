"""JSON Lines, CSV and plain prompts are read row by row, bad rows named by their line."""

from __future__ import annotations

import csv
import io
import json
import string
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apixo_async._cli.rows.rows import Raw, read
from apixo_async._cli.rows.source import LONGEST, Format, Problem, lines


def rows_of(form: Format, text: str | bytes) -> list[Raw | Problem]:
    """Read a whole file."""
    raw = text.encode() if isinstance(text, str) else text
    return [*read(form, lines(io.BytesIO(raw)))]


def only_problem(form: Format, text: str | bytes) -> Problem:
    """Read a file with nothing but one problem."""
    (problem,) = rows_of(form, text)
    assert isinstance(problem, Problem)
    return problem


def test_json_lines_skip_blank_lines() -> None:
    """Each object is a row, numbered by its line."""
    assert rows_of(Format.JSONL, '\n{"prompt": "a", "n": 1}\r\n \n{"b": [null]}') == [
        Raw(2, {"prompt": "a", "n": 1}),
        Raw(4, {"b": [None]}),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1,}', "broken JSON at character"),
        ('{"a": 1} {"a": 2}', "broken JSON at character 10: Extra data"),
        ('{"a":', "does not end on this line"),
        ("{", "does not end on this line"),
        ("[1]", "a row is a JSON object"),
        ('"x"', "'x' given"),
        ("null", "None given"),
        ('{"a": 1, "a": 1}', "'a' is given twice"),
        ('{"b": {"a": 1, "a": 2}}', "'a' is given twice"),
        ('{"a": NaN}', "NaN is no JSON"),
        ('{"a": -Infinity}', "-Infinity is no JSON"),
        ('{"a": ' + "9" * 5_000 + "}", "digits"),
        ("[" * 200_000, "nested too deeply"),
        (b'{"a": "\xe9"}', "byte 8 (0xe9) is no UTF-8"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_bad_object_is_a_problem(text: str | bytes, words: str) -> None:
    """What is no row says why, and names its line."""
    raw = text.encode() if isinstance(text, str) else text
    first, problem, last = rows_of(Format.JSONL, b'{"x": 1}\n' + raw + b'\n{"x": 2}')
    assert isinstance(problem, Problem)
    assert problem.line == 2
    assert words in problem.why
    assert [first, last] == [Raw(1, {"x": 1}), Raw(3, {"x": 2})]


def test_plain_prompts_are_lines() -> None:
    """A line is a prompt without the space around it; blank lines are none."""
    assert rows_of(Format.PLAIN, '  a fox\r\n\n"quoted", {"x"}\n') == [
        Raw(1, {"prompt": "a fox"}),
        Raw(3, {"prompt": '"quoted", {"x"}'}),
    ]


def test_prompts_of_an_old_macintosh_are_one_problem() -> None:
    """Lines that end with CR alone are not bought as one prompt."""
    assert "carriage return" in only_problem(Format.PLAIN, "a\rb\rc").why
    assert "NUL" in only_problem(Format.PLAIN, "a\0b").why


def test_a_table_names_its_cells() -> None:
    """Cells are named by the header, empty ones are not given, quotes may hold anything."""
    text = '\ufeffprompt, model ,n,\r\n"two\nlines, ""q""",m,,\r\n\r\n,,,\r\nx,,7,\r\n'
    assert rows_of(Format.CSV, text) == [
        Raw(2, {"prompt": 'two\nlines, "q"', "model": "m"}),
        Raw(6, {"prompt": "x", "n": "7"}),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prompt;model\nx;y\n", "no commas"),
        ("prompt\tmodel\nx\ty\n", "no commas"),
        ("a fox,red\nx,y\n", "'a fox' is no name of a column"),
        ("prompt,a,prompt\nx,y,z\n", "two columns are called 'prompt'"),
        ('"prompt', "broken CSV"),
        ("a\0b\n1,2", "NUL"),
    ],
)
def test_a_bad_header_ends_the_reading(text: str, words: str) -> None:
    """Without a header no row means anything: one problem says so."""
    problem = only_problem(Format.CSV, text)
    assert problem.line == 1
    assert words in problem.why


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"1", "1 cells; the header names 3 columns"),
        (b"1,2,3,4", "4 cells"),
        (b'"a"b,2,3', "broken CSV (',' expected"),
        (b"a\rb,2,3", "broken CSV (new-line character"),
        (b'"x\n\xff",2,3', "is no UTF-8"),
        (b'"' + b"x" * 140_000 + b'",2,3', "field larger than"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_bad_record_is_a_problem(text: bytes, words: str) -> None:
    """A record that does not fit its header says why; the next one is read."""
    found = rows_of(Format.CSV, b"a,b,\n" + text + b"\n1,2,\n")
    problems = [row for row in found if isinstance(row, Problem)]
    assert words in problems[0].why
    assert problems[0].line in (2, 3)
    assert isinstance(found[-1], Raw)
    assert found[-1].fields == {"a": "1", "b": "2"}


def test_a_column_without_a_name() -> None:
    """It is called as pandas calls it, and counts only where it is not blank."""
    first, second = rows_of(Format.CSV, ",prompt,\n0,a fox,x\n,a hen, \n")
    assert isinstance(first, Raw)
    assert isinstance(second, Raw)
    assert first.fields == {"Unnamed: 0": "0", "prompt": "a fox", "Unnamed: 2": "x"}
    assert second.fields == {"prompt": "a hen"}


def test_a_quote_that_never_closes_is_bounded() -> None:
    """An open quote takes neither all memory nor the name of its line."""
    problem = rows_of(Format.CSV, 'a\nx\n"open\n' + "more\n" * 10)[-1]
    assert isinstance(problem, Problem)
    assert problem.line == 3
    assert "is each quote closed" in problem.why
    cells = '"\n",' * (LONGEST // 4)
    found = rows_of(Format.CSV, f"a\n{cells}\n")
    assert isinstance(found[0], Problem)
    assert "a row of more than" in found[0].why


def test_very_many_names_are_read_in_one_pass() -> None:
    """A line full of names takes time in proportion, a repeated one among them as well."""
    names = [str(number) for number in range(60_000)]
    fields = ",".join(f'"{name}":1' for name in [*names, names[-1]])
    begun = time.process_time()
    assert "'59999' is given twice" in only_problem(Format.JSONL, f"{{{fields}}}").why
    header = ",".join(f"n{name}" for name in [*names, names[-1]])
    assert "two columns are called 'n59999'" in only_problem(Format.CSV, header).why
    assert time.process_time() - begun < 5


KEYS = st.text(string.ascii_letters, min_size=1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)  # fmt: skip


@settings(max_examples=30, deadline=None, database=None)
@given(st.lists(st.dictionaries(st.text(), JSON), max_size=5), st.booleans())
def test_json_lines_are_read_back(wanted: list[dict[str, Any]], escaped: bool) -> None:
    """What json.dumps wrote comes back, rows in their order."""
    text = "".join(f"{json.dumps(row, ensure_ascii=escaped)}\n" for row in wanted)
    assert rows_of(Format.JSONL, text) == [Raw(n, row) for n, row in enumerate(wanted, 1)]


CELLS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(
    st.lists(KEYS, min_size=1, max_size=4, unique=True).flatmap(
        lambda names: st.tuples(
            st.just(names),
            st.lists(st.lists(CELLS, min_size=len(names), max_size=len(names)), max_size=5),
        )
    ),
    st.booleans(),
)
def test_tables_are_read_back(table: tuple[list[str], list[list[str]]], quoted: bool) -> None:
    """What csv.writer wrote comes back, cell by cell, rows at the line where they begin."""
    names, records = table
    buffer = io.StringIO(newline="")
    # Some releases leave out quotes around CR, unless it ends lines or all cells are quoted.
    style = {"quoting": csv.QUOTE_ALL, "lineterminator": "\n"} if quoted else {}
    writer = csv.writer(buffer, **style)
    writer.writerow(names)
    wanted: list[Raw] = []
    for record in records:
        line = buffer.getvalue().count("\n") + 1
        writer.writerow(record)
        given_cells = {name: cell for name, cell in zip(names, record, strict=True) if cell.strip()}
        if given_cells:
            wanted.append(Raw(line, given_cells))
    assert rows_of(Format.CSV, buffer.getvalue()) == wanted


@given(st.sampled_from(Format), st.text() | st.text('{}[]",:\n\r\\a1'), st.binary(max_size=3))
def test_any_text_is_rows_or_problems(form: Format, text: str, raw: bytes) -> None:
    """Nothing that a file may hold is more than a problem, and lines only grow."""
    whole = text.encode("utf-8", "replace") + raw
    found = rows_of(form, whole)
    numbers = [row.line for row in found]
    assert numbers == sorted(numbers)
    assert all(1 <= number <= whole.count(b"\n") + 1 for number in numbers)

"""JSON in lines and inside of HTML: any text survives, and none becomes anything else."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import PurePosixPath
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apixo_async._cli.report.write import inside_html, line

TEXTS = st.text(st.characters(codec=None, exclude_categories=()), max_size=30)


@given(TEXTS)
def test_any_text_survives_in_one_line(text: str) -> None:
    """Whatever a line's reader takes for a line's end, there is one line, of valid UTF-8."""
    written = line({"text": text}).decode()
    assert len(written.splitlines()) == 1
    assert json.loads(written) == {"text": text}


@given(TEXTS)
def test_no_text_ends_the_script_that_it_is_in(text: str) -> None:
    """Inside of HTML there is no `<`, and so neither an end of a script nor a comment."""
    written = inside_html([text])
    assert b"<" not in written
    assert json.loads(written) == [text]


def test_people_can_read_it() -> None:
    """Letters of any script stand as they are; nothing is wasted on spaces."""
    assert line({"a": "狐 ✓ é", "b": [1, None]}) == '{"a":"狐 ✓ é","b":[1,null]}'.encode()


def test_amounts_stamps_and_the_rest() -> None:
    """Amounts are numbers, times ISO 8601, mappings objects, and whatever else there is a text."""
    value = {
        "cost": Decimal("0.035"),
        "at": datetime(2026, 1, 2, tzinfo=UTC),
        "path": PurePosixPath("a/b"),
        "input": MappingProxyType({"x": 1}),
    }
    assert json.loads(line(value)) == {
        "cost": 0.035, "at": "2026-01-02T00:00:00+00:00", "path": "a/b", "input": {"x": 1}
    }  # fmt: skip


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_numbers_that_json_does_not_have(value: str) -> None:
    """No page breaks on a NaN of somebody's input: it becomes a text."""
    written = line({"x": [float(value)], "y": Decimal("0.1")}).decode()
    found = json.loads(written, parse_constant=lambda name: pytest.fail(name))
    assert found["x"][0].lower().startswith(value[:3].lower())
    assert found["y"] == 0.1


def test_a_line_on_a_terminal_is_only_text() -> None:
    """No control character is written as it is: people look at such files with `cat`."""
    controls = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0))))
    shown = line({"state": controls}).decode()
    assert shown.isprintable()
    assert json.loads(shown) == {"state": controls}

"""All rows of a file: read as often as needed, flat in memory, never other than checked."""

from __future__ import annotations

import io
import json
import os
import tracemalloc
from pathlib import Path

import pytest

from apixo_async import ConfigurationError, GptImage2, OtherModel
from apixo_async._cli.rows.question import check
from apixo_async._cli.rows.rows import Defaults, ParsedRow, Rows, open_rows
from apixo_async._cli.rows.source import Format, Problem

PLAIN = Defaults("gpt-image-2", {"resolution": "2k"})


def rows_in(folder: Path, text: str, name: str = "a.jsonl", defaults: Defaults = PLAIN) -> Rows:
    """Open the rows of a file with this text."""
    path = folder / name
    path.write_text(text, "utf-8")
    return open_rows(str(path), out=folder, defaults=defaults)


def test_rows_can_be_read_again(tmp_path: Path) -> None:
    """Every reading begins at the first row, and skips none."""
    rows = rows_in(tmp_path, '{"prompt": "a", "key": "k"}\n\n{"prompt": "b"}\n')
    first, second = GptImage2(prompt="a", resolution="2k"), GptImage2(prompt="b", resolution="2k")
    assert [*rows.read()] == [ParsedRow(1, "k", first), ParsedRow(3, None, second)]
    assert [*rows.entries()] == [*rows.entries()] == [("k", first), (None, second)]


def test_every_format_makes_the_same_rows(tmp_path: Path) -> None:
    """What is bought depends on what a row says, and not on how it is written."""
    texts = {"a.jsonl": '{"prompt": "a fox"}', "a.csv": "prompt\na fox", "a.txt": "a fox"}
    found = [[*rows_in(tmp_path, text, name).entries()] for name, text in texts.items()]
    assert found == [[(None, GptImage2(prompt="a fox", resolution="2k"))]] * 3


def test_bad_rows_stand_in_their_places(tmp_path: Path) -> None:
    """A reading goes on after a bad row; buying does not."""
    rows = rows_in(tmp_path, '{"prompt": "a"}\n{\n{"prompt": 7}\n{"prompt": "b"}\n')
    found = [*rows.read()]
    assert [type(row) for row in found] == [ParsedRow, Problem, Problem, ParsedRow]
    with pytest.raises(ConfigurationError, match=r"a\.jsonl, line 2: the JSON object does not end"):
        list(rows.entries())


def test_plain_prompts_need_a_model(tmp_path: Path) -> None:
    """Lines that can name no model are refused as a whole."""
    with pytest.raises(ConfigurationError, match=r"a\.txt holds plain prompts: give --model"):
        rows_in(tmp_path, "a fox", "a.txt", Defaults())


def test_stdin_is_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes through a pipe can be read twice, too."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\nb\n")))
    rows = open_rows("-", out=tmp_path, form=Format.PLAIN, defaults=Defaults("sora-2"))
    wanted = [(None, OtherModel("sora-2", prompt=prompt)) for prompt in "ab"]
    assert [*rows.entries()] == [*rows.entries()] == wanted


def test_a_file_that_changed_after_its_check_is_not_bought(tmp_path: Path) -> None:
    """Rows that nobody agreed to are not handed out."""
    rows = rows_in(tmp_path, '{"prompt": "a"}\n')
    check(rows)
    rows.source.path.write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    with pytest.raises(ConfigurationError, match="has changed since it was checked; run the same"):
        next(rows.entries())


@pytest.mark.parametrize("text", ["", '{"prompt": "z"}\n' * 100], ids=["emptied", "other rows"])
def test_a_file_that_changes_while_it_is_bought_stops_the_buying(tmp_path: Path, text: str) -> None:
    """The rows may be read over many hours: what is written meanwhile is noticed."""
    rows = rows_in(tmp_path, '{"prompt": "a"}\n' * 100)
    check(rows)
    entries = rows.entries()
    next(entries)
    rows.source.path.write_text(text)
    os.utime(rows.source.path, ns=(1, 1))
    with pytest.raises(ConfigurationError, match="has changed"):
        list(entries)


def test_a_file_that_shrinks_at_its_end_is_noticed(tmp_path: Path) -> None:
    """An end that comes too early is a change as well."""
    rows = rows_in(tmp_path, '{"prompt": "a"}\n')
    entries = rows.entries()
    next(entries)
    rows.source.path.write_text("")
    with pytest.raises(ConfigurationError, match="has changed"):
        next(entries)


@pytest.mark.heavy
def test_many_rows_are_flat_in_memory(tmp_path: Path) -> None:
    """Memory is that of a row, plus a number for each key."""
    path = tmp_path / "many.jsonl"
    with path.open("w") as file:
        for number in range(30_000):
            row = {"prompt": f"a lighthouse, study {number}" + " of many" * 10, "key": f"k{number}"}
            file.write(f"{json.dumps(row)}\n")
    rows = open_rows(str(path), out=tmp_path, defaults=PLAIN)
    report = check(rows)
    assert (report.rows, report.bad) == (30_000, 0)
    next(rows.entries())
    tracemalloc.start()
    try:
        assert sum(1 for _ in zip(range(20_000), rows.entries(), strict=False)) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()

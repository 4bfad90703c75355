"""The format of a file: as told, by its name, by its first line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from apixo_async import ConfigurationError
from apixo_async._cli.rows.source import Format, find_format


def found(folder: Path, text: str, name: str = "-", wanted: Format | None = None) -> Format:
    """Find the format of a file with this text."""
    path = folder / "file"
    path.write_text(text, "utf-8")
    return find_format(path, name, wanted)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.jsonl", Format.JSONL),
        ("a.NDJSON", Format.JSONL),
        ("a.csv", Format.CSV),
        ("a.tsv", Format.CSV),
        ("b/a.txt", Format.PLAIN),
    ],
)
def test_the_name_tells(tmp_path: Path, name: str, form: Format) -> None:
    """The end of the name decides, whatever the first line looks like."""
    assert found(tmp_path, '{"a": 1}\n', name) is form


def test_an_option_is_stronger_than_the_name(tmp_path: Path) -> None:
    """A format that was asked for is the format."""
    assert found(tmp_path, "{}", "a.jsonl", Format.PLAIN) is Format.PLAIN
    assert found(tmp_path, "{}", "a.xlsx", Format.CSV) is Format.CSV


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ('\n \n {"prompt": "x"}\n', Format.JSONL),
        ("\ufeff{}", Format.JSONL),
        ("a fox\n", Format.PLAIN),
        ("[masterpiece] a fox\n", Format.PLAIN),
        ("a prompt, and more\n", Format.PLAIN),
        ("\udcff", Format.PLAIN),
        ("", Format.PLAIN),
    ],
)
def test_the_first_line_tells(tmp_path: Path, text: str, form: Format) -> None:
    """Without a telling name, a brace is JSON Lines and everything else plain prompts."""
    path = tmp_path / "file"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert find_format(path, "-", None) is form
    assert find_format(path, "a.dat", None) is form


@pytest.mark.parametrize("text", ["x" + "\t" * 300_000 + "y", ", " * 200_000, " " * 500_000 + "a"])
def test_a_long_first_line_is_told_quickly(tmp_path: Path, text: str) -> None:
    """A line of white space, commas or tabs is looked through in bounded time."""
    begun = time.process_time()
    assert found(tmp_path, text) is Format.PLAIN
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    "text", ["prompt,model\nx,y", "model, prompt", '"prompt";x', "prompt\nx", "key\tprompt\tn"]
)
def test_the_header_of_a_csv_is_no_prompt(tmp_path: Path, text: str) -> None:
    """A first line that looks like a header is not bought as a prompt."""
    with pytest.raises(ConfigurationError, match="--format csv"):
        found(tmp_path, text)
    assert found(tmp_path, text, wanted=Format.PLAIN) is Format.PLAIN


@pytest.mark.parametrize("text", ['[{"prompt": "x"}]', "[\n  {", "[]", " [ {"])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "-"])
def test_an_array_is_told_how_to_become_lines(tmp_path: Path, text: str, name: str) -> None:
    """A JSON array is refused with the command that makes JSON Lines of it."""
    with pytest.raises(ConfigurationError, match=r"one JSON array.* python -c"):
        found(tmp_path, text, name)


@pytest.mark.parametrize(
    ("name", "words"), [("a.xlsx", "as CSV"), ("a.jsonl.gz", "unpack"), ("a.parquet", "JSON Lines")]
)
def test_files_of_programs_are_told_what_to_do(tmp_path: Path, name: str, words: str) -> None:
    """A file that holds no text is refused by its name, with the way out."""
    with pytest.raises(ConfigurationError, match=words):
        found(tmp_path, "x", name)


def test_each_format_has_a_suffix_that_tells_it(tmp_path: Path) -> None:
    """A copy that is named by its format is found again as what it is."""
    for form in Format:
        assert found(tmp_path, "x", f"rows{form.suffix}") is form

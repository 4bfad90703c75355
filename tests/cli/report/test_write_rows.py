"""Records as objects of results.jsonl and as rows of the page."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from apixo_async._cli.report.records import Failure, ItemRecord
from apixo_async._cli.report.write import CLIP, failed_row, result, row

from ...support.records import failed, record


def test_an_object_has_the_documented_names_in_their_order() -> None:
    """Every object has the same names; what is not known is null or empty."""
    names = (
        "number key line model prompt state task_id cost created_at ended_at duration files urls "
        "failure resumed input kept"
    )
    little = ItemRecord(3, "k", "m", "p", "unbought")
    assert " ".join(result(record())) == " ".join(result(little)) == names
    inside = {"cost_before", "is_key_given"}
    assert set(result(record())) == set(ItemRecord._fields) - inside
    known = {name: value for name, value in result(little).items() if value}
    assert known == {"number": 3, "key": "k", "model": "m", "prompt": "p", "state": "unbought"}


def test_an_object_says_all() -> None:
    """Times are UTC, files relative, a failure has a category, a code and a message."""
    zone = timezone(timedelta(hours=2))
    done = result(record(created_at=datetime(2026, 1, 2, 5, tzinfo=zone)))
    assert done["created_at"] == "2026-01-02T03:00:00+00:00"
    assert done["ended_at"] == "2026-01-02T03:04:13.250000+00:00"
    assert done["files"] == ["images/1.png"]
    assert result(failed())["failure"] == {
        "category": "content", "code": "CONTENT_VIOLATION", "message": "not allowed"
    }  # fmt: skip


def test_a_failed_row_is_one_to_run_again() -> None:
    """It holds the input, the model and a given key, and why it failed beside them."""
    one = failed(kept={"note": "dusk"})
    assert failed_row(one, one.failure) == {  # type: ignore[arg-type]  # it has failed
        "prompt": "A fox, number 2", "num_images": 1, "model": "gpt-image-1", "key": "key-2",
        "_failure": {
            "category": "content", "code": "CONTENT_VIOLATION", "message": "not allowed",
            "task_id": "task_2",
        },
        "_kept": {"note": "dusk"},
    }  # fmt: skip
    own = failed_row(one._replace(is_key_given=False, kept={}), Failure("content", "X"))
    assert "key" not in own
    assert "_kept" not in own


def test_what_is_kept_is_in_the_page() -> None:
    """A cell has the kept fields as one text, which can be searched for."""
    assert row(record(kept={"note": "dusk", "n": 2}))[13] == "note: dusk, n: 2"


def test_a_row_is_short() -> None:
    """A row has no names, and ends with the last cell that is known."""
    assert row(ItemRecord(3, "k", "m", "p", "unbought")) == [
        3, "unbought", "m", "p", "k", None, None, None, []
    ]  # fmt: skip
    done = row(record(resumed=True, duration=1.23456))
    assert done[7:] == [1.23, ["./images/1.png"], 1, 1]
    assert row(failed())[11:] == [["content", "CONTENT_VIOLATION", "not allowed"]]


def test_long_texts_are_cut_in_the_page() -> None:
    """A prompt of a book's length makes no page of a library's; results.jsonl has all of it."""
    long = record(prompt="x" * 5_000)
    assert row(long)[3] == "x" * (CLIP - 1) + "…"
    assert row(record(prompt="x" * CLIP))[3] == "x" * CLIP
    assert result(long)["prompt"] == "x" * 5_000


@pytest.mark.parametrize("name", ["a:b 50%?#'\".png", "狐.png", "javascript:alert(1)", "a\\b.png"])
def test_a_file_name_cannot_become_another_url(name: str) -> None:
    """A link leads to the file of that name, below the page's folder."""
    links: Any = row(record(files=(Path(name),)))[8]
    assert links[0].isascii()
    assert links[0].startswith("./")
    assert not set(links[0]) & set(":?#'\"\\ ")
    assert unquote(links[0]) == f"./{name}"


def test_a_file_name_without_a_text() -> None:
    """A name that is no UTF-8 is linked by its bytes."""
    links: Any = row(record(files=(Path("a\udcff.png"),)))[8]
    assert links == ["./a%FF.png"]


def test_only_web_addresses_become_links() -> None:
    """A result that is not saved links to the web, and to nothing that a browser would run."""
    urls = (
        "https://x.example/1.png",
        "javascript:alert(1)",
        "data:text/html,x",
        "http://[",
        "HTTP://y",
    )
    assert row(record(files=(), urls=urls))[12] == ["https://x.example/1.png", "HTTP://y"]
    assert len(row(record(files=(), urls=urls[1:4]))) == 10

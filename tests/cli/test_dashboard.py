"""The live picture, drawn to text."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass
from decimal import Decimal

from rich.console import Console
from rich.text import Text

from apixo_async import Statistics
from apixo_async._cli.dashboard import Dashboard
from apixo_async._cli.prompts import WISHES, wishes
from apixo_async.inputs import DOCUMENTED


@dataclass
class Piece:
    """A task in some state."""

    state: str
    spent: Decimal = Decimal("0.35")


def statistics(**values: float) -> Statistics:
    """Make statistics with zeros where nothing is given."""
    zeros = dict.fromkeys((field.name for field in dataclasses.fields(Statistics)), 0)
    return Statistics(**{**zeros, **values})  # type: ignore[arg-type]  # numbers throughout


def drawn(board: Dashboard, counts: Statistics) -> dict[str, str]:
    """Draw, and return what stands behind each word."""
    target = io.StringIO()
    Console(file=target, width=100).print(board.draw(counts))
    lines = [line.split("  ") for line in map(str.strip, target.getvalue().splitlines())]
    return {line[0]: line[-1].strip() for line in lines}


def test_each_state_is_counted() -> None:
    """Every state has a row; a state that nobody documents counts as processing."""
    states = ("waiting", "pending", "processing", "processing_r2", "success", "failed", "failed")
    shown = drawn(Dashboard("A run", [Piece(state) for state in states]), statistics())
    assert shown["waiting for a slot"] == "1"
    assert shown["pending"] == "1"
    assert shown["processing"] == "2"
    assert shown["succeeded"] == "1"
    assert shown["failed"] == "2"


def test_both_limits_and_the_money_are_shown() -> None:
    """The use of slots and requests stands beside their limits, money in dollars."""
    counts = statistics(
        slots_used=12, slots_limit=1_000, requests_in_window=345, requests_limit=10_000
    )
    shown = drawn(Dashboard("A run", [Piece("success"), Piece("failed")]), counts)
    assert shown["tasks in flight"] == "12 of 1,000"
    assert shown["requests"] == "345 of 10,000 in any 60 s"
    assert shown["spent"].startswith("$0.70")


def test_the_latest_news_is_kept() -> None:
    """The picture ends with the last few lines of news."""
    board = Dashboard("A run", [Piece("success")])
    board.news.extend(Text(f"line {number}") for number in range(20))
    shown = drawn(board, statistics())
    assert "line 19" in shown
    assert "line 0" not in shown


def test_the_demo_asks_every_documented_model() -> None:
    """The demo's table holds each documented model, in valid inputs, and some failures."""
    assert len(WISHES) == 24
    assert {wish.input.model for wish in WISHES} == set(DOCUMENTED)
    assert all(wish.input.price for wish in WISHES)
    failing = [wish for wish in WISHES if wish.fails]
    assert 2 <= len(failing) <= 4
    assert "CONTENT_VIOLATION" in {wish.fails[0] for wish in failing if wish.fails}


def test_the_table_begins_again_where_it_ends() -> None:
    """Any number of wishes can be had."""
    assert wishes(3) == list(WISHES[:3])
    assert wishes(50)[48] == WISHES[0]


def test_a_wish_tells_what_matters() -> None:
    """The details beside a wish are its tier and its shape."""
    assert wishes(1)[0].details == ("4k",)

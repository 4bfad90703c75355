"""The picture of a run, drawn to text, and its line."""

from __future__ import annotations

import io
from decimal import Decimal

import pytest
from rich.console import Console
from rich.text import Text

from apixo_async import Progress, Statistics
from apixo_async._cli.run.live_view import RunSnapshot, draw, line, span

COUNTS = Statistics(
    slots_limit=1_000, requests_limit=10_000, slots_used=120, requests_in_window=2_500
)
PROGRESS = Progress(
    read=1_200, bought=800, in_progress=200, succeeded=950, failed=30, uncertain=12, unbought=8,
    spent=Decimal("19.5"),
)  # fmt: skip
SNAPSHOT = RunSnapshot(
    "apixo run", 2_000, PROGRESS, COUNTS, max_cost=Decimal(40), per_minute=1_234.4, left=754.0
)


def drawn(snapshot: RunSnapshot, width: int = 80) -> list[str]:
    """Draw, and return the lines."""
    target = io.StringIO()
    Console(file=target, width=width).print(draw(snapshot, [Text("notices of the day")]))
    return [text.rstrip() for text in target.getvalue().splitlines()]


def ends(lines: list[str]) -> dict[str, str]:
    """Return what stands right of each word."""
    parts = [text.strip().split("  ") for text in lines]
    return {part[0]: part[-1].strip() for part in parts}


def test_the_picture_has_all_there_is_to_see() -> None:
    """Ends, both limits with their shares, rate, time left and money fit on 80 columns."""
    assert ends(drawn(SNAPSHOT)).items() >= {
        ("finished", "1,000 of 2,000 rows"),
        ("succeeded", "950"),
        ("failed", "30"),
        ("uncertain", "12"),
        ("not bought", "8"),
        ("tasks in flight", "120 of 1,000 (12%)"),
        ("requests / 60 s", "2,500 of 10,000 (25%)"),
        ("rate", "1,234 a minute, 13 min left"),
        ("spent", "$19.50 of $40.00"),
        ("notices of the day", "notices of the day"),
    }


def test_what_seldom_occurs_takes_no_line() -> None:
    """A run without trouble shows none, and no limit of money that was not given."""
    calm = RunSnapshot("apixo run", 5, Progress(unpriced=2), COUNTS)
    shown = ends(drawn(calm))
    assert not {"uncertain", "not bought"} & shown.keys()
    assert shown["rate"] == "no rate yet"
    assert shown["spent"] == "$0.00, 2 tasks of unknown price"


def test_the_last_line_is_empty() -> None:
    """A terminal writes ^C into the last line: where that is full, the picture would jump."""
    assert drawn(SNAPSHOT._replace(ending="ends now"))[-1] == ""
    assert "ends now" in drawn(SNAPSHOT._replace(ending="ends now"))


def test_a_pipe_has_the_same_in_one_line() -> None:
    """The line says what the picture shows."""
    assert line(SNAPSHOT) == (
        "1,000 of 2,000 rows (950 succeeded, 30 failed, 12 uncertain, 8 not bought);"
        " 1,234 a minute, 13 min left; 120 tasks in flight; $19.50 of $40.00 spent"
    )


SPANS = [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3_900, "65 min"), (9_000, "2 h 30 min")]


@pytest.mark.parametrize(("seconds", "said"), SPANS)
def test_a_span_is_said_as_people_say_it(seconds: float, said: str) -> None:
    """Short ones have seconds, long ones hours."""
    assert span(seconds) == said

"""Records: the states of an item."""

from __future__ import annotations

from apixo_async._cli.report.records import BOUGHT, STATES

from ...support.records import record


def test_states_in_which_a_task_was_bought() -> None:
    """Of six states, two have bought nothing for certain."""
    assert set(STATES) - BOUGHT == {"uncertain", "unbought"}
    assert len(STATES) == 6


def test_a_record_needs_little() -> None:
    """An item of which nothing is known but its place and its state is a record already."""
    little = type(record())(1, "k", "m", "p", "unbought")
    assert little.input == {}
    assert (little.files, little.failure, little.resumed) == ((), None, False)

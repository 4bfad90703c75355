"""What callbacks say of a POST before its outcome is known."""

from __future__ import annotations

from apixo_async._submit.callbacks import ExpectedCallback


def test_kept_until_the_outcome_is_known() -> None:
    """What came during the POST is passed on once, with the last name; what comes later at once."""
    expected, told = ExpectedCallback(1.0), list[str | None]()
    assert not expected.came
    expected.poll("task_1")
    expected.poll(None)
    expected.poll("task_2")
    assert expected.came
    expected.ended(told.append)
    assert told == ["task_2"]
    expected.poll(None)
    expected.poll("task_3")
    assert told == ["task_2", "task_2", "task_3"]


def test_nothing_came() -> None:
    """Without a callback the outcome of the POST causes nothing."""
    expected, told = ExpectedCallback(1.0), list[str | None]()
    expected.ended(told.append)
    assert told == []
    expected.poll(None)
    assert told == [None]

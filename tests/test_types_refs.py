"""A reference names one task, and is shown as plain text."""

from __future__ import annotations

import pytest

from apixo_async._types import TaskRef
from apixo_async.errors import ConfigurationError


@pytest.mark.parametrize("task_id", ["", " ", 5, None, "\ud83d"])
def test_what_names_no_task_is_refused(task_id: object) -> None:
    """The error is one of settings, and names the field."""
    with pytest.raises(ConfigurationError, match="task_id"):
        TaskRef("sora-2", task_id)  # type: ignore[arg-type]


def test_a_reference_is_shown_as_text() -> None:
    """An id that could steer a terminal is kept as it is and shown without that; a long one cut."""
    ref = TaskRef("sora-2", "a\x1b[2J\nb")
    assert ref.task_id == "a\x1b[2J\nb"
    assert str(ref) == "sora-2/a?[2J b"
    assert len(str(TaskRef("sora-2", "x" * 10_000))) == 300

"""What names a task, wherever it is spoken of: in values, in errors and in journals."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from apixo_async._core.text import one_line

#: Characters of a reference that are shown.
_MOST_SHOWN: Final = 300

#: Half a character, which no URL can hold.
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class TaskRef:
    """What it takes to attach to a task from any process: store it as two strings.

    Attributes:
        model: The model's name.
        task_id: The service's id of the task.
    """

    model: str
    task_id: str

    def __post_init__(self) -> None:
        for name in ("model", "task_id"):
            value: object = getattr(self, name)
            if not isinstance(value, str) or not value.strip() or _SURROGATE.search(value):
                from apixo_async._core.errors import ConfigurationError  # Errors have references.

                raise ConfigurationError(f"TaskRef: {name}={value!r}; a non-empty str of text")

    def __str__(self) -> str:
        return one_line(f"{self.model}/{self.task_id}", _MOST_SHOWN)

"""A folder with rows, and a service of which each test asks what was bought."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from apixo_async.testing import serve_process

from ....support.inside import haste

SPEED = 50

#: Runs at the start of each Python: polls come as much sooner as tasks end.
HASTE = haste(SPEED)


@dataclass(frozen=True)
class Service:
    """A simulator in a process of its own."""

    url: str

    def log(self) -> list[dict[str, Any]]:
        """Return every exchange that it saw."""
        answer = httpx2.get(f"{self.url}/_simulator/log", trust_env=False, timeout=30)
        return list(answer.json())

    def bought(self) -> Counter[str]:
        """Count the tasks that were bought, by model: each row has one of its own."""
        return Counter(
            one["model"] for one in self.log() if one["kind"] == "submit" and one["task_id"]
        )


Serve = Callable[..., AbstractContextManager[Service]]


@pytest.fixture
def serve(key: str) -> Serve:
    """Have something that serves a simulator."""

    @contextmanager
    def begin(**options: Any) -> Iterator[Service]:
        with serve_process(**({"key": key, "speed": SPEED, "keep_log": 100_000} | options)) as url:
            yield Service(url)

    return begin


@pytest.fixture(autouse=True)
def _hasty_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / ".site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(HASTE)
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{os.environ['PYTHONPATH']}")


@pytest.fixture
def rows(tmp_path: Path) -> Callable[..., str]:
    """Have something that writes rows, each with a model of its own, and returns the file."""

    def write(count: int, name: str = "rows.jsonl") -> str:
        lines = (
            json.dumps({"model": f"model-{number}", "prompt": f"fox {number}"})
            for number in range(count)
        )
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        return name

    return write

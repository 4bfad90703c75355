"""Runs the tasks of a dag at the end of its definition."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

_running: list[Callable[[], Any]] = []
_context: dict[str, Any] = {}


class _TaskDeferred(Exception):  # as Airflow calls it
    def __init__(self, trigger: Any, method_name: str) -> None:
        self.trigger, self.method_name = trigger, method_name


def get_current_context() -> dict[str, Any]:
    return _context


def task(**_: Any) -> Callable[[Any], Any]:
    def decorated(function: Any) -> Any:
        def planned(*args: Any) -> None:
            def run() -> Any:
                _context["ti"] = SimpleNamespace(task_id=function.__name__, map_index=-1)
                return asyncio.run(function(*args))

            _running.append(run)

        return planned

    return decorated


class BaseOperator:
    def __init__(self, *, task_id: str) -> None:
        self.task_id = task_id
        _running.append(self._run)

    def defer(self, *, trigger: Any, method_name: str) -> None:
        raise _TaskDeferred(trigger, method_name)

    def _run(self) -> Any:
        try:
            return self.execute(_context)  # type: ignore[attr-defined]
        except _TaskDeferred as deferred:
            path, given = deferred.trigger.serialize()
            module, name = path.rsplit(".", 1)
            trigger = getattr(sys.modules.get(module) or importlib.import_module(module), name)
            event = asyncio.run(anext(trigger(**given).run()))
            return getattr(self, deferred.method_name)(_context, event.payload)


def dag(**_: Any) -> Callable[[Any], Any]:
    def decorated(function: Any) -> Any:
        def run() -> None:
            _context.update(dag=SimpleNamespace(dag_id=function.__name__), run_id="manual-1")
            function()
            first, again = ([one() for one in _running] for _ in range(2))
            assert first == again != [], (first, again)

        return run

    return decorated

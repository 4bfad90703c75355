"""Runs an activity with the worker's instance of its class."""

from __future__ import annotations

from typing import Any

from . import activity, worker


def defn(cls: Any) -> Any:
    return cls


def run(function: Any) -> Any:
    return function


async def execute_activity_method(method: Any, *args: Any, **_: Any) -> Any:
    [bound] = [one for one in worker.activities if one.__func__ is method]
    first, again = await bound(*args), await bound(*args)
    assert first == again, (first, again)
    assert activity.beats >= 2
    return first

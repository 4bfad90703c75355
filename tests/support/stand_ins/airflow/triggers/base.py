from __future__ import annotations

from typing import Any


class TriggerEvent:
    def __init__(self, payload: Any) -> None:
        self.payload = payload


class BaseTrigger:
    """What a triggerer runs."""

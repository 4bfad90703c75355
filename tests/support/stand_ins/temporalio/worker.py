from __future__ import annotations

from typing import Any

activities: list[Any] = []


class Worker:
    def __init__(self, _client: Any, **options: Any) -> None:
        activities.extend(options["activities"])

    async def __aenter__(self) -> None:
        """Do nothing."""

    async def __aexit__(self, *_: object) -> None:
        """Do nothing."""

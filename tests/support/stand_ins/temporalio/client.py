from __future__ import annotations

from typing import Any, Self


class Client:
    @classmethod
    async def connect(cls, _address: str) -> Self:
        return cls()

    async def execute_workflow(self, method: Any, *args: Any, **_: Any) -> Any:
        cls = method.__globals__[method.__qualname__.partition(".")[0]]
        return await method(cls(), *args)

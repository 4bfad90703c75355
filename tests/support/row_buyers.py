"""What the tests of the engines buy with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from apixo_async.pipelines import RowBuyer


def buyer_of(url: str, folder: Path, **options: Any) -> RowBuyer:
    """Return a buyer of captions at a service, with a store in a folder."""
    return RowBuyer(
        "run",
        model="gpt-image-2",
        fields={"prompt": "caption"},
        key="id",
        store=str(folder / "apixo.db"),
        api_key="test-key",
        base_url=url,
        **options,
    )

"""Rows of Daft (extra `[daft]`): errors are columns, so that they make no batch run again."""

from __future__ import annotations

from typing import Any

import daft
from daft.functions import to_struct

from apixo_async.pipelines.rows import RowBuyer


def buy_rows(
    frame: daft.DataFrame, buyer: RowBuyer, *, max_concurrency: int = 1_000
) -> daft.DataFrame:
    """Buy a task for each row of a data frame, and add the columns of its outcome.

    Args:
        frame: The rows.
        buyer: How they are bought.
        max_concurrency: Rows under way at once in each process; the limits of the account are kept
            in any case.

    Raises:
        ConfigurationError: A column is missing, or is there already; nothing was bought.
    """
    buyer.check(frame.column_names)
    kinds = {name: daft.DataType.infer_from_type(kind) for name, kind in buyer.adds.items()}

    @daft.cls(max_concurrency=max_concurrency, name_override="apixo_async")
    class BuyRow:
        def __init__(self, buyer: RowBuyer) -> None:
            self._buyer = buyer

        @daft.method(return_dtype=daft.DataType.struct(kinds), unnest=True)
        async def buy(self, row: dict[str, Any]) -> dict[str, Any]:
            return await self._buyer.buy(row)

    row = to_struct(*(frame[name] for name in buyer.reads))
    return frame.select(*frame.column_names, BuyRow(buyer).buy(row))

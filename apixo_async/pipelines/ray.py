"""Rows of Ray Data (extra `[ray]`): actors may be killed, and batches run again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pyarrow as pa
from ray.data import ActorPoolStrategy, Dataset

from apixo_async.pipelines.rows import RowBuyer

#: The types of Arrow for those of Python.
_ARROW: Final[dict[Any, pa.DataType]] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    list[str]: pa.list_(pa.string()),
    list[bytes]: pa.list_(pa.large_binary()),
}


class RowActor:
    """What `Dataset.map_batches` makes in each actor: one client, for all its batches.

    Args:
        buyer: How rows are bought.
    """

    def __init__(self, buyer: RowBuyer) -> None:
        self._buyer = buyer

    async def __call__(self, batch: pa.Table) -> AsyncIterator[pa.Table]:
        """Yield a batch with the new columns, once all of its rows are over."""
        self._buyer.check(batch.column_names)
        bought = await self._buyer.buy_all(_rows(batch.select(self._buyer.reads)))
        for name, kind in self._buyer.adds.items():
            cells = pa.array([row[name] for row in bought], _ARROW[kind])
            batch = batch.append_column(name, cells)
        yield batch

    def __del__(self) -> None:
        # Ray deletes it when its actor ends, which is not the end of the process.
        self._buyer.close()


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of a table; a cell that Python cannot have is the error that says so."""
    try:
        return list(table.to_pylist())
    except Exception:
        cells = {name: [_cell(cell) for cell in table[name]] for name in table.column_names}
        return [{name: cells[name][row] for name in cells} for row in range(table.num_rows)]


def _cell(cell: pa.Scalar) -> Any:
    try:
        return cell.as_py()
    except Exception as error:
        return error


def buy_rows(
    dataset: Dataset,
    buyer: RowBuyer,
    *,
    actors: int = 1,
    batch_size: int = 64,
    batches: int = 16,
    num_cpus: float = 0.1,
    **options: Any,
) -> Dataset:
    """Buy a task for each row of a dataset, and add the columns of its outcome.

    Args:
        dataset: The rows.
        buyer: How they are bought.
        actors: How many processes buy; one has room for all tasks that an account may have.
        batch_size: Rows that Ray runs again together if an actor dies.
        batches: How many of them an actor has under way at once.
        num_cpus: Of each actor, which mostly waits. Whole CPUs may leave none for what feeds them.
        **options: More of `Dataset.map_batches`.
    """
    return dataset.map_batches(
        RowActor,
        fn_constructor_args=(buyer,),
        batch_format="pyarrow",
        batch_size=batch_size,
        compute=ActorPoolStrategy(size=actors, max_concurrent_calls_per_actor=batches),
        num_cpus=num_cpus,
        **options,
    )

"""What is read from a journal beside the items that are entered."""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple, cast

from apixo_async.journal._entry import STATES, EntryState, Row
from apixo_async.journal._schema import COLUMNS

#: Rows read at once: the event loop and the writes go on between.
PAGE: Final = 200

_ALL: Final = f"SELECT {COLUMNS} FROM item WHERE row > ? ORDER BY row LIMIT {PAGE}"
_PENDING: Final = f"""
SELECT {COLUMNS} FROM item
WHERE row > ? AND state IN ('submitted', 'uncertain') AND row NOT IN (SELECT row FROM entered)
ORDER BY row LIMIT {PAGE}
"""


def page(connection: sqlite3.Connection, *, after: int, pending: bool) -> list[Row]:
    """Return the next rows after this one: all, or what is pending and was not entered."""
    found = connection.execute(_PENDING if pending else _ALL, (after,)).fetchall()
    return [Row(*columns) for columns in found]


def counts(connection: sqlite3.Connection) -> dict[EntryState, int]:
    """Return how many items are in each state."""
    found = connection.execute("SELECT state, count(*) FROM item GROUP BY state").fetchall()
    return dict.fromkeys(STATES, 0) | dict(cast("list[tuple[EntryState, int]]", found))


def _amount(column: str) -> str:
    """Return the SQL of a column whose damaged values must neither fail nor lower the sum."""
    return f"max(CAST({column} AS INTEGER), 0)"


def spent(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the micro-dollars of all purchases, and how many purchases have no known price."""
    found = connection.execute(
        f"SELECT coalesce(sum({_amount('cost')}), 0), coalesce(sum({_amount('unpriced')}), 0) "
        "FROM item"
    ).fetchone()
    return cast("tuple[int, int]", found)


class BalanceMark(NamedTuple):
    """What a journal holds beside a balance, from the beginning of a run on.

    Attributes:
        balance: Micro-dollars on the account then, or None where it was not asked for.
        cost: Micro-dollars of all purchases since.
        unpriced: Purchases since that have no known price.
        purchases: All purchases since, those in doubt included.
        uncertain: How many submits are uncertain, by their price in micro-dollars, or None; those
            that were bought anew are among them: they may have been bought, too.
    """

    balance: int | None
    cost: int
    unpriced: int
    purchases: int
    uncertain: dict[int | None, int]


#: Each price of submits in doubt, how many, and the run of the first: 0 where that is not known.
_DOUBTS: Final = f"""
SELECT price, sum(count), min(coalesce(run, 0)) FROM (
    SELECT iif(price IS NULL, NULL, {_amount("price")}) AS price, 1 AS count, run
    FROM item WHERE state = 'uncertain'
    UNION ALL
    SELECT {_amount("doubted_cost")} / doubted, doubted, doubted_run FROM item WHERE doubted > 0
) GROUP BY price
"""
_MARK: Final = """
SELECT balance, cost, unpriced, purchases FROM run
WHERE balance IS NOT NULL AND number <= ? ORDER BY number DESC LIMIT 1
"""
_LAST_RUN: Final = 2**63 - 1


def since_balance(connection: sqlite3.Connection) -> BalanceMark:
    """Return what was bought since the last balance that is older than every uncertain submit."""
    doubts = cast("list[tuple[int | None, int, object]]", connection.execute(_DOUBTS).fetchall())
    runs = [run if isinstance(run, int) else 0 for _, _, run in doubts]
    mark = connection.execute(_MARK, (min(runs, default=_LAST_RUN),)).fetchone()
    if mark is None or not all(isinstance(number, int) for number in mark):
        mark = None, 0, 0, 0  # There is none, or anybody has written it.
    balance, cost, unpriced, bought = cast("tuple[int | None, int, int, int]", mark)
    now, without = spent(connection)
    return BalanceMark(
        balance,
        now - cost,
        without - unpriced,
        purchases(connection) - bought,
        {price: count for price, count, _ in doubts},
    )


def purchases(connection: sqlite3.Connection) -> int:
    """Return how many submits were begun and not refused."""
    found = connection.execute(
        f"SELECT coalesce(sum({_amount('purchases')}), 0) FROM item"
    ).fetchone()
    return cast("tuple[int]", found)[0]

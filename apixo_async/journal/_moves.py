"""What is written for each thing that happens to an item; every move names where it may start."""

from __future__ import annotations

import sqlite3
from typing import Final, TypeAlias, cast

from apixo_async._canonical import Identity, canonical, key_of, short_forms
from apixo_async.journal._entry import Row
from apixo_async.journal._failures import JournalRefusal
from apixo_async.journal._reads import purchases, spent
from apixo_async.journal._schema import COLUMNS

Value: TypeAlias = str | int | float | None

_INTEND: Final = """
UPDATE item SET
    prior_state = state, prior_intent_id = intent_id, prior_intent_at = intent_at,
    prior_claim = claim, claim = NULL,
    state = 'intent', purchases = purchases + 1, price = :price,
    cost = cost + coalesce(:price, 0), unpriced = unpriced + (:price IS NULL),
    doubted = doubted + (state = 'uncertain'),
    doubted_cost = iif(state = 'uncertain', doubted_cost + price, doubted_cost),
    doubted_run = iif(state = 'uncertain', coalesce(doubted_run, run), doubted_run),
    prior_price = price, run = (SELECT max(number) FROM run),
    intent_id = :mark, intent_at = :at
WHERE row = :row AND state IN ('new', 'failed', 'uncertain')
"""
_REFUSED: Final = """
UPDATE item SET
    state = prior_state, purchases = purchases - 1,
    cost = cost - coalesce(price, 0), unpriced = unpriced - (price IS NULL),
    doubted = doubted - (prior_state = 'uncertain'),
    doubted_cost = iif(prior_state = 'uncertain', doubted_cost - prior_price, doubted_cost),
    run = iif(prior_state = 'uncertain', doubted_run, run), price = prior_price,
    intent_id = prior_intent_id, intent_at = prior_intent_at, claim = prior_claim
WHERE row = :row AND state = 'intent'
"""
_SUBMITTED: Final = """
UPDATE item SET
    state = 'submitted', task_id = :task_id, claim = NULL, submitted_at = :at,
    ended_at = NULL, result = NULL, error = NULL, files = NULL
WHERE row = :row AND state IN ('intent', 'uncertain', 'submitted')
"""
_UNCERTAIN: Final = """
UPDATE item SET state = 'uncertain', error = :error
WHERE row = :row AND state IN ('intent', 'uncertain')
"""
_SUCCEEDED: Final = """
UPDATE item SET state = 'success', result = :result, ended_at = :at, error = NULL
WHERE row = :row AND state IN ('submitted', 'success', 'failed') AND task_id IS NOT NULL
"""
_FAILED: Final = """
UPDATE item SET state = 'failed', error = :error, ended_at = :at
WHERE row = :row AND state IN ('new', 'submitted', 'failed')
"""
_CLAIM: Final = """
UPDATE item SET claim = :task_id
WHERE row = :row AND intent_id = :mark AND state IN ('intent', 'uncertain')
    AND NOT EXISTS (SELECT 1 FROM item WHERE task_id = :task_id)
"""
_DOWNLOADED: Final = "UPDATE item SET files = :files WHERE row = :row AND state = 'success'"

_FIND: Final = f"""
SELECT entered.row, item.digest, {COLUMNS} FROM item LEFT JOIN entered USING (row) WHERE key = ?
"""

#: By the name of the move.
MOVES: Final = {
    "intend": _INTEND,
    "refused": _REFUSED,
    "submitted": _SUBMITTED,
    "uncertain": _UNCERTAIN,
    "succeeded": _SUCCEEDED,
    "failed": _FAILED,
    "downloaded": _DOWNLOADED,
}


def move(connection: sqlite3.Connection, name: str, row: int, **values: Value) -> None:
    """Write what happened to an item.

    Raises:
        JournalRefusal: It is in no state in which this can happen, or its mark is another's.
    """
    try:
        cursor = connection.execute(MOVES[name], {"row": row, **values})
    except sqlite3.IntegrityError as exc:
        raise JournalRefusal(
            f"{name}: {exc}. Every submit is marked with a text of its own"
        ) from exc
    if cursor.rowcount == 1:
        return
    found = connection.execute("SELECT key, state FROM item WHERE row = ?", (row,)).fetchone()
    if found is None:
        raise JournalRefusal(f"{name}: it has no row {row}; the entry is of another journal")
    key, state = cast("tuple[str, str]", found)
    raise JournalRefusal(f"{name}: the item {key!r:.100} is {state!r}, where this cannot happen")


def note_balance(connection: sqlite3.Connection, micro: int) -> None:
    """Write what the account has as this run begins to buy, beside what was bought until now."""
    cost, unpriced = spent(connection)
    connection.execute(
        "UPDATE run SET balance = ?, cost = ?, unpriced = ?, purchases = ? "
        "WHERE number = (SELECT max(number) FROM run)",
        (micro, cost, unpriced, purchases(connection)),
    )


def claim(connection: sqlite3.Connection, mark: str, task_id: str, row: int) -> bool:
    """Write which task a callback names beside its submit, which stays in doubt.

    Only a poll proves it. Where the task is known already, here or as another item's, nothing
    changes, and this returns False.
    """
    return connection.execute(_CLAIM, {"task_id": task_id, "row": row, "mark": mark}).rowcount == 1


def enter(connection: sqlite3.Connection, key: str | None, given: Identity) -> Row:
    """Return the row of an item, a new one if there is none.

    Raises:
        JournalRefusal: The key was used in this run already, or belongs to another input.
    """
    if key is None:
        key = key_of(given.digest, _occurrence(connection, given.digest))
    found = connection.execute(_FIND, (key,)).fetchone()
    if found is None:
        cursor = connection.execute(
            "INSERT INTO item (key, digest, model, provider, payload) VALUES (?, ?, ?, ?, ?)",
            (key, given.digest, given.model, given.provider, given.payload),
        )
        assert cursor.lastrowid is not None  # It has just inserted one.
        row = Row(cursor.lastrowid, key, given.model, given.provider, given.payload)
    else:
        row = _known(found, given)
    connection.execute("INSERT INTO entered VALUES (?)", (row.row,))
    return row


def _occurrence(connection: sqlite3.Connection, digest: str) -> int:
    connection.execute(
        "INSERT INTO seen VALUES (?, 1) ON CONFLICT (digest) DO UPDATE SET count = count + 1",
        (digest,),
    )
    found = connection.execute("SELECT count FROM seen WHERE digest = ?", (digest,)).fetchone()
    return cast("tuple[int]", found)[0]


def _known(found: tuple[object, ...], given: Identity) -> Row:
    entered, digest, *columns = found
    row = Row(*columns)  # type: ignore[arg-type]  # as the table's columns are declared
    if entered is not None:
        raise JournalRefusal(
            f"the key {row.key!r:.100} was given twice in this run. Give every input a key of "
            "its own, or none at all: then equal inputs are counted"
        )
    if digest == given.digest or (row.model, row.provider, row.payload) == given[:3]:
        # One of the two may be damaged: either alone tells which input this is.
        return row._replace(model=given.model, provider=given.provider, payload=given.payload)
    # Where they are no texts the row is damaged, which is found when it becomes an entry.
    texts = cast("tuple[object, ...]", (row.model, row.provider or "", row.payload))
    if all(isinstance(text, str) for text in texts):
        kept, new = short_forms(canonical(row.model, row.provider, row.payload), given.text)
        raise JournalRefusal(
            f"the key {row.key!r:.100} belongs to another input: {kept} is kept under it, {new} "
            "was given. Give a changed input a new key, or begin a new journal"
        )
    return row

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from apixo_async._canonical import identity
from apixo_async.journal._entry import STATES
from apixo_async.journal._failures import JournalRefusal
from apixo_async.journal._moves import MOVES, claim, enter, move

from ..support.journals import castle, in_memory, known, moved


@pytest.fixture
def file() -> Iterator[sqlite3.Connection]:
    connection = in_memory()
    yield connection
    connection.close()


def columns(file: sqlite3.Connection, names: str, row: int = 1) -> tuple[Any, ...]:
    found: tuple[Any, ...] = file.execute(f"SELECT {names} FROM item WHERE row = {row}").fetchone()
    return found


def next_run(file: sqlite3.Connection) -> None:
    file.execute("DELETE FROM seen")
    file.execute("DELETE FROM entered")


def test_equal_inputs_are_counted(file: sqlite3.Connection) -> None:
    """Without a key, an input's key is its digest and how often it has occurred in this run."""
    digest = known().digest[:16]
    keys = [enter(file, None, known(number)).key for number in (0, 1, 0, 0)]
    assert keys == [
        f"{digest}-1",
        f"{known(1).digest[:16]}-1",
        f"{digest}-2",
        f"{digest}-3",
    ]


def test_another_run_finds_them_again(file: sqlite3.Connection) -> None:
    """In the next run the same inputs have the same rows, whatever is inserted above them."""
    first = [enter(file, None, known(number)) for number in (0, 0, 1)]
    next_run(file)
    second = [enter(file, None, known(number)) for number in (9, 0, 1, 0)]
    assert [row.row for row in second] == [4, 1, 3, 2]
    assert second[1:] == [first[0], first[2], first[1]]


def test_what_is_known_of_an_item_is_returned(file: sqlite3.Connection) -> None:
    """An item of an earlier run comes with all that was written of it."""
    enter(file, "k", known())
    moved(file, "intend", (20_000, "mark", 5.0, 1))
    moved(file, "submitted", ("task_1", 6.0, 1))
    next_run(file)
    row = enter(file, "k", known())
    assert (row.state, row.purchases, row.cost, row.unpriced) == ("submitted", 1, 20_000, 0)
    assert (row.intent_id, row.intent_at, row.submitted_at) == ("mark", 5.0, 6.0)
    assert row.task_id == "task_1"


@pytest.mark.parametrize("number", [0, 1])
def test_a_key_is_given_once_in_a_run(file: sqlite3.Connection, number: int) -> None:
    """The same key twice in one run is refused, for an equal input as well."""
    enter(file, "k", known())
    with pytest.raises(JournalRefusal, match="the key 'k' was given twice in this run"):
        enter(file, "k", known(number))


@pytest.mark.parametrize(
    "other", [known(1), known(0, "value"), identity(castle(0), "official")], ids=str
)
def test_a_key_belongs_to_one_input(file: sqlite3.Connection, other: Any) -> None:
    """Another input or route under an old key is refused, with both in short."""
    enter(file, "k", known())
    next_run(file)
    with pytest.raises(JournalRefusal, match="the key 'k' belongs to another input: ") as caught:
        enter(file, "k", other)
    kept, new = str(caught.value).split(" is kept under it, ")
    assert kept.split(": ", 1)[1] not in new
    assert "Give a changed input a new key" in new
    next_run(file)
    assert enter(file, "k", known()).row == 1


def test_an_intent_reserves_and_a_refusal_takes_back(file: sqlite3.Connection) -> None:
    """A refusal leaves nothing of the intent: state, money, count and mark are as before."""
    names = "state, purchases, cost, unpriced, intent_id, intent_at"
    enter(file, "k", known())
    before = columns(file, names)
    moved(file, "intend", (20_000, "a", 5.0, 1))
    assert columns(file, names) == ("intent", 1, 20_000, 0, "a", 5.0)
    moved(file, "refused", (1,))
    assert columns(file, names) == before == ("new", 0, 0, 0, None, None)
    moved(file, "intend", (None, None, 6.0, 1))
    assert columns(file, names) == ("intent", 1, 0, 1, None, 6.0)
    moved(file, "refused", (1,))
    assert columns(file, names) == before


@pytest.mark.parametrize("state", ["failed", "uncertain"])
def test_a_refused_second_attempt(file: sqlite3.Connection, state: str) -> None:
    """An item that is tried again and refused is what the first attempt made of it."""
    names = "state, purchases, cost, unpriced, intent_id, intent_at, task_id, error"
    enter(file, "k", known())
    moved(file, "intend", (20_000, "a", 5.0, 1))
    if state == "failed":
        moved(file, "submitted", ("task_1", 6.0, 1))
        moved(file, "failed", ("{}", 7.0, 1))
    else:
        moved(file, "uncertain", ("{}", 1))
    before = columns(file, names)
    moved(file, "intend", (30_000, "b", 8.0, 1))
    assert columns(file, "state, purchases, cost, intent_id") == ("intent", 2, 50_000, "b")
    moved(file, "refused", (1,))
    assert columns(file, names) == before


def test_another_task_takes_the_place_of_the_first(file: sqlite3.Connection) -> None:
    """A task bought again is the item's task; how the first one ended is over."""
    enter(file, "k", known())
    moved(file, "intend", (20_000, None, 5.0, 1))
    moved(file, "submitted", ("task_1", 6.0, 1))
    moved(file, "failed", ('{"class": "x"}', 7.0, 1))
    moved(file, "intend", (20_000, None, 8.0, 1))
    moved(file, "submitted", ("task_2", 9.0, 1))
    assert columns(file, "state, task_id, submitted_at, ended_at, error, purchases, cost") == (
        "submitted",
        "task_2",
        9.0,
        None,
        None,
        2,
        40_000,
    )
    moved(file, "succeeded", ("{}", 10.0, 1))
    moved(file, "downloaded", ('{"files": []}', 1))
    assert columns(file, "state, result, ended_at, files") == (
        "success",
        "{}",
        10.0,
        '{"files": []}',
    )


ALLOWED = {
    "intend": {"new", "failed", "uncertain"},
    "refused": {"intent"},
    "submitted": {"intent", "uncertain", "submitted"},
    "uncertain": {"intent", "uncertain"},
    "succeeded": {"submitted", "success", "failed"},
    "failed": {"new", "submitted", "failed"},
    "downloaded": {"success"},
}
VALUES: dict[str, tuple[Any, ...]] = {
    "intend": (None, None, 1.0),
    "refused": (),
    "submitted": ("t", 1.0),
    "uncertain": ("{}",),
    "succeeded": ("{}", 1.0),
    "failed": ("{}", 1.0),
    "downloaded": ("{}",),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", MOVES)
def test_where_each_move_may_start(file: sqlite3.Connection, name: str, state: str) -> None:
    """A move from a state where it cannot happen is refused, named, and changes nothing."""
    enter(file, "k", known())
    file.execute("UPDATE item SET state = ?, prior_state = 'new', task_id = 't'", (state,))
    before = columns(file, "*")
    if state in ALLOWED[name]:
        moved(file, name, (*VALUES[name], 1))
        return
    with pytest.raises(
        JournalRefusal, match=f"{name}: the item 'k' is '{state}', where this cannot"
    ):
        moved(file, name, (*VALUES[name], 1))
    assert columns(file, "*") == before


def test_an_entry_of_another_journal(file: sqlite3.Connection) -> None:
    """A row that is not there is refused as such."""
    with pytest.raises(
        JournalRefusal, match="refused: it has no row 7; the entry is of another journal"
    ):
        moved(file, "refused", (7,))


def test_a_mark_belongs_to_one_submit(file: sqlite3.Connection) -> None:
    """Two submits with one mark are refused: its callback could not be told apart."""
    for key in "ab":
        enter(file, key, known())
    moved(file, "intend", (1, "mark", 5.0, 1))
    with pytest.raises(JournalRefusal, match="Every submit is marked with a text of its own"):
        moved(file, "intend", (1, "mark", 5.0, 2))
    assert columns(file, "state", 2) == ("new",)


#: Every column that a move may write, filled.
FULL: dict[str, Any] = {
    "price": 7,
    "purchases": 3,
    "cost": 100,
    "unpriced": 2,
    "prior_state": "uncertain",
    "prior_intent_id": "prior",
    "prior_intent_at": 1.0,
    "prior_claim": "task_0",
    "prior_price": 5,
    "run": 3,
    "doubted": 2,
    "doubted_cost": 12,
    "doubted_run": 1,
    "intent_id": "mark",
    "intent_at": 2.0,
    "claim": "task_1",
    "submitted_at": 3.0,
    "ended_at": 4.0,
    "task_id": "task_2",
    "result": "{}",
    "error": "{}",
    "files": "{}",
}
KEPT = {
    "prior_state": "failed", "prior_intent_id": "mark", "prior_intent_at": 2.0, "prior_price": 7,
}  # fmt: skip
INTENT = {
    **KEPT, "prior_claim": "task_1", "claim": None, "intent_id": "new", "intent_at": 9.0, "run": 1,
}  # fmt: skip
BACK = {
    "state": "uncertain", "intent_id": "prior", "intent_at": 1.0, "claim": "task_0",
    "price": 5, "doubted": 1, "doubted_cost": 7, "run": 1,
}  # fmt: skip
ANEW = {"prior_state": "uncertain", "doubted": 3, "doubted_cost": 19}
TASK = {"task_id": "task_9", "submitted_at": 9.0}
EMPTY = dict.fromkeys(("claim", "ended_at", "result", "error", "files"))


@pytest.mark.parametrize(
    ("name", "state", "given", "changed"),
    [
        (
            *("intend", "failed", {"price": 20, "mark": "new", "at": 9.0}),
            {"state": "intent", "purchases": 4, "price": 20, "cost": 120, **INTENT},
        ),
        (
            *("intend", "failed", {"price": None, "mark": "new", "at": 9.0}),
            {"state": "intent", "purchases": 4, "price": None, "unpriced": 3, **INTENT},
        ),
        (
            *("intend", "uncertain", {"price": 20, "mark": "new", "at": 9.0}),
            {"state": "intent", "purchases": 4, "price": 20, "cost": 120, **INTENT, **ANEW},
        ),
        ("refused", "intent", {}, {"purchases": 2, "cost": 93, **BACK}),
        ("refused", "intent", {"was_priced": None}, {"purchases": 2, "unpriced": 1, **BACK}),
        (
            *("submitted", "intent", {"task_id": "task_9", "at": 9.0}),
            {"state": "submitted", **TASK, **EMPTY},
        ),
        ("uncertain", "intent", {"error": "why"}, {"state": "uncertain", "error": "why"}),
        (
            *("succeeded", "failed", {"result": "[]", "at": 9.0}),
            {"state": "success", "result": "[]", "ended_at": 9.0, "error": None},
        ),
        (
            *("failed", "submitted", {"error": "why", "at": 9.0}),
            {"state": "failed", "error": "why", "ended_at": 9.0},
        ),
        ("downloaded", "success", {"files": "[]"}, {"files": "[]"}),
    ],
)
def test_what_each_move_writes(
    file: sqlite3.Connection,
    name: str,
    state: str,
    given: dict[str, Any],
    changed: dict[str, Any],
) -> None:
    """A move changes what it tells of, in its own row, and nothing else."""
    enter(file, "k", known())
    enter(file, "other", known(1))
    values = dict(given)
    before = {**FULL, "state": state}
    if "was_priced" in values:
        before["price"] = values.pop("was_priced")
    for column, value in before.items():
        file.execute(f"UPDATE item SET {column} = ? WHERE row = 1", (value,))
    other = columns(file, "*", 2)
    move(file, name, 1, **values)
    names = [*before]
    after = dict(zip(names, columns(file, ", ".join(names)), strict=True))
    assert after == before | changed
    assert columns(file, "*", 2) == other


def test_no_task_has_no_result(file: sqlite3.Connection) -> None:
    """An item that never had a task cannot succeed."""
    enter(file, "k", known())
    file.execute("UPDATE item SET state = 'failed'")
    with pytest.raises(JournalRefusal, match="succeeded: the item 'k' is 'failed'"):
        move(file, "succeeded", 1, result="{}", at=1.0)


@pytest.mark.parametrize("state", STATES)
def test_a_claim_is_noted_beside_a_submit_in_doubt(file: sqlite3.Connection, state: str) -> None:
    """A callback's task is noted for the submit with its mark, while that is in doubt."""
    for key in "ab":
        enter(file, key, known())
    file.execute("UPDATE item SET state = ?, intent_id = 'mark' WHERE row = 1", (state,))
    in_doubt = state in {"intent", "uncertain"}
    assert claim(file, "another", "task_1", 1) is False
    assert claim(file, "mark", "task_1", 2) is False
    assert claim(file, "mark", "task_1", 1) is in_doubt
    assert columns(file, "claim, state") == ("task_1" if in_doubt else None, state)
    assert columns(file, "claim", 2) == (None,)


def test_a_claim_of_a_known_task(file: sqlite3.Connection) -> None:
    """A task that an item has already is claimed by no other."""
    for key in "ab":
        enter(file, key, known())
    file.execute("UPDATE item SET state = 'intent', intent_id = 'mark' WHERE row = 1")
    file.execute("UPDATE item SET task_id = 'task_1' WHERE row = 2")
    assert claim(file, "mark", "task_1", 1) is False
    assert columns(file, "claim") == (None,)


@pytest.mark.parametrize("damaged", ["digest", "payload"])
def test_either_tells_which_input_it_is(file: sqlite3.Connection, damaged: str) -> None:
    """Where the digest or the input is damaged, the other one says that it is the same."""
    enter(file, "k", known())
    next_run(file)
    file.execute(f"UPDATE item SET {damaged} = 'damaged'")
    assert enter(file, "k", known()).payload == known().payload


def test_an_input_that_is_no_text(file: sqlite3.Connection) -> None:
    """What is no text is no other input: the row is returned, for its reader to refuse."""
    enter(file, "k", known())
    next_run(file)
    file.execute("UPDATE item SET digest = 'damaged', payload = x'00'")
    assert enter(file, "k", known()).payload == b"\0"  # type: ignore[comparison-overlap]

"""`apixo store`: what processes that share an account have bought, for who looks after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

import typer

from apixo_async import ConfigurationError
from apixo_async._cli import options, session
from apixo_async._cli.console import Screen
from apixo_async.stores import State, Store, StoreEntry, backend_of
from apixo_async.stores import resolve as say

T = TypeVar("T")

app = typer.Typer(
    help="See to the purchases that processes keep in a store: list, show, resolve, delete, sweep."
)

Words: TypeAlias = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="APIXO_STORE",
        metavar="STORE",
        help="The file of a SQLite store, or a postgresql:// URL: better in APIXO_STORE, as others"
        " may see arguments.",
    ),
]
Namespace: TypeAlias = Annotated[
    str, typer.Option("--namespace", help="That of the keys, where it is not the default one.")
]
Key: TypeAlias = Annotated[str, typer.Argument(metavar="KEY", help="The key of the purchase.")]

#: An account without limits: these commands read and write entries only.
_ACCOUNT = "apixo store"


def _run(words: str, namespace: str, act: Callable[[Store], Awaitable[T]]) -> T:
    """Open a store that is there, do something with it, and close it."""
    if "://" not in words and not Path(words).is_file():
        raise ConfigurationError(f"store: there is no file {words}")

    async def opened() -> T:
        store = await backend_of(words, namespace=namespace).open(_ACCOUNT)
        try:
            return await act(store)
        finally:
            await store.aclose()

    return session.run(opened())


async def _entry(store: Store, key: str) -> StoreEntry:
    entry = await store.find(key)
    if entry is None:
        raise ConfigurationError(f"store: key {key!r} has no entry")
    return entry


def _document(entry: StoreEntry) -> dict[str, Any]:
    bought = entry.purchase
    return {
        "key": bought.key,
        "state": entry.state.value,
        "model": bought.model,
        "provider": bought.provider,
        "price": bought.price,
        "tag": bought.tag,
        "purchases": entry.purchases,
        "task_id": entry.task_id,
        "also": [*entry.also],
        "callbacks_named": [*entry.claimed],
        "owner": entry.owner,
        "intended_at": _moment(entry.intent_at),
        "ended_at": None if entry.ended_at is None else _moment(entry.ended_at),
        "input": bought.payload,
        "outcome": entry.outcome,
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


@app.command("list")
def list_entries(
    store: Words,
    state: Annotated[
        State | None, typer.Option("--state", help="Those in this state only.")
    ] = None,
    as_json: options.AsJson = False,
    namespace: Namespace = "default",
) -> None:
    """List the purchases, oldest first."""
    screen = Screen(as_json=as_json)

    async def read(opened: Store) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        async for entry in opened.entries(state):
            if as_json:
                screen.document(_document(entry))
            else:
                at, task = _moment(entry.intent_at), entry.task_id or "-"
                bought = entry.purchase
                rows.append((bought.key, entry.state.value, bought.model, task, at))
        return rows

    rows = _run(store, namespace, read)
    if not as_json:
        screen.table(("key", "state", "model", "task", "intended at"), rows)


@app.command()
def show(
    key: Key, store: Words, as_json: options.AsJson = False, namespace: Namespace = "default"
) -> None:
    """Show all that is kept of a purchase: its input and its outcome are in it."""
    screen = Screen(as_json=as_json)
    document = _document(_run(store, namespace, lambda opened: _entry(opened, key)))
    if as_json:
        screen.document(document)
        return
    rows = [(name, "" if value is None else str(value)) for name, value in document.items()]
    screen.table(("name", "value"), rows)


@app.command()
def resolve(
    key: Key,
    store: Words,
    task_id: Annotated[
        str | None, typer.Option("--task-id", metavar="ID", help="The task that it bought.")
    ] = None,
    nothing: Annotated[
        bool, typer.Option("--nothing-bought", help="It bought none: the key is free again.")
    ] = False,
    namespace: Namespace = "default",
) -> None:
    """Say what an uncertain purchase has bought, as the account shows."""
    if (task_id is None) is not nothing:
        raise ConfigurationError("resolve: give --task-id ID, or --nothing-bought")

    # Without an owner: whichever process of the account lives polls it.
    _run(store, namespace, lambda opened: say(opened, key, task_id, owner=None))
    Screen().note(f"{key}: noted")


@app.command()
def delete(key: Key, store: Words, namespace: Namespace = "default") -> None:
    """Delete a purchase that is over, with its prompt and its URLs; its key buys again."""
    if not _run(store, namespace, lambda opened: opened.delete(key)):
        raise ConfigurationError(f"delete: key {key!r} has no entry that is over")
    Screen().note(f"{key}: deleted")


@app.command()
def sweep(
    store: Words,
    older_than: Annotated[
        float,
        typer.Option("--older-than", metavar="DAYS", min=0.0, help="Days since their end."),
    ],
    namespace: Namespace = "default",
) -> None:
    """Delete the purchases that ended so many days ago; those that may be paid for stay."""

    async def swept(opened: Store) -> int:
        total = 0
        while some := await opened.sweep(timedelta(days=older_than).total_seconds()):
            total += some
        return total

    Screen().line(str(_run(store, namespace, swept)))

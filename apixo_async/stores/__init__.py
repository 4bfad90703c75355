"""Where processes that use one account keep what they share: purchases by key, and the limits.

Give every process the same one: ``AsyncClient(store=SqliteStore("apixo.db"))`` on one host,
``AsyncClient(store=PostgresStore("postgresql://..."))`` on several. `Backend` and `Store` are what
a backend of your own has to be; `apixo_async.testing.store_contract` tries it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from apixo_async.stores._account import backend_of, resolve
from apixo_async.stores._protocol import (
    Backend,
    Intended,
    Purchase,
    SharedValue,
    State,
    Store,
    StoreEntry,
)

if TYPE_CHECKING:
    from apixo_async.stores._postgres import PostgresStore
    from apixo_async.stores._sqlite import SqliteStore

__all__ = [
    "Backend",
    "Intended",
    "PostgresStore",
    "Purchase",
    "SharedValue",
    "SqliteStore",
    "State",
    "Store",
    "StoreEntry",
    "backend_of",
    "resolve",
]


def __getattr__(name: str) -> object:
    # Each needs its database, and few programs use both.
    if name == "SqliteStore":
        from apixo_async.stores._sqlite import SqliteStore

        return SqliteStore
    if name == "PostgresStore":
        from apixo_async.stores._postgres import PostgresStore

        return PostgresStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

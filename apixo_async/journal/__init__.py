"""The journal of bulk runs: what was to be bought, was bought, and came of it, in one file.

`client.map(..., journal="run.db")` writes it. `open_journal` reads it, at any time::

    async with open_journal("run.db") as journal:
        async for entry in journal.entries():
            print(entry.key, entry.state, *entry.files)
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apixo_async.journal._reader import (
        Charges,
        EntryState,
        JournalEntry,
        JournalReader,
        JournalTotals,
        item_key,
        open_journal,
    )

__all__ = [
    "Charges",
    "EntryState",
    "JournalEntry",
    "JournalReader",
    "JournalTotals",
    "item_key",
    "open_journal",
]


def __getattr__(name: str) -> object:
    # `import apixo_async` comes by here, and few programs read journals.
    if name in __all__:
        from apixo_async.journal import _reader

        return getattr(_reader, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

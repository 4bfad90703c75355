"""What the checks of a store do: intend, buy, look, wait and expect."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Final

from apixo_async.stores._protocol import Purchase, Store, StoreEntry

#: Seconds for which an entry has its slot where a check does not wait for its end.
LONG: Final = 600.0

#: Seconds that are short, and for a slow database long enough to be noted in.
SHORT: Final = 1.0


def expect(state: object, must: str) -> None:
    """Raise what a store must do, unless it has."""
    if not state:
        raise AssertionError(f"a store must {must}")


def purchase(key: str, **changes: str | None) -> Purchase:
    """Return what is bought under a key."""
    values: dict[str, str | None] = {
        "digest": f"digest of {key}",
        "model": "gpt-image-2",
        "provider": None,
        "kind": "gpt-image-2",
        "payload": json.dumps({"prompt": f"a castle for {key}"}),
        "price": "0.04",
        "tag": "customer-42",
        "traceparent": f"00-{'1' * 32}-{'2' * 16}-01",
    }
    return Purchase(key=key, **(values | changes))  # type: ignore[arg-type]  # mypy sees no names


def attempt() -> str:
    """Return an id that no other POST has."""
    return secrets.token_hex(16)


async def intend(
    store: Store, key: str, *, slots: int = 1000, hold: float = LONG, owner: str = "a"
) -> str | None:
    """Intend a POST under a key; return it, or None where that was not done."""
    own = attempt()
    intended = await store.intend(purchase(key), own, owner, slots=slots, hold=hold)
    return own if intended.done else None


async def submit(store: Store, key: str, *, owner: str = "a", hold: float = LONG) -> str:
    """Buy under a key; return the POST."""
    own = await intend(store, key, owner=owner)
    expect(own is not None, "take an intent for a new key while there is a slot")
    assert own is not None
    await store.bought(purchase(key), own, owner, f"task_{key}", hold=hold)
    return own


async def entry_of(store: Store, key: str) -> StoreEntry:
    """Return the entry of a key that has one."""
    entry = await store.find(key)
    expect(entry is not None, "find an entry by its key")
    assert entry is not None
    return entry


async def passed(store: Store, moment: float) -> None:
    """Wait until a time of the store's clock has passed."""
    while (await store.load()).now <= moment:  # noqa: ASYNC110  # its clock is not the loop's
        await asyncio.sleep(0.05)


async def doubted_twice(store: Store, key: str) -> tuple[str, str]:
    """Doubt a POST, doubt that which was sent in its place, and buy by the first after all."""
    first, second = await intend(store, key), attempt()
    assert first is not None
    await store.uncertain(first, hold=LONG)
    again = await store.intend(purchase(key), second, "b", slots=1000, hold=LONG, instead_of=first)
    expect(again.done, "take an intent in the place of a doubt")
    await store.bought(purchase(key), first, "a", f"paid {key}", hold=LONG)
    return first, second

"""`apixo balance`: what is left on the key."""

from __future__ import annotations

from decimal import Decimal

from apixo_async._cli import options, session
from apixo_async._cli.console import Screen, dollars


def balance(
    as_json: options.AsJson = False,
    key_file: options.KeyFile = None,
    base_url: options.BaseUrl = None,
) -> None:
    """Print the USD left on the key."""
    screen = Screen(as_json=as_json)
    left = session.run(_balance(session.Access(key_file, base_url), screen))
    if screen.as_json:
        screen.document({"balance": left, "currency": "USD"})
    else:
        screen.line(dollars(left))


async def _balance(access: session.Access, screen: Screen) -> Decimal:
    async with session.connect(access, screen) as client:
        return await client.balance()

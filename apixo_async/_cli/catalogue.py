"""`apixo models`: what each documented model takes, costs, and how long it needs."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from apixo_async import _catalog as catalog
from apixo_async._cli import options
from apixo_async._cli.console import Screen, dollars, seconds
from apixo_async._cli.figures import Tier, bounds, tiers
from apixo_async.inputs import DOCUMENTED

_TIER_HEAD = ("model", "task", "price", "typical", "longest", "first poll", "then every")


def models(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Show this one, and its fields.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Show what the documents say of each model: price, times, fields. Sends nothing."""
    screen = Screen(as_json=as_json)
    names = list(DOCUMENTED) if model is None else [model]
    if screen.as_json:
        for name in names:
            screen.document(_document(name))
        return
    screen.table(_TIER_HEAD, [_tier_row(tier) for name in names for tier in tiers(name)])
    if model is None:
        screen.note(_account_limits(), style="dim")
    elif model in DOCUMENTED:
        rows = [(bound.name, bound.takes, bound.default) for bound in bounds(model)]
        screen.table(("field", "takes", "default"), rows)
    else:
        screen.note(f"{model} has no page here: any field is sent as it is, the times are a guess")


def _tier_row(tier: Tier) -> tuple[str, ...]:
    times = tier.times
    return (
        tier.model,
        tier.option or "any",
        "unknown" if tier.price is None else dollars(tier.price),
        f"{times.typical_low:.0f}-{times.typical_high:.0f} s",
        seconds(times.longest),
        seconds(times.first),
        seconds(times.interval),
    )


def _account_limits() -> str:
    return (
        f"By the documents an account runs {catalog.CONCURRENT_TASKS:,} tasks at once and sends"
        f" {catalog.REQUESTS_PER_MINUTE:,} requests a minute; results stay for"
        f" {catalog.RESULT_LIFETIME / 86_400:.0f} days."
    )


def _document(model: str) -> dict[str, object]:
    return {
        "model": model,
        "tasks": [_tier_document(tier) for tier in tiers(model)],
        "fields": [dataclasses.asdict(bound) for bound in bounds(model)],
    }


def _tier_document(tier: Tier) -> dict[str, object]:
    times = tier.times._asdict()
    return {"option": tier.option or None, "price": tier.price, **times}

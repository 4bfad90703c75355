"""The options of a map, checked."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Self, TypeAlias, cast

from apixo_async._budget import Budget
from apixo_async._map.bar import check_progress
from apixo_async._types import Delivery
from apixo_async._validation import check_delivery, check_prices
from apixo_async.errors import FAILURE_CATEGORIES, ConfigurationError, FailureCategory

if TYPE_CHECKING:
    from apixo_async._downloads.names import NameTemplate

Amount: TypeAlias = Decimal | float | str
StrPath: TypeAlias = str | os.PathLike[str]


class Options(NamedTuple):
    """The checked options of a map; `AsyncClient.map` says what each of them means."""

    delivery: Delivery
    ordered: bool
    attempts: int
    journal: str | None
    retry: frozenset[FailureCategory]
    resubmit_uncertain: frozenset[str] | bool
    budget: Budget
    prices: Mapping[str, Decimal]
    target: Path | None
    progress: bool
    name: NameTemplate | None
    raise_at_end: bool

    @classmethod
    def checked(
        cls,
        *,
        ordered: bool = False,
        attempts: int = 1,
        provider: str | None = None,
        journal: StrPath | None = None,
        retry: bool | Collection[FailureCategory] = (),
        resubmit_uncertain: bool | Collection[str] = False,
        max_cost: Amount | None = None,
        prices: Mapping[str, Amount] | None = None,
        download_to: StrPath | None = None,
        tag: str | None = None,
        known: Mapping[str, Decimal] = MappingProxyType({}),
        progress: bool = False,
        name: str | None = None,
        raise_at_end: bool = True,
    ) -> Self:
        """Check every option; `known` are the prices of the client.

        Raises:
            ConfigurationError: One is wrong.
        """
        return cls(
            delivery=check_delivery(None, provider, tag),
            ordered=_truth("ordered", ordered),
            attempts=_attempts(attempts),
            journal=_path("journal", journal),
            retry=_retry(retry),
            resubmit_uncertain=_keys("resubmit_uncertain", resubmit_uncertain),
            budget=Budget(max_cost, name="max_cost"),
            prices={**known, **check_prices(prices)},
            target=None if (path := _path("download_to", download_to)) is None else Path(path),
            progress=check_progress(progress),
            name=_name(name, download_to),
            raise_at_end=_truth("raise_at_end", raise_at_end),
        )

    def resubmits(self, key: str) -> bool:
        """Return True if an uncertain item of an earlier run is bought anew."""
        wanted = self.resubmit_uncertain
        return wanted if isinstance(wanted, bool) else key in wanted


def _keys(name: str, given: object) -> frozenset[str] | bool:
    if isinstance(given, bool):
        return given
    if isinstance(given, Collection) and not isinstance(given, str):
        keys = cast("Collection[object]", given)
        if all(isinstance(key, str) for key in keys):
            return frozenset(cast("Collection[str]", keys))
    raise ConfigurationError(f"{name}: {given!r:.200} given; True, False, or keys of items")


def _truth(name: str, given: object) -> bool:
    if not isinstance(given, bool):
        raise ConfigurationError(f"{name}: {given!r} given; True or False")
    return given


def _attempts(given: object) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise ConfigurationError(f"attempts: {given!r} given; a whole number from 1 up")
    return given


def _retry(given: object) -> frozenset[FailureCategory]:
    if isinstance(given, bool):
        return frozenset(FAILURE_CATEGORIES if given else ())
    if isinstance(given, str) or not isinstance(given, Collection):
        raise ConfigurationError(
            f"retry: {given!r:.200} given; True, or a list of categories such as ['timeout']"
        )
    categories = cast("Collection[FailureCategory]", given)
    if wrong := [one for one in categories if one not in FAILURE_CATEGORIES]:
        raise ConfigurationError(
            f"retry: {wrong[0]!r:.200} given; a task fails for {', '.join(FAILURE_CATEGORIES)}. "
            "What is uncertain is for `resubmit_uncertain`; all else is tried again anyway"
        )
    return frozenset(categories)


def _path(name: str, given: StrPath | None) -> str | None:
    if given is None:
        return None
    try:
        path: object = os.fspath(given)
    except TypeError:
        path = None
    if not isinstance(path, str):
        raise ConfigurationError(f"{name}: {given!r} given; a path, as a str or a Path")
    if not path or "\0" in path:
        raise ConfigurationError(f"{name}: {path!r} given; that is no path")
    return path


def _name(given: str | None, download_to: StrPath | None) -> NameTemplate | None:
    if given is None:
        return None
    if download_to is None:
        raise ConfigurationError("name: it names the files in `download_to`: give both")
    from apixo_async._downloads.names import MAP_FIELDS, NameTemplate  # Few maps have one.

    return NameTemplate.checked(given, MAP_FIELDS)

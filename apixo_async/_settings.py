"""The settings of a client, checked, with the environment's and the defaults filled in."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import httpx2

from apixo_async._budget import Budget
from apixo_async._config import Secret, Timeouts, resolve_base_url, resolve_key, resolve_timeouts
from apixo_async._hosts import is_loopback
from apixo_async._http.channel import Channel, build_transport, check_transport
from apixo_async._limits.limiter import Limiter
from apixo_async._polling.policy import Polling
from apixo_async._types import Limits
from apixo_async._validation import check_key, check_prices, check_type
from apixo_async._version import __version__
from apixo_async.errors import ConfigurationError

if TYPE_CHECKING:
    from apixo_async.stores._account import AccountStore
    from apixo_async.stores._protocol import Backend
    from apixo_async.webhooks import WebhookReceiver

USER_AGENT = f"apixo-async/{__version__}"


@dataclass(frozen=True, slots=True, eq=False)
class Settings:
    """The checked settings of a client; `AsyncClient` says what each of them means."""

    key: Secret = field(repr=False)
    base_url: str
    timeouts: Timeouts
    polling: Polling
    follows_speed: bool
    limiter: Limiter
    transport: httpx2.AsyncBaseTransport | None
    proxy: str | None = field(repr=False)  # a password may be in it
    verify: ssl.SSLContext | bool
    seed: int | None
    webhooks: WebhookReceiver | None
    store: AccountStore | None
    prices: Mapping[str, Decimal]
    budget: Budget | None

    @classmethod
    def checked(
        cls,
        api_key: str | None,
        *,
        base_url: str | None,
        limits: Limits | None,
        polling: Polling | None,
        limiter: Limiter | None,
        transport: httpx2.AsyncBaseTransport | None,
        timeout: float | Timeouts | None,
        proxy: str | None,
        verify: ssl.SSLContext | bool,
        seed: int | None,
        webhooks: WebhookReceiver | None = None,
        store: Backend | str | None = None,
        account: str | None = None,
        prices: Mapping[str, Decimal | float | str] | None = None,
        budget: Budget | None = None,
    ) -> Self:
        """Check every setting, fill in the environment's and the defaults.

        Raises:
            ConfigurationError: A setting is wrong, or two exclude each other.
        """
        if limits is not None and limiter is not None:
            raise ConfigurationError("limits and limiter exclude each other: a limiter has its own")
        if transport is not None and (proxy is not None or verify is not True):
            raise ConfigurationError("proxy and verify are settings of the transport you give")
        if webhooks is not None:
            # Imported here: few clients have a receiver, and what it needs is slow to import.
            from apixo_async.webhooks import WebhookReceiver

            webhooks = check_type("webhooks", webhooks, WebhookReceiver)
        key, url = resolve_key(api_key), resolve_base_url(base_url)
        opened_late = None
        if store is not None:
            if limiter is not None:
                raise ConfigurationError(
                    "store and limiter exclude each other: clients with the same store share limits"
                )
            # Imported here, as all that has to do with stores: few clients have one.
            from apixo_async._limits.shared_limiter import SharedLimiter
            from apixo_async.stores._account import AccountStore, backend_of

            name = key.fingerprint() if account is None else check_key(account, "account")
            opened_late = AccountStore(backend_of(store), name)
            limiter = SharedLimiter(opened_late, check_type("limits", limits, Limits), seed=seed)
        elif account is not None:
            raise ConfigurationError("account: it names the account in a store, and none is given")
        return cls(
            key=key,
            base_url=url,
            timeouts=resolve_timeouts(timeout),
            polling=check_type("polling", polling, Polling) or Polling.adaptive(),
            # Only a simulator on this machine is believed.
            follows_speed=polling is None and is_loopback(urlsplit(url).hostname or ""),
            limiter=check_type("limiter", limiter, Limiter)
            or Limiter(check_type("limits", limits, Limits), seed=seed),
            transport=None if transport is None else check_transport(transport),
            proxy=proxy,
            verify=verify,
            seed=seed,
            webhooks=webhooks,
            store=opened_late,
            prices=check_prices(prices),
            budget=check_type("budget", budget, Budget),
        )

    def channel(self) -> Channel:
        """Build the channel to the API, over the caller's transport or a new one."""
        transport = self.transport or build_transport(
            self.base_url, proxy=self.proxy, verify=self.verify
        )
        return Channel(
            transport,
            base_url=self.base_url,
            key=self.key,
            timeouts=self.timeouts,
            user_agent=USER_AGENT,
        )

"""What a client was made with, all of it checked."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import httpx2

from apixo_async._checks import check_type
from apixo_async._config import Secret, Timeouts, resolve_base_url, resolve_key, resolve_timeouts
from apixo_async._core.errors import ConfigurationError
from apixo_async._core.polling import Polling
from apixo_async._core.values import Limits
from apixo_async._limiter import Limiter
from apixo_async._transport import Channel, build_transport, check_transport
from apixo_async._version import __version__

if TYPE_CHECKING:
    from apixo_async.webhooks import WebhookReceiver

USER_AGENT = f"apixo-async/{__version__}"


@dataclass(frozen=True, slots=True, eq=False)
class Settings:
    """The checked settings of a client; `AsyncClient` says what each of them means."""

    key: Secret = field(repr=False)
    base_url: str
    timeouts: Timeouts
    polling: Polling
    limiter: Limiter
    transport: httpx2.AsyncBaseTransport | None
    proxy: str | None = field(repr=False)  # a password may be in it
    verify: ssl.SSLContext | bool
    seed: int | None
    webhooks: WebhookReceiver | None

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
    ) -> Self:
        """Check every setting, fill in the environment's and the defaults.

        Raises:
            ConfigurationError: A setting is wrong, or two exclude each other.
        """
        if limits is not None and limiter is not None:
            raise ConfigurationError("limits and limiter exclude each other: a limiter has its own")
        if transport is not None and (proxy is not None or verify is not True):
            raise ConfigurationError("proxy and verify are settings of the transport you give")
        return cls(
            key=resolve_key(api_key),
            base_url=resolve_base_url(base_url),
            timeouts=resolve_timeouts(timeout),
            polling=check_type("polling", polling, Polling) or Polling.adaptive(),
            limiter=check_type("limiter", limiter, Limiter)
            or Limiter(check_type("limits", limits, Limits), seed=seed),
            transport=None if transport is None else check_transport(transport),
            proxy=proxy,
            verify=verify,
            seed=seed,
            webhooks=_check_receiver(webhooks),
        )

    def channel(self) -> Channel:
        """Build the way to the API: over the transport given, or over a new one."""
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


def _check_receiver(given: WebhookReceiver | None) -> WebhookReceiver | None:
    if given is None:
        return None
    # Late: few clients have one, and what it needs takes time to import.
    from apixo_async.webhooks import WebhookReceiver

    return check_type("webhooks", given, WebhookReceiver)

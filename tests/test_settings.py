from __future__ import annotations

import httpx2
import pytest

from apixo_async import ConfigurationError, Limiter, Limits, Polling, Timeouts
from apixo_async._settings import USER_AGENT, Settings
from apixo_async._version import __version__


def checked(**options: object) -> Settings:
    """Check settings of which only some are given."""
    given: dict[str, object] = dict.fromkeys(
        ("base_url", "limits", "polling", "limiter", "transport", "timeout", "proxy", "seed")
    )
    return Settings.checked("canary", **(given | {"verify": True} | options))  # type: ignore[arg-type]  # by name


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not given comes from the documents and from this package's defaults."""
    monkeypatch.delenv("APIXO_BASE_URL", raising=False)
    settings = checked()
    assert settings.base_url == "https://api.apixo.ai/api/v1"
    assert settings.timeouts == Timeouts()
    assert settings.polling == Polling.adaptive()
    assert settings.limiter.limits == Limits(1_000, 10_000)


def test_given_limits_or_limiter() -> None:
    """Limits make a limiter, a limiter is taken as it is, and both together are refused."""
    limits, limiter = Limits(5, 60), Limiter(Limits(6, 70))
    assert checked(limits=limits).limiter.limits is limits
    assert checked(limiter=limiter).limiter is limiter
    with pytest.raises(ConfigurationError, match="exclude each other"):
        checked(limits=limits, limiter=limiter)


def test_key_is_not_shown() -> None:
    """The repr of the settings holds no key."""
    assert "canary" not in repr(checked())


def test_the_password_of_a_proxy_is_not_shown() -> None:
    """The repr of the settings holds no proxy, which may have a password."""
    assert "hunter22" not in repr(checked(proxy="http://user:hunter22@127.0.0.1:3128"))


def test_channel() -> None:
    """The channel runs over the transport given, else over one of httpx2's own."""
    mock = httpx2.MockTransport(lambda _: httpx2.Response(200))
    assert checked(transport=mock).channel().transport is mock
    channel = checked(proxy="").channel()
    assert isinstance(channel.transport, httpx2.AsyncHTTPTransport)
    assert channel.user_agent == USER_AGENT == f"apixo-async/{__version__}"

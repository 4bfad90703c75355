"""Keys, base URLs and timeouts are checked before anything is sent, and no key is ever shown."""

from __future__ import annotations

import copy
import dataclasses
import html
import json
import math
import pickle
import string
import time
import urllib.parse
from collections.abc import Callable

import pytest

from apixo_async._config import (
    DEFAULT_BASE_URL,
    Secret,
    Timeouts,
    resolve_base_url,
    resolve_key,
    resolve_timeouts,
)
from apixo_async.errors import ConfigurationError

CANARY = "sk-canary-0123456789"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APIXO_API_KEY", raising=False)
    monkeypatch.delenv("APIXO_BASE_URL", raising=False)


# --- the key ---------------------------------------------------------------------------------


def sent(secret: Secret) -> bytes:
    """Return the value of the header."""
    name, value = secret.authorization()
    assert name == b"Authorization"
    return value


@pytest.mark.parametrize("given", [CANARY, f"  {CANARY}\n", string.punctuation, "x"], ids=ascii)
def test_a_key_given(given: str) -> None:
    """A key goes out as it was given, without the space around it."""
    assert sent(resolve_key(given)) == b"Bearer " + given.strip().encode()


def test_a_key_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key, the environment's is taken; a given one beats it."""
    monkeypatch.setenv("APIXO_API_KEY", f"{CANARY}\n")
    assert sent(resolve_key(None)) == f"Bearer {CANARY}".encode()
    assert sent(resolve_key("other")) == b"Bearer other"


def test_a_secret_is_a_key() -> None:
    """A key that was wrapped already is taken as it is."""
    secret = Secret(CANARY)
    assert resolve_key(secret) is secret


@pytest.mark.parametrize("given", [None, "", " \t\n"], ids=repr)
@pytest.mark.parametrize("environment", [None, "", "  "], ids=repr)
def test_no_key(
    given: str | None, environment: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key the error says where one is sought."""
    if environment is not None:
        monkeypatch.setenv("APIXO_API_KEY", environment)
    with pytest.raises(
        ConfigurationError,
        match=r"set APIXO_API_KEY, or give `api_key=.*try `apixo simulate`",
    ):
        resolve_key(given)


def test_an_empty_key_is_not_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that was given empty is a mistake, and no wish for another one."""
    monkeypatch.setenv("APIXO_API_KEY", CANARY)
    with pytest.raises(ConfigurationError, match="no API key"):
        resolve_key("")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (f"Bearer {CANARY}", "without the word Bearer"),
        (f"{CANARY}\r\nX-Evil: 1", "a space or a character beyond ASCII"),
        (f"{CANARY}é", "a space or a character beyond ASCII"),
        (f"{CANARY}\ud800", "a space or a character beyond ASCII"),
        (f"{CANARY}\0", "a space or a character beyond ASCII"),
        (CANARY.encode(), "a bytes given; it is a str"),
        ([CANARY], "a list given; it is a str"),
        (7, "a int given; it is a str"),
    ],
    ids=ascii,
)
def test_a_key_that_is_none(given: object, words: str) -> None:
    """A wrong key is refused in words that do not hold it."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        resolve_key(given)
    assert "canary" not in f"{caught.value!r} {vars(caught.value)}"
    assert caught.value.__cause__ is None


WAYS_TO_SHOW: dict[str, Callable[[Secret], object]] = {
    "repr": repr,
    "str": str,
    "format": "{}".format,
    "list": lambda secret: repr([secret]),
    "percent": lambda secret: f"{'%r %s' % (secret, secret)}",  # noqa: UP031 - one way of many
}


@pytest.mark.parametrize("show", WAYS_TO_SHOW.values(), ids=WAYS_TO_SHOW.keys())
def test_a_key_shows_itself_nowhere(show: Callable[[Secret], object]) -> None:
    """However a key is shown, it is not."""
    shown = str(show(Secret(CANARY)))
    assert "Secret(***)" in shown
    assert "canary" not in shown


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy], ids=lambda f: f.__name__)
def test_a_key_does_not_travel(take: Callable[[Secret], object]) -> None:
    """A key is neither pickled nor copied along with something else."""
    with pytest.raises(TypeError, match="give each client its own"):
        take(Secret(CANARY))
    assert not hasattr(Secret(CANARY), "__dict__")


@pytest.mark.parametrize(
    ("key", "said", "shown"),
    [
        (CANARY, b"wrong key: %s!", b"wrong key: ***!"),
        (CANARY, b"%s or %s", b"*** or ***"),
        (CANARY, b"no such key", b"no such key"),
        ("12345678", b"%s", b"***"),
        ("success", b'{"message": "%s"}', b'{"message": "success"}'),
    ],
)
def test_what_the_service_says_of_the_key(key: str, said: bytes, shown: bytes) -> None:
    """A key that the service repeats is hidden, but one that could be part of any word."""
    body = said.replace(b"%s", key.encode())
    assert Secret(key).hidden_in(body) == shown


ODD = 'sk/canary+01"23=45\\67'

SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "JSON": json.dumps,
    "JSON with escaped slashes": lambda key: json.dumps(key).replace("/", "\\/"),
    "JSON in JSON": lambda key: json.dumps(json.dumps(key).replace("/", "\\/")),
    "numbers": lambda key: "".join(f"\\u{ord(char):04X}" for char in key),
    "a page": html.escape,
    "a page of numbers": lambda key: key.replace("+", "&#43;").replace("/", "&#x2F;"),
    "a URL": lambda key: urllib.parse.quote(key, safe=""),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_key_is_hidden_however_it_is_escaped(spelling: str) -> None:
    """Whatever decodes to the key goes, and the rest of the answer can still be read."""
    said = SPELLINGS[spelling](ODD)
    assert Secret(ODD).hidden_in(f"& {said}!".encode()).decode().strip('"\\ &!') == "***"
    whole = Secret(ODD).hidden_in(b'{"taskId": "t\\\\", "said": %s}' % json.dumps(said).encode())
    assert json.loads(whole)["taskId"] == "t\\"
    assert json.loads(whole)["said"].strip('"\\') == "***"


def test_hiding_the_key_takes_no_time_that_an_answer_could_stretch() -> None:
    """An answer made of what begins an escape is looked through once."""
    began = time.process_time()
    for body in (b"\\" * 4_000_000, (ODD[:5].encode() + b"\\" * 100) * 40_000):
        assert Secret(ODD).hidden_in(body) == body
    assert time.process_time() - began < 20  # seconds; a second poll each would take hours


# --- the base URL ------------------------------------------------------------------------------

HOST = "https://api.apixo.ai"


@pytest.mark.parametrize(
    ("given", "resolved"),
    [
        (HOST, f"{HOST}/api/v1"),
        (f"{HOST}/", f"{HOST}/api/v1"),
        (f"{HOST}/api/v1", f"{HOST}/api/v1"),
        (f"{HOST}/api/v1/", f"{HOST}/api/v1"),
        (f"{HOST}/api/v1//", f"{HOST}/api/v1"),
        (f"  {HOST}\n", f"{HOST}/api/v1"),
        (f"{HOST}:8443", f"{HOST}:8443/api/v1"),
        ("https://proxy.example/apixo", "https://proxy.example/apixo/api/v1"),
        ("https://proxy.example/apixo/api/v1", "https://proxy.example/apixo/api/v1"),
        ("http://localhost:8000", "http://localhost:8000/api/v1"),
        ("http://LOCALHOST:8000", "http://LOCALHOST:8000/api/v1"),
        ("http://api.localhost", "http://api.localhost/api/v1"),
        ("http://127.0.0.1:8000/api/v1/", "http://127.0.0.1:8000/api/v1"),
        ("http://127.8.9.10", "http://127.8.9.10/api/v1"),
        ("http://[::1]:8000", "http://[::1]:8000/api/v1"),
    ],
)
def test_base_urls(given: str, resolved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without prefix and slash a URL means the same, given or in the environment."""
    assert resolve_base_url(given) == resolved
    monkeypatch.setenv("APIXO_BASE_URL", given)
    assert resolve_base_url(None) == resolved
    assert resolve_base_url("https://other.example") == "https://other.example/api/v1"


@pytest.mark.parametrize("environment", [None, ""], ids=repr)
def test_no_base_url(environment: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a URL it is the service's own."""
    if environment is not None:
        monkeypatch.setenv("APIXO_BASE_URL", environment)
    assert resolve_base_url(None) == DEFAULT_BASE_URL == f"{HOST}/api/v1"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "begins with https:// and a host"),
        ("api.apixo.ai", "begins with https:// and a host"),
        (CANARY, "begins with https:// and a host"),
        ("ftp://api.apixo.ai", "begins with https:// and a host"),
        ("https://", "begins with https:// and a host"),
        ("https:///api/v1", "begins with https:// and a host"),
        ("https://[::1", "it is no URL"),
        ("https://api.apixo.ai:port", "it is no URL"),
        ("https://api.apixo.ai:99999", "it is no URL"),
        (f"https://apixo:{CANARY}", "it is no URL"),
        (f"https://user:{CANARY}@api.apixo.ai", "no user, password, query or fragment"),
        (f"https://{CANARY}@api.apixo.ai", "no user, password, query or fragment"),
        ("https://@api.apixo.ai", "no user, password, query or fragment"),
        (f"{HOST}?key={CANARY}", "no user, password, query or fragment"),
        (f"{HOST}/?", "no user, password, query or fragment"),
        (f"{HOST}#", "no user, password, query or fragment"),
        ("https://api apixo.ai", "no space, control character or backslash"),
        ("https://api.apixo.ai\n/x", "no space, control character or backslash"),
        ("http://evil.example\\.localhost", "no space, control character or backslash"),
        ("http://api.apixo.ai", "would send the key in the clear; use https"),
        ("http://127.0.0.1.evil.example", "would send the key in the clear"),
        ("http://localhost.evil.example", "would send the key in the clear"),
        ("http://notlocalhost", "would send the key in the clear"),
        ("http://10.0.0.1", "would send the key in the clear"),
        ("http://[::2]", "would send the key in the clear"),
        (7, "7 given; it is a str"),
        (HOST.encode(), "given; it is a str"),
    ],
)
def test_base_urls_that_are_refused(given: object, words: str) -> None:
    """A URL over which the key would go astray is refused, in words that hold no secret."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        resolve_base_url(given)
    assert str(caught.value).startswith("base_url: ")
    assert "canary" not in str(caught.value)


# --- timeouts ----------------------------------------------------------------------------------

NAMES = [field.name for field in dataclasses.fields(Timeouts)]


def test_timeouts_of_a_transport() -> None:
    """A request is bounded in each of its parts."""
    assert Timeouts(connect=1, read=2, write=3, exchange=4).extension == {
        "connect": 1,
        "read": 2,
        "write": 3,
        "pool": 4,
    }


def test_timeouts_without_a_word() -> None:
    """The defaults bound everything: an exchange by 90 s, repeats by two minutes, 429s by five."""
    assert dataclasses.asdict(Timeouts()) == {
        "connect": 10.0,
        "read": 60.0,
        "write": 30.0,
        "exchange": 90.0,
        "retry": 120.0,
        "throttled": 300.0,
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "given", [0, -1, math.nan, math.inf, True, None, "3", 10**400], ids=lambda v: repr(v)[:9]
)
def test_timeouts_are_seconds_above_zero(name: str, given: object) -> None:
    """A timeout is a finite number above zero; the error names it and what was given."""
    with pytest.raises(ConfigurationError, match=f"timeout: {name}=.*; seconds above 0"):
        Timeouts(**{name: given})  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("given", "resolved"),
    [
        (None, Timeouts()),
        (Timeouts(read=7), Timeouts(read=7)),
        (120, Timeouts(exchange=120, read=120)),
        (15.5, Timeouts(exchange=15.5, read=15.5, write=15.5)),
        (2, Timeouts(exchange=2, read=2, write=2, connect=2)),
    ],
    ids=["default", "timeouts", "long", "short", "shorter"],
)
def test_timeouts_given(given: object, resolved: Timeouts) -> None:
    """A bare number bounds an exchange and every part of it, and none of the repeats."""
    assert resolve_timeouts(given) == resolved


@pytest.mark.parametrize("given", [0, -1.0, math.nan, True, "30", [1], {"read": 1}], ids=repr)
def test_timeouts_that_are_none(given: object) -> None:
    """Anything else is refused."""
    with pytest.raises(ConfigurationError, match=r"^timeout: .*seconds"):
        resolve_timeouts(given)

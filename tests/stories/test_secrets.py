from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import html
import inspect
import json
import pickle
import pprint
import re
import traceback
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any, Final

import httpx2
import pytest

import apixo_async
from apixo_async import ApixoError, AsyncClient, ConfigurationError, Event, FluxKontext
from apixo_async._config import Secret
from apixo_async.testing import Fault, Simulator

#: With what JSON, URLs and pages escape: "/" and "+" often, and '"' always.
CANARY: Final = 'canary-Q7x9/Zk2m+W4pL"8v=Tn'
CASTLE = FluxKontext(mode="pro", prompt="a castle")


def leaks(text: str) -> bool:
    """Say whether a text holds any eight characters in a row of the key, escaped or not."""
    decoded = re.sub(r"\\+u00([0-9a-fA-F]{2})", lambda found: chr(int(found[1], 16)), text)
    bare = html.unescape(urllib.parse.unquote(decoded)).replace("\\", "")
    return any(CANARY[n : n + 8] in one for n in range(len(CANARY) - 7) for one in (text, bare))


def everywhere_escaped(text: str) -> str:
    """Spell a text as JSON may: each character by its number."""
    return "".join(f"\\u{ord(char):04X}" for char in text)


def test_a_part_of_the_key_is_a_leak() -> None:
    """These tests see the key in str and bytes, cut short as asyncio's log cuts it."""
    assert leaks(f"x {CANARY.encode()!r} y")
    assert leaks(json.dumps(json.dumps(CANARY)).replace("/", "\\\\\\/"))
    assert leaks(everywhere_escaped(CANARY))
    assert leaks(urllib.parse.quote(CANARY, safe=""))
    assert leaks(CANARY[:8] + "...")
    assert leaks("..." + CANARY[-8:])
    assert not leaks("canary, a bird")


def attributes(value: object) -> Iterator[str]:
    """Name what `dir` finds, with the values: what a debugger shows."""
    for name in dir(value):
        with contextlib.suppress(Exception):
            yield f"{name}={getattr(value, name)!r}"


def pickled(value: object) -> str:
    return "".join(f"{pickle.dumps(value, protocol)!r}" for protocol in range(6))


def reached(value: object, seen: dict[int, object], depth: int = 8) -> Iterator[str]:
    """Show all that is reached over attributes and items, as reporters of crashes do."""
    if id(value) in seen or depth == 0:
        return
    seen[id(value)] = value
    yield repr(value)
    inner: list[object] = list(getattr(value, "__dict__", {}).values())
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            name = f"_{cls.__name__.lstrip('_')}{slot}" if slot.startswith("__") else slot
            inner.append(getattr(value, name, None))
    if isinstance(value, dict):
        inner += [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        inner += value
    for one in inner:
        yield from reached(one, seen, depth - 1)


def deep(value: Any) -> Any:
    """Copy deeply, all but the loop: a copy of that complains when it is dropped."""
    loop = asyncio.get_running_loop()
    return copy.deepcopy(value, {id(loop): loop})


WAYS: Final[dict[str, Callable[[Any], str]]] = {
    "repr": repr,
    "str": str,
    "format": lambda value: f"{value}{value!a}",
    "percent": lambda value: "%s %r" % (value, value),  # noqa: UP031 - one way of many
    "vars": lambda value: repr(vars(value)),
    "dir": lambda value: "\n".join(attributes(value)),
    "members": lambda value: repr(inspect.getmembers(value)),
    "state": lambda value: repr(value.__getstate__()),
    "pprint": pprint.pformat,
    "asdict": lambda value: repr(dataclasses.asdict(value)),
    "pickle": pickled,
    "copy": lambda value: "\n".join(attributes(copy.copy(value))),
    "deepcopy": lambda value: "\n".join(attributes(deep(value))),
    "all that is reached": lambda value: "\n".join(reached(value, {})),
}

#: Each is made of an open client that has been used.
OBJECTS: Final[dict[str, Callable[[AsyncClient], object]]] = {
    "client": lambda client: client,
    "key": lambda client: client._settings.key,
    "settings": lambda client: client._settings,
    "life": lambda client: client._life,
    "engine": lambda client: client._life.engine(),
    "line": lambda client: client._life.engine().api,
    "channel": lambda client: client._life.engine().api.channel,
    "poller": lambda client: client._life.engine().poller,
    "submitter": lambda client: client._life.engine().submitter,
    "downloader": lambda client: client._life.engine().downloader,
    "limiter": lambda client: client._settings.limiter,
    "statistics": lambda client: client.statistics(),
    "task": lambda client: client.attach("flux-kontext", "task_1"),
}


@pytest.fixture
async def client() -> Any:
    """Have an open client whose transport itself holds no key."""
    down = httpx2.MockTransport(lambda _: httpx2.Response(500))
    async with AsyncClient(CANARY, transport=down) as client:
        client.attach("flux-kontext", "task_1")
        await asyncio.sleep(0.1)
        yield client


@pytest.mark.parametrize("name", OBJECTS)
async def test_objects_do_not_show_the_key(client: AsyncClient, name: str) -> None:
    """No way to poll, to copy or to store an object of a client shows the key."""
    value = OBJECTS[name](client)
    shown: dict[str, str] = {}
    for way, show in WAYS.items():
        try:
            shown[way] = show(value)
        except Exception as refusal:
            shown[way] = f"{refusal!r} {vars(refusal)}"
    assert [way for way, text in shown.items() if leaks(text)] == []
    assert len(shown) == len(WAYS) >= 14
    assert len(OBJECTS) * len(WAYS) >= 25
    assert "Secret(***)" in shown["all that is reached"] or name in INNOCENT


#: The objects from which no way leads to the key's own.
INNOCENT: Final = {"limiter", "statistics", "downloader"}


@pytest.mark.parametrize("way", ["pickle", "deepcopy"])
async def test_a_client_does_not_travel(client: AsyncClient, way: str) -> None:
    """A client, and whatever holds the key, can be neither pickled nor copied deeply."""
    for name in ("client", "key", "settings", "channel"):
        with pytest.raises((TypeError, pickle.PicklingError, AttributeError)):
            WAYS[way](OBJECTS[name](client))


def test_a_shallow_copy_shares_the_closed_object() -> None:
    """A key itself is not even copied."""
    with pytest.raises(TypeError, match="neither pickled nor copied"):
        copy.copy(Secret(CANARY))


def every_link(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and all that it was raised from or while."""
    seen: list[BaseException] = []
    links = [error]
    while links:
        link = links.pop()
        if link not in seen:
            seen.append(link)
            yield link
            links += [one for one in (link.__cause__, link.__context__) if one is not None]


def with_locals(error: BaseException) -> str:
    """Format an error, and its whole chain, with the locals of every frame."""
    return "".join(
        api
        for link in every_link(error)
        for api in traceback.TracebackException.from_exception(link, capture_locals=True).format()
    )


WRONG: Final[dict[str, dict[str, Any]]] = {
    "base_url": {"base_url": "ftp://x"},
    "base_url class": {"base_url": 5},
    "timeout": {"timeout": 0},
    "transport": {"transport": object()},
    "proxy": {"proxy": "gopher://127.0.0.1", "base_url": "https://localhost"},
    "key with a space": {"api_key": CANARY + " x"},
    "key with the word": {"api_key": "Bearer " + CANARY},
    "key in bytes": {"api_key": CANARY.encode()},
    "key beyond ASCII": {"api_key": CANARY + "é"},
}


def make(options: dict[str, Any]) -> None:
    """Make a client, and let its first use wire it; the frame of the caller is the caller's."""
    client = AsyncClient(**{"api_key": CANARY} | options)

    async def use() -> None:
        client._life.engine()

    asyncio.run(use())


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_settings_do_not_show_the_key(wrong: str) -> None:
    """A setting that is wrong does not show the key, not in the frames of its traceback either."""
    with pytest.raises(ConfigurationError) as caught:
        make(WRONG[wrong])
    for link in every_link(caught.value):
        tb = link.__traceback__
        # The frames of this test are the caller's own.
        while tb is not None and tb.tb_frame.f_code.co_filename == __file__:
            tb = tb.tb_next
        link.__traceback__ = tb
    shown = with_locals(caught.value)
    assert "_client.py" in shown or "channel.py" in shown
    assert not leaks(shown)


async def test_a_key_in_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of the environment is shown as little as one that is given."""
    monkeypatch.setenv("APIXO_API_KEY", CANARY)
    down = httpx2.MockTransport(lambda _: httpx2.Response(500))
    with pytest.raises(ConfigurationError) as caught:
        AsyncClient(base_url="ftp://x", transport=down)
    assert not leaks(with_locals(caught.value))


def said(word: str) -> Fault:
    """Refuse the key in an envelope that holds a word of JSON."""
    return Fault.raw(401, b'{"code": 401, "message": %s}' % word.encode(), "application/json")


FAULTS: Final[dict[str, Fault]] = {
    "401": Fault.status(401, message=f"wrong key: {CANARY}"),
    "400 with data": Fault.status(400, data={"error": f"Bearer {CANARY}"}),
    "html": Fault.raw(200, f"<p>Authorization: Bearer {CANARY}".encode(), "text/html"),
    "500": Fault.raw(500, CANARY.encode()),
    "401 escaped": said(json.dumps(CANARY).replace("/", "\\/").replace("+", "\\u002b")),
    "401 of numbers": said(f'"{everywhere_escaped(CANARY)}"'),
    "html escaped": Fault.raw(200, f"<p>{html.escape(CANARY)}".encode(), "text/html"),
    "url": Fault.raw(500, urllib.parse.quote(CANARY, safe="").encode()),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_service_that_repeats_the_key(fault: str) -> None:
    """What the service says with the key in it reaches errors and events without it."""
    simulator = Simulator(seed=1, key=CANARY)
    events: list[Event] = []
    errors: list[ApixoError] = []
    async with AsyncClient(
        CANARY, transport=simulator.transport(), on_event=events.append
    ) as client:
        task = await client.submit(CASTLE)
        simulator.faults.submit(FAULTS[fault])
        simulator.faults.poll(FAULTS[fault])
        for call in (lambda: client.submit(CASTLE), task.refresh):
            with pytest.raises(ApixoError) as caught:
                await call()
            errors.append(caught.value)
    for error in errors:
        assert not leaks(f"{error!r} {error} {vars(error)} {pickle.dumps(error)!r}")
    assert not leaks(f"{events!r} {list(map(str, events))}")
    assert any("***" in f"{error} {vars(error)}" for error in errors)


async def test_the_simulator_keeps_a_digest_only() -> None:
    """Neither log nor history of a simulator holds the key of its clients."""
    simulator = Simulator(seed=1, key=CANARY)
    async with AsyncClient(CANARY, transport=simulator.transport()) as client:
        await client.generate(CASTLE)
    assert len(simulator.log) > 1
    assert all(exchange.had_authorization for exchange in simulator.log)
    assert not leaks(repr(list(simulator.log)) + repr(simulator.statistics()))


def test_public_names_hold_no_example_of_a_key() -> None:
    """No default of a public signature is a key."""
    names = [getattr(apixo_async, name) for name in apixo_async.__all__]
    assert inspect.signature(AsyncClient).parameters["api_key"].default is None
    assert not leaks(repr(names))

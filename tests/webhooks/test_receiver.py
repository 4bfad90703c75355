"""The receiver: what it signs, what it believes, whom it tells, and what it never shows."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import subprocess
import sys
import traceback
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from apixo_async import ConfigurationError, TaskRef
from apixo_async.webhooks import CallbackError, WebhookReceiver
from apixo_async.webhooks._inbox import CallbackSubscription

from ..support.requests import BODY, SECRET, URL, Watched, status_of


@pytest.fixture
async def watched() -> Watched:
    """Open a subscription on a receiver that is watched."""
    made = Watched()
    made.open()
    return made


def at(monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    """Have the receiver's wall clock stand at a time."""
    clock = SimpleNamespace(time=lambda: now)
    monkeypatch.setattr("apixo_async.webhooks._receiver.time", clock)


# --- tokens ----------------------------------------------------------------------------------


async def test_every_submit_has_a_url_of_its_own(watched: Watched) -> None:
    """Two submits never share a URL, and each begins with the public one."""
    urls = {watched.open().url for _ in range(100)}
    assert len(urls) == 100
    assert all(url.startswith(f"{URL}/") and "/" not in url[len(URL) + 1 :] for url in urls)


async def test_a_stale_token(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token of what is over holds for its lifetime, and is then as good as none."""
    at(monkeypatch, 1_000.0)
    watched.open().close()
    app, path = watched.receiver.asgi(), f"/{watched.token}"
    at(monkeypatch, 1_000.0 + 3_599.0)
    assert await status_of(app, path, BODY) == 200
    at(monkeypatch, 1_000.0 + 3_600.0)
    assert await status_of(app, path, BODY) == 404


async def test_a_clock_that_is_set(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is still awaited here is heard, whatever the clock says of its token."""
    at(monkeypatch, 4e9)
    assert await status_of(watched.receiver.asgi(), f"/{watched.token}", BODY) == 200
    assert watched.polls == ["task_1"]


async def test_a_secret_that_is_replaced(watched: Watched) -> None:
    """URLs of a previous secret are taken; new ones are made with the new secret only."""
    new = WebhookReceiver(URL, "a-new-secret-0123456789", previous_secrets=[SECRET])
    assert new.parse(watched.token, BODY) == TaskRef("gpt-image-1", "task_1")
    token = new.inbox().open("flux-kontext", 60.0, print).url.rpartition("/")[2]
    assert new.parse(token, BODY) == TaskRef("flux-kontext", "task_1")
    with pytest.raises(CallbackError):
        watched.receiver.parse(token, BODY)


@pytest.mark.parametrize("lifetime", [0, -1.0, float("inf"), float("nan"), "60", None])
async def test_a_lifetime_that_is_none(watched: Watched, lifetime: Any) -> None:
    """A token lives for a finite time above 0."""
    with pytest.raises(ConfigurationError, match="lifetime"):
        watched.receiver.inbox().open("m", lifetime, print)


@pytest.mark.parametrize(("model", "word"), [("m" * 400, "does not fit"), ("a/b", "letters")])
async def test_a_model_that_fits_in_no_url(watched: Watched, model: str, word: str) -> None:
    """A model whose name a URL cannot hold is refused before anything is bought."""
    with pytest.raises(ConfigurationError, match=word):
        watched.receiver.inbox().open(model, 60.0, print)
    assert [*watched.receiver._subscriptions] == [watched.subscription.id]


async def test_an_intent_of_an_earlier_process(watched: Watched) -> None:
    """What an earlier process submitted is told to the one that opens its intent again."""
    later = WebhookReceiver(URL, SECRET)
    polls: list[str | None] = []
    subscription = later.inbox().open(
        "gpt-image-1", 60.0, polls.append, intent_id=watched.subscription.id
    )
    assert subscription.id == watched.subscription.id
    assert await status_of(later.asgi(), f"/{watched.token}", BODY) == 200
    assert polls == ["task_1"]
    with pytest.raises(ConfigurationError, match="32 hexadecimal"):
        later.inbox().open("gpt-image-1", 60.0, polls.append, intent_id="short")


# --- whom it tells ---------------------------------------------------------------------------


async def test_two_clients_of_one_receiver(watched: Watched) -> None:
    """Each client is told of its own tasks."""
    other: list[str | None] = []
    subscription = watched.receiver.inbox().open("sora-2", 60.0, other.append)
    path = "/" + subscription.url.rpartition("/")[2]
    assert await status_of(watched.receiver.asgi(), path, BODY) == 200
    assert (watched.polls, other) == ([], ["task_1"])


async def test_a_body_that_names_no_task(watched: Watched) -> None:
    """An envelope without an id still says that there is news: the poll finds which."""
    path = f"/{watched.token}"
    assert await status_of(watched.receiver.asgi(), path, b'{"code":200,"data":null}') == 200
    assert watched.polls == [None]


async def test_a_task_of_another_process(watched: Watched) -> None:
    """It is to come again, as its owner may hear it then; the hook hears of the task once."""
    unknown: list[TaskRef] = []
    elsewhere = WebhookReceiver(URL, SECRET, on_unknown=unknown.append)
    app, path = elsewhere.asgi(), f"/{watched.token}"
    own = elsewhere.inbox().open("gpt-image-1", 60.0, print)
    assert not own.is_shared
    for body in (BODY, BODY, b'{"code":200}', b"<html>"):
        assert await status_of(app, path, body) == 503
    assert own.is_shared
    assert unknown == [TaskRef("gpt-image-1", "task_1")]


async def test_a_task_of_a_refused_submit(caplog: pytest.LogCaptureFixture) -> None:
    """A callback that comes after its submit was refused is not dropped: it may be bought twice."""
    unknown: list[TaskRef] = []
    receiver = WebhookReceiver(URL, SECRET, on_unknown=unknown.append)
    subscription = receiver.inbox().open("gpt-image-1", 60.0)
    subscription.refuse()
    path = "/" + subscription.url.rpartition("/")[2]
    assert await status_of(receiver.asgi(), path, BODY) == 200
    assert unknown == [TaskRef("gpt-image-1", "task_1")]
    assert "task task_1 was made for it" in caplog.text
    assert await status_of(receiver.asgi(), path, b"<html>") == 200
    assert "task (unnamed) was made for it" in caplog.text


async def test_a_task_of_a_fork(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a parent awaits is another process's in its fork: it comes again, for the parent."""
    over = watched.subscription
    over.close()
    awaited, app = watched.open(), watched.receiver.asgi()
    monkeypatch.setattr("apixo_async.webhooks._receiver.os.getpid", lambda: -1)
    for subscription in (over, awaited):
        assert await status_of(app, "/" + subscription.url.rpartition("/")[2], BODY) == 503
    assert not watched.polls
    assert watched.open().id[:8] != awaited.id[:8]


def test_a_loop_that_was_closed() -> None:
    """What a journal keeps comes again, until a later run opens it; all else is over."""
    watched, noted = Watched(), list[str | None]()

    async def note(_intent_id: str, task_id: str | None) -> bool:
        noted.append(task_id)
        return True

    async def opened(intent_id: str | None = None) -> CallbackSubscription:
        inbox = watched.receiver.inbox()
        return inbox.open("sora-2", 60.0, watched.polls.append, intent_id=intent_id, note=note)

    async def called(url: str) -> int:
        return await status_of(watched.receiver.asgi(), "/" + url.rpartition("/")[2], BODY)

    subscription = asyncio.run(opened())
    assert [asyncio.run(called(subscription.url)) for _ in range(2)] == [503, 503]
    assert not watched.polls

    async def again() -> int:
        await opened(subscription.id)
        return await called(subscription.url)

    assert asyncio.run(again()) == 200
    assert set(noted) == {"task_1"}
    assert watched.polls == [None]  # The name follows a second later.


async def test_a_kept_submit_of_another_process(watched: Watched) -> None:
    """What a journal keeps is to come again, until its claim is noted where it is awaited."""

    async def note(_intent_id: str, task_id: str | None) -> bool:
        noted.append(task_id)
        return True

    noted: list[str | None] = []
    subscription = watched.receiver.inbox().open("sora-2", 60.0, watched.polls.append, note=note)
    restarted, path = WebhookReceiver(URL, SECRET), "/" + subscription.url.rpartition("/")[2]
    for body in (BODY, BODY, b'{"code":200}'):
        assert await status_of(restarted.asgi(), path, body) == 503
    restarted.inbox().open(
        "sora-2", 60.0, watched.polls.append, intent_id=subscription.id, note=note
    )
    assert (await status_of(restarted.asgi(), path, BODY), noted) == (200, ["task_1"])
    subscription.close()
    assert await status_of(watched.receiver.asgi(), path, BODY) == 200


async def test_a_hook_that_fails(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    """What the hook raises is logged; the callback is answered all the same."""

    def fail(ref: TaskRef) -> None:
        raise RuntimeError(f"a defect with {ref}")

    elsewhere = WebhookReceiver(URL, SECRET, on_unknown=fail)
    assert await status_of(elsewhere.asgi(), f"/{watched.token}", BODY) == 503
    assert "on_unknown raised" in caplog.text
    assert watched.token not in caplog.text


async def test_a_task_that_is_over(watched: Watched) -> None:
    """A callback after the task's end is answered, and is not taken for another process's."""
    watched.subscription.close()
    path = f"/{watched.token}"
    watched.open()
    assert await status_of(watched.receiver.asgi(), path, BODY) == 200
    assert not watched.told


# --- parse -----------------------------------------------------------------------------------


async def test_parse(watched: Watched) -> None:
    """A receiver that only records needs no loop, no client and no subscription."""
    assert WebhookReceiver(URL, SECRET).parse(watched.token, BODY) == TaskRef(
        "gpt-image-1", "task_1"
    )
    assert not watched.told


@pytest.mark.parametrize(
    ("damage", "body", "status"),
    [
        ("x", BODY, 404),
        ("x", b"{", 404),
        ("", b"{", 400),
        ("", b'{"code":200}', 400),
        ("", b" " * 65_536 + BODY, 400),
    ],
)
async def test_parse_refuses(watched: Watched, damage: str, body: bytes, status: int) -> None:
    """A wrong token or body is an error that says how to answer."""
    with pytest.raises(CallbackError) as caught:
        watched.receiver.parse(watched.token + damage, body)
    assert caught.value.status == status


# --- settings and secrets --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"secret": SECRET[:15]}, "15 bytes"),
        ({"secret": b""}, "0 bytes"),
        ({"secret": 7}, "a int given"),
        ({"secret": "\udcff" + SECRET[:9]}, "12 bytes"),
        ({"previous_secrets": SECRET}, "sequence"),
        ({"previous_secrets": [SECRET, "short"]}, "5 bytes"),
        ({"public_url": "http://app.example.com"}, "public_url"),
        ({"on_unknown": "print"}, "on_unknown"),
    ],
)
def test_settings_that_are_wrong(given: dict[str, Any], word: str) -> None:
    """A wrong setting is refused in words that hold no secret, nor do the frames of the error."""
    with pytest.raises(ConfigurationError, match=word) as caught:
        WebhookReceiver(**({"public_url": URL, "secret": SECRET} | given))
    assert SECRET[:15] not in str(caught.value)
    for frame in traceback.walk_tb(caught.value.__traceback__):
        if frame[0].f_code.co_filename != __file__:
            assert SECRET[:15] not in repr(frame[0].f_locals)


@pytest.mark.parametrize("secret", [SECRET, SECRET.encode(), "p\u00e4sswort-0123456789"])
def test_secrets_that_are_taken(secret: str | bytes) -> None:
    """A secret is text or bytes."""
    assert WebhookReceiver(URL, secret).public_url == URL


async def test_the_secret_is_shown_nowhere(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    """No repr, attribute, pickle or log line holds the secret; a receiver is not copied."""
    caplog.set_level(logging.DEBUG)
    receiver = watched.receiver
    app = receiver.asgi()
    await status_of(app, f"/{watched.token}", BODY)
    await status_of(app, f"/{watched.token}", b"{")
    await status_of(app, "/wrong", BODY)
    shown = [repr(receiver), repr(vars(receiver)), repr(app.__dict__), caplog.text]
    assert [text for text in shown if SECRET in text] == []
    assert repr(receiver) == f"<WebhookReceiver {URL}, 1 tasks await callbacks>"
    for attempt in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            attempt(receiver)
    assert [record for record in caplog.records if record.name == "apixo_async"] == []


def test_a_receiver_that_was_refused() -> None:
    """A debugger that shows a half-built receiver meets no second error."""
    assert "refused" in repr(WebhookReceiver.__new__(WebhookReceiver))


# --- imports ---------------------------------------------------------------------------------


def test_importing_it_is_cheap() -> None:
    """The receiver imports no server, and aiohttp only when its routes are asked for."""
    program = "import sys, apixo_async.webhooks; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert {"aiohttp", "starlette", "uvicorn", "fastapi"} & set(ran.stdout.split()) == set()


def test_aiohttp_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without aiohttp its routes name the extra; all else works."""
    monkeypatch.delitem(sys.modules, "apixo_async.webhooks._aiohttp", raising=False)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(ConfigurationError, match=r"apixo-async\[aiohttp\]"):
        WebhookReceiver(URL, SECRET).aiohttp_routes()


# --- what is kept before a callback is answered ---------------------------------------------------


async def test_a_callback_that_could_not_be_noted(watched: Watched) -> None:
    """It is answered with 503, so that it comes again, and causes a poll all the same."""

    async def fail(_intent_id: str, _: str | None) -> bool:
        raise RuntimeError("the disk is full")

    inbox = watched.receiver.inbox()
    subscription = inbox.open("gpt-image-1", 60.0, watched.polls.append, note=fail)
    assert (
        await status_of(watched.receiver.asgi(), f"/{subscription.url.rpartition('/')[2]}", BODY)
        == 503
    )
    assert watched.polls == [None]


async def test_a_restarted_process(watched: Watched) -> None:
    """What came before a restarted process opened its intents again is told as soon as it does."""
    again = WebhookReceiver(URL, SECRET)
    assert await status_of(again.asgi(), f"/{watched.token}", BODY) == 503
    polls: list[str | None] = []
    again.inbox().open("gpt-image-1", 60.0, polls.append, intent_id=watched.subscription.id)
    await anyio.sleep(0.1)
    assert polls == ["task_1"]


async def test_only_the_last_unknown_ones_are_kept(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded whatever comes for others."""
    monkeypatch.setattr("apixo_async.webhooks._receiver.MOST_KNOWN", 3)
    again = WebhookReceiver(URL, SECRET)
    for subscription in [watched.open() for _ in range(5)]:
        await status_of(again.asgi(), f"/{subscription.url.rpartition('/')[2]}", BODY)
    assert len(again._early) == 3

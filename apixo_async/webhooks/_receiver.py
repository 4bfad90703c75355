"""The receiver: the URLs that it signs, the answer and the poll for each callback, shared files."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit
from weakref import WeakSet

from apixo_async._hosts import takes_callbacks
from apixo_async._reporting import guarded
from apixo_async._types import TaskRef, as_seconds
from apixo_async._validation import check_hook
from apixo_async.errors import CallbackError, ConfigurationError
from apixo_async.events import Event
from apixo_async.inputs import check_model_name
from apixo_async.webhooks import _tokens as tokens
from apixo_async.webhooks._body import Chunk, read_body, task_id_in
from apixo_async.webhooks._inbox import (
    MOST_KNOWN,
    CallbackInbox,
    CallbackSubscription,
    report_bought,
)
from apixo_async.webhooks._servers import CallbackApp, aiohttp_routes
from apixo_async.webhooks._shared_files import SharedFiles

if TYPE_CHECKING:
    from aiohttp import web

#: A URL without user, query and fragment, of characters that RFC 3986 allows.
_PLAIN: Final = re.compile(r"https?://[A-Za-z0-9._~%!$&'()*+,;=:/\[\]-]+")


def checked_public_url(given: object) -> str:
    """Return the URL without a slash at its end.

    Raises:
        ConfigurationError: The service could not post to it.
    """
    if not isinstance(given, str) or not _may_be_called(given.strip()):
        raise ConfigurationError(
            "public_url: give the https:// URL under which the service reaches the receiver, "
            "without user, query and fragment (http:// is for a simulator on a loopback host)"
        )
    return given.strip().rstrip("/")


def _may_be_called(url: str) -> bool:
    if not _PLAIN.fullmatch(url):
        return False
    try:
        parts = urlsplit(url)
        _ = parts.port  # This raises where it is no number.
        return takes_callbacks(parts.scheme, parts.hostname or "")
    except ValueError:
        return False


#: Bytes; a shorter secret could be guessed.
_SHORTEST_SECRET: Final = 16
#: First bytes of an intent's id, random in each process: by them a receiver knows its own.
_MARK_BYTES: Final = 4


class WebhookReceiver:
    """Receive the callbacks of tasks, and have each task polled when one comes.

    The service signs nothing, so nothing that a callback says is believed: its URL holds a token
    that only this secret makes, and what became of the task comes from a poll over the client's own
    channel. A callback is answered before that poll, whatever its body is. One receiver serves any
    number of clients. A callback for a submit of another process is noted in the store of a client,
    if they share one; that process polls then. Without a store it is answered 503, as one is that a
    journal keeps and has not noted yet: the service sends it again, three times in 13 minutes, and
    it may reach its owner then.

    Files are shared from the same URL, since the models take no images but those of public URLs: a
    client with a receiver takes `Path`s and bytes in `image_urls`, and `share` makes a URL of any
    file. All processes with the secret serve the files of each.

    Args:
        public_url: The https URL under which the service reaches `asgi()` or `aiohttp_routes()`,
            whatever path a proxy in between makes of it. Plain http is for loopback hosts only.
        secret: 16 random bytes or more, the same for all processes: `secrets.token_urlsafe(32)`
            makes one. It is never shown.
        previous_secrets: Earlier ones, which made URLs that may still be called.
        on_unknown: Called once with the `TaskRef` of a task that is not of this process, nor in a
            store of one of its clients, or of one that was made although its submit was refused, as
            the body of its callback claims it; must not block.
        files: The directory of shared files, which all processes can read and write; None for one
            below that for temporary files, which this user's processes on this machine share.

    Raises:
        ConfigurationError: The URL is not public, or a secret is too short.
    """

    def __init__(
        self,
        public_url: str,
        secret: str | bytes,
        *,
        previous_secrets: Sequence[str | bytes] = (),
        on_unknown: Callable[[TaskRef], None] | None = None,
        files: str | Path | None = None,
    ) -> None:
        try:
            self.public_url: Final = checked_public_url(public_url)
            self._signers = _signers(secret, previous_secrets)
            signers = _signers(secret, previous_secrets, tokens.FILES)
            self.shared_files: Final = SharedFiles(self.public_url, signers, _checked_files(files))
            self._on_unknown = check_hook("on_unknown", on_unknown)
        except ConfigurationError as error:
            # Crash reporters show the local variables of frames, of this one and of those below it:
            # no secret may be left there.
            secret, previous_secrets = b"", ()
            raise error.with_traceback(None) from None
        self._subscriptions: dict[str, CallbackSubscription] = {}
        self._early: OrderedDict[str, str] = OrderedDict()
        self._left: OrderedDict[str, None] = OrderedDict()
        self._refused: OrderedDict[str, None] = OrderedDict()
        self._inboxes: WeakSet[CallbackInbox] = WeakSet()
        self._mark = b""
        self._pid = os.getpid()
        self._is_shared = False

    def asgi(self) -> CallbackApp:
        """Return an ASGI application, to be served as it is or mounted at any path."""
        return CallbackApp(self._answer, self.shared_files)

    def aiohttp_routes(self, path: str | None = None) -> list[web.RouteDef]:
        """Return what `aiohttp.web.Application.add_routes` takes.

        Args:
            path: Where the application is called; None takes the path of `public_url`.

        Raises:
            ConfigurationError: aiohttp is not installed; the message names the extra.
        """
        inner = urlsplit(self.public_url).path if path is None else path
        return aiohttp_routes(inner.rstrip("/"), self._answer, self.shared_files)

    def share(self, content: Path | bytes, /, *, lifetime: float | None = None) -> str:
        """Serve a copy of a file, and return its URL, for any field of any model.

        A task is paid for although the service cannot fetch its image: where a submit names a
        shared file that is gone, it is refused before anything is sent. Reads and writes a file:
        call it by `asyncio.to_thread` where an event loop runs.

        Args:
            content: The file's path or its bytes: 1 to 10,000,000.
            lifetime: Seconds for which it is served; None to have it forgotten when the task is
                over that a client of this process submits with the URL, unless another task may
                succeed where that failed, or after a day. A file that was shared n times waits for
                n tasks.

        Raises:
            ConfigurationError: The file cannot be read, or is too large.
            StoreError: The directory cannot hold it.
        """
        if not isinstance(cast("object", content), Path | bytes):
            raise ConfigurationError(f"share: a {type(content).__name__} given; a Path or bytes")
        if lifetime is not None and not (as_seconds(lifetime) or 0.0) > 0:
            raise ConfigurationError(f"lifetime: {lifetime!r} given; seconds above 0, or None")
        return self.shared_files.share(content, lifetime)

    def parse(self, token: str, body: bytes) -> TaskRef:
        """Return the task that a callback is about; for applications that only record it.

        The model is proved by the token. The task's id is what the body claims: poll the task
        to know more.

        Args:
            token: The last part of the path that was called.
            body: The body of the request.

        Raises:
            CallbackError: The token or the body is wrong; `status` is what to answer.
        """
        intent = self._intent(token)
        if intent is None:
            raise CallbackError(404)
        task_id = task_id_in(body)
        if task_id is None:
            raise CallbackError(400)
        return TaskRef(intent.model, task_id)

    def inbox(self, report: Callable[[Event], None] = lambda _: None) -> CallbackInbox:
        """Return the side of this receiver that serves a client on the running loop.

        Args:
            report: Where the client's events go.
        """
        self._forget_parent()
        inbox = CallbackInbox(
            self._subscriptions,
            self._issue,
            self._early,
            self._left,
            self._refused,
            lambda: self._is_shared,
            report,
        )
        self._inboxes.add(inbox)
        return inbox

    def _issue(
        self, model: str, lifetime: float, intent_id: str | None, kept: bool
    ) -> tuple[str, str]:
        if not (as_seconds(lifetime) or 0.0) > 0:
            raise ConfigurationError(f"lifetime: {lifetime!r} given; seconds above 0")
        self._mark = self._mark or secrets.token_bytes(_MARK_BYTES)
        fresh = self._mark + secrets.token_bytes(tokens.ID_BYTES - _MARK_BYTES)
        expires = tokens.expiry(time.time(), lifetime)
        try:
            check_model_name(model)
            intent = tokens.Intent(intent_id or fresh.hex(), model, expires, kept)
            return intent.id, f"{self.public_url}/{tokens.seal(intent, self._signers[0])}"
        except ValueError as exc:
            raise ConfigurationError(str(exc)) from None

    def _intent(self, token: str) -> tokens.Intent | None:
        intent = tokens.unseal(token, self._signers)
        if intent is None or intent.id in self._subscriptions:
            return intent  # An awaited one is not stale: the clock may have been set since.
        return intent if time.time() < intent.expires else None

    def _forget_parent(self) -> None:
        """Forget, in a fork, what the parent process awaits: it cannot be reached from here."""
        if self._pid != os.getpid():
            self._pid, self._mark = os.getpid(), b""
            for known in (self._subscriptions, self._early, self._left, self._refused):
                known.clear()
            self._inboxes.clear()

    async def _answer(self, method: str, token: str, chunk: Chunk) -> int:
        """Return the status that a request is answered with; act on it if it is a callback."""
        self._forget_parent()
        intent = self._intent(token) if method == "POST" else None
        if intent is None:
            return 404
        # Only the service knows this URL: whatever the body is, there is a task to poll.
        task_id = task_id_in(await read_body(chunk))
        subscription = self._subscriptions.get(intent.id)
        if subscription is not None and subscription.is_left:
            subscription.leave()
            subscription = None
        if subscription is None:
            return await self._unknown(intent, task_id)
        return 200 if await subscription.accept(task_id) else 503

    async def _unknown(self, intent: tokens.Intent, task_id: str | None) -> int:
        """Return the status for a callback of an intent that is not open here, or not yet."""
        is_own = bool(self._mark) and intent.id.startswith(self._mark.hex())
        if is_own and intent.id in self._refused:
            report_bought(task_id)
            if task_id is not None and self._on_unknown is not None:
                guarded("on_unknown", self._on_unknown, TaskRef(intent.model, task_id))
            return 200
        if is_own and intent.id not in self._left:
            return 200  # The task is over.
        accepted = [
            await inbox.accept_for_others(intent.id, task_id) for inbox in tuple(self._inboxes)
        ]
        if any(accepted):
            return 200
        if False in accepted:
            return 503
        if task_id is not None:
            # A restarted process may open the intent soon, and the service sends this callback
            # again only after 30 s, 2 min and 10 min.
            is_new = self._early.get(intent.id) != task_id
            self._early[intent.id] = task_id
            if len(self._early) > MOST_KNOWN:
                self._early.popitem(last=False)
            if is_new and self._on_unknown is not None:
                guarded("on_unknown", self._on_unknown, TaskRef(intent.model, task_id))
        if is_own:
            # What a journal keeps has to come again until its claim is noted there.
            return 503 if intent.kept else 200
        # A load balancer may lead the next delivery to its owner. As long as two processes answer
        # for each other, a missing callback proves nothing. Where all have a store, that process is
        # no other one of theirs: its entry is gone.
        inboxes = tuple(self._inboxes)
        self._is_shared |= not inboxes or any(inbox.for_others is None for inbox in inboxes)
        return 503

    def __repr__(self) -> str:
        if not hasattr(self, "_subscriptions"):
            # Tracebacks show one whose settings were refused.
            return "<WebhookReceiver that was refused its settings>"
        return (
            f"<WebhookReceiver {self.public_url}, {len(self._subscriptions)} tasks await callbacks>"
        )


def _checked_files(given: object) -> Path | None:
    if given is None:
        return None
    if not isinstance(given, str | Path) or not str(given):
        raise ConfigurationError(f"files: {given!r:.200} given; a directory, or None")
    return Path(given).absolute()  # The program may change its own.


def _signers(
    secret: object, previous: Sequence[object], purpose: bytes = tokens.CALLBACKS
) -> tuple[tokens.Signer, ...]:
    if isinstance(previous, str | bytes):
        # A str is a sequence, too: each of its characters would count as a secret.
        raise ConfigurationError("previous_secrets: one given; give a sequence, such as a tuple")
    return tuple(tokens.Signer(_checked(given), purpose) for given in (secret, *previous))


def _checked(secret: object) -> bytes:
    value = secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret
    if not isinstance(value, bytes):
        raise ConfigurationError(f"secret: a {type(secret).__name__} given; it is a str or bytes")
    if len(value) < _SHORTEST_SECRET:
        raise ConfigurationError(
            f"secret: {len(value)} bytes given; give {_SHORTEST_SECRET} or more random ones, as by "
            "secrets.token_urlsafe(32)"
        )
    return value

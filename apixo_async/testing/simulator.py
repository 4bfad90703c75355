"""The simulator: the service as an object, and the ways to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

import httpx2

from apixo_async.testing.api import SimulatedApi
from apixo_async.testing.transport import Latency, SimulatorTransport

if TYPE_CHECKING:
    from starlette.applications import Starlette

_Message: TypeAlias = MutableMapping[str, Any]  # as ASGI has it: any value under any key
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[_Message, _Receive, _Send], Awaitable[None]]


class Simulator(SimulatedApi):
    """Answer as the APIXO service does, with every request logged and every fault scripted.

    Use it in process through `transport`, or on a port through `serve`. Callbacks go where
    `deliver_to` says; served, to their URLs over real sockets. A failed task is not refunded. The
    sample task of the documents, ``task_12345678``, can be polled under each documented model;
    it is in no list and no count.

    Args:
        seed: Replays ids, durations, failures and latencies.
        speed: Divides the durations of tasks, the delays of callbacks and of their redelivery, and
            the 30 s in which receivers must answer, though not below 5 s.
        key: The one key, unless ``keys`` is given.
        balance: What ``key`` has, in USD.
        keys: Keys with their balances in USD. Any other key is answered 401.
        no_credit: Which of the documents' forms "no credit" takes: 402, or 400 with the message
            "Insufficient credits".
        models: The only models there are; any other is answered 404. None knows every name.
        concurrent_tasks: Tasks of one key at once; a submit beyond is answered 429.
        requests_per_minute: Requests of one key in any 60 s, counted at their arrival; one beyond
            is answered 429. Requests answered 429, requests with an unknown key and downloads do
            not count.
        retry_after: Seconds for the ``Retry-After`` header of these 429s; None sends none.
        durations: Seconds before ``speed``, or ``(model, input, random) -> seconds``. Unless given,
            durations spread around the documented typical time, within the documented range.
        failure_rate: The part of the tasks that fail, 0 to 1, with failCodes of their model.
        lost_callbacks: The part of the tasks in callback mode, 0 to 1, of which nothing is posted.
        early_callbacks: The part that is over at once, unless its duration is scripted, and whose
            submit is answered only after the first post.
        duplicate_callbacks: The part that is posted twice. No task is in two of these three parts.
        processing_callbacks: The part of all, 0 to 1, with another post that says ``processing``.
        callback_delay: Seconds, before ``speed``, from what a callback tells to its first post.
        callback_spread: Up to how many seconds more are drawn for each post, so that some overtake
            others.
        result_lifetime: Seconds from the end of a task until its files are gone.
        expired_status: The HTTP status of a file that is gone.
        longest_side: Pixels of the longer side of result images.
        keep_log: How many exchanges, and posts of callbacks, the logs keep; None keeps all.
        clock: The service's clock in seconds. Unless given, the running event loop's, and outside
            of a loop ``time.monotonic``.
        epoch: Unix time, in seconds, at the clock's zero. Unless given, the wall clock's.

    Attributes:
        faults: The script of faults.
        callbacks: The script of callbacks, with their log and their counts.

    Raises:
        ValueError: An option is out of its bounds.
    """

    def transport(self, latency: Latency = 0.05) -> SimulatorTransport:
        """Return a transport for `AsyncClient`: this service in process, on the loop's time.

        Args:
            latency: Seconds from request to answer, or a function that draws them.
        """
        return SimulatorTransport(self, latency)

    def deliver_to(self, receiver: httpx2.AsyncBaseTransport | ASGIApp | None) -> None:
        """Post the callbacks of tasks that are submitted from now on to ``receiver``.

        Needs a running event loop at each submit, which counts the time until the posts, and with
        whose end they end. A receiver that raises has not answered: the log says what it raised.

        Args:
            receiver: An ASGI app, such as a FastAPI app with all its mounts; or a transport of
                httpx2, such as ``httpx2.MockTransport(answer)`` around a function. It gets every
                callback, whatever the host of its URL. None posts nothing in process, as at first.
        """
        if receiver is not None and not isinstance(receiver, httpx2.AsyncBaseTransport):
            receiver = httpx2.ASGITransport(receiver)
        self.deliveries.carrier = receiver

    def app(self) -> Starlette:
        """Return the Starlette app around this service; `serve` puts it on a port."""
        from apixo_async.testing.app import make_app

        return make_app(self)

"""What is measured, counted and observed, and by which names."""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import cache, partial
from typing import Final, TypeAlias

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

from apixo_async._client import AsyncClient
from apixo_async._types import Statistics
from apixo_async._version import __version__
from apixo_async.blocking import Client

Attributes: TypeAlias = Mapping[str, str | int | float]

#: Upper bounds of histograms, in seconds: from a wait for a permit to the longest film.
_SECONDS: Final = (0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_800)
#: The histograms.
DURATIONS: Final = {
    "task.duration": "From a submit to the poll that found its task over",
    "result.delay": "From the end of a task to the poll that found it",
    "slot.wait": "From a submit's call to its slot",
    "permit.wait": "From its slot to its permit",
    "http.duration": "From permit to answer: of submits, and of polls that failed or ended a task",
}
#: The counters: what is counted here, and read when metrics are collected, with its unit.
COUNTS: Final = {
    "submits": ("{submit}", "Submits by outcome"),
    "tasks": ("{task}", "Tasks that are over, by outcome"),
    "polls": ("{poll}", "Polls of tasks that are over"),
    "cost": ("USD", "Documented prices of purchases"),
    "throttled": ("{429}", "429s that closed something"),
    "callbacks": ("{callback}", "Callbacks by what they cause"),
}
#: What `client.statistics()` is observed as, by the name of its field.
GAUGES: Final = {
    "slots_used": "Tasks that take a slot of the account",
    "slots_waiting": "Submits that wait for a slot",
    "effective_slots_limit": "Tasks at once that the service grants, as 429s have shown",
    "requests_in_window": "Requests of the last 60 s",
    "requests_waiting": "Requests that wait for a permit",
    "effective_requests_limit": "Requests in 60 s that the service grants, as 429s have shown",
    "tasks_tracked": "Tasks that are not over",
    "uncertain_entries": "Uncertain submits in the store, of all processes",
}
NAME: Final = "apixo_async"

#: Seconds that another thread waits for the counts of a client, and for which it uses them.
_PATIENCE: Final = 1.0
_FRESH: Final = 0.5


_KNOWN: Final[weakref.WeakKeyDictionary[MeterProvider, Metrics]] = weakref.WeakKeyDictionary()


def metrics_of(provider: MeterProvider | None) -> Metrics:
    """Return the metrics of a provider, which several hooks share: it takes each of them once."""
    if provider is None:
        return _of_all()
    if provider not in _KNOWN:
        _KNOWN[provider] = Metrics(provider.get_meter(NAME, __version__))
    return _KNOWN[provider]


@cache
def _of_all() -> Metrics:
    # Whichever provider the program sets, now or later.
    return Metrics(metrics.get_meter(NAME, __version__))


class Metrics:
    """The metrics of one meter, none of which has an attribute of high cardinality."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._observed: dict[int, _Observed] = {}
        self._numbers = itertools.count()
        self._seconds = {
            name: meter.create_histogram(
                f"apixo.{name}", "s", about, explicit_bucket_boundaries_advisory=_SECONDS
            )
            for name, about in DURATIONS.items()
        }
        #: By metric, and by its attributes. Clients of several threads may share them.
        self._counts: dict[str, dict[tuple[tuple[str, str], ...], float]] = {
            name: defaultdict(int) for name in COUNTS
        }
        self._lock = threading.Lock()
        for name, (unit, about) in COUNTS.items():
            read = partial(self._counted, name)
            meter.create_observable_counter(f"apixo.{name}", [read], unit, about)

    def record(self, name: str, seconds: float, about: Attributes) -> None:
        """Measure a duration."""
        self._seconds[name].record(seconds, about)

    def count(self, name: str, number: float = 1, /, **about: str) -> None:
        """Count something: a tenth of what it costs the SDK to do that."""
        with self._lock:
            self._counts[name][*about.items()] += number

    def observe(self, client: AsyncClient | Client) -> None:
        """See `Instrument.observe`."""
        number = next(self._numbers)
        self._observed = {n: each for n, each in self._observed.items() if each.is_there}
        self._observed[number] = _Observed(client)
        if number == 0:
            for name, about in GAUGES.items():
                read = partial(self._read, name)
                self._meter.create_observable_gauge(f"apixo.{name}", [read], description=about)

    def _counted(self, name: str, _: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            counts = [*self._counts[name].items()]
        return [Observation(number, dict(about)) for about, number in counts]

    def _read(self, name: str, _: CallbackOptions) -> Iterable[Observation]:
        for number, observed in [*self._observed.items()]:
            statistics = observed.statistics()
            value = None if statistics is None else getattr(statistics, name)
            if value is not None:
                yield Observation(value, {"client": number})


class _Observed:
    """A client whose counts are read on its event loop, whichever thread collects metrics."""

    def __init__(self, client: AsyncClient | Client) -> None:
        self._client = weakref.ref(client)
        self._loop = _running_loop()
        self._last: Statistics | None = None
        self._read_at = -math.inf

    @property
    def is_there(self) -> bool:
        """Whether the program still has the client."""
        return self._client() is not None

    def statistics(self) -> Statistics | None:
        """Return the counts; None where the client or its loop is gone, or the loop is held up."""
        client, loop = self._client(), self._loop
        if client is None:
            return None
        if loop is None or loop is _running_loop():
            return client.statistics()
        if time.monotonic() - self._read_at > _FRESH:  # Else by the gauge before this one.
            known: Future[Statistics] = Future()
            self._last = None
            with suppress(RuntimeError, TimeoutError):  # It is closed, or held up.
                loop.call_soon_threadsafe(lambda: known.set_result(client.statistics()))
                self._last = known.result(_PATIENCE)
            self._read_at = time.monotonic()
        return self._last


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None

"""A span for each task, and metrics, by OpenTelemetry (extra `[otel]`): a hook for `on_event`.

    client = AsyncClient(on_event=Instrument())

Only `opentelemetry-api` is used: without an SDK, all of it does nothing.
"""

from apixo_async.otel._instrument import Instrument

__all__ = ["Instrument"]

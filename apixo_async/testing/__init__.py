"""The APIXO service as an object, in process or on a port, for tests without a network."""

from __future__ import annotations

from apixo_async.testing.virtual_time import StuckError, VirtualTimeLoop

__all__ = ["StuckError", "VirtualTimeLoop"]

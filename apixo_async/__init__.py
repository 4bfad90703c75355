"""Asyncio client for the APIXO generation API."""

__version__ = "0.1.0"

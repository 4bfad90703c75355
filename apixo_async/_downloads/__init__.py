"""Saving the files of a result."""

from apixo_async._downloads.downloader import DEFAULT_MAX_BYTES, Downloader, DownloadTimeouts

__all__ = ["DEFAULT_MAX_BYTES", "DownloadTimeouts", "Downloader"]

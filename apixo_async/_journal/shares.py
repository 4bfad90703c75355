"""Where a journal lies: a network share may lose what it has confirmed."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Final

from apixo_async._core.mounts import network_mount

_MOUNTS: Final = Path("/proc/self/mountinfo")


def warning_of(path: str, mounts: Path = _MOUNTS) -> str | None:
    """Return what to warn of before a journal is opened here, or None where nothing is known.

    Args:
        path: The journal.
        mounts: Where Linux lists what is mounted.
    """
    try:
        table = mounts.read_text(errors="surrogateescape")
        where = PurePosixPath(Path(path).resolve())
    except (OSError, ValueError, RuntimeError):
        return None
    found = network_mount(table, where)
    if found is None:
        return None
    return (
        f"journal {path}: {found.point} is a network file system ({found.kind}), which may lose "
        "what it has confirmed and let two runs in at once. Keep the journal on a local disk"
    )

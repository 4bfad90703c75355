"""Whether a journal lies on a network share, which may lose what it has confirmed."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

#: File systems whose locks and syncs depend on another machine, or on a host's good will.
_NETWORK: Final = frozenset(
    (
        *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "gpfs"),
        *("lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "smb2", "smb3", "smbfs"),
        *("fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
    )
)

#: Spaces and the like stand in the table as three octal digits.
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """One line of the table: where, and what kind of file system."""

    point: PurePosixPath
    kind: str


def network_mount(mountinfo: str, path: PurePosixPath) -> Mount | None:
    """Return the network mount that holds a path, or None where it is local or unknown.

    Args:
        mountinfo: The text of /proc/self/mountinfo.
        path: Absolute, without links.
    """
    mounts = map(_read, mountinfo.splitlines())
    holding = [mount for mount in mounts if mount and path.is_relative_to(mount.point)]
    if not holding:
        return None
    # Of mounts on the same point the last one lies on top.
    top = max(enumerate(holding), key=lambda one: (len(one[1].point.parts), one[0]))[1]
    return top if top.kind in _NETWORK else None


def _read(line: str) -> Mount | None:
    """Read `36 35 98:0 /root /point options [more]… - kind source options`."""
    before, dash, after = line.partition(" - ")
    fields, kinds = before.split(" "), after.split(" ")
    if not dash or len(fields) < 6:
        return None
    point = _ESCAPE.sub(lambda found: chr(int(found[1], 8)), fields[4])
    return Mount(PurePosixPath(point), kinds[0])


_MOUNTS: Final = Path("/proc/self/mountinfo")


def share_of(path: str, mounts: Path = _MOUNTS) -> Mount | None:
    """Return the network mount on which a file lies or would lie, None where nothing is known.

    Args:
        path: The file.
        mounts: Where Linux lists what is mounted.
    """
    try:
        table = mounts.read_text(errors="surrogateescape")
        where = PurePosixPath(Path(path).resolve())
    except (OSError, ValueError, RuntimeError):
        return None
    return network_mount(table, where)


def warning_of(path: str, mounts: Path = _MOUNTS) -> str | None:
    """Return what to warn of before a journal is opened here; the arguments as of `share_of`."""
    found = share_of(path, mounts)
    if found is None:
        return None
    return (
        f"journal {path}: {found.point} is a network file system ({found.kind}), which may lose "
        "what it has confirmed and let two runs in at once. Keep the journal on a local disk"
    )

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from apixo_async.journal._network_share import Mount, network_mount

TABLE = r"""
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 22 0:25 / /proc rw - proc proc rw
41 22 0:40 / /mnt/films rw,relatime shared:9 master:2 - nfs4 server:/films rw,vers=4.2
42 41 0:41 / /mnt/films/local rw - ext4 /dev/vdb rw
43 22 0:42 /a /mnt/my\040share rw - cifs //server/share rw
44 22 0:43 / /home/me/remote rw - fuse.sshfs me@there: rw
45 22 0:44 / /mnt/twice rw - ext4 /dev/vdc rw
46 22 0:45 / /mnt/twice rw - nfs there:/ rw
47 22 0:46 / /mnt/cured rw - nfs there:/ rw
48 22 0:47 / /mnt/cured rw - tmpfs tmpfs rw
no line of this table
49 22 0:48 too short - nfs x
"""


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/home/me/run.db", None),
        ("/mnt/films/run.db", ("/mnt/films", "nfs4")),
        ("/mnt/films/deep/er/run.db", ("/mnt/films", "nfs4")),
        ("/mnt/films/local/run.db", None),
        ("/mnt/filmsnot/run.db", None),
        ("/mnt/my share/run.db", ("/mnt/my share", "cifs")),
        ("/home/me/remote/run.db", ("/home/me/remote", "fuse.sshfs")),
        ("/mnt/twice/run.db", ("/mnt/twice", "nfs")),
        ("/mnt/cured/run.db", None),
    ],
)
def test_the_mount_that_holds_a_path(path: str, found: tuple[str, str] | None) -> None:
    """The longest mount point above a path decides; of two on one point the later."""
    expected = None if found is None else Mount(PurePosixPath(found[0]), found[1])
    assert network_mount(TABLE, PurePosixPath(path)) == expected


@pytest.mark.parametrize("table", ["", "garbage\n\n", " - "])
def test_a_table_that_says_nothing(table: str) -> None:
    """Where nothing is known, nothing is claimed."""
    assert network_mount(table, PurePosixPath("/mnt/films/run.db")) is None

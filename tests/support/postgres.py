"""A PostgreSQL server of a test's own, on a free port of this machine."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

#: Where Debian keeps what is not on the PATH, the newest last.
_DEBIAN: Final = "/usr/lib/postgresql/*/bin"

#: Seconds in which a server has to start on a busy machine.
_STARTING: Final = 60.0


def program(name: str) -> str | None:
    """Return the path of one of PostgreSQL's programs."""
    if found := shutil.which(name):
        return found
    places = sorted(Path("/").glob(f"{_DEBIAN[1:]}/{name}"))
    return str(places[-1]) if places else None


class PostgresServer:
    """A server, and its database.

    Attributes:
        dsn: How a superuser reaches it.
    """

    def __init__(self, folder: Path, *, user: str | None) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._user = user
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port: int = sock.getsockname()[1]
        self.dsn = f"postgresql://postgres:canary-dsn@127.0.0.1:{self.port}/postgres"

    def make(self) -> None:
        """Make its files."""
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        initdb = program("initdb")
        assert initdb is not None
        ran = subprocess.run(
            [
                *(initdb, "-D", str(self._data), "-U", "postgres", "-A", "trust"),
                *("--no-sync", "-E", "UTF8", "--locale", "C"),
            ],
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
            user=self._user,
            group=self._user,
        )
        assert ran.returncode == 0, ran.stderr

    def start(self) -> None:
        """Start it, and wait until it answers."""
        postgres = program("postgres")
        assert postgres is not None
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "60",
            "shared_buffers": "16MB",
            # Its processes are killed, and this machine is not: nothing that was written is lost.
            "fsync": "off",
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [postgres, "-D", str(self._data), *settings],
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                user=self._user,
                group=self._user,
            )
        import psycopg

        until = time.monotonic() + _STARTING
        while True:
            try:
                psycopg.connect(self.dsn, connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < until, (self._folder / "log").read_text("utf-8")
                assert self._process.poll() is None, (self._folder / "log").read_text("utf-8")
                time.sleep(0.05)

    def ask(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement as its superuser."""
        import psycopg

        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def kill(self) -> None:
        """End it by SIGKILL, with all of its processes, as a crash does."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """End it at once, in order."""
        self._signal(signal.SIGINT)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, number)
            self._process.wait(30)
            self._process = None


@contextmanager
def postgres_server() -> Generator[PostgresServer]:
    """Have a server for the time of the block; skip where there is no PostgreSQL."""
    pytest.importorskip("psycopg", reason="needs the extra [postgres]")
    if program("initdb") is None or program("postgres") is None:
        pytest.skip("needs PostgreSQL's initdb: apt-get install postgresql")
    # It refuses to run as root, and its own user may not enter the folders of root's tests.
    user = "postgres" if os.name == "posix" and os.getuid() == 0 else None
    with tempfile.TemporaryDirectory(dir="/tmp" if user else None) as folder:
        server = PostgresServer(Path(folder), user=user)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()

"""A PostgreSQL that a test may kill."""

import subprocess
import tempfile
import time
import warnings
from itertools import count
from pathlib import Path
from typing import Any

import psutil

from toploss.home import Home
from toploss.settings import read_settings


class Server:
    """It keeps what it has said is committed, though its processes are killed."""

    def __init__(self, pgserver: Any) -> None:
        # Short: a socket's path may have a hundred characters.
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about where others keep their sockets
            self._server = pgserver.get_server(self._folder, cleanup_mode="delete")
        self._numbers = count()
        self._do("ALTER SYSTEM SET fsync = off")  # this machine goes on
        self._do("SELECT pg_reload_conf()")
        self._do("CREATE DATABASE migrated")
        settings = read_settings(home=self._folder / "home", database_url=self._url("migrated"))
        Home.open(settings).db.close()

    def made(self) -> str:
        """A new database's URL."""
        name = f"test_{next(self._numbers)}"
        self._do(f"CREATE DATABASE {name} TEMPLATE migrated")
        return self._url(name)

    def kill(self) -> None:
        """By `kill -9`, and all that it had started."""
        master = psutil.Process(self._server.get_pid())
        killed = [master, *master.children()]
        for process in killed:
            process.kill()
        psutil.wait_procs(killed, 10)

    def start(self) -> None:
        for _ in range(50):  # the memory of before may not be free at once
            try:
                self._server.ensure_postgres_running()
                self._do("SELECT 1")
                return
            except (subprocess.CalledProcessError, OSError):
                time.sleep(0.2)
        raise AssertionError("PostgreSQL does not start again")

    def end(self) -> None:
        self._server.cleanup()

    def _url(self, name: str) -> str:
        return f"postgresql+psycopg://postgres@/{name}?host={self._folder}"

    def _do(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(statement)

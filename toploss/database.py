"""The database: opened, migrated, and its transactions."""

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from toploss.errors import BadSettings, Broken, WrongSchema
from toploss.schema import REVISION

MIGRATIONS = Path(__file__).parent / "migrations"
PATIENCE_S = 30.0  # how long SQLite waits for another writer
LABELS = 0x746F706C  # what stands for the labels among a database's locks


class Database:
    """Short transactions on one database. Threads may share it."""

    def __init__(self, url: str) -> None:
        """Connects to nothing yet.

        Raises:
            BadSettings: when the URL cannot be read, or its folder not be made.
        """
        self.url = url
        self._engine = _engine(url)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view; waits for no writer."""
        with self._told(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that is wholly kept or wholly undone.

        On SQLite it takes the write lock at once: a read that becomes a write would fail.
        """
        with self._told(), self._engine.connect() as plain:
            connection = plain.execution_options(toploss_write=True)
            with connection.begin():
                yield connection

    def prepare(self) -> None:
        """Create a missing database; check the schema of one that is there.

        Raises:
            WrongSchema: when it is older or newer than this code.
        """
        with self.read() as connection:  # one view: another process may be making it just now
            tables = inspect(connection).get_table_names()
            found = _revision(connection)
        if not tables:
            self.upgrade()
        elif found != REVISION:
            newer = found is not None and found > REVISION  # revisions are numbered: "0001", …
            raise WrongSchema(
                f"the database {self} has schema {found!r}, this release needs {REVISION!r}; "
                + ("use the newer release that made it" if newer else "run `toploss db upgrade`")
            )

    def revision(self) -> str | None:
        """The migration that the database stands at; None before the first."""
        with self.read() as connection:
            return _revision(connection)

    def __str__(self) -> str:
        """The URL without its password."""
        return make_url(self.url).render_as_string()

    def upgrade(self) -> tuple[str | None, str | None]:
        """Migrate to this release's schema; returns the revisions before and after.

        Two processes may do it at once: the second waits and finds nothing to do.

        Raises:
            WrongSchema: when the database is newer than this release; it is left as it was.
            Broken: when its tables are not those of its revision; likewise.
        """
        from alembic import command
        from alembic.util import CommandError

        with self.write() as connection:
            before = _revision(connection)
            config = _config()
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as exc:
                raise WrongSchema(
                    f"the database has schema {before!r}, which this release does not know; "
                    "use the newer release that made it"
                ) from exc
            except DBAPIError as exc:
                raise Broken(
                    f"the database {self} cannot be upgraded from {before!r}: {exc.orig}; "
                    "it is as it was; restore a back-up, or name another in TOPLOSS_DATABASE_URL"
                ) from exc
            return before, _revision(connection)

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """A database that cannot be reached or read is told in a line."""
        try:
            yield
        except DBAPIError as exc:
            reason = str(exc.orig)
            if exc.connection_invalidated or any(
                sign in reason
                for sign in ("unable to open", "not a database", "malformed", "readonly", "locked")
            ):
                raise Broken(
                    f"the database {self} cannot be used: {reason}; check the path, its rights "
                    "and TOPLOSS_DATABASE_URL"
                ) from exc
            raise


def one_at_a_time(connection: Connection) -> None:
    """Whoever changes labels does it alone from here to the end of the transaction: what is counted
    of them has one writer at a time, and nobody waits for two rows the wrong way round. On SQLite
    all writers are."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LABELS})


@contextmanager
def in_order(connection: Connection) -> Iterator[None]:
    """What is asked within is read from an index that has its order. PostgreSQL thinks that two
    classes which are often seen together are so by chance, and would fetch and sort them all."""
    told = connection.dialect.name == "postgresql"
    if told:
        connection.execute(text("SET LOCAL enable_sort = off"))
    yield
    if told:
        connection.execute(text("SET LOCAL enable_sort = on"))


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() != "sqlite":
            return create_engine(parsed, pool_pre_ping=True)
        if parsed.database and parsed.database != ":memory:":
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed, connect_args={"timeout": PATIENCE_S})
    except (ArgumentError, ImportError) as exc:
        raise BadSettings(
            f"TOPLOSS_DATABASE_URL={_without_password(url)!r} is not usable ({exc}); "
            "give sqlite:///PATH or postgresql+psycopg://…"
        ) from exc
    except OSError as exc:
        raise BadSettings(
            f"the folder of {url} cannot be made ({exc}); set TOPLOSS_HOME to one you may write"
        ) from exc

    @event.listens_for(engine, "connect")
    def _connected(raw: Any, _record: Any) -> None:
        raw.isolation_level = None  # we say BEGIN ourselves
        _use_wal(raw)
        for pragma in ("foreign_keys=ON", "synchronous=FULL"):
            raw.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("toploss_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _use_wal(raw: sqlite3.Connection) -> None:
    """Turn the write-ahead log on. SQLite's own time-out does not hold for this switch, so two
    processes that make a database at once would fail."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            raw.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as exc:
            if "locked" not in str(exc) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _without_password(url: str) -> str:
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _config() -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config

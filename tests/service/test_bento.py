"""`bentoml build`, and what it built served elsewhere: real processes, real sockets."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.service.conftest import LABELS, is_problem, picture, plain, publish, settings_for
from tests.service.running import BENTOML, ROOT, Server, environment, served, soon
from toploss import keys, models
from toploss.home import Home

IMAGES = [
    plain("red"),
    plain("lime", side=300),
    picture(1, kind="JPEG"),
    picture(2, side=70),
    picture(3, side=9, kind="WEBP"),
]
PACKED_CODE = "0.0.0+packed"  # by which the code in the Bento is known from the checkout's
PACKED = {"toploss", "service", "README.md", "LICENSE", "bentofile.yaml"}


@dataclass(frozen=True)
class Built:
    tag: str
    folder: Path  # that it was built in: `home`, and `bentoml` with the Bento
    version: str

    @property
    def bento(self) -> Path:
        return self.folder / "bentoml" / "bentos" / self.tag.replace(":", "/")


def bentoml(folder: Path, *command: str) -> str:
    done = subprocess.run(
        [str(BENTOML), *command],
        cwd=ROOT,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def built_in(folder: Path) -> Built:
    told = bentoml(folder, "build", "--output", "tag")
    home = Home.open(settings_for(folder / "home"))
    version = models.get(home, "production").name
    home.db.close()
    found = re.search(r"__tag__:(\S+)", told)
    assert found, told
    return Built(tag=found[1], folder=folder, version=version)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, export: Path) -> Built:
    folder = tmp_path_factory.mktemp("built")
    home = Home.open(settings_for(folder / "home"))
    models.promote(home, publish(home, export, folder), reason="test", actor="test")
    home.db.close()
    return built_in(folder)


@contextmanager
def elsewhere(built: Built, folder: Path, **settings: str) -> Iterator[Server]:
    """The Bento in an empty home: nothing of the checkout, of the store, of the database."""
    folder.mkdir(exist_ok=True)
    bentoml(built.folder, "export", built.tag, str(folder / "there.tar"))
    bentoml(folder, "import", str(folder / "there.tar"))
    env = {"PYTHONPATH": str(folder / "witness"), **settings}
    with served(folder, what=built.tag, cwd=folder, **env) as server:
        yield server


def asked(server: Server, image: bytes) -> Any:
    answer = server.client.post("/predict", files={"image": image})
    assert answer.status_code == 200, answer.text
    return {**answer.json(), "prediction_id": ""}


def test_it_carries_code_and_version_and_nothing_else(built: Built) -> None:
    inside = {path.name for path in (built.bento / "src").iterdir()}
    assert inside == PACKED
    assert not list((built.bento / "src").rglob("__pycache__"))
    told = yaml.safe_load((built.bento / "bento.yaml").read_text())
    (model,) = told["services"][0]["models"]
    assert model["tag"] == f"toploss:{built.version}"
    assert set(model["metadata"]) == {"manifest_sha256", "run", "created_at"}
    size = sum(path.stat().st_size for path in built.bento.rglob("*") if path.is_file())
    assert size < 4 * 2**20


def test_it_serves_alone_where_nothing_else_is(built: Built, tmp_path: Path) -> None:
    """The home that it was built from is not this server's."""
    package = built.bento / "src" / "toploss" / "__init__.py"
    package.write_text(f'__version__ = "{PACKED_CODE}"\n')
    witness = built.folder / "witness.txt"
    witness.unlink()
    given = {
        "TOPLOSS_HOME": str(tmp_path / "nothing"),
        "PYTHONPATH": str(built.folder / "witness"),
    }
    with served(built.folder, what=built.tag, cwd=tmp_path, **given) as server:
        assert [asked(server, plain(label))["label"] for label in LABELS] == list(LABELS)
        card = server.client.get("/v1/model").json()
        assert (card["version"], card["generation"]) == (built.version, 0)
        assert server.client.post("/explain", files={"image": plain("red")}).status_code == 200
        assert "alone" in is_problem(server.client.get("/v1/top-losses"), 404)
        is_problem(server.client.get("/review"), 404)
        for path in ("/livez", "/readyz", "/metrics", "/docs.json"):
            assert server.client.get(path).status_code == 200, path
        assert 'toploss_predicted_total{label="red"}' in server.client.get("/metrics").text
        described = server.client.get("/openapi.json").json()
        assert described["info"]["version"] == PACKED_CODE
    assert not list(tmp_path.iterdir())
    log = server.log.read_text()
    assert f"mode=alone version={built.version}" in log
    assert "Traceback" not in log
    assert [
        line for line in witness.read_text().splitlines() if not line.endswith(" watched")
    ] == []


@pytest.mark.slow
def test_with_keys_it_listens_elsewhere_and_without_it_refuses(
    built: Built, tmp_path: Path
) -> None:
    folder = tmp_path / "there"
    secret = keys.create_in_file(tmp_path / "keys", "shop", "predict")
    with elsewhere(built, folder, TOPLOSS_KEYS_FILE=str(tmp_path / "keys")) as server:
        is_problem(server.client.get("/v1/model"), 401)
        headers = {"authorization": f"Bearer {secret}"}
        assert server.client.get("/v1/model", headers=headers).status_code == 200
    env = environment(folder) | {"PYTHONPATH": "", "BENTOML_HOST": "0.0.0.0"}
    refused = subprocess.run(
        [str(BENTOML), "serve", built.tag], cwd=folder, env=env, capture_output=True, text=True
    )
    assert refused.returncode == 1
    (line,) = refused.stderr.strip().splitlines()
    assert "0.0.0.0" in line


@pytest.mark.slow
def test_with_a_database_it_serves_everything_and_follows_the_alias(
    built: Built, tmp_path: Path, unserved: tuple[Path, list[str]], export: Path
) -> None:
    shutil.copytree(unserved[0], tmp_path / "home")
    given = {
        "TOPLOSS_DATABASE_URL": f"sqlite:///{tmp_path}/home/toploss.db",
        "TOPLOSS_STORAGE_URL": str(tmp_path / "home" / "storage"),
    }
    home = Home.open(settings_for(tmp_path / "home"))
    with elsewhere(built, tmp_path / "there", **given) as server:
        production = models.get(home, "production").name
        assert asked(server, plain("red"))["model"] == production != built.version
        assert server.client.get("/v1/top-losses").json()["total"] > 0
        page = server.client.get("/", headers={"accept": "text/html"}, follow_redirects=True)
        assert page.status_code == 200
        new = publish(home, export, tmp_path)
        models.promote(home, new, reason="test", actor="test")
        soon(lambda: asked(server, plain("red"))["model"] == new)
    home.db.close()


@pytest.mark.slow
def test_a_trained_version_answers_to_the_bit_as_where_it_is_not_packed(
    learned_home: Callable[..., Home], tmp_path: Path
) -> None:
    folder = tmp_path / "unpacked"
    folder.mkdir()
    home = learned_home()
    home.db.close()
    home.settings.home.rename(folder / "home")
    packed = built_in(folder)
    with (
        served(folder, TOPLOSS_ENGINE="onnx") as there,
        elsewhere(packed, tmp_path / "there", TOPLOSS_ENGINE="onnx") as here,
    ):
        for image in IMAGES:
            assert asked(here, image) == asked(there, image)
            maps = [who.client.post("/explain", files={"image": image}) for who in (here, there)]
            assert maps[0].content == maps[1].content
        cards = [who.client.get("/v1/model").json() for who in (here, there)]
        assert cards[0] == {**cards[1], "generation": 0}


@pytest.mark.slow
def test_nothing_is_built_where_nothing_was_promoted(tmp_path: Path) -> None:
    refused = subprocess.run(
        [str(BENTOML), "build"],
        cwd=ROOT,
        env=environment(tmp_path) | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert refused.returncode != 0
    assert "no version has been promoted yet" in refused.stderr + refused.stdout
    assert not os.listdir(tmp_path / "bentoml" / "bentos")

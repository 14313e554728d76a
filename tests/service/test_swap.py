"""The model that answers follows the alias: under requests, past broken versions and outages."""

import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load, save
from sqlalchemy import text
from starlette.testclient import TestClient

from service.edge import Edge
from service.swap import Swap
from tests.service.conftest import House, picture
from toploss import artifact, bentostore, models
from toploss.errors import Broken
from toploss.schema import REVISION, upgrades


def test_every_answer_under_a_swap_names_one_of_the_versions(house: House) -> None:
    first = house.client.get("/v1/model").json()["version"]
    answers: list[Any] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answers.append(house.client.post("/predict", files={"image": picture()}))

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    second = house.promote()
    models.rollback(house.home, reason="test", actor="test")
    house.wait(lambda: house.answering() == 3)
    stop.set()
    for thread in asking:
        thread.join()
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["model"] for answer in answers} == {first, second}
    assert all(a.headers["x-model-version"] == a.json()["model"] for a in answers)


def test_a_version_that_disagrees_with_training_stays_out_and_says_so_in_a_line(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    golden = load((house.export / artifact.GOLDEN).read_bytes())
    wrong = {**golden, "probabilities": golden["probabilities"][:, ::-1].copy()}
    bad = house.publish(golden=save(wrong))
    standing = house.client.get("/v1/model").json()
    models.promote(house.home, bad, reason="test", actor="test")
    house.wait(lambda: "differs from training" in caplog.text)
    assert house.client.get("/v1/model").json() == standing
    assert house.client.post("/predict", files={"image": picture()}).status_code == 200
    desk = house.client.app._api.state.desk  # type: ignore[attr-defined]
    house.wait(lambda: desk.swap._failure.tries >= 2)
    (said,) = [record for record in caplog.records if "outcome=failed" in record.getMessage()]
    assert (said.levelname, said.exc_info) == ("ERROR", None)
    assert "\n" not in said.getMessage()
    assert "promote another one" in said.getMessage()
    assert desk.swap.ready
    house.promote()  # a good one after it serves


def test_why_it_does_not_load_is_told_whole_to_who_debugs(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Any:
        raise Broken("two\nlines")

    caplog.set_level(logging.DEBUG, "toploss.swap")
    swap = Swap(house.home)
    monkeypatch.setattr(bentostore, "pull", broken)
    swap.look()

    error, debug = [record for record in caplog.records if "outcome=failed" in record.getMessage()]
    assert (error.exc_info, "\n" in error.getMessage()) == (None, False)
    assert debug.exc_info is not None


def test_a_database_that_is_away_stops_no_answer(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    version = house.client.get("/v1/model").json()["version"]

    def away(_home: Any) -> Any:
        raise Broken("the database cannot be used")

    with monkeypatch.context() as patch:
        patch.setattr(models, "production", away)
        house.wait(lambda: "action=look outcome=failed" in caplog.text)
        answer = house.client.post("/predict", files={"image": picture()})
        assert answer.json()["model"] == version
        assert house.client.get("/v1/model").json()["version"] == version
    house.promote()


def test_not_ready_before_the_first_look_nor_while_a_promoted_version_does_not_load(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap = Swap(house.home)
    assert not swap.ready
    assert "starting" in swap.told()

    def broken(*_: Any) -> Any:
        raise Broken("gone")

    monkeypatch.setattr(bentostore, "pull", broken)
    swap.look()
    assert not swap.ready
    assert "does not load" in swap.told()
    monkeypatch.undo()
    swap._failure = None
    swap.look()
    assert swap.ready


def readyz(house: House) -> Any:
    """As BentoML's own route is seen through our edge."""

    async def plain(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return TestClient(Edge(plain, api=house.client.app._api)).get(  # type: ignore[attr-defined]
        "/readyz", headers={"host": "localhost"}
    )


def test_a_database_that_another_release_has_upgraded_is_told_and_left_when_it_has_to_be(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """The service goes on where the newer schema lets it, and is not ready where it does not."""
    swap = Swap(house.home)
    swap.look()
    for revision, oldest in (("9998", REVISION), ("9999", "9998")):
        with house.home.db.write() as connection:
            connection.execute(
                text("UPDATE alembic_version SET version_num = :to"), {"to": revision}
            )
            row = {"revision": revision, "min_compatible": oldest, "at": 0.0, "events_told": 0}
            connection.execute(upgrades.insert().values(row))
        swap.look()
        assert swap.ready == (oldest == REVISION)
        assert swap.beside is not None
        house.wait(lambda: house.desk.swap.beside == swap.beside)
        assert readyz(house).headers["x-toploss-schema"] == f"{revision}, newer than this release"
        assert f"action=schema the database of this service has schema '{revision}'" in caplog.text
    assert "use the newer release" in swap.told()


def test_the_store_holds_the_version_and_mends_what_is_damaged(house: House) -> None:
    import bentoml

    version = models.get(house.home, "production")
    tag = f"{house.home.settings.name}:{version.name}"
    folder = bentostore.pull(house.home, version).folder
    assert str(bentoml.models.get(tag).tag) == tag
    (folder / artifact.ONNX).write_bytes(b"damaged")
    (folder / artifact.GOLDEN).unlink()
    assert bentostore.pull(house.home, version).folder == folder
    artifact.open_folder(folder, version.manifest_sha256)


def test_nothing_is_written_into_a_bento_s_own_store(house: House, tmp_path: Path) -> None:
    """A Bento that was unpacked has BentoML look for every model in the Bento."""
    from bentoml._internal.configuration.containers import BentoMLContainer
    from bentoml._internal.models import ModelStore

    version = models.get(house.home, house.publish())
    (tmp_path / "own").mkdir()
    BentoMLContainer.model_store.set(ModelStore(tmp_path / "own"))
    try:
        folder = bentostore.pull(house.home, version).folder
        assert bentostore.pull(house.home, version).folder == folder
    finally:
        BentoMLContainer.model_store.reset()
    assert not list((tmp_path / "own").iterdir())


def test_a_half_written_model_is_pulled_anew(house: House) -> None:
    version = models.get(house.home, "production")
    folder = bentostore.pull(house.home, version).folder
    (folder / "model.yaml").unlink()
    bentostore.pull(house.home, version)
    assert (folder / "model.yaml").is_file()


def test_a_version_whose_bytes_are_wrong_in_the_storage_is_not_left_in_the_store(
    house: House,
) -> None:
    name = house.publish()
    version = models.get(house.home, name)
    house.home.blobs.put(f"{version.path}/{artifact.ONNX}", b"something else")
    with pytest.raises(Broken, match="not what was published"):
        bentostore.pull(house.home, version)
    assert bentostore._folder(_tag(house, name)) is None


def _tag(house: House, name: str) -> Any:
    import bentoml

    return bentoml.Tag(house.home.settings.name, name)

"""The watch over a promotion with real swaps: what servers report, and what follows from it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from prometheus_client import REGISTRY
from safetensors.numpy import load, save

from tests.service.conftest import House, is_problem, plain, serve
from tests.service.drifting import watched
from toploss import artifact, models, outcomes, policy, servers, watch
from toploss.errors import Broken
from toploss.watch import Cause, Watch


@pytest.fixture
def house(
    tmp_path: Path, export: Path, bentoml_home: Path, unserved: tuple[Path, list[str]]
) -> Iterator[House]:
    shutil.copytree(unserved[0], tmp_path / "home")
    yield from serve(tmp_path, export, watch_load_s=0.3)


def ask(house: House, colour: str, times: int) -> list[int]:
    found = [house.client.post("/predict", files={"image": plain(colour)}) for _ in range(times)]
    house.desk.reports.say()
    return [answer.status_code for answer in found]


def stuck(house: House) -> int:
    house.desk.reports.say()  # not only every five seconds
    found = watch.look(house.home)
    assert found is not None
    return found.stuck


def undone(house: House, cause: Cause) -> None:
    """It is rolled back, the version before answers, and nothing moves any more."""
    before = models.before(house.home)
    alias = Watch(house.home).step()
    assert alias is not None
    assert (alias.version, models.moves(house.home, limit=1)[0].cause) == (before, cause)
    house.wait(lambda: house.answering() == alias.generation)
    assert policy.due(house.home).paused
    assert ask(house, "black", 3) == [200] * 3
    assert Watch(house.home).step() is None
    assert REGISTRY.get_sample_value("toploss_rollbacks", {"cause": cause.value}) == 1


def test_a_version_that_does_not_load_is_rolled_back_and_nobody_notices(house: House) -> None:
    first = house.client.get("/v1/model").json()["version"]
    golden = load((house.export / artifact.GOLDEN).read_bytes())
    wrong = {**golden, "probabilities": golden["probabilities"][:, ::-1].copy()}
    models.promote(house.home, house.publish(golden=save(wrong)), reason="test", actor="test")
    house.wait(lambda: stuck(house) == 1)
    assert ask(house, "red", 2) == [200, 200]
    told = house.client.get("/v1/models").json()["watch"]
    assert (told["servers"], told["answering"], told["cause"]) == (1, 0, "load")
    assert "differs from training" in told["why"]

    undone(house, Cause.LOAD)
    assert house.client.get("/v1/model").json()["version"] == first


def brittle(folder: Path) -> dict[str, Any]:
    """It answers what is dark, and fails to compute what is bright: an index leads out."""
    model = onnx.load(folder / artifact.ONNX)
    graph = model.graph
    (last,) = [node for node in graph.node if "logits" in node.output]
    last.output[0] = "plain_logits"
    graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "nothing"))
    graph.node.extend(
        [
            helper.make_node("ReduceMax", ["means"], ["brightest"], axes=[1], keepdims=1),
            helper.make_node("Relu", ["brightest"], ["bright"]),
            helper.make_node("Cast", ["bright"], ["place"], to=onnx.TensorProto.INT64),
            helper.make_node("Gather", ["nothing", "place"], ["found"]),
            helper.make_node("Add", ["plain_logits", "found"], ["logits"]),
        ]
    )
    onnx.save(model, folder / artifact.ONNX)
    return {}


def test_a_version_that_fails_on_some_images_is_rolled_back(house: House) -> None:
    assert ask(house, "red", 25) == [200] * 25
    house.promote(house.publish(more=brittle))
    is_problem(house.client.post("/predict", files={"image": b"no image"}), 400)
    assert ask(house, "black", 20) == [200] * 20
    assert Watch(house.home).step() is None

    assert ask(house, "red", 20) == [503] * 20

    found = watch.look(house.home)
    assert found is not None
    assert (found.now.answers, found.now.failed) == (20, 20)
    assert found.why == "fails on 20 of 40 images; the version before on 0 of 25"
    undone(house, Cause.ERRORS)
    assert ask(house, "red", 1) == [200]


def startled(folder: Path) -> dict[str, Any]:
    return watched(folder) | {"novelty": {"threshold": -1.0}}


def test_a_version_that_finds_everything_novel_is_rolled_back(house: House) -> None:
    house.promote(house.publish(more=lambda at: watched(at) | {"novelty": {"threshold": 2.0}}))
    ask(house, "red", 30)
    assert Watch(house.home).step() is None
    house.promote(house.publish(more=startled))
    ask(house, "red", 30)

    undone(house, Cause.NOVELTY)


def test_what_cannot_be_told_is_kept_and_a_server_that_ends_says_so(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reports = house.desk.reports

    def away(*_: Any, **__: Any) -> Any:
        raise Broken("the database is away")

    with monkeypatch.context() as patched:
        patched.setattr(servers, "say", away)
        ask(house, "red", 2)
        reports.say()
        assert caplog.text.count("action=report outcome=failed") == 1
    ask(house, "red", 1)
    with house.home.db.read() as connection:
        assert outcomes.of_generation(connection, 1).answers == 3
        (server,) = servers.listed(connection)
    assert (server.standing.generation, server.alive) == (1, True)
    reports.stop()
    with house.home.db.read() as connection:
        assert servers.listed(connection) == []

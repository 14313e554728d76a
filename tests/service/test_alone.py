"""A Bento that serves alone: the same answers, nothing else, and nothing written."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.testclient import TestClient

from service import mode
from service.alone import Alone
from service.edge import Edge
from service.mode import Whole
from tests.service.conftest import House, is_problem, picture, plain, settings_for
from toploss import artifact, keys, models
from toploss.errors import BadSettings

IMAGES = [plain("red"), plain("blue"), picture(1, kind="JPEG"), picture(2, side=70)]


@pytest.fixture
def bento(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that says of its version what `bentoml build` has it say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # BentoML's own dependencies deprecate what it imports
        from service.packing import Packed
    with monkeypatch.context() as patch:
        patch.setenv("TOPLOSS_HOME", str(house.home.settings.home))
        packed = Packed().to_info()
    told = {"tag": str(packed.tag), "metadata": packed.metadata}
    (tmp_path / "bento").mkdir()
    (tmp_path / "bento" / "bento.yaml").write_text(
        yaml.safe_dump({"services": [{"name": "toploss", "models": [told]}]})
    )
    return tmp_path / "bento"


def served(bento: Path, folder: Path, **settings: Any) -> Iterator[TestClient]:
    alone = Alone(settings_for(folder, **settings), bento)
    api = alone.api()
    api.state.desk = alone.desk()
    api.state.desk.start()
    with TestClient(Edge(api, api=api), base_url="http://127.0.0.1:3000") as client:
        yield client
    api.state.desk.clear()


@pytest.fixture
def client(bento: Path, tmp_path: Path) -> Iterator[TestClient]:
    yield from served(bento, tmp_path / "nothing", capture_rate=1)


def test_it_answers_as_the_server_with_the_database_does(
    house: House, client: TestClient, tmp_path: Path
) -> None:
    for image in IMAGES:
        answers = [who.post("/predict", files={"image": image}) for who in (house.client, client)]
        there, here = ({**answer.json(), "prediction_id": ""} for answer in answers)
        assert here == there
        assert answers[1].headers["x-model-version"] == here["model"]
        maps = [who.post("/explain", files={"image": image}) for who in (house.client, client)]
        assert maps[0].content == maps[1].content
    batch = client.post("/predict_batch", files=[("images", image) for image in IMAGES])
    assert [answer["label"] for answer in batch.json()[:2]] == ["red", "blue"]
    cards = [who.get("/v1/model").json() for who in (house.client, client)]
    assert cards[1] == {**cards[0], "generation": 0}
    assert not (tmp_path / "nothing").exists(), "it writes nothing"


def test_what_needs_a_database_is_not_there_and_says_so(client: TestClient) -> None:
    for method, path in (
        ("GET", "/v1/top-losses"),
        ("POST", "/v1/samples"),
        ("POST", "/v1/feedback"),
        ("POST", "/v1/models/rollback"),
        ("GET", "/review"),
        ("GET", "/login"),
    ):
        detail = is_problem(client.request(method, path), 404)
        assert "alone" in detail
        assert "TOPLOSS_DATABASE_URL" in detail
    assert client.get("/predict").status_code == 405
    described = client.get("/openapi.json").json()["paths"]
    health = {"/livez", "/readyz", "/metrics"}
    assert set(described) == {"/predict", "/predict_batch", "/explain", "/v1/model"} | health
    there = client.get("/", headers={"accept": "text/html"}, follow_redirects=False)
    assert (there.status_code, there.headers["location"]) == (307, "/v1/model")


def test_keys_come_from_a_file_and_go_with_their_lines(bento: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    shop, ann = (keys.create_in_file(file, name, "predict") for name in ("shop", "ann"))
    for client in served(bento, tmp_path / "nothing", keys_file=file):
        as_shop, as_ann = ({"authorization": f"Bearer {secret}"} for secret in (shop, ann))
        assert client.get("/v1/model", headers=as_shop).status_code == 200
        assert "alone" in is_problem(client.get("/v1/samples", headers=as_shop), 404)
        is_problem(client.get("/v1/model"), 401)
        # There is no page to sign in on, and a cookie that anybody can sign lets nobody in.
        browser = {"accept": "text/html", "cookie": "toploss_session=x.y"}
        is_problem(client.get("/v1/model", headers=browser), 401)
        is_problem(client.get("/", headers=browser), 401)

        file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
        client.app._api.state.desk.doorkeeper.look()  # type: ignore[attr-defined]  # the edge's
        is_problem(client.get("/v1/model", headers=as_shop), 401)
        assert client.get("/v1/model", headers=as_ann).status_code == 200

        file.write_text("")
        client.app._api.state.desk.doorkeeper.look()  # type: ignore[attr-defined]  # the edge's
        is_problem(client.get("/v1/model", headers=as_ann), 401)


def test_a_damaged_version_answers_nothing(house: House, bento: Path, tmp_path: Path) -> None:
    import bentoml

    version = models.get(house.home, "production").name
    folder = Path(bentoml.models.get(f"toploss:{version}").path)
    data = (folder / artifact.ONNX).read_bytes()
    (folder / artifact.ONNX).write_bytes(data[:-1] + b"x")
    try:
        for client in served(bento, tmp_path / "nothing"):
            detail = is_problem(client.post("/predict", files={"image": plain("red")}), 503)
            assert "does not load" in detail
            assert not client.app._api.state.desk.swap.ready  # type: ignore[attr-defined]  # the edge's
    finally:
        (folder / artifact.ONNX).write_bytes(data)


@pytest.mark.parametrize(
    ("built", "database", "settings", "wanted"),
    [
        (False, "", {}, Whole),
        (True, "", {}, Alone),
        (True, "file", {}, Whole),
        (True, "", {"DATABASE_URL": "sqlite:///there.db"}, Whole),
        (True, "file", {"SERVE_FROM": "bento"}, Alone),
        (True, "", {"SERVE_FROM": "database"}, Whole),
        (True, "", {"QUEUE_SIZE": "many"}, Whole),  # which refuses to start
    ],
)
def test_it_is_alone_in_a_bento_where_no_database_is_given(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    built: bool,
    database: str,
    settings: dict[str, str],
    wanted: type,
) -> None:
    for name, value in {"HOME": str(tmp_path), **settings}.items():
        monkeypatch.setenv(f"TOPLOSS_{name}", value)
    if built:
        (tmp_path / "bento.yaml").write_text("")
    if database:
        (tmp_path / "toploss.db").touch()
    assert isinstance(mode.found(tmp_path), wanted)


@pytest.mark.parametrize("told", [None, "", "services: []", "services: [{models: [{tag: a}]}]"])
def test_it_refuses_to_be_alone_without_a_version(tmp_path: Path, told: str | None) -> None:
    if told is not None:
        (tmp_path / "bento.yaml").write_text(told)
    with pytest.raises(BadSettings, match="TOPLOSS_SERVE_FROM"):
        Alone(settings_for(tmp_path), tmp_path).ring()

"""A home with a tiny model, and a client over the real routes behind the real edge."""

import io
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image
from safetensors.numpy import save_file
from sqlalchemy import select
from starlette.testclient import TestClient

from toploss import artifact, classes, drafts, models, samples, schema
from toploss.engine import OnnxEngine
from toploss.home import Home
from toploss.ids import new_id
from toploss.plan import Plan
from toploss.preprocess import Preprocessing, decode
from toploss.schema import runs, versions
from toploss.schema import samples as table
from toploss.scoring import Opinion
from toploss.settings import Settings
from toploss.splits import Split

LABELS = ("blue", "green", "red")
SIZE = 32


def picture(seed: int = 0, side: int = 40, kind: str = "PNG") -> bytes:
    """A small picture of noise, the same for the same seed."""
    values = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(values).save(out, kind)
    return out.getvalue()


def plain(colour: str, side: int = 40) -> bytes:
    """A picture of one colour."""
    out = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(out, "PNG")
    return out.getvalue()


def settings_for(folder: Path, **more: Any) -> Settings:
    given = {"home": folder, "threads": 1, "poll_s": 0.05, "engine": "onnx", **more}
    return Settings(_env_file=None, **given)  # type: ignore[call-arg]


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a version that names a picture's colour: sealed under a name they are one.

    A hand-made network with known answers, in place of a training: it loads in milliseconds.
    """
    folder = tmp_path_factory.mktemp("export")
    save_file(_head(), folder / artifact.WEIGHTS)
    onnx.save(_colours(), folder / artifact.ONNX)
    images = np.random.default_rng(0).integers(0, 256, (4, 3, SIZE, SIZE), np.uint8)
    loaded = artifact.Loaded(
        folder=folder, manifest={"preprocessing": Preprocessing(size=SIZE).as_json()}
    )
    probabilities = OnnxEngine(loaded, threads=1).probabilities(images)
    golden = {"images": images, "probabilities": probabilities}
    save_file(golden | {"ids": np.zeros((4, 32), np.uint8)}, folder / artifact.GOLDEN)
    return folder


def _colours() -> onnx.ModelProto:
    """images (n, 3, s, s) → logits (n, 3): the mean of each channel, in the order of LABELS."""
    to_labels = np.fliplr(np.eye(3, dtype=np.float32)) * 3
    square: list[str | int | None] = ["n", 3, SIZE, SIZE]
    graph = helper.make_graph(
        [
            helper.make_node("Identity", ["images"], ["feature_map"]),
            helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["means"]),
            helper.make_node("MatMul", ["means", "to_labels"], ["logits"]),
            helper.make_node("GlobalMaxPool", ["images"], ["highest"]),
            helper.make_node("Flatten", ["highest"], ["maxima"]),
            helper.make_node("Concat", ["maxima", "means"], ["features"], axis=1),
        ],
        "colours",
        [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, square)],
        [
            helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", 3]),
            helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["n", 6]),
            helper.make_tensor_value_info("feature_map", onnx.TensorProto.FLOAT, square),
        ],
        [numpy_helper.from_array(to_labels, "to_labels")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _head() -> dict[str, Any]:
    """The same in the weights' terms: logits of the six pooled features, maxima then means."""
    ones, nought = np.ones, np.zeros
    means = np.concatenate([nought((3, 3)), np.fliplr(np.eye(3)) * 3], axis=1)
    arrays = {
        **{f"head.{n}.weight": ones(size) for n, size in ((0, 6), (4, 6))},
        **{f"head.{n}.running_var": ones(size) for n, size in ((0, 6), (4, 6))},
        **{f"head.{n}.{name}": nought(6) for n in (0, 4) for name in ("bias", "running_mean")},
        "head.2.weight": np.eye(6),
        "head.6.weight": means,
    }
    return {key: np.ascontiguousarray(value, np.float32) for key, value in arrays.items()}


PROBLEM = "application/problem+json"


def is_problem(answer: Any, status: int) -> str:
    """The answer is this problem; returns its detail."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    body = answer.json()
    assert {"type", "title", "status", "detail"} <= body.keys()
    assert body["status"] == status
    return str(body["detail"])


def publish(
    home: Home,
    export: Path,
    tmp: Path,
    *,
    golden: bytes | None = None,
    more: Callable[[Path], dict[str, Any]] = lambda _: {},
) -> str:
    """A version with its run, as a training leaves them; not promoted. `more` may add to its folder
    and says what the manifest has of that."""
    name, run = new_id(), new_id()
    folder = tmp / name
    shutil.copytree(export, folder)
    if golden is not None:
        (folder / artifact.GOLDEN).write_bytes(golden)
    manifest = {
        "name": home.settings.name,
        "version": name,
        "labels": list(LABELS),
        "preprocessing": Preprocessing(size=SIZE).as_json(),
        "architecture": "squeezenet1_0",
        "metrics": {"valid": {"accuracy": 0.5, "loss": 1.0}},
        "snapshot": {"fingerprint": "f" * 64, "counts": {"train": {"red": 3}}},
        "parity": {"tolerance": 1e-3},
        **more(folder),
    }
    digest = artifact.seal(folder, manifest)
    path = f"runs/{run}/1"
    artifact.publish(home, folder, path)
    plan = Plan.from_settings(home.settings).as_json()
    with home.db.write() as connection:
        ids = [classes.ensure(connection, label, "test") for label in LABELS]
        connection.execute(
            runs.insert().values(
                id=run,
                state="succeeded",
                plan=plan,
                foreground=True,
                promote=True,
                fence=1,
                cancel_asked=False,
                history=[],
                version=name,
                created_at=time.time(),
                ended_at=time.time(),
            )
        )
        connection.execute(
            versions.insert().values(
                name=name,
                run_id=run,
                path=path,
                manifest_sha256=digest,
                manifest=manifest,
                class_ids=ids,
                created_at=time.time(),
            )
        )
    return name


def frozen(home: Home, version: str) -> str:
    """The version was trained on a snapshot of today's samples, too few as they may be to train
    on; its fingerprint."""
    from toploss import members, snapshots

    file = home.settings.home / "frozen.csv"
    with home.db.write() as connection:
        fingerprint = members.write(snapshots.taking_part(connection), file)
        path = f"snapshots/{fingerprint}.csv"
        kept = {"fingerprint": fingerprint, "path": path, "counts": {}, "at": time.time()}
        known = classes.load(connection).ids
        named = [{"id": known[label], "name": label} for label in LABELS]
        this = schema.snapshots.c.fingerprint == fingerprint
        if connection.execute(select(schema.snapshots).where(this)).first() is None:
            connection.execute(schema.snapshots.insert().values(classes=named, **kept))
        found = models.found(connection, version)
        told = found.manifest | {"snapshot": {"fingerprint": fingerprint, "counts": {}}}
        this = versions.update().where(versions.c.name == version)
        connection.execute(this.values(manifest=told))
        this = runs.update().where(runs.c.id == found.run)
        connection.execute(this.values(fingerprint=fingerprint))
    home.blobs.put_file(path, file)
    return fingerprint


def score(home: Home, version: str) -> None:
    """Losses of every valid sample under a version, all different: the newest is the worst."""
    with home.db.read() as connection:
        valid = connection.execute(
            select(table).where(table.c.split == "valid").order_by(table.c.seq)
        ).all()
        p = np.full((len(valid), len(LABELS)), 0.05, np.float32)
        for place in range(len(valid)):
            p[place, 1] = 0.5 + 0.4 * place / max(1, len(valid) - 1)
            p[place, 0] = 0.95 - p[place, 1]
        opinion = Opinion(ids=[row.id for row in valid], probabilities=p)
        everything = connection.execute(select(table.c.id)).scalars().all()
    drafts.write(home, version, opinion, everything)
    with home.db.write() as connection:
        drafts.publish(connection, version)


@dataclass
class House:
    """A served home, as a test sees it."""

    home: Home
    client: TestClient
    tmp: Path
    export: Path
    ids: list[str]  # of the samples, in order of arrival
    secrets: dict[str, str] = field(default_factory=dict)  # of keys, by role

    @property
    def desk(self) -> Any:
        """What its routes work with."""
        return self.client.app._api.state.desk  # type: ignore[attr-defined]  # the edge's

    def publish(self, **more: Any) -> str:
        return publish(self.home, self.export, self.tmp, **more)

    def promote(self, version: str | None = None) -> str:
        """A version serves; returns it once it answers."""
        version = version or self.publish()
        alias = models.promote(self.home, version, reason="test", actor="test")
        self.wait(lambda: self.answering() == alias.generation)
        return version

    def answering(self) -> int | None:
        answer = self.client.get("/v1/model")
        return answer.json()["generation"] if answer.status_code == 200 else None

    @staticmethod
    def wait(until: Callable[[], Any], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.02)


def serve(folder: Path, export: Path, **more: Any) -> Iterator[House]:
    """The routes behind the edge, on a home in this folder."""
    from service import api as apis
    from service.desk import Desk
    from service.edge import Edge

    home = Home.open(settings_for(folder / "home", **more))
    api = apis.build()
    desk = Desk.lay(home)
    api.state.desk = desk
    desk.reports.start()
    desk.swap.start()
    desk.shadow.start()
    desk.capture.start()
    with TestClient(Edge(api, api=api), base_url="http://127.0.0.1:3000") as client:
        yield House(home=home, client=client, tmp=folder, export=export, ids=[])
    desk.clear()


@pytest.fixture(scope="session")
def unserved(tmp_path_factory: pytest.TempPathFactory, export: Path) -> tuple[Path, list[str]]:
    """A home to copy, and its samples' ids in order of arrival: three classes, twelve samples
    (eight of them for validation), and a scored model in production."""
    folder = tmp_path_factory.mktemp("unserved")
    home, ids = Home.open(settings_for(folder / "home")), []
    with home.db.write() as connection:
        for label in LABELS:
            classes.ensure(connection, label, "test")
    for seed in range(12):
        split = Split.VALID if seed < 8 else Split.TRAIN if seed < 11 else Split.TEST
        data = picture(seed, side=24 + seed)
        added = samples.add(
            home, data, LABELS[seed % 2 * 2], name=f"{seed}.png", actor="test", split=split
        )
        ids.append(added.id)
    version = publish(home, export, folder)
    score(home, version)
    models.promote(home, version, reason="test", actor="test")
    home.db.close()
    return folder / "home", ids


@pytest.fixture
def empty(tmp_path: Path, export: Path, bentoml_home: Path) -> Iterator[House]:
    """Nothing in it: no class, no sample, no model."""
    yield from serve(tmp_path, export)


@pytest.fixture
def house(
    tmp_path: Path, export: Path, bentoml_home: Path, unserved: tuple[Path, list[str]]
) -> Iterator[House]:
    """A copy of `unserved`, served."""
    shutil.copytree(unserved[0], tmp_path / "home")
    for made in serve(tmp_path, export):
        made.ids.extend(unserved[1])
        yield made


@pytest.fixture
def drifting(house: House) -> House:
    """`house`, with a version that knows what its snapshot looked like."""
    from tests.service.drifting import watched  # late: it needs this module

    house.promote(house.publish(more=watched))
    return house


def square(data: bytes, home: Home) -> Any:
    return decode(data, SIZE, home.limits)[np.newaxis]

"""An erased sample in what was published: its features, golden images and pictures go, and the
versions go on answering as they did."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from safetensors.numpy import load, load_file, save

from tests.conftest import BRIEF, into_bucket
from toploss import artifact, bentostore, erasure, loading, models, novelty, snapshots
from toploss.answers import Reader
from toploss.artifact import FEATURES, GOLDEN, MANIFEST, REPORT, WEIGHTS
from toploss.blobs import sha256
from toploss.errors import BadData
from toploss.home import Home
from toploss.models import Version
from toploss.novelty import packed
from toploss.preprocess import Preprocessing
from toploss.schema import versions
from training import fit
from training.data import Pictures


def rows_with(home: Home, version: Version, sample: str) -> dict[str, int]:
    """How many rows of the version's files are of the sample."""
    _, manifest = artifact.read_manifest(home, version)
    wanted = packed([sample])[0]
    return {
        name: int(
            (load(artifact.read(home, version, manifest, name))["ids"] == wanted).all(1).sum()
        )
        for name in (FEATURES, GOLDEN)
    }


def files(home: Home, version: Version) -> set[str]:
    folder = Path(home.blobs.root) / version.path
    return {path.name for path in folder.iterdir()}


def pictured(home: Home, version: Version) -> str:
    """A sample whose picture the version's report shows."""
    report = home.blobs.get(f"{version.path}/{REPORT}").decode()
    return report.partition('data-sample="')[2].partition('"')[0]


@pytest.fixture
def home(learned_home: Callable[..., Home]) -> Home:
    return learned_home()


def production(home: Home) -> Version:
    return models.get(home, "production")


def test_it_leaves_the_features_the_golden_images_and_the_report(
    home: Home, tmp_path: Path
) -> None:
    before = production(home)
    snapshot = snapshots.freeze(home)
    trained = novelty.read(artifact.fetch(home, before, tmp_path / "a").folder / FEATURES).ids[0]
    golden, shown = snapshot.of_split("valid")[0].id, pictured(home, before)
    weights = home.blobs.get(f"{before.path}/{WEIGHTS}")
    assert rows_with(home, before, trained) == {FEATURES: 1, GOLDEN: 0}
    assert rows_with(home, before, golden) == {FEATURES: 0, GOLDEN: 1}

    for sample in {trained, golden, shown}:
        erasure.erase(home, sample, reason="asked for", actor="root")

    after = production(home)
    assert after.manifest_sha256 != before.manifest_sha256
    for sample in (trained, golden, shown):
        assert rows_with(home, after, sample) == {FEATURES: 0, GOLDEN: 0}
    assert shown not in home.blobs.get(f"{after.path}/{REPORT}").decode()
    assert not {MANIFEST, FEATURES, GOLDEN} & files(home, after)
    assert len(files(home, after)) == len(files(home, before))
    assert home.blobs.get(f"{after.path}/{WEIGHTS}") == weights
    loaded = artifact.fetch(home, after, tmp_path / "b")
    loading.load(loaded, engine="onnx", device="cpu", threads=1)  # checks the golden images
    assert loaded.labels == tuple(before.manifest["labels"])
    rest = load_file(loaded.folder / GOLDEN)
    assert {len(rows) for rows in rest.values()} == {
        len(load_file(tmp_path / "a" / GOLDEN)["images"])
        - len({golden, shown} & set(_first(snapshot)))
    }


def _first(snapshot: Any) -> list[str]:
    return [row.id for row in snapshot.of_split("valid")[:16]]


def test_a_bucket_that_keeps_old_versions_keeps_nothing_of_it(
    learned_home: Callable[..., Home], new_s3: Callable[[], dict[str, str]]
) -> None:
    made = new_s3()
    bucket = made["storage_url"].removeprefix("s3://").partition("/")[0]
    client = boto3.client("s3", endpoint_url=made["s3_endpoint_url"])
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    home = learned_home(**made)
    into_bucket(home)
    sample = pictured(home, production(home))
    image = home.blobs.get_image(sample)

    def holding() -> set[str]:
        """The objects of which any version has something of the sample."""
        found = set()
        for one in client.list_object_versions(Bucket=bucket)["Versions"]:
            this = {"Key": one["Key"], "VersionId": one["VersionId"]}
            content = client.get_object(Bucket=bucket, **this)["Body"].read()
            marks = (image, bytes.fromhex(sample), f'data-sample="{sample}"'.encode())
            found |= {one["Key"].rpartition("/")[2]} if any(m in content for m in marks) else set()
        return found

    assert {sample, REPORT} < holding()
    report = f"{production(home).path}/{REPORT}"
    home.blobs.put(report, home.blobs.get(report))  # made anew once before

    stone = erasure.erase(home, sample, reason="asked for", actor="root")

    assert (stone.doubt, stone.ended_at is not None) == (None, True)
    assert holding() == set()
    assert rows_with(home, production(home), sample) == {FEATURES: 0, GOLDEN: 0}


def test_a_copy_that_was_fetched_before_is_mended(home: Home, bentoml_home: Path) -> None:
    folder = bentostore.pull(home, production(home)).folder
    erased = novelty.read(folder / FEATURES).ids[0]

    erasure.erase(home, erased, reason="asked for", actor="root")

    mended = bentostore.pull(home, production(home))
    assert mended.folder == folder
    assert erased not in novelty.read(folder / FEATURES).ids


def test_golden_images_of_before_are_told_by_the_snapshot(home: Home, tmp_path: Path) -> None:
    version = production(home)
    first = snapshots.freeze(home).of_split("valid")[0].id
    _without_ids(home, version)

    erasure.erase(home, first, reason="asked for", actor="root")

    loaded = artifact.fetch(home, production(home), tmp_path / "version")
    assert first not in {row.tobytes().hex() for row in load_file(loaded.folder / GOLDEN)["ids"]}
    loading.load(loaded, engine="onnx", device="cpu", threads=1)


def _without_ids(home: Home, version: Version) -> None:
    """As a release before 0.2.0 wrote it."""
    _, manifest = artifact.read_manifest(home, version)
    arrays = load(artifact.read(home, version, manifest, GOLDEN))
    data = save({name: rows for name, rows in arrays.items() if name != "ids"})
    manifest["files"][GOLDEN] = {"sha256": sha256(data), "size": len(data)}
    content = json.dumps(manifest).encode()
    home.blobs.put(f"{version.path}/{GOLDEN}", data)
    home.blobs.put(f"{version.path}/{MANIFEST}", content)
    with home.db.write() as connection:
        connection.execute(versions.update().values(manifest_sha256=sha256(content)))


def test_a_version_whose_every_golden_image_was_erased_is_served_on(
    home: Home, tmp_path: Path
) -> None:
    _, manifest = artifact.read_manifest(home, production(home))
    ids = load(artifact.read(home, production(home), manifest, GOLDEN))["ids"]

    for row in ids:
        erasure.erase(home, row.tobytes().hex(), reason="asked for", actor="root")

    loaded = artifact.fetch(home, production(home), tmp_path / "version")
    assert len(load_file(loaded.folder / GOLDEN)["images"]) == 0
    loading.load(loaded, engine="onnx", device="cpu", threads=1)


def test_a_version_whose_every_feature_was_erased_answers_without_novelty(
    home: Home, tmp_path: Path
) -> None:
    version = production(home)
    _, manifest = artifact.read_manifest(home, version)
    ids = load(artifact.read(home, version, manifest, FEATURES))["ids"]

    for row in ids:
        erasure.erase(home, row.tobytes().hex(), reason="asked for", actor="root")

    loaded = artifact.fetch(home, production(home), tmp_path / "version")
    assert FEATURES not in loaded.manifest["files"]
    assert "novelty" not in production(home).manifest
    reader = Reader.of(loaded, uncertain_below=0.5)
    made = loading.load(loaded, engine="onnx", device="cpu", threads=1)
    size = loaded.preprocessing.size
    (answer,) = reader.read(made.outputs(np.zeros((1, 3, size, size), np.uint8), alone=True))
    assert answer.novelty is None


def test_what_was_erased_while_it_was_trained_on_goes_at_the_end(home: Home) -> None:
    sample = snapshots.freeze(home).of_split("train")[0].id
    stones = []

    def erase(stage: str, _share: float) -> None:
        if stage == "gate" and not stones:
            stones.append(erasure.erase(home, sample, reason="asked for", actor="root"))

    result = fit(home=home, watch=erase, **BRIEF)

    assert stones[0].ended_at is None
    stone = erasure.of(home, sample)
    assert stone is not None
    assert stone.ended_at is not None
    for version in models.listed(home):
        assert rows_with(home, version, sample) == {FEATURES: 0, GOLDEN: 0}
    with pytest.raises(BadData, match="were erased"):
        erasure.none_of(home, snapshots.load(home, result.fingerprint))


def test_a_training_that_lacks_an_image_says_that_it_was_erased(home: Home) -> None:
    sample = snapshots.freeze(home).of_split("train")[0].id
    pictures = Pictures(home, Preprocessing(size=8))
    erasure.erase(home, sample, reason="asked for", actor="root")

    with pytest.raises(BadData, match="erased while it was trained on"):
        pictures[sample]

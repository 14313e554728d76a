import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from toploss import artifact
from toploss.blobs import sha256
from toploss.errors import Broken
from toploss.models import Version
from toploss.preprocess import Preprocessing

MANIFEST = {
    "version": "v1",
    "labels": ["cat", "dog"],
    "preprocessing": Preprocessing(size=8).as_json(),
    "parity": {"tolerance": 1e-4},
}


@pytest.fixture
def sealed(tmp_path):
    """A folder of two files, a report, and their manifest; with the manifest's hash."""
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(b"weights" * 100)
    (folder / "model.onnx").write_bytes(b"network" * 100)
    (folder / "report.html").write_text("<p>fine</p>")
    return folder, artifact.seal(folder, MANIFEST)


@pytest.fixture
def version(home, sealed):
    """That folder, published."""
    folder, digest = sealed
    artifact.publish(home, folder, "versions/v1")
    return Version(
        name="v1",
        run="r",
        path="versions/v1",
        manifest=json.loads((folder / "manifest.json").read_text()),
        manifest_sha256=digest,
        created_at=0.0,
    )


def stored(home, name):
    return home.settings.home / "storage" / "versions" / "v1" / name


def test_the_manifest_describes_the_files_but_the_report(sealed):
    folder, digest = sealed

    content = (folder / "manifest.json").read_bytes()
    manifest = json.loads(content)

    assert sha256(content) == digest
    assert manifest["format"] == 1
    assert manifest["files"] == {
        "weights.safetensors": {"sha256": sha256(b"weights" * 100), "size": 700},
        "model.onnx": {"sha256": sha256(b"network" * 100), "size": 700},
    }


def test_sealing_again_gives_the_same(sealed):
    folder, digest = sealed

    assert artifact.seal(folder, MANIFEST) == digest


def test_what_is_published_can_be_fetched(home, version, tmp_path):
    loaded = artifact.fetch(home, version, tmp_path / "here")

    assert (loaded.folder / "weights.safetensors").read_bytes() == b"weights" * 100
    assert loaded.labels == ("cat", "dog")
    assert loaded.preprocessing == Preprocessing(size=8)
    assert loaded.tolerance == 1e-4
    assert artifact.open_folder(loaded.folder, version.manifest_sha256) == loaded


@pytest.mark.parametrize("name", ["manifest.json", "weights.safetensors", "model.onnx"])
@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_damage_in_the_storage_is_told_and_not_kept(home, version, tmp_path, name, damage):
    path = stored(home, name)
    content = path.read_bytes()
    match damage:
        case "changed":
            path.write_bytes(content[:-1] + b"!")
        case "cut":
            path.write_bytes(content[:-1])
        case "gone":
            path.unlink()

    with pytest.raises(Broken, match=name):
        artifact.fetch(home, version, tmp_path / "here")

    left = {file.name for file in (tmp_path / "here").iterdir()}
    assert left <= {"weights.safetensors", "model.onnx"} - {name}
    path.write_bytes(content)
    assert artifact.fetch(home, version, tmp_path / "here").labels == ("cat", "dog")


@pytest.mark.parametrize("name", ["manifest.json", "weights.safetensors", "model.onnx"])
def test_damage_on_this_machine_is_mended_by_fetching_again(home, version, tmp_path, name):
    loaded = artifact.fetch(home, version, tmp_path / "here")
    (loaded.folder / name).write_bytes(b"rotten")

    with pytest.raises(Broken):
        artifact.open_folder(loaded.folder, version.manifest_sha256)
    artifact.fetch(home, version, tmp_path / "here")

    assert artifact.open_folder(loaded.folder, version.manifest_sha256) == loaded


def test_what_is_there_is_not_copied_again(home, version, tmp_path):
    artifact.fetch(home, version, tmp_path / "here")
    stored(home, "weights.safetensors").unlink()

    assert artifact.fetch(home, version, tmp_path / "here").labels == ("cat", "dog")


def test_many_may_fetch_at_once(home, version, tmp_path):
    with ThreadPoolExecutor(8) as pool:
        fetched = list(
            pool.map(lambda _: artifact.fetch(home, version, tmp_path / "here"), range(24))
        )

    assert {file.name for file in fetched[0].folder.iterdir()} == {
        "manifest.json",
        "weights.safetensors",
        "model.onnx",
    }


def test_a_manifest_that_is_not_the_one_of_the_row_is_refused(home, version, tmp_path):
    with pytest.raises(Broken, match=r"manifest.json is not what was published"):
        artifact.fetch(home, replace(version, manifest_sha256="0" * 64), tmp_path / "here")
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize("format", [0, 2, None, "1"])
def test_another_format_is_refused_with_its_remedy(tmp_path, format):
    (tmp_path / "manifest.json").write_text(json.dumps({"format": format, "files": {}}))

    with pytest.raises(Broken, match="this release reads 1; serve it with the release"):
        artifact.open_folder(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'"text"',
        b'{"format": 1}',
        b'{"format": 1, "files": []}',
        b'{"format": 1, "files": {"a": "b"}}',
        b'{"format": 1, "files": {"a": {}}}',
        b'{"format": 1, "files": {"a": {"sha256": ""}}}',
    ],
)
def test_a_folder_that_is_no_version_is_told(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)

    with pytest.raises(Broken):
        artifact.open_folder(tmp_path)


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(Broken, match=r"is not whole .* fetch it again"):
        artifact.open_folder(tmp_path / "nowhere")


def test_no_name_in_a_manifest_leads_out_of_the_folder(home, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    files = {"../secret": {"sha256": sha256(b"secret"), "size": 6}}
    content = json.dumps({"format": 1, **MANIFEST, "files": files}).encode()
    home.blobs.put("versions/bad/manifest.json", content)
    home.blobs.put("versions/bad/secret", b"secret")
    bad = Version(
        name="bad",
        run="r",
        path="versions/bad",
        manifest={},
        manifest_sha256=sha256(content),
        created_at=0.0,
    )
    secret.write_bytes(b"untouched")

    artifact.fetch(home, bad, tmp_path / "here")

    assert secret.read_bytes() == b"untouched"
    assert (tmp_path / "here" / "secret").read_bytes() == b"secret"


def test_a_picture_is_taken_out_of_a_report_and_no_other():
    one, other = "a" * 64, "b" * 64
    report = "".join(
        f'<figure data-sample="{sample}"><img src="data:,{sample}">\n<b>cat</b></figure>'
        for sample in (one, other, one)
    )

    left = artifact.without_picture(report, one)

    assert one not in left
    assert left.count(artifact.ERASED) == 2
    assert f'<figure data-sample="{other}"><img' in left
    assert artifact.without_picture(report, "c" * 64) == report

"""A version's folder: the manifest, the hashes, how it is published and fetched.

The manifest is written last and hashed in the version's row; every other file is hashed in the
manifest. Nothing is parsed before its hash was checked.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toploss import models
from toploss.blobs import sha256
from toploss.errors import Broken
from toploss.home import Home
from toploss.ids import new_id
from toploss.models import Version
from toploss.preprocess import Preprocessing

FORMAT = 1
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
ONNX = "model.onnx"
NCNN = "body.ncnn.param", "body.ncnn.bin"  # not every architecture has them
GOLDEN = "golden.safetensors"
FEATURES = "features.safetensors"
TRAITS = "traits.safetensors"  # versions from before drift was watched have none
REPORT = "report.html"  # beside the others, not hashed: it may be made anew
ERASED = '<figure class="erased"><p>This picture was erased.</p></figure>'


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A checked folder of a version on this machine."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.manifest["labels"])

    @property
    def preprocessing(self) -> Preprocessing:
        return Preprocessing.from_json(self.manifest["preprocessing"])

    @property
    def tolerance(self) -> float:
        """Largest difference of a probability that still counts as agreement."""
        return float(self.manifest["parity"]["tolerance"])


def unsealed(folder: Path, manifest: dict[str, Any]) -> Loaded:
    """A version that is not published yet, as an engine takes it."""
    return Loaded(folder=folder, manifest={**manifest, "files": _files(folder)})


def seal(folder: Path, manifest: dict[str, Any]) -> str:
    """Write the manifest over the files in a folder; returns its SHA-256.

    Args:
        manifest: everything but `format` and `files`, which are made here.
    """
    files = _files(folder)
    content = json.dumps({"format": FORMAT, **manifest, "files": files}, indent=1).encode()
    (folder / MANIFEST).write_bytes(content)
    return sha256(content)


def publish(home: Home, folder: Path, path: str) -> None:
    """Copy a sealed folder to the storage, the manifest last. It is no version until its row
    says so; what a failed attempt leaves is never read."""
    files = sorted(folder.iterdir(), key=lambda file: file.name == MANIFEST)
    for file in files:
        home.blobs.put_file(f"{path}/{file.name}", file)


def fetch(home: Home, version: Version, folder: Path) -> Loaded:
    """A version's files in a folder of this machine, every one checked against its hash.

    What is there already and whole is not copied again. Several processes may do it at once.

    Raises:
        Broken: a file is missing or is not what was published; nothing broken is left behind.
        Pruned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content, manifest = read_manifest(home, version)
    for name, wanted in manifest["files"].items():
        target = folder / Path(name).name
        if target.is_file() and _described(target).sha256 == wanted["sha256"]:
            continue
        _place(target, read(home, version, manifest, name))
    _place(folder / MANIFEST, content)
    return Loaded(folder=folder, manifest=manifest)


def read_manifest(home: Home, version: Version) -> tuple[bytes, dict[str, Any]]:
    """A version's manifest in the storage, as it is written and as it is read. Raises Broken,
    Pruned."""
    models.refuse_pruned(version)
    content = home.blobs.get(f"{version.path}/{version.manifest_name}")
    _expect(version.manifest_name, sha256(content), version.manifest_sha256)
    manifest: dict[str, Any] = json.loads(content)
    _check_format(manifest)
    return content, manifest


def read(home: Home, version: Version, manifest: dict[str, Any], name: str) -> bytes:
    """A file that the manifest names, from the storage. Raises Broken."""
    wanted = manifest["files"][name]
    # One that was made anew lies beside the others under another name: see `toploss.erasure`.
    data = home.blobs.get(f"{version.path}/{Path(wanted.get('at', name)).name}")
    _expect(name, sha256(data), wanted["sha256"])
    return data


def open_folder(folder: Path, manifest_sha256: str | None = None) -> Loaded:
    """A version's folder as it lies on this machine, every file checked against its hash.

    Raises:
        Broken.
    """
    try:
        content = (folder / MANIFEST).read_bytes()
        if manifest_sha256 is not None:
            _expect(MANIFEST, sha256(content), manifest_sha256)
        manifest = json.loads(content)
        _check_format(manifest)
        for name, wanted in manifest["files"].items():
            _expect(name, _described(folder / Path(name).name).sha256, wanted["sha256"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise Broken(f"the version in {folder} is not whole ({exc}); fetch it again") from exc
    return Loaded(folder=folder, manifest=manifest)


def without_picture(report: str, sample: str) -> str:
    """A version's report with a sample's picture, and all that is told beside it, replaced by a
    placeholder; the same report when it does not show the sample."""
    figure = rf'<figure data-sample="{re.escape(sample)}">.*?</figure>'
    return re.sub(figure, ERASED, report, flags=re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class _File:
    sha256: str
    size: int  # bytes


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        path.name: asdict(_described(path))
        for path in sorted(folder.iterdir())
        if path.name not in (MANIFEST, REPORT)
    }


def _described(path: Path) -> _File:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return _File(sha256=digest, size=path.stat().st_size)


def _place(target: Path, data: bytes) -> None:
    temporary = target.with_name(f"{target.name}.{new_id()}.part")
    temporary.write_bytes(data)
    temporary.replace(target)


def _expect(name: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise Broken(
            f"{name} is not what was published (SHA-256 {found[:12]}…, not {wanted[:12]}…); "
            "restore it from a back-up or promote another version"
        )


def _check_format(manifest: dict[str, Any]) -> None:
    if manifest.get("format") != FORMAT:
        raise Broken(
            f"the version has format {manifest.get('format')!r}, this release reads {FORMAT}; "
            "serve it with the release that made it"
        )

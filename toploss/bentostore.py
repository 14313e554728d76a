"""A version in BentoML's model store: where it is served from, and built into a Bento."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from toploss import artifact, models
from toploss.artifact import Loaded
from toploss.errors import Broken
from toploss.home import Home
from toploss.models import Version

# BentoML reports each saved model and each start to its makers unless told not to.
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")


def pull(home: Home, version: Version) -> Loaded:
    """The version as `NAME:VERSION` in this process's BentoML store, every file checked.

    What lies there whole is used as it is, without a look at the storage; what is damaged or was
    left half-written is mended.

    Raises:
        Broken: the storage lacks a file, or it is not what was published; a version that was not
            in the store is not there afterwards either. Pruned.
    """
    import bentoml

    models.refuse_pruned(version)
    tag = bentoml.Tag(home.settings.name, version.name)
    with _one_at_a_time():
        folder = _folder(tag)
        if folder is not None:
            try:
                return artifact.open_folder(folder, version.manifest_sha256)
            except Broken:
                return artifact.fetch(home, version, folder)
        labels = {"architecture": str(version.manifest.get("architecture", "unknown"))}
        with bentoml.models.create(tag, labels=labels, _model_store=_models()) as model:
            artifact.fetch(home, version, Path(model.path))
        folder = _folder(tag)
        assert folder is not None, "it was saved"
        return artifact.open_folder(folder, version.manifest_sha256)


def _folder(tag: Any) -> Path | None:
    """Where the store keeps the version; None when it does not, or not as a model of BentoML's.

    The store copies in place: a process that dies meanwhile leaves a folder that is no model, and
    that the store refuses to write again. Such a folder is removed.
    """
    import bentoml

    folder = store() / tag.path()
    if not folder.is_dir():
        return None
    try:
        return Path(bentoml.models.get(tag, _model_store=_models()).path)
    except Exception:  # an unreadable model.yaml raises whatever its parser does
        shutil.rmtree(folder)
        return None


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Processes that share a store take turns; the kernel frees a dead one's turn."""
    with (store() / ".toploss.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _models() -> Any:
    """The store of BENTOML_HOME. A Bento that carries models of its own has BentoML look there for
    all of them, and nothing is written into a Bento."""
    from bentoml._internal.models import ModelStore

    return ModelStore(store())


def store() -> Path:
    """Where this process's lies."""
    from bentoml._internal.configuration.containers import BentoMLContainer

    return Path(BentoMLContainer.model_store_dir.get())

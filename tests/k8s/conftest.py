import shutil

import pytest

from tests.k8s.rendered import K8S, Json, render, with_everything

_made: dict[str, list[Json]] = {}


def objects_of(name: str, scratch: pytest.TempPathFactory) -> list[Json]:
    """Of an overlay; `everything` is production's with all components. Rendered once."""
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl, whose kustomize renders the manifests")
    if name not in _made:
        everything = name == "everything"
        folder = with_everything(scratch.mktemp(name)) if everything else K8S / "overlays" / name
        _made[name] = render(folder)
    return _made[name]


@pytest.fixture(params=["dev", "production", "everything"])
def objects(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Json]:
    return objects_of(request.param, tmp_path_factory)


@pytest.fixture(params=["production", "everything"])
def spread(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Json]:
    """What runs on several machines."""
    return objects_of(request.param, tmp_path_factory)


@pytest.fixture
def dev(tmp_path_factory: pytest.TempPathFactory) -> list[Json]:
    return objects_of("dev", tmp_path_factory)


@pytest.fixture
def production(tmp_path_factory: pytest.TempPathFactory) -> list[Json]:
    return objects_of("production", tmp_path_factory)


@pytest.fixture
def everything(tmp_path_factory: pytest.TempPathFactory) -> list[Json]:
    return objects_of("everything", tmp_path_factory)

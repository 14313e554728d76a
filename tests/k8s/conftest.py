import shutil

import pytest

from tests.k8s.rendered import K8S, Json, render, with_components

_made: dict[str, list[Json]] = {}


def objects_of(name: str, scratch: pytest.TempPathFactory) -> list[Json]:
    """Of an overlay. `everything` is production's with all components but the one for several
    machines, `machines` with that one. Rendered once."""
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl, whose kustomize renders the manifests")
    if name not in _made:
        folder = K8S / "overlays" / name
        if name == "everything":
            folder = with_components(scratch.mktemp(name), but="multi-node")
        elif name == "machines":
            folder = with_components(scratch.mktemp(name), only="multi-node")
        _made[name] = render(folder)
    return _made[name]


@pytest.fixture(params=["dev", "production", "everything", "machines"])
def objects(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Json]:
    return objects_of(request.param, tmp_path_factory)


@pytest.fixture(params=["production", "everything", "machines"])
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


@pytest.fixture
def machines(tmp_path_factory: pytest.TempPathFactory) -> list[Json]:
    return objects_of("machines", tmp_path_factory)

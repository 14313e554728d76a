"""What the Dockerfile and the image's entry point promise. The image itself is built and tried by
deploy/image.sh."""

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import httpx
import psutil
import pytest

from tests.service.running import ROOT, answers, environment, free_port, soon

ENTRY = ROOT / "deploy/entrypoint.sh"
INSTRUCTIONS = [
    line.split(maxsplit=1)
    for line in re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text()).splitlines()
    if line and not line.startswith("#")
]
LOCKS = ("serve-cpu", "serve-cuda", "train-cuda")
OURS = {"dumb-init"}  # in images alone


def told(name: str) -> list[str]:
    return [rest for instruction, rest in INSTRUCTIONS if instruction == name]


def place(instruction: str, part: str) -> int:
    return next(
        i for i, (name, rest) in enumerate(INSTRUCTIONS) if name == instruction and part in rest
    )


def pinned(lock: str) -> dict[tuple[str, str], set[str]]:
    """Name and version to the hashes of its files."""
    found: dict[tuple[str, str], set[str]] = {}
    for line in (ROOT / lock).read_text().splitlines():
        if known := re.match(r"([a-z0-9][^\s=]*)==(\S+)", line, re.IGNORECASE):
            now = found.setdefault((known[1], known[2]), set())
        elif known := re.search(r"--hash=(\S+)", line):
            now.add(known[1])
    return found


def names(lock: str) -> set[str]:
    return {re.sub(r"\[.*", "", name) for name, _ in pinned(lock)}


def test_every_stage_begins_with_the_base_which_is_pinned() -> None:
    assert told("FROM") == ["${BASE} AS libraries", "${BASE} AS code", "libraries"]
    assert re.fullmatch(r"BASE=python:3\.11\.\d+-slim-bookworm", told("ARG")[0])


def test_nothing_is_installed_but_what_the_lock_has_by_its_hash() -> None:
    (install,) = [rest for rest in told("RUN") if "pip" in rest]
    assert {"--require-hashes", "--no-deps", "--only-binary"} <= set(install.split())
    assert not any("apt-get" in rest or "curl" in rest for rest in told("RUN"))


def test_changed_code_installs_nothing_anew() -> None:
    libraries = INSTRUCTIONS[place("FROM", "libraries") : place("FROM", "code")]
    assert [rest for name, rest in libraries if name == "COPY"] == [
        "deploy/${FOR}-${ACCELERATOR}.lock /opt/requirements.lock"
    ]
    assert place("RUN", "--require-hashes") < place("COPY", "toploss /opt/toploss/toploss")


def test_it_runs_as_nobody_s_root_and_writes_where_it_may() -> None:
    assert told("USER") == ["10001:10001"]
    assert place("USER", "10001") > max(
        i for i, (name, _) in enumerate(INSTRUCTIONS) if name == "RUN"
    )
    (env,) = told("ENV")
    values = dict(re.findall(r"(\w+)=(\S+)", env))
    assert values["TOPLOSS_HOME"] == "/data"
    written = [name for name in values if name.endswith(("HOME", "DIR")) and "NODE" not in name]
    assert len(written) > 7
    assert all(re.match(r"/(data|tmp|weights)", values[name]) for name in written)


def test_signals_reach_the_command_and_it_has_a_health_check() -> None:
    assert told("ENTRYPOINT") == ['["dumb-init", "--single-child", "--", "toploss"]']
    assert told("CMD") == ['["serve"]']
    assert "healthy" in told("HEALTHCHECK")[0]


def test_no_secret_and_no_address_is_in_it() -> None:
    given = " ".join(told("ENV") + told("ARG")).upper()
    assert not re.search(r"PASSWORD|TOKEN|SECRET|_KEY|://", given)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert not any(line.startswith("!") and "secret" in line for line in ignored)


@pytest.mark.parametrize("lock", LOCKS)
def test_an_image_s_lock_is_a_part_of_the_lock(lock: str) -> None:
    whole = pinned("requirements.lock")
    for (name, version), hashes in pinned(f"deploy/{lock}.lock").items():
        assert hashes, name
        if name not in OURS:
            assert whole[name, version] == hashes, f"{name}: run `make lock`"
    assert "://" not in (ROOT / f"deploy/{lock}.lock").read_text()


def test_an_image_holds_what_it_is_for_and_no_more() -> None:
    serve, gpu, train = (names(f"deploy/{lock}.lock") for lock in LOCKS)
    assert serve < gpu < train
    assert not serve & {"torch", "torchvision", "timm", "triton", "fastai", "spacy", "pandas"}
    assert "torch" in gpu
    assert not gpu & {"fastai", "spacy", "pandas", "matplotlib", "pnnx", "onnxscript"}
    assert "fastai" in train
    assert not train & {"pytest", "playwright", "mypy", "litserve", "moto"}


def test_what_the_service_imports_is_in_the_serving_image() -> None:
    has = names("deploy/serve-cpu.lock")
    late = {"torch", "torchvision", "timm"}  # by an engine of PyTorch's
    ours = {"toploss", "service"} | sys.stdlib_module_names
    distributions = packages_distributions()
    for path in [*(ROOT / "toploss").rglob("*.py"), *(ROOT / "service").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            for top in {module.partition(".")[0] for module in modules} - late - ours:
                brought = {name.lower().replace("_", "-") for name in distributions[top]}
                assert brought & has, f"{path} imports {top}"


@pytest.fixture
def toploss(tmp_path: Path):
    """The entry point as the image has it: `toploss` on PATH."""

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(ENTRY), *arguments],
            env=at_home(tmp_path) | more,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def at_home(folder: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return environment(folder) | {"TMPDIR": str(folder), "PATH": path}


def test_any_command_of_the_command_line_is_one_of_the_image_s(toploss) -> None:
    assert toploss("db", "upgrade").returncode == 0
    assert toploss("models", "show", "none").returncode == 4


def test_a_serving_image_says_that_it_does_not_train(toploss, tmp_path) -> None:
    """A Python without packages stands for one without fastai."""
    bare = tmp_path / "bin/python"
    bare.parent.mkdir()
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)

    for command in (["train"], ["dispatch", "--once"], ["lr-find"], ["runs", "replay", "r"]):
        done = toploss(*command, PATH=f"{bare.parent}:{os.environ['PATH']}")
        assert done.returncode == 2
        assert done.stderr.startswith("toploss: this image only serves, `")
        assert done.stderr.count("\n") == 1


def test_a_container_that_does_not_serve_is_healthy(toploss) -> None:
    assert toploss("healthy", BENTOML_PORT="1").returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are stopped by their signals")
def test_a_worker_that_dies_is_replaced_one_that_hangs_is_noticed_and_the_signal_to_end_arrives(
    toploss, tmp_path
) -> None:
    port, log = free_port(), tmp_path / "log.txt"
    env = at_home(tmp_path) | {"BENTOML_PORT": str(port), "BENTOML_HOST": "127.0.0.1"}
    with log.open("wb") as out:
        process = subprocess.Popen([str(ENTRY), "serve"], env=env, cwd=ROOT, stdout=out, stderr=out)

    def worker() -> psutil.Process | None:
        return next(iter(psutil.Process(process.pid).children()), None)

    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=2) as client:
            soon(lambda: answers(client), process=process, log=log)
        first = worker()
        assert first is not None
        first.kill()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=2) as client:
            soon(lambda: answers(client), process=process, log=log)
        second = worker()
        assert second is not None
        assert second.pid != first.pid
        assert toploss("healthy", BENTOML_PORT=str(port)).returncode == 0

        second.suspend()
        done = toploss("healthy", BENTOML_PORT=str(port))
        second.resume()
        assert done.returncode == 1
        assert done.stderr.startswith("toploss: not ready")

        process.send_signal(signal.SIGTERM)  # it is `bentoml serve` itself, no shell before it
        process.wait(20)
        assert not psutil.pid_exists(second.pid)
    finally:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait()


def test_without_buildah_the_trial_is_skipped_and_says_so(tmp_path) -> None:
    for tool in ("bash", "dirname", "id"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or "")

    done = subprocess.run(
        [str(ROOT / "deploy/image.sh")], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )

    assert done.returncode == 77
    assert done.stdout == "skipped: no buildah\n"

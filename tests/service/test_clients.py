"""The page for clients: every block of it is run against a real server, and no route is missing."""

import io
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.service.conftest import frozen, publish, settings_for
from tests.service.running import ROOT, Server, environment, served, soon
from tests.toploss.packed import zipped
from toploss import artifact, keys, models
from toploss.home import Home

PAGE = (ROOT / "docs/client.md").read_text()

# Another address, and a curl that fails where the user would see an error.
BEFORE = """
set -eo pipefail
curl() { command curl -sS --fail-with-body "$@" || { echo "curl $*" >&2; exit 1; }; }
python3() { %s "$@"; }
toploss() { %s "$@"; }
cd "$FOLDER"
"""

SECRET = "a-secret-of-the-build-server"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def coloured(colour: str, kind: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (50, 40), colour).save(out, kind)
    return out.getvalue()


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, unserved: tuple[Path, list[str]], export: Path
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("clients")
    shutil.copytree(unserved[0], folder / "home")
    home = Home.open(settings_for(folder / "home"))
    production = models.get(home, "production")
    models.promote(home, publish(home, export, folder), reason="test", actor="test")
    for version in (production.name, models.get(home, "production").name):
        frozen(home, version)
    for path in (production.path, models.get(home, "production").path):
        home.blobs.put(f"{path}/{artifact.REPORT}", b"<h1>It went well</h1>")
    home.db.close()
    (folder / "photo.jpg").write_bytes(coloured("red", "JPEG"))
    (folder / "other.png").write_bytes(coloured("blue", "PNG"))
    for name, colour in (("street", "navy"), ("blurred", "gray")):
        (folder / f"{name}.png").write_bytes(coloured(colour, "PNG"))
    (folder / "pictures.zip").write_bytes(zipped({"green/1.png": coloured("lime", "PNG")}))
    # Of its one sample.
    with served(folder, TOPLOSS_HOLDOUT_SLICE="1", TOPLOSS_HOOK_SECRET=SECRET) as running:
        yield running


def test_every_route_by_curl(server: Server) -> None:
    folder = server.home.parent
    beside = Path(sys.executable)
    script = BEFORE % (beside, beside.with_name("toploss")) + "\n".join(blocks("sh"))
    script = script.replace("http://127.0.0.1:3000", str(server.client.base_url).rstrip("/"))
    done = subprocess.run(
        ["bash", "-c", script],
        env=environment(folder) | {"FOLDER": str(folder), "TOPLOSS_HOOK_SECRET": SECRET},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    assert (folder / "heatmap.png").read_bytes().startswith(b"\x89PNG")
    _no_route_is_missing(server)


def _no_route_is_missing(server: Server) -> None:
    """The server's own count of what it answered well."""
    home = Home.open(settings_for(server.home))
    headers = {"authorization": f"Bearer {keys.create(home, 'counter', 'admin')}"}
    home.db.close()
    soon(lambda: server.client.get("/metrics", headers=headers).status_code == 200, seconds=10)
    text = server.client.get("/metrics", headers=headers).text
    rows = re.findall(r"^toploss_requests_total\{(.*)\} ", text, re.MULTILINE)
    answered = {
        (labels["method"].lower(), labels["route"])
        for row in rows
        if (labels := dict(re.findall(r'(\w+)="([^"]*)"', row)))["status"][0] in "23"
    }
    described = server.client.get("/openapi.json", headers=headers).json()["paths"]
    wanted = {(method, path) for path, methods in described.items() for method in methods}
    assert wanted - answered == set()


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_the_python_blocks(server: Server, number: int) -> None:
    home = Home.open(settings_for(server.home))
    secret = keys.create(home, f"python-{number}", "predict")
    home.db.close()
    headers = {"authorization": f"Bearer {secret}"}
    soon(lambda: server.client.get("/v1/model", headers=headers).status_code == 200, seconds=10)
    told = f"URL = {str(server.client.base_url).rstrip('/')!r}\nKEY = {secret!r}\n"
    done = subprocess.run(
        [sys.executable, "-c", told + blocks("python")[number]],
        cwd=server.home.parent,
        env=environment(server.home.parent),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[0] == "red"

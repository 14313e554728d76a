"""What the pages say is so."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from service import api
from training import docs
from training.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text()


def test_the_page_of_commands_is_made_from_the_commands() -> None:
    assert (ROOT / "docs/commands.md").read_text() == docs.commands(), "run `make docs`"


def test_the_page_of_settings_is_made_from_the_class() -> None:
    assert (ROOT / "docs/settings.md").read_text() == docs.settings(), "run `make docs`"


def test_every_command_has_help() -> None:
    def walk(command: object, path: str) -> None:
        assert command.help, path  # type: ignore[attr-defined]
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, f"{path} {name}")

    walk(get_command(app), "toploss")


def test_every_route_is_in_the_page_of_routes() -> None:
    page = (ROOT / "docs/http.md").read_text()
    for path in api.build().openapi()["paths"]:
        shown = path.replace("{sample_id}", "{id}").replace("{run_id}", "{id}")
        shown = shown.replace("{decision_id}", "{id}").replace("{capture_id}", "{id}")
        tail = "…/" + shown.rsplit("/", 1)[-1]
        assert shown in page or tail in page or f"…/{{id}}{tail[1:]}" in page, path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_readme_s_tree_names_every_module_and_nothing_else() -> None:
    tree = README[README.index("\ntoploss/  ") :]
    for package in ("toploss", "training", "service"):
        part = re.split(r"\n(?=\w)", tree[tree.index(f"\n{package}/  ") + 1 :])[0]
        named = {name for name in re.findall(r"\w+\.py\b", part) if not name.startswith("_")}
        there = {module.name for module in (ROOT / package).glob("*.py")}
        untold = {name for name in there if name.startswith(("__", "commands_", "docs"))}
        assert named == there - untold, package


def test_the_readme_s_commands_exist() -> None:
    commands = re.findall(r"^toploss ([a-z-]+)", README, re.MULTILINE)
    assert len(commands) >= 4
    for command in commands:
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0, command
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for target in re.findall(r"^make ([a-z.]+)", page.read_text(), re.MULTILINE):
            assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), target


def test_the_lock_names_no_index_and_pins_every_hash() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    pinned = re.findall(r"^[a-z0-9][^\s=]*==\S+.*$", lock, re.MULTILINE | re.IGNORECASE)
    assert all(line.endswith("\\") for line in pinned)


def test_one_tested_set_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements.lock").read_text()
    for name in ("torch", "torchvision", "fastai", "bentoml"):
        (wanted,) = [d for d in project["dependencies"] if re.match(rf"{name}==", d)]
        assert re.search(rf"^{name}=={wanted.split('==')[1].rstrip('*')}", lock, re.MULTILINE)


def test_the_release_has_its_line_in_the_changelog() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_nothing_tracked_is_big() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    sizes = {
        name: (ROOT / name).stat().st_size
        for name in listed.stdout.split()
        if (ROOT / name).exists()
    }
    assert max(sizes.values()) < 2**20, max(sizes, key=lambda name: sizes[name])

"""The commands on captures, from the line that is typed to its answer."""

import json

import pytest
from typer.testing import CliRunner

from tests.conftest import picture
from toploss import captures, classes, feedback, labelling
from toploss.captures import Shot, Why
from toploss.home import Home
from toploss.ids import new_id
from training.cli import app


@pytest.fixture
def run(home: Home, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TOPLOSS_HOME", str(home.settings.home))
    return lambda *words: CliRunner().invoke(app, ["captures", *words])


def test_they_are_listed_erased_and_pruned(home: Home, run) -> None:
    classes.add(home, "cat", actor="importer")
    ids = [new_id() for _ in range(3)]
    for seed, capture_id in enumerate(ids):
        captures.keep(home, Shot(id=capture_id, data=picture(seed), why=Why.RANDOM))
    feedback.claim(home, "cat", actor="shop", capture_id=ids[0])
    sample = labelling.label(home, ids[2], "cat", actor="ann")["id"]

    told, data = run("list"), json.loads(run("list", "--state", "all", "--json").stdout)

    assert told.output.splitlines()[1].split()[:6] == [ids[0], "random", "waiting", "–", "–", "cat"]
    assert told.output.endswith("2 of 2\n")
    assert data["total"] == 3
    assert json.loads(run("erase", ids[2], "--json").stdout) == {"id": ids[2], "sample": sample}
    assert "is erased" in run("erase", ids[1]).output
    assert run("erase", ids[1]).exit_code == 4
    assert run("prune").output == "0 captures deleted\n"
    assert run("prune", "--all").output == "1 captures deleted\n"
    assert run("list").output == "none\n"

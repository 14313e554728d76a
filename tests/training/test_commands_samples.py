"""The commands on single samples, from the line that is typed to its answer."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.toploss import given
from toploss.home import Home
from training.cli import app


@pytest.fixture
def run(home: Home, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("TOPLOSS_HOME", str(home.settings.home))
    return lambda *words: CliRunner().invoke(app, ["samples", *words])


def test_one_is_erased_for_good_with_a_reason(home: Home, run: Callable[..., Result]) -> None:
    sample = given.sample(home, 1, "cat").id

    assert run("erase", sample).exit_code == 2
    assert run("erase", sample, "--reason", " ").exit_code == 1
    erased = json.loads(run("erase", sample, "--reason", "asked for", "--json").stdout)

    assert (erased["id"], erased["reason"], erased["actor"]) == (sample, "asked for", "local")
    assert erased["ended_at"] >= erased["at"]
    assert "by local: asked for" in run("erase", sample, "--reason", "again").output
    shown = run("show", sample).output
    assert "by local: asked for" in shown
    assert "cat, train, erased, revision 2" in shown
    data = json.loads(run("show", sample, "--json").stdout)
    assert (data["state"], data["name"], data["erased"]) == ("erased", "", erased)
    assert run("erase", "0" * 64, "--reason", "x").exit_code == 4


def test_the_erased_are_written_down_and_given_again(
    home: Home, run: Callable[..., Result], tmp_path: Path
) -> None:
    sample, file = given.sample(home, 1, "cat").id, tmp_path / "erased.csv"
    assert run("erase", sample, "--reason", "=asked for").exit_code == 0

    told = json.loads(run("erased", str(file), "--json").stdout)
    again = json.loads(run("erase", "--from", str(file), "--json").stdout)

    assert told == {"file": str(file), "erased": 1}
    assert re.search(r",local,\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\n$", file.read_text())
    assert again == {"erased": 0, "before": 1, "unknown": 0, "doubt": None}
    assert run("erase", sample, "--from", str(file)).exit_code == 2
    assert run("erase", "--from", str(tmp_path / "none")).exit_code == 1


def test_a_file_of_0_1_with_seconds_since_1970_is_read_too(
    home: Home, run: Callable[..., Result], tmp_path: Path
) -> None:
    sample, file = given.sample(home, 1, "cat").id, tmp_path / "erased.csv"
    file.write_text(f"id,reason,actor,at\n{sample},asked for,ann,1764170000.25\n")

    again = json.loads(run("erase", "--from", str(file), "--json").stdout)

    assert again == {"erased": 1, "before": 0, "unknown": 0, "doubt": None}

"""The schedule asks for a run, and trains nothing."""

import subprocess
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.k8s.rendered import Json, of_kind, pod


def test_it_never_runs_twice_at_once_and_knows_its_hour(spread: list[Json]) -> None:
    (job,) = of_kind(spread, "CronJob")

    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    assert job["spec"]["startingDeadlineSeconds"] > 100  # below, a missed one is never made up for
    ZoneInfo(job["spec"]["timeZone"])


def test_it_only_asks(spread: list[Json]) -> None:
    schedule = pod(spread, "schedule")
    (container,) = schedule.containers
    line = container["command"][2]

    assert line.split("||")[0].split()[:3] == ["toploss", "retrain", "--if-due"]
    assert "TOPLOSS_EXECUTOR" not in schedule.environment(spread)
    assert schedule.spec["serviceAccountName"] != "toploss-dispatcher"


@pytest.mark.parametrize(("code", "ends_with"), [(0, 0), (1, 1), (2, 1), (3, 0), (4, 1)])
def test_nothing_due_is_no_failure(
    production: list[Json], tmp_path: Path, code: int, ends_with: int
) -> None:
    (container,) = pod(production, "schedule").containers
    toploss = tmp_path / "toploss"
    toploss.write_text(f'#!/bin/sh\necho "$@" >"{tmp_path}/asked"\nexit {code}\n')
    toploss.chmod(0o755)

    done = subprocess.run(container["command"], env={"PATH": f"{tmp_path}:/usr/bin:/bin"})

    assert done.returncode == ends_with
    assert (tmp_path / "asked").read_text() == "retrain --if-due --reason schedule\n"

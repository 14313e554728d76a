"""The alerts: sound, tried both ways, each with its part of the runbook."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from tests.monitoring.told import ROOT, RULES, alerts
from toploss.settings import PREFIX, Settings
from training import docs
from training.cli import app

HERE = Path(__file__).parent
CASES = ("minutes.yml", "days.yml")
RUNBOOK = (ROOT / "docs/runbook.md").read_text()
CLUSTER = ROOT / "k8s/components/monitoring"


def check(promtool: str, *arguments: str, cwd: Path = HERE) -> None:
    done = subprocess.run([promtool, *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout + done.stderr


def test_prometheus_takes_the_rules(promtool: str) -> None:
    check(promtool, "check", "rules", str(RULES))


def test_prometheus_takes_the_configuration(promtool: str, tmp_path: Path) -> None:
    """It asks for the key's file, which only an installation has."""
    config = (ROOT / "monitoring/prometheus.yml").read_text()
    key = re.search(r"credentials_file: (\S+)", config)
    assert key is not None
    (tmp_path / "key").write_text("secret")
    (tmp_path / "prometheus.yml").write_text(config.replace(key[1], "key"))
    shutil.copy(RULES, tmp_path)
    check(promtool, "check", "config", "prometheus.yml", cwd=tmp_path)


@pytest.mark.parametrize("cases", CASES)
def test_each_alert_comes_when_it_should(promtool: str, cases: str) -> None:
    check(promtool, "test", "rules", cases)


def test_each_alert_is_tried_both_ways() -> None:
    tried: dict[str, set[bool]] = {}
    for name in CASES:
        for case in yaml.safe_load((HERE / name).read_text())["tests"]:
            for told in case["promql_expr_test"]:
                alert = re.search(r'alertname="(\w+)"', told["expr"])
                assert alert is not None
                tried.setdefault(alert[1], set()).add(bool(told["exp_samples"]))

    assert tried == {rule["alert"]: {True, False} for rule in alerts()}


def test_each_alert_says_what_it_is_and_where_to_read_on() -> None:
    parts = re.findall(r"^## (Toploss\w+)$", RUNBOOK, re.MULTILINE)
    assert parts == [rule["alert"] for rule in alerts()]
    for rule in alerts():
        told = rule["annotations"]
        assert told["summary"]
        assert told["description"]
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert told["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"


def test_a_cluster_has_the_same_rules_and_dashboard() -> None:
    made = (CLUSTER / "rules.yaml").read_text()
    assert made == docs.rule(), "run `make docs`"
    assert yaml.safe_load(made)["spec"] == yaml.safe_load(RULES.read_text())
    assert (CLUSTER / "dashboard.json").read_text() == docs.dashboard(), "run `make docs`"


def test_the_runbook_s_commands_options_and_settings_exist() -> None:
    asked = re.findall(r"(?:^|`)toploss ([a-z][^`#\n]*)", RUNBOOK, re.MULTILINE)
    assert len(asked) > 30
    for line in asked:
        command, *rest = get_command(app), *line.split()
        while rest and rest[0] in getattr(command, "commands", {}):
            command = command.commands[rest.pop(0)]  # type: ignore[attr-defined]
        assert not getattr(command, "commands", {}), line
        options = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options, line
    settings = {PREFIX + name.upper() for name in Settings.model_fields}
    assert set(re.findall(rf"\b{PREFIX}\w+", RUNBOOK)) <= settings


def test_links_within_the_runbook_lead_somewhere() -> None:
    parts = {name.lower() for name in re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE)}
    assert set(re.findall(r"\(#(\w+)\)", RUNBOOK)) <= parts

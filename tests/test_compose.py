"""What compose.yaml promises. No engine has run it here: docs/image.md says so."""

import re
import stat
import subprocess
import tomllib
from typing import Any

import pytest
import yaml

from tests.service.running import ROOT
from toploss.keys import Ring, Role
from toploss.settings import PREFIX, Settings, read_settings

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
JOBS = {name for name, service in SERVICES.items() if service["restart"] == "no"}
STAY = set(SERVICES) - JOBS

every = pytest.mark.parametrize("name", SERVICES)


def test_it_is_the_whole_house() -> None:
    assert sorted(STAY) == ["database", "dispatcher", "grafana", "prometheus", "service", "store"]
    assert sorted(JOBS) == ["bucket", "owner", "schema"]


@every
def test_nobody_is_root_or_may_become_it_or_write_outside_its_volumes(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


@every
def test_images_are_pinned(name: str) -> None:
    _, _, tag = SERVICES[name]["image"].partition(":")
    assert re.search(r"\d+\.\d+", tag)
    if "build" in SERVICES[name]:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert tag == project["version"]


@every
def test_what_stays_has_a_health_check_and_starts_when_what_it_needs_is_well(name: str) -> None:
    service = SERVICES[name]
    if name in STAY:
        assert {"test", "interval", "timeout", "retries"} <= set(service["healthcheck"])
        assert service["healthcheck"]["test"][0] == "CMD"
    for needed, how in service.get("depends_on", {}).items():
        done = needed in JOBS
        wanted = "service_completed_successfully" if done else "service_healthy"
        assert how == {"condition": wanted}


def test_services_wait_for_the_schema_and_the_bucket() -> None:
    for name in ("service", "dispatcher"):
        assert {"schema", "bucket"} <= set(SERVICES[name]["depends_on"])
    assert set(SERVICES["schema"]["depends_on"]) == {"database"}
    assert set(SERVICES["bucket"]["depends_on"]) == {"store"}


@every
def test_ports_are_this_machine_s_alone_and_stores_have_none(name: str) -> None:
    service = SERVICES[name]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    if name in ("database", "store"):
        assert "ports" not in service
        assert service["networks"] == ["inside"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}


@every
def test_secrets_are_files_and_names_are_known(name: str) -> None:
    service = SERVICES[name]
    for key, value in service.get("environment", {}).items():
        if re.search(r"PASSWORD|SECRET|KEY|CREDENTIALS|_URL_FILE", key):
            assert key.endswith("FILE"), key
            secret = value.removeprefix("/run/secrets/")
            assert secret in service["secrets"], key
        if key.startswith(PREFIX):
            assert key.removeprefix(PREFIX).lower() in Settings.model_fields, key
    assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"])


@every
def test_what_is_mounted_exists(name: str) -> None:
    for volume in SERVICES[name].get("volumes", ()):
        source = volume.partition(":")[0]
        assert source in COMPOSE["volumes"] or (ROOT / source).is_file(), volume


def test_every_secret_is_made_once(tmp_path) -> None:
    folder = tmp_path / "secrets"
    made = []
    for _ in range(2):
        subprocess.run(["sh", ROOT / "deploy/secrets.sh", folder], check=True)
        made.append({file.name: file.read_text() for file in folder.iterdir()})

    assert made[0] == made[1]
    wanted = {secret["file"].removeprefix("./secrets/") for secret in COMPOSE["secrets"].values()}
    assert set(made[0]) == wanted
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert made[0]["postgres_password"] in made[0]["database_url"]
    assert len(made[0]["admin_key"]) > 40


def test_prometheus_signs_in_with_a_key_of_the_lowest_role(tmp_path) -> None:
    """Also where an older release had given it the admin's."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    for name in ("admin_key", "prometheus_key"):
        (folder / name).write_text("tl_0123456789abcdef0123456789")
    subprocess.run(["sh", ROOT / "deploy/secrets.sh", folder], check=True)
    environment = SERVICES["service"]["environment"]
    files = {
        name: folder / environment[f"TOPLOSS_{name.upper()}"].removeprefix("/run/secrets/")
        for name in ("admin_key_file", "keys_file")
    }

    ring = Ring.of_files(read_settings(**files))

    (secret,) = SERVICES["prometheus"]["secrets"]
    key = ring.holder((folder / secret).read_text())
    assert (key.name, key.role) == ("prometheus", Role.PREDICT)
    assert ring.holder((folder / "admin_key").read_text()).role is Role.ADMIN


def test_what_jobs_run_is_sound() -> None:
    (script,) = SERVICES["bucket"]["command"]
    compile(script, "bucket", "exec")
    assert SERVICES["schema"]["command"] == ["db", "upgrade"]

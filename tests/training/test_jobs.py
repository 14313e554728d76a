"""A training's Job, and the template that it is made of."""

from pathlib import Path

import pytest
import yaml

from toploss.attempts import Lease
from toploss.errors import BadSettings
from toploss.settings import read_settings
from training import jobs


def test_an_operator_s_template_is_taken_as_it_stands(tmp_path: Path) -> None:
    job = yaml.safe_load(jobs.TEMPLATE.read_text())
    pod = job["spec"]["template"]["spec"]
    pod["nodeSelector"] = {"pool": "gpu"}
    pod["containers"][0]["image"] = "mine:1"
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    settings = read_settings(
        kubernetes_job=tmp_path / "job.yaml", train_processes=4, device="cuda", run_limit_s=0
    )

    made = jobs.made(settings, Lease(run="a" * 26, fence=1))

    assert made["spec"]["template"]["spec"]["nodeSelector"] == {"pool": "gpu"}
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "mine:1"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "4"
    assert "activeDeadlineSeconds" not in made["spec"]


@pytest.mark.parametrize(
    "text",
    ["", "kind: Pod", "apiVersion: v1\nspec: [", "spec: {template: {spec: {containers: 3}}}"],
)
def test_a_template_that_is_no_job_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text)

    with pytest.raises(BadSettings, match="is no batch/v1 Job with one container 'training'"):
        jobs.template(read_settings(kubernetes_job=path))

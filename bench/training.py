"""Accuracy and time of trainings on real pictures, and whether equal runs are equal.

`trashnet-160` and the ImageNet weights of SqueezeNet are looked for in `shared/` beside the
project; without them the digits alone are measured.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.common import main
from demo import digits
from toploss.settings import read_settings

SHARED = Path(__file__).parents[2] / "shared"
TRASHNET = SHARED / "data" / "trashnet-160"
SQUEEZENET = SHARED / "weights" / "squeezenet1_0.pth"

FROM_SCRATCH = ["--arch", "resnet18", "--weights", "none", "--size", "32", "--batch-size", "32"]
FROM_SCRATCH += ["--epochs-head", "3", "--epochs-all", "3", "--lr", "3e-3", "--no-flip"]
PRETRAINED = ["--arch", "squeezenet1_0", "--weights", str(SQUEEZENET), "--size", "128"]
PRETRAINED += ["--epochs-head", "3", "--epochs-all", "3"]


def measure(quick: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="toploss-bench-") as scratch:
        folder = Path(scratch)
        settings = read_settings(home=folder)
        digits.make(folder, split_seed=settings.split_seed, shares=settings.split)
        figures: dict[str, Any] = {"accuracy": {}, "seconds": {}, "equal_runs": {}}
        _data_set(figures, folder, "digits", "resnet18", folder / digits.DATA, FROM_SCRATCH)
        if TRASHNET.is_dir() and SQUEEZENET.is_file() and not quick:
            _data_set(figures, folder, "trashnet-160", "squeezenet1_0", TRASHNET, PRETRAINED)
        else:
            figures["left_out"] = "trashnet-160 (--quick, or not there)"
        return figures


def _data_set(
    figures: dict[str, Any], folder: Path, name: str, arch: str, images: Path, options: list[str]
) -> None:
    """Import once and train twice, in a home each."""
    results = []
    for turn in ("first", "second"):
        home = folder / f"{name}-{turn}"
        summary = _toploss(home, "import", str(images))
        began = time.monotonic()
        results.append(_toploss(home, "train", *options))
        figures["seconds"].setdefault(name, []).append(round(time.monotonic() - began, 1))
        figures[f"import_{name}"] = {key: summary[key] for key in ("added", "known", "conflicts")}
    first, second = results
    figures["accuracy"][name] = {arch: first["metrics"]}
    figures["equal_runs"][name] = all(
        first[key] == second[key] for key in ("fingerprint", "history", "metrics")
    )


def _toploss(home: Path, *arguments: str) -> Any:
    done = subprocess.run(
        [Path(sys.executable).with_name("toploss"), *arguments, "--json"],
        stdout=subprocess.PIPE,
        env=os.environ | {"TOPLOSS_HOME": str(home)},
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"toploss {' '.join(arguments)}: exit code {done.returncode}")
    return json.loads(done.stdout)


if __name__ == "__main__":
    main("training", measure, "the digits alone")

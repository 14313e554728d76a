"""What a version says of itself, and how a log begins."""

import sys
import time
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from toploss import __version__
from toploss.home import Home
from toploss.ids import new_id
from toploss.plan import Plan
from toploss.snapshots import Snapshot
from training.data import preprocessing
from training.trained import Trained

LIBRARIES = ("torch", "torchvision", "fastai", "onnx", "onnxruntime", "ncnn", "numpy", "pillow")


def draft(
    home: Home,
    *,
    run: str,
    plan: Plan,
    snapshot: Snapshot,
    trained: Trained,
    threads: int,
    device: str,
) -> dict[str, Any]:
    """The manifest of a new version, but for what appraisal, artifact and gate have to tell."""
    return {
        "name": home.settings.name,
        "version": new_id(),
        "run": run,
        "trained_at": time.time(),
        "labels": list(snapshot.labels),
        "architecture": plan.arch,
        "preprocessing": preprocessing(plan).as_json(),
        "snapshot": {"fingerprint": snapshot.fingerprint, "counts": snapshot.counts},
        "seed": plan.seed,
        "threads": threads,
        "device": device,
        "settings": plan.as_json() | {"rate": trained.rate, "part": trained.part},
        "code": {"toploss": __version__},
        "libraries": libraries(),
    }


def libraries() -> dict[str, str]:
    """Versions of what a training's result depends on."""
    return {"python": sys.version.split()[0], **{name: installed(name) for name in LIBRARIES}}


def summary(snapshot: Snapshot, plan: Plan, device: str, threads: int) -> str:
    """Data and settings in a line, for the log."""
    splits = ", ".join(f"{sum(c.values())} {split}" for split, c in snapshot.counts.items())
    return (
        f"{splits} in {len(snapshot.labels)} classes (snapshot {snapshot.fingerprint[:12]}); "
        f"{plan.arch} at {plan.size} px, weights {Path(plan.weights).name}, seed {plan.seed}, "
        f"{device} with {threads} threads"
    )

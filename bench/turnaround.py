"""From the decision that makes a retraining due to the new version that answers, warm and cold.

Production has learned from 95 % of the images. The rest is posted to a service, the policy counts
them, a dispatcher launches the run, and a client predicts until another version answers. Each way
of beginning a retraining has a copy of the same home.
"""

import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from bench import subjects
from bench.common import main, options
from bench.serving import servers
from demo import digits as demo_digits
from toploss import models
from toploss.home import Home
from toploss.plan import Start
from toploss.settings import read_settings

NEW = 0.05  # of the images
SIZE, SMALL = 128, 32  # pixels
QUIET_S = 2  # without a change, before a retraining is due
LOOK_S = 0.25
LONGEST_S = 3600
# The policy, and a gate that lets through what it cannot tell: who is not promoted answers nobody.
SETTINGS = {
    "retrain_after": "10",
    "retrain_quiet_s": str(QUIET_S),
    "retrain_cooldown_s": "0",
    "gate_cannot_tell": "promote",
    "poll_s": "1",
}


def measure(quick: bool, data: Path | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="toploss-bench-") as scratch:
        folder = Path(scratch)
        images, recipe = _quick(folder) if quick else _full(data)
        new = _apart(images, folder / "known")
        home = _trained(folder, recipe)
        rows = [_turned(folder, home, start, new) for start in Start]
    return {"new": len(new), "rows": rows}


def _quick(folder: Path) -> tuple[Path, dict[str, Any]]:
    settings = read_settings(home=folder / "any")
    demo_digits.make(folder, split_seed=settings.split_seed, shares=settings.split)
    small = {"arch": "resnet18", "weights": "none", "flip": False, "lr": 3e-3, "batch_size": 32}
    return folder / demo_digits.DATA, small | {"size": SMALL, "epochs_head": 1, "epochs_all": 2}


def _full(data: Path | None) -> tuple[Path, dict[str, Any]]:
    weights = subjects.WEIGHTS / "squeezenet1_0.pth"
    recipe = {"arch": "squeezenet1_0", "size": SIZE}
    return data or subjects.TRASHNET, recipe | (
        {"weights": str(weights)} if weights.exists() else {}
    )


def _apart(images: Path, known: Path) -> list[tuple[Path, str]]:
    """Copy most images to a folder of their own; those that are left, with their labels. Where
    splits are given, the newcomers are of train."""
    every = sorted(path for path in images.rglob("*") if path.suffix in (".jpg", ".png"))
    free = [path for path in every if path.relative_to(images).parts[0] not in ("valid", "test")]
    new = random.Random(0).sample(free, round(NEW * len(every)))
    for path in set(every) - set(new):
        target = known / path.relative_to(images)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return [(path, path.parent.name) for path in new]


def _trained(folder: Path, recipe: dict[str, Any]) -> Path:
    """A home whose production has learned from the known images."""
    import training

    home = Home.open(read_settings(home=folder / "home"))
    training.from_folder(folder / "known", home=home)
    result = training.fit(home=home, **recipe)
    if models.production(home) is None:  # a quick one may not pass its gate
        models.promote(home, result.version, reason="to be measured", actor="bench")
    home.db.close()
    return folder / "home"


def _turned(
    folder: Path, trained: Path, start: Start, new: list[tuple[Path, str]]
) -> dict[str, Any]:
    home = folder / start
    shutil.copytree(trained, home)
    with _loop(home, folder / f"{start}-logs", retrain_start=str(start)) as client:
        before = client.get("/v1/model").raise_for_status().json()
        for path, label in new:
            files = {"image": (path.name, path.read_bytes())}
            client.post("/v1/samples", files=files, data={"label": label}).raise_for_status()
        due = client.get("/v1/dataset").json()["retraining"]
        began = time.monotonic()
        run, stages = _followed(client, began)
        answered = _answered(client, before["version"], new[0][0], run, began)
    row = {
        "start": str(start),
        "changed": due["changed"],
        "seconds": answered,
        "stages": {stage: round(seconds, 1) for stage, seconds in stages.items()},
        "test_accuracy_before": before["metrics"]["test"]["accuracy"],
        "test_accuracy": run["metrics"]["test"]["accuracy"],
        "valid_accuracy": run["metrics"]["valid"]["accuracy"],
        "gate": run["gate"]["verdict"],
        "outcome": run["gate"]["outcome"],
        "why": run["gate"]["reason"],
    }
    print(row, flush=True)
    shutil.rmtree(home)
    return row


@contextmanager
def _loop(home: Path, logs: Path, **more: str) -> Iterator[httpx.Client]:
    """A service and a dispatcher, as processes."""
    logs.mkdir()
    settings = SETTINGS | more
    with (
        servers.ours(home, logs, **settings) as address,
        servers.dispatcher(home, logs, **settings),
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        yield client


def _followed(client: httpx.Client, began: float) -> tuple[dict[str, Any], dict[str, float]]:
    """The run that comes, once it has ended, and how long each of its stages was seen."""
    known = {run["id"] for run in client.get("/v1/retrainings").json()["items"] if run["ended_at"]}
    stages: dict[str, float] = {}
    at = began
    while time.monotonic() < began + LONGEST_S:
        newest = client.get("/v1/retrainings", params={"limit": 1}).json()["items"][0]
        stage = "waiting" if newest["id"] in known else newest["stage"] or "starting"
        if newest["id"] not in known and newest["ended_at"]:
            if newest["state"] != "succeeded":
                raise SystemExit(f"the run has {newest['state']}: {newest['error']}")
            return newest, stages
        time.sleep(LOOK_S)
        stages[stage] = stages.get(stage, 0.0) + time.monotonic() - at
        at = time.monotonic()
    raise SystemExit(f"no run has ended after {LONGEST_S} s")


def _answered(
    client: httpx.Client, before: str, image: Path, run: dict[str, Any], began: float
) -> float | None:
    """Seconds until a prediction was the new version's; None: it was not promoted."""
    while run["gate"]["promoted"] and time.monotonic() < began + LONGEST_S:
        kind = "image/png" if image.suffix == ".png" else "image/jpeg"
        answer = client.post("/predict", content=image.read_bytes(), headers={"Content-Type": kind})
        if answer.status_code == 200 and answer.json()["model"] != before:
            return round(time.monotonic() - began, 1)
        time.sleep(LOOK_S)
    return None


if __name__ == "__main__":
    parser = options("turnaround", "the demo's digits, 1 and 2 epochs, in place of trashnet-160")
    parser.add_argument("--data", type=Path, help="a folder of classes; else trashnet-160")
    main(parser, lambda args: measure(args.quick, args.data))

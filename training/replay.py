"""An old run once more, from the same snapshot and settings: does the same come out?"""

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toploss import __version__, erasure, models, records, snapshots
from toploss.artifact import WEIGHTS
from toploss.blobs import sha256
from toploss.errors import Refused
from toploss.home import Home
from toploss.plan import Plan
from training import lesson, manifest
from training.data import Pictures, preprocessing
from training.export import write_weights
from training.follower import Follower
from training.lesson import hardware
from training.recipe import Place


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What a replay showed."""

    run: str
    equal: bool  # every loss of every epoch, and every weight, to the last bit
    weights_equal: bool
    history_equal: bool
    first_difference: dict[str, Any] | None  # the first figure of the history that differs
    moved: dict[str, list[str]]  # what has changed since: library → [then, now]
    words: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def replay(home: Home, run_id: str, follower: Follower) -> Replay:
    """Train again as that run did and compare; nothing is kept.

    Raises:
        NotFound: no such run. Refused: it has made no version to compare with. Pruned: its
            weights are gone. BadData: samples of its snapshot were erased.
    """
    run = records.show(home, run_id)
    if run["version"] is None:
        raise Refused(
            f"run {run_id} is {run['state']} and has made no version to compare with; "
            "name one of `toploss runs list` that has"
        )
    version = models.get(home, run["version"])
    models.refuse_pruned(version)
    card = version.manifest
    plan = Plan.from_json(run["settings"])
    snapshot = erasure.none_of(home, snapshots.load(home, run["fingerprint"]))
    device, threads = hardware(home), int(card["threads"])
    lesson.check(home, plan)
    pictures = Pictures(home, preprocessing(plan))
    pictures.warm(snapshot.rows, threads, lambda _: None)
    learned = lesson.learn(
        home,
        lesson.material(pictures, snapshot),
        plan,
        follower,
        place=Place(device=device, workers=home.settings.train_workers),
        threads=threads,
    )
    with tempfile.TemporaryDirectory(prefix="toploss-") as scratch:
        file = Path(scratch) / WEIGHTS
        write_weights(learned.network, file)
        same = sha256(file.read_bytes()) == sha256(home.blobs.get(f"{version.path}/{WEIGHTS}"))
    difference = _first_difference(run["history"], learned.trained.as_json())
    moved = _moved(card, device)
    equal = same and difference is None
    return Replay(
        run=run_id,
        equal=equal,
        weights_equal=same,
        history_equal=difference is None,
        first_difference=difference,
        moved=moved,
        words=_words(equal, difference, moved, parted=card["settings"].get("part")),
    )


def _first_difference(
    then: list[dict[str, Any]], now: list[dict[str, Any]]
) -> dict[str, Any] | None:
    if len(then) != len(now):
        return {"epochs": [len(then), len(now)]}
    for was, is_ in zip(then, now, strict=True):
        for key, value in was.items():
            if is_.get(key) != value:
                return {
                    "stage": was["stage"],
                    "epoch": was["epoch"],
                    key: [value, is_.get(key)],
                }
    return None


def _moved(card: dict[str, Any], device: str) -> dict[str, list[str]]:
    then = {"toploss": card["code"]["toploss"], "device": card.get("device", "cpu")}
    then |= card["libraries"]
    now = {"toploss": __version__, "device": device, **manifest.libraries()}
    return {
        name: [then.get(name, "?"), version]
        for name, version in now.items()
        if then.get(name) != version
    }


def _words(
    equal: bool,
    difference: dict[str, Any] | None,
    moved: dict[str, list[str]],
    *,
    parted: int | None,
) -> str:
    since = ", ".join(f"{name} {was} → {is_}" for name, (was, is_) in moved.items())
    if equal:
        return "the same to the last bit" + (f", although {since}" if moved else "")
    what = f"differs, first in {difference}" if difference else "differs in the weights alone"
    if moved:
        return f"{what}; since then: {since}"
    if parted is not None:
        return (
            f"{what}; the run was short of memory and took its batches in parts of {parted} from "
            "some step on, where the replay did so from the first"
        )
    return f"{what}, with the same libraries: another processor, or a fault; please report it"

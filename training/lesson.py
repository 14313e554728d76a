"""From a snapshot and a plan to a trained network: what a run does, and what a replay repeats."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from safetensors.torch import load as load_tensors

from toploss import models, network, records, snapshots
from toploss.errors import BadInput
from toploss.home import Home
from toploss.network import Network
from toploss.plan import DOWNLOADED, Plan, Start
from toploss.snapshots import Snapshot
from toploss.weights import State
from training import checkpoints, features, memory, randomness, ranks, recipe
from training.checkpoints import Keeper
from training.data import Material, Pictures, preprocessing
from training.evidence import dead_share
from training.features import Features
from training.finder import Finder
from training.follower import Follower, Unheard
from training.recipe import Place
from training.trained import Trained

LOOKED_AT = 256  # images of valid, for filters that are dead
KEPT = 0.5  # of the earlier weights, by shrink-and-perturb


def material(pictures: Pictures, snapshot: Snapshot) -> Material:
    """What the snapshot's train and valid splits are to a training."""
    return Material(
        pictures=pictures,
        labels=snapshot.labels,
        train=snapshot.of_split("train"),
        valid=snapshot.of_split("valid"),
    )


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What a lesson leaves."""

    network: Network
    trained: Trained
    build: Callable[[], Network]  # makes a network that knows nothing of the material
    # Of train, then of valid, by a body that knows nothing of them, (n, 2f); None: there is none.
    features: Features | None
    dead_before: float | None  # share of channels that were never above zero before


def check(home: Home, plan: Plan) -> None:
    """Whether there are the architecture and weights that a lesson begins with, known before
    anything that takes its time. What is downloaded stays in the library's cache.

    Raises:
        BadInput: they are not to be had. Pruned, Broken: what it begins with is gone.
    """
    network.build(plan.arch, 2, size=plan.size, weights=_weights(home, plan))
    if plan.start is not None:
        _kept(home, plan.start)


def learn(
    home: Home,
    material: Material,
    plan: Plan,
    follower: Follower,
    *,
    threads: int,
    keeper: Keeper | None = None,
    place: Place | None = None,
) -> Learned:
    """A network made and trained as planned. Equal material, plan, threads and hardware give
    bit-equal networks on the CPU.

    Raises:
        BadInput: architecture or weights are not to be had. Diverged. What the follower raises.
    """
    place = place or Place()
    net = build(home, plan, material.labels, threads=threads)
    shown = material.pictures.stack(material.valid[:LOOKED_AT])
    dead_before = dead_share(net, shown, material.pictures.how, place.device)
    images = len(material.train) + len(material.valid)
    made = None
    if not plan.from_scratch and plan.start is None and features.fit_in_memory(net, images):
        made = recipe.frozen_features(net, material, place, follower)
    trained = recipe.train(net, material, plan, follower, keeper=keeper, place=place, made=made)
    return Learned(
        network=net,
        trained=trained,
        # What an earlier training began with would know what is to be held out.
        build=partial(build, home, plan.anew(), material.labels, threads=threads),
        features=made,
        dead_before=dead_before,
    )


def assist(home: Home) -> None:
    """What all but the first of processes that train together do: train along, as the first one
    says; they write nothing."""
    memory.keep_freed()
    device = hardware(home)
    company = ranks.join(device)
    said = company.told(None)
    plan, snapshot = Plan.from_json(said["plan"]), snapshots.load(home, said["fingerprint"])
    pictures = Pictures(home, preprocessing(plan))
    pictures.warm(snapshot.rows, said["threads"], lambda _: None)
    learn(
        home,
        material(pictures, snapshot),
        plan,
        Unheard(),
        keeper=checkpoints.Checkpoints(home, said["run"], writes=False),
        place=Place(device=device, workers=home.settings.train_workers, ranks=company),
        threads=said["threads"],
    )
    ranks.leave()


def sweep(
    home: Home, material: Material, plan: Plan, stage: int, follower: Follower, *, threads: int
) -> Finder:
    """The rate finder alone, at the beginning of stage 1, or of stage 2 after stage 1 was trained.

    Raises:
        As `learn`.
    """
    net = build(home, plan, material.labels, threads=threads)
    return recipe.sweep(net, material, plan, follower, stage, Place(device=hardware(home)))


def build(home: Home, plan: Plan, labels: Sequence[str], *, threads: int) -> Network:
    """The network that the plan begins with; the random state is seeded.

    Args:
        labels: the classes, in the order of its outputs.

    Raises:
        BadInput. Pruned, Broken: what it begins with is gone.
    """
    randomness.seed(plan.seed, threads)
    net = network.build(plan.arch, len(labels), size=plan.size, weights=_weights(home, plan))
    if plan.start is not None:
        state = load_tensors(_kept(home, plan.start))
        earlier = _fitting(net, state, labels, _learned_by(home, plan.start), plan.start)
        net.load_state_dict(_begun(net.state_dict(), earlier, plan.warm))
    return net


def hardware(home: Home) -> str:
    """`cuda` or `cpu`, as the setting says. Raises BadInput: there is no such device."""
    wanted = home.settings.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise BadInput("TOPLOSS_DEVICE=cuda, but PyTorch sees no GPU; set auto or cpu")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def _weights(home: Home, plan: Plan) -> dict[str, Any] | None:
    """The pretrained tensors that the plan names. Raises BadInput: not to be had, or no weights."""
    replaced = plan.start is not None and plan.warm is not Start.SHRINK
    if plan.from_scratch or replaced:
        return None
    if plan.weights == DOWNLOADED:
        return network.downloaded_weights(plan.arch)
    return network.read_weights(_kept(home, plan.weights), plan.weights)


def _kept(home: Home, path: str) -> bytes:
    """A network's file in the storage. Raises Broken: it is missing; Pruned: the version's are."""
    kind, name, *_ = path.split("/")
    if kind == "versions":
        models.refuse_pruned(models.get(home, name))
    return home.blobs.get(path)


def _learned_by(home: Home, start: str) -> Sequence[str] | None:
    """The classes of an earlier network of ours, in the order of its outputs; None: it is neither a
    version's nor a run's, and nobody has written them down."""
    kind, name, *_ = start.split("/")
    if kind not in ("versions", "runs"):
        return None
    if kind == "versions":
        labels: list[str] = models.get(home, name).manifest["labels"]
        return labels
    return snapshots.load(home, str(records.show(home, name)["fingerprint"])).labels


def _fitting(
    net: Network, state: State, labels: Sequence[str], theirs: Sequence[str] | None, name: str
) -> State:
    """The tensors of an earlier network of ours, fit to be this one's. The head's last layer has a
    row for each class: those that the earlier one did not know by that name are this one's own.

    Raises:
        BadInput: it is of another architecture.
    """
    mine = net.state_dict()
    last = f"head.{len(net.head) - 1}.weight"
    if theirs is not None and last in state and state[last].shape[1:] == mine[last].shape[1:]:
        rows = mine[last].clone()
        for place, label in enumerate(labels):
            if label in theirs:
                rows[place] = state[last][theirs.index(label)]
        state = {**state, last: rows}
    wrong = [key for key in mine if key not in state or state[key].shape != mine[key].shape]
    if wrong or len(state) != len(mine):
        raise BadInput(
            f"{name} is a network of another architecture ({len(wrong)} tensors differ, "
            f"{wrong[0] if wrong else 'too many'} first); go on with the architecture it has"
        )
    return state


def _begun(cold: State, earlier: State, warm: Start | None) -> State:
    """What a training begins with, of a cold start and an earlier network.

    Shrink-and-perturb is Ash and Adams' ("On Warm-Starting Neural Network Training", NeurIPS 2020):
    the earlier weights shrunk, and fresh ones added. Here the fresh ones are the cold start's, so
    that a pretrained body is shrunk toward what it was before, and not toward nothing.
    """
    if warm is Start.FRESH_HEAD:
        return {key: cold[key] if key.startswith("head.") else earlier[key] for key in cold}
    if warm is Start.SHRINK:
        return {
            key: torch.lerp(cold[key], earlier[key], KEPT) if value.is_floating_point() else value
            for key, value in earlier.items()
        }
    return earlier

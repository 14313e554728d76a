"""Weights from outside: files that people bring, and the way of their tensors into a body."""

import re
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from toploss.errors import BadInput

State = dict[str, Tensor]

# Where training programs keep the weights among other things; averaged ones are the better.
NESTS = ("state_dict_ema", "model_ema", "state_dict", "model")
WRAPPERS = ("module.", "_orig_mod.")  # of nn.DataParallel and torch.compile
LONGEST = 160  # characters of a library's message that we pass on
BODY = "body."  # before what our networks have of theirs; `toploss.network`
OUR_HEAD = "head.0.running_mean"  # timm's TResNet too has a body and a head, of other layers
# Names in densenet files of before PyTorch 0.4.1: `denselayer1.norm.1.weight`. torchvision's
# `densenet._load_state_dict`.
OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d\.)")


def read_weights(data: bytes, name: str) -> State:
    """The tensors of a `.safetensors` or `.pth` file; the latter without running its pickle.

    Raises:
        BadInput: it is neither, or damaged.
    """
    try:
        if name.endswith(".safetensors"):
            return dict(load_safetensors(data))
        found: Any = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as exc:  # torch and safetensors raise whatever their parsers meet
        raise BadInput(_unreadable(name, exc)) from exc
    if isinstance(found, dict):
        found = next((found[nest] for nest in NESTS if isinstance(found.get(nest), dict)), found)
    if (
        not isinstance(found, dict)
        or not found
        or not all(isinstance(value, Tensor) for value in found.values())
    ):
        raise BadInput(f"the weights file {name!r} holds no state dict; save `model.state_dict()`")
    for wrapper in WRAPPERS:
        if all(key.startswith(wrapper) for key in found):
            found = {key.removeprefix(wrapper): value for key, value in found.items()}
    return dict(found)


def is_ours(state: State) -> bool:
    """Whether these are the weights of a network of ours: of a version, body and head."""
    return OUR_HEAD in state and any(key.startswith(BODY) for key in state)


def fill(body: nn.Module, parts: Sequence[str], arch: str, state: State) -> None:
    """Load weights into a body that is a sequence of these parts of torchvision's model. What the
    state has of other parts, such as a classifier, is not used.

    Args:
        state: by torchvision's names, or of a network of ours.

    Raises:
        BadInput: weights of another architecture.
    """

    def theirs(key: str) -> str:
        place, _, rest = key.partition(".")
        return f"{parts[int(place)]}.{rest}" if place in places else key

    places = [str(place) for place in range(len(parts))]
    if is_ours(state):
        state = {theirs(key): value for key, value in _of_body(state).items()}
    state = {OLD_DENSENET.sub(r"\1\2", key): value for key, value in state.items()}
    mine = body.state_dict()
    wanted = {theirs(key): value for key, value in mine.items()}
    # Batch norm's counters came late to PyTorch: older files have none, and nothing rests on them.
    state = {k: v for k, v in wanted.items() if k.endswith("num_batches_tracked")} | state
    _compare(state, wanted, parts, arch)
    body.load_state_dict({key: state[theirs(key)] for key in mine})


def as_pretrained(state: State, known: Any) -> dict[str, Any]:
    """What timm's `create_model` takes as `pretrained_cfg_overlay`, so that it loads this state
    into a model without a classifier, every tensor or none.

    Args:
        state: by timm's names, or of a network of ours.
        known: timm's `PretrainedCfg` of the model, or None.
    """
    if is_ours(state):
        state = {key.removeprefix("model."): value for key, value in _of_body(state).items()}
    heads = getattr(known, "classifier", None) or ()
    heads = (heads,) if isinstance(heads, str) else heads
    kept = {k: v for k, v in state.items() if k.rpartition(".")[0] not in heads}
    return {"state_dict": kept, "num_classes": 0, "label_offset": 0}


def mismatch(arch: str, why: str) -> BadInput:
    """The error for weights that are another architecture's."""
    return BadInput(
        f"the weights file is not one of {arch}: {why}; "
        "give the file of that architecture, or another --arch"
    )


def brief(exc: Exception) -> str:
    """The first words of what a library says at length."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].endswith(":"):  # torch's list of what does not match
        lines = lines[1:]
    text = lines[0] if lines else type(exc).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _compare(state: State, wanted: State, parts: Sequence[str], arch: str) -> None:
    """Raises BadInput where the state is not what is wanted, in these parts of the model."""
    missing = [key for key in wanted if key not in state]
    if missing:
        found = [key for key in state if key not in wanted]
        has = f", and has {found[0]} instead" if found else ""
        raise mismatch(arch, f"it lacks {missing[0]} and {len(missing) - 1} more{has}")
    extra = [key for key in state if key.split(".")[0] in parts and key not in wanted]
    if extra:
        raise mismatch(
            arch, f"it has {extra[0]} and {len(extra) - 1} more, which the architecture has not"
        )
    for key, value in wanted.items():
        if state[key].shape != value.shape:
            raise mismatch(arch, f"{key} is {tuple(state[key].shape)}, not {tuple(value.shape)}")


def _of_body(state: State) -> State:
    return {k.removeprefix(BODY): v for k, v in state.items() if k.startswith(BODY)}


def _unreadable(name: str, exc: Exception) -> str:
    pickled = re.search(r"GLOBAL ([\w.]+)", str(exc))
    if pickled:
        return (
            f"the weights file {name!r} holds pickled Python objects ({pickled[1]}), which are "
            "never run; save the weights alone: torch.save(model.state_dict(), 'weights.pth')"
        )
    return (
        f"the weights file {name!r} cannot be read ({brief(exc)}); "
        "give a .safetensors or a .pth of tensors alone"
    )

"""A network by architecture name: body and head in plain PyTorch, for training and for serving."""

from io import BytesIO
from typing import Any

import torch
import torchvision
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from toploss.errors import BadInput

# Where a torchvision model keeps what comes before its pooling.
BODIES = {
    "resnet": ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"),
    "regnet": ("stem", "trunk_output"),
    "mnasnet": ("layers",),
    "shufflenet": ("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5"),
}
RESNETS = ("resnet", "resnext", "wide_resnet")
WITH_FEATURES = (
    "alexnet",
    "convnext",
    "densenet",
    "efficientnet",
    "mobilenet",
    "squeezenet",
    "vgg",
)
HIDDEN = 512  # width of the head's layer; fastai's


class Network(nn.Module):
    """Body, concatenated pooling, and fastai's head.

    The head is that of `fastai.vision.learner.create_head`: batch norm, dropout, linear, ReLU,
    batch norm, dropout, linear, on maximum and mean of the last feature map.
    """

    def __init__(self, body: nn.Sequential, features: int, classes: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Sequential(
            nn.BatchNorm1d(2 * features),
            nn.Dropout(0.25),
            nn.Linear(2 * features, HIDDEN, bias=False),
            nn.ReLU(inplace=True),
            nn.BatchNorm1d(HIDDEN),
            nn.Dropout(0.5),
            nn.Linear(HIDDEN, classes, bias=False),
        )
        for layer in self.head:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, images: Tensor) -> Tensor:
        """float32 (n, 3, s, s), normalised, to logits (n, classes)."""
        logits: Tensor = self.head(pool(self.body(images)))
        return logits

    def groups(self) -> list[list[nn.Parameter]]:
        """Parameters of the early body, the late body, and the head: what `slice(…)` of the
        second stage spreads its rates over, for every architecture alike."""
        # Half of the tensors in order of depth, not of the weights: those crowd into the end.
        body = list(self.body.parameters())
        half = len(body) // 2
        return [body[:half], body[half:], list(self.head.parameters())]


class Exported(nn.Module):
    """The network as the artifact carries it: logits, pooled features, last feature map."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        feature_map = self.network.body(images)
        features = pool(feature_map)
        return self.network.head(features), features, feature_map


def pool(feature_map: Tensor) -> Tensor:
    """(n, f, h, w) to (n, 2f): maximum, then mean. Not `AdaptiveConcatPool2d`: that has no ONNX."""
    return torch.cat([feature_map.amax((2, 3)), feature_map.mean((2, 3))], dim=1)


def build(arch: str, classes: int, *, weights: dict[str, Tensor] | None = None) -> Network:
    """A network with a fresh head, from torch's random state.

    Args:
        weights: a state dict of torchvision's model of this name, for the body; its classifier
            is not used.

    Raises:
        BadInput: no such architecture, or weights of another one.
    """
    body = _body(arch)
    if weights is not None:
        _load_body(body, arch, weights)
    return Network(body, _features(body, arch), classes)


def read_weights(data: bytes, name: str) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` or `.pth` file; the latter without running its pickle.

    Raises:
        BadInput: it is neither, or damaged.
    """
    try:
        if name.endswith(".safetensors"):
            return dict(load_safetensors(data))
        state: Any = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as exc:  # torch and safetensors raise whatever their parsers meet
        raise BadInput(
            f"the weights file {name!r} cannot be read ({exc}); "
            "give a .safetensors or a .pth of tensors alone"
        ) from exc
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise BadInput(f"the weights file {name!r} holds no state dict; save `model.state_dict()`")
    return state


def downloaded_weights(arch: str) -> dict[str, Tensor]:
    """torchvision's best ImageNet weights, from its cache or the internet.

    Raises:
        BadInput: when there are none, or they cannot be fetched.
    """
    _check_arch(arch)
    try:
        weights = torchvision.models.get_model_weights(arch).DEFAULT
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, ValueError, RuntimeError, AttributeError) as exc:
        raise BadInput(
            f"the ImageNet weights of {arch} cannot be fetched ({exc}); "
            "give a file with --weights FILE, or train from scratch with --weights none"
        ) from exc
    return state


def _check_arch(arch: str) -> None:
    if arch not in torchvision.models.list_models(module=torchvision.models):
        raise BadInput(
            f"architecture {arch!r} is not one of torchvision's; try resnet18, resnet34, "
            "resnet50, squeezenet1_0, mobilenet_v2, efficientnet_b0 or convnext_tiny"
        )


def _body(arch: str) -> nn.Sequential:
    _check_arch(arch)
    model: Any = torchvision.models.get_model(arch, weights=None)
    if arch.startswith(WITH_FEATURES) and isinstance(model.features, nn.Sequential):
        layers: list[nn.Module] = [model.features]
        if arch.startswith("densenet"):
            layers.append(nn.ReLU(inplace=True))  # densenet applies it by a function
        return nn.Sequential(*layers)
    family = "resnet" if arch.startswith(RESNETS) else arch.split("_")[0]
    for name, parts in BODIES.items():
        if family.startswith(name):
            return nn.Sequential(*(getattr(model, part) for part in parts))
    raise BadInput(
        f"architecture {arch!r} has no convolutional feature map that a head can stand on; "
        "try resnet34, squeezenet1_0, mobilenet_v2, efficientnet_b0 or convnext_tiny"
    )


def _load_body(body: nn.Sequential, arch: str, weights: dict[str, Tensor]) -> None:
    """Fill the body from a whole model's state dict, by position: ours has no names of theirs."""
    model: Any = torchvision.models.get_model(arch, weights=None)
    theirs = model.state_dict()
    head = [key for key in theirs if not _of_body(key, arch)]
    wanted = {key: value.shape for key, value in theirs.items() if key not in head}
    # Batch norm's counters came late to PyTorch: older files have none, and nothing rests on them.
    weights = {k: v for k, v in theirs.items() if k.endswith("num_batches_tracked")} | weights
    missing = [key for key in wanted if key not in weights]
    if missing:
        raise BadInput(
            f"the weights file is not one of {arch}: it lacks {missing[0]} and "
            f"{len(missing) - 1} more; give the file of that architecture, or another --arch"
        )
    extra = [key for key in weights if _of_body(key, arch) and key not in wanted]
    if extra:
        raise BadInput(
            f"the weights file is not one of {arch}: it has {extra[0]} and {len(extra) - 1} more, "
            "which that has not; give the file of that architecture, or another --arch"
        )
    for key, shape in wanted.items():
        if weights[key].shape != shape:
            raise BadInput(
                f"the weights file is not one of {arch}: {key} is {tuple(weights[key].shape)}, "
                f"not {tuple(shape)}; give the file of that architecture, or another --arch"
            )
    ours = body.state_dict()
    assert len(ours) == len(wanted), f"{arch}: the body has other tensors than the model"
    body.load_state_dict(
        {mine: weights[key] for mine, key in zip(ours, wanted, strict=True)}, strict=True
    )


def _of_body(key: str, arch: str) -> bool:
    part = key.split(".")[0]
    if arch.startswith(WITH_FEATURES):
        return part == "features"
    return part in {name for parts in BODIES.values() for name in parts}


def _features(body: nn.Sequential, arch: str) -> int:
    """Channels of the last feature map; its random input disturbs neither state nor statistics."""
    was_training = body.training
    body.eval()
    try:
        with torch.inference_mode():
            width = body(torch.zeros(1, 3, 64, 64)).shape[1]
    except RuntimeError as exc:
        raise BadInput(f"architecture {arch!r} does not take images of 64 pixels ({exc})") from exc
    finally:
        body.train(was_training)
    return int(width)

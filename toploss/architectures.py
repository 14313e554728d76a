"""Architectures by name, torchvision's and timm's, and the body that each has: pictures in, a
feature map out."""

import difflib
import math
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from toploss import weights
from toploss.errors import BadInput, OutOfRange
from toploss.preprocess import IMAGENET_MEAN, IMAGENET_STD
from toploss.weights import State, brief

TIMM = "timm/"  # before the name of timm's where torchvision has one of that name too
TRY = ("resnet34", "mobilenet_v2", "convnext_tiny")
SIZE = 224  # side of the pictures in pixels where none is told; ImageNet's

FEATURES = ("features",)
RESNET = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
# By the beginning of torchvision's name: the model's parts that make its last feature map.
PARTS = {
    "alexnet": FEATURES,
    "convnext": FEATURES,
    "densenet": FEATURES,
    "efficientnet": FEATURES,
    "mnasnet": ("layers",),
    "mobilenet": FEATURES,
    "regnet": ("stem", "trunk_output"),
    "resnet": RESNET,
    "resnext": RESNET,
    "shufflenet": ("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5"),
    "squeezenet": FEATURES,
    "swin": ("features", "norm", "permute"),
    "vgg": FEATURES,
    "wide_resnet": RESNET,
}
# Not taken from torchvision: they normalise by themselves, or take pictures of one size only.
INSTEAD = {
    "googlenet": "resnet34",
    "inception_v3": "timm/inception_v3",
    "maxvit_t": "maxvit_tiny_tf_224",
    "vit_b_16": "vit_base_patch16_224",
    "vit_b_32": "vit_base_patch32_224",
    "vit_h_14": "vit_huge_patch14_224",
    "vit_l_16": "vit_large_patch16_224",
    "vit_l_32": "vit_large_patch32_224",
}
WITHOUT_PLACES = ("pit_",)  # timm's that hand out the class token alone


class TimmBody(nn.Module):
    """A timm model without pooling and classifier: images (n, 3, s, s) to a map (n, f, h, w).

    Of a transformer's tokens those of places make the map, row by row; class tokens and registers
    are left out.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self._prefix = int(getattr(model, "num_prefix_tokens", 0))
        self._channels_last = getattr(model, "output_fmt", "") == "NHWC"

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.model(images)
        if found.ndim == 3:
            places = found[:, self._prefix :].transpose(1, 2)
            side = math.isqrt(places.shape[2])
            return places.reshape(places.shape[0], places.shape[1], side, side)
        return found.permute(0, 3, 1, 2) if self._channels_last else found


def check(arch: str, size: int | None = None) -> None:
    """Whether there is such an architecture; with a size, also whether it makes a feature map of
    pictures so large: mostly without computing anything, in a second or two.

    Args:
        arch: torchvision's name or else timm's, which may carry a tag of its weights
            (`resnet50.a1_in1k`); `timm/` before it where both have the name.
        size: side of the pictures in pixels.

    Raises:
        OutOfRange.
    """
    if arch in INSTEAD:
        raise OutOfRange(
            f"architecture {arch!r} of torchvision normalises by itself or takes one size of "
            f"picture only; take {INSTEAD[arch]}"
        )
    name = timm_name(arch)
    if name is not None and not _in_timm(name):
        near = difflib.get_close_matches(arch, _names(), n=3) or TRY
        raise OutOfRange(
            f"architecture {arch!r} is neither torchvision's nor timm's; try {' or '.join(near)}"
        )
    if size is not None:
        try:
            with torch.device("meta"):
                width(body(arch, size=size), arch, size)
        except (BadInput, NotImplementedError):
            # Some, as RegNet, must compute to be made, which cannot be there: those in earnest.
            width(body(arch, size=size), arch, size)


def timm_name(arch: str) -> str | None:
    """The name by which timm knows it; None when it is torchvision's."""
    return None if arch in _torchvision_names() else arch.removeprefix(TIMM)


def statistics(arch: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, of values in 0…1, with which the default weights
    were trained; ImageNet's where none are known.

    Raises:
        BadInput: no such architecture.
    """
    check(arch)
    name = timm_name(arch)
    if name is None:
        known: Any = torchvision.models.get_model_weights(arch).DEFAULT.transforms()
    else:
        import timm

        known = timm.get_pretrained_cfg(name)
    if known is None:
        return IMAGENET_MEAN, IMAGENET_STD
    return tuple(known.mean), tuple(known.std)


def body(arch: str, *, size: int = SIZE, state: State | None = None) -> nn.Module:
    """The part of an architecture that makes its last feature map, (n, f, h, w).

    Its parameters come in order of depth, but for those within one block.

    Args:
        size: side of the pictures in pixels, which some transformers must know.
        state: the weights, by the library's names or by ours; else random ones from torch's
            random state.

    Raises:
        BadInput: no such architecture, none that a head can stand on, or weights of another one.
    """
    check(arch)
    name = timm_name(arch)
    if name is None:
        return _from_torchvision(arch, state)
    return _from_timm(name, size, state)


def width(body: nn.Module, arch: str, size: int = SIZE) -> int:
    """Channels of the body's feature map; a look that disturbs neither state nor statistics.

    Raises:
        BadInput: it makes no feature map of images of this size.
    """
    was_training = body.training
    body.eval()
    try:
        with torch.no_grad():  # what a body keeps of inference mode is of no use to training
            _, channels, _, _ = body(torch.zeros(1, 3, size, size)).shape
    except Exception as exc:  # each body has checks of its own
        raise _no_map(arch, size, brief(exc)) from exc
    finally:
        body.train(was_training)
    return int(channels)


def downloaded_weights(arch: str) -> State:
    """The library's own best weights, from its cache or the internet.

    Raises:
        BadInput: when there are none, or they cannot be fetched.
    """
    check(arch)
    name = timm_name(arch)
    try:
        return _torchvision_weights(arch) if name is None else _timm_weights(name)
    except Exception as exc:  # no network, a full disk, a damaged cache: each has errors of its own
        raise BadInput(
            f"the pretrained weights of {arch} cannot be fetched ({brief(exc)}); "
            "give a file with --weights FILE, or train from scratch with --weights none"
        ) from exc


def _from_torchvision(arch: str, state: State | None) -> nn.Module:
    parts = next(parts for family, parts in PARTS.items() if arch.startswith(family))
    model: Any = torchvision.models.get_model(arch, weights=None)
    made = nn.Sequential(*(getattr(model, part) for part in parts))
    if arch.startswith("densenet"):
        made.append(nn.ReLU(inplace=True))  # densenet applies it by a function
    if state is not None:
        weights.fill(made, parts, arch, state)
    return made


def _from_timm(name: str, size: int, state: State | None) -> nn.Module:
    import timm

    if name.startswith(WITHOUT_PLACES):
        raise _no_map(name, size, "a class token alone comes out of it")
    known = timm.get_pretrained_cfg(name)
    given: dict[str, Any] = {}
    if known is not None and known.fixed_input_size:
        given["img_size"] = size
    if state is not None:
        # timm's own way in, which knows older names and fits positions to the size.
        given["pretrained"] = True
        given["pretrained_cfg_overlay"] = weights.as_pretrained(state, known)
    try:
        model: Any = timm.create_model(name, num_classes=0, **given)
        model.reset_classifier(0, "")
    except Exception as exc:  # each of timm's families has checks of its own
        if state is not None:
            _from_timm(name, size, None)  # raises where the weights are not to blame
            raise weights.mismatch(name, brief(exc)) from exc
        raise _no_map(name, size, brief(exc)) from exc
    model.pretrained_cfg.pop("state_dict", None)  # a second copy of the weights
    return TimmBody(model)


def _no_map(arch: str, size: int, why: str) -> OutOfRange:
    return OutOfRange(
        f"architecture {arch!r} makes no feature map, which the head needs, of pictures of {size} "
        f"pixels ({why}); give another size, or try {' or '.join(TRY)}"
    )


def _torchvision_weights(arch: str) -> State:
    known = torchvision.models.get_model_weights(arch).DEFAULT
    state: State = known.get_state_dict(progress=False, check_hash=True, weights_only=True)
    return state


def _timm_weights(name: str) -> State:
    import timm

    if not timm.is_model_pretrained(name):
        raise LookupError("timm has none")
    state: State = timm.create_model(name, pretrained=True).state_dict()
    return state


def _torchvision_names() -> list[str]:
    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def _in_timm(name: str) -> bool:
    import timm

    return name in timm.list_models() or ("." in name and timm.is_model_pretrained(name))


def _names() -> list[str]:
    import timm

    return list(dict.fromkeys([*_torchvision_names(), *timm.list_models()]))

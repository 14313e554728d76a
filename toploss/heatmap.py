"""Where in a picture a class was seen: each place's share in the class's logit.

HiResCAM (Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of
convolutional neural networks", 2020): the gradient of the logit by the last feature map, times the
map. Our head is known (`toploss.head`), and so is its gradient: libraries for this need PyTorch and
a backward pass, and a serving process has neither.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from toploss.head import Head

Reals = npt.NDArray[np.float32]

LARGEST = 512  # side in pixels of a picture with its map
# From nothing to most, seen by people who do not tell red from green as well.
RAMP = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]])
MOST_COVERED = 0.75  # of the picture, where the map is highest


def heat(head: Head, pooled: Reals, feature_map: Reals, place: int) -> Reals:
    """What each place of the last feature map adds to a class's logit.

    Args:
        pooled: (2f,), maxima, then means.
        feature_map: (f, h, w).
        place: the class, as a place in the network's output.

    Returns:
        (h, w); what speaks against the class is negative.
    """
    by_max, by_mean = np.split(head.gradient(pooled, place), 2)
    features, height, width = feature_map.shape
    flat = feature_map.reshape(features, -1)
    shares: Reals = by_mean @ flat / np.float32(flat.shape[1])
    strongest = flat.argmax(axis=1)
    np.add.at(shares, strongest, by_max * flat[np.arange(features), strongest])
    return shares.reshape(height, width)


def laid_over(picture: Image.Image, shares: Reals) -> Image.Image:
    """A picture, RGB and upright, under what speaks for the class; at most `LARGEST` pixels."""
    shown = picture.copy()
    shown.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    positive = np.maximum(shares, 0)
    strength = positive / max(float(positive.max()), np.finfo(np.float32).tiny)
    small = Image.fromarray(strength.astype(np.float32))
    smooth = np.asarray(small.resize(shown.size, Image.Resampling.BICUBIC)).clip(0, 1)
    steps = np.linspace(0, 1, len(RAMP))
    colours = np.stack([np.interp(smooth, steps, RAMP[:, c]) for c in range(3)], axis=-1)
    covered = (MOST_COVERED * smooth)[..., None]
    mixed = np.asarray(shown, np.float32) * (1 - covered) + colours * covered
    return Image.fromarray(mixed.round().astype(np.uint8))

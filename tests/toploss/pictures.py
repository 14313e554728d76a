"""Pictures that resemble each other, and some that do not."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image, ImageEnhance


def scene(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A picture of soft blobs of colour; each seed gives another one."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def saved(image: Image.Image, format: str = "PNG", **options: int) -> bytes:
    out = BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


# What becomes of a picture on its way through the world.
KINDS: dict[str, Callable[[Image.Image], bytes]] = {
    "png": saved,
    "jpeg": lambda image: saved(image, "JPEG", quality=50),
    "smaller": lambda image: saved(image.resize((image.width // 2, image.height // 2))),
    "larger": lambda image: saved(image.resize((2 * image.width, 2 * image.height))),
    "cropped": lambda image: saved(image.crop((1, 1, image.width - 2, image.height - 1))),
    "brighter": lambda image: saved(ImageEnhance.Brightness(image).enhance(1.1)),
    "darker": lambda image: saved(ImageEnhance.Brightness(image).enhance(0.9)),
}


def copies(image: Image.Image) -> dict[str, bytes]:
    """The picture in every kind."""
    return {kind: make(image) for kind, make in KINDS.items()}

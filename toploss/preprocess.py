"""From a file's bytes to the array that a network sees: once, for training and for serving."""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from toploss.errors import BadInput, NotAnImage, TooLarge, UnsupportedType

# What we read, by Pillow's name, with its media type and the suffixes an import looks for.
MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
}
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")

# EXIF orientation → what brings the picture upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SWAPPING = (5, 6, 7, 8)  # width and height change places

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# We hold images against our own limit, from the header, before anything is decoded.
Image.MAX_IMAGE_PIXELS = None

# A damaged EXIF block is no reason to refuse a picture, nor to warn on every request. Once for the
# process: `catch_warnings` around each picture is not safe among threads.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one image may be at most."""

    bytes: int = 20 * 2**20
    pixels: int = 64_000_000


@dataclass(frozen=True, kw_only=True)
class ImageInfo:
    """What is known of an image from its header."""

    format: str  # Pillow's name, one of MEDIA_TYPES
    width: int  # pixels, as shown (after the EXIF rotation)
    height: int


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How bytes become the network's input; travels in the manifest."""

    size: int  # side of the square in pixels
    resize: str = "squish"  # the whole picture, its aspect ratio given up
    interpolation: str = "bilinear"  # Pillow's, which filters when it shrinks
    mean: tuple[float, ...] = IMAGENET_MEAN  # per channel, of values in 0…1
    std: tuple[float, ...] = IMAGENET_STD

    def as_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "mean": list(self.mean),
            "std": list(self.std),
            "layout": "NCHW",
            "channels": "RGB",
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Preprocessing":
        made = cls(size=int(data["size"]), mean=tuple(data["mean"]), std=tuple(data["std"]))
        for key in ("resize", "interpolation"):
            if data[key] != getattr(made, key):
                raise BadInput(
                    f"preprocessing {key} {data[key]!r} is not known to this release; "
                    f"serve the version with the release that made it"
                )
        return made


def inspect(data: bytes, limits: Limits) -> ImageInfo:
    """Read the header and hold the image against the limits; decodes nothing, but for a PNG that
    may have its EXIF block at the end.

    Raises:
        NotAnImage, UnsupportedType, TooLarge.
    """
    with _opened(data, limits) as image:
        return _info(image)


def verify(data: bytes, limits: Limits) -> ImageInfo:
    """As `inspect`, and decode every pixel, so that a damaged file is found now and not later."""
    return read(data, limits)[0]


def read(data: bytes, limits: Limits) -> tuple[ImageInfo, Image.Image]:
    """As `verify`, with the picture: upright, RGB, in its own size."""
    with _opened(data, limits) as image:
        return _info(image), to_rgb(image)


def decode(data: bytes, size: int, limits: Limits) -> npt.NDArray[np.uint8]:
    """The picture as the network's square: uint8, (3, size, size), RGB.

    EXIF rotation is applied; transparency lies on white; 16-bit grey is scaled to 8 bits; of an
    animation the first frame counts.

    Raises:
        NotAnImage, UnsupportedType, TooLarge.
    """
    with _opened(data, limits) as image:
        rgb = to_rgb(image)
    return squared(rgb, size)


def squared(rgb: Image.Image, size: int) -> npt.NDArray[np.uint8]:
    """An upright RGB picture as the network's square: uint8, (3, size, size)."""
    if rgb.size != (size, size):
        rgb = rgb.resize((size, size), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(rgb).transpose(2, 0, 1))


def to_rgb(image: Image.Image) -> Image.Image:
    """Any picture that Pillow opened, upright, as RGB."""
    # `ImageOps.exif_transpose` writes the EXIF block anew, and fails over a damaged one.
    image.load()
    turn = TURNS.get(_orientation(image))
    image = image if turn is None else image.transpose(turn)
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        values = np.nan_to_num(np.asarray(image, dtype=np.float32))
        # Pillow opens 16-bit files as I or I;16; floating-point files are taken as 0…1.
        scale = 255.0 if image.mode == "F" else 1 / 257
        transparent = image.info.get("transparency")  # a PNG may name a value, which lies on white
        if isinstance(transparent, int):
            values[values == transparent] = 255 / scale
        image = Image.fromarray((values * scale).clip(0, 255).round().astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def thumbnail(data: bytes, size: int, limits: Limits) -> bytes:
    """The picture in a box of `size` pixels, aspect kept, never enlarged, as PNG or JPEG bytes."""
    with _opened(data, limits) as image:
        image.draft("RGB", (size, size))  # JPEG decodes at a fraction; only people see this
        rgb = to_rgb(image)
    rgb.thumbnail((size, size), Image.Resampling.LANCZOS)
    out = BytesIO()
    if max(rgb.size) <= 64:
        rgb.save(out, "PNG")
    else:
        rgb.save(out, "JPEG", quality=85)
    return out.getvalue()


def normalise(
    batch: npt.NDArray[np.uint8], preprocessing: Preprocessing
) -> npt.NDArray[np.float32]:
    """uint8 (n, 3, s, s) to float32 of the same shape, per channel (x/255 − mean) / std."""
    mean = np.asarray(preprocessing.mean, np.float32).reshape(1, 3, 1, 1)
    std = np.asarray(preprocessing.std, np.float32).reshape(1, 3, 1, 1)
    scaled = batch.astype(np.float32)
    scaled /= np.float32(255)  # in place: fresh memory for each step costs ten times as much
    scaled -= mean
    scaled /= std
    return scaled


@contextmanager
def _opened(data: bytes, limits: Limits) -> Iterator[Image.Image]:
    """The image behind the bytes; damage found while it is open is told as such."""
    if not data:
        raise NotAnImage("the image is empty (0 bytes); send the bytes of an image file")
    if len(data) > limits.bytes:
        raise TooLarge(
            f"the image has {len(data):,} bytes, more than the {limits.bytes:,} allowed; "
            "shrink it or raise TOPLOSS_MAX_BYTES"
        )
    try:
        with Image.open(BytesIO(data)) as image:
            _check_header(image, limits)
            yield image
    except UnidentifiedImageError as exc:
        raise NotAnImage(
            f"the {len(data):,} bytes starting {data[:8]!r} are no image; "
            f"send one of {', '.join(MEDIA_TYPES)}"
        ) from exc
    except (
        *(OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError),
        struct.error,
    ) as exc:  # Pillow's decoders raise all of these on damaged files
        raise NotAnImage(f"the image is damaged ({exc}); export or copy it again") from exc
    except (Image.DecompressionBombError, MemoryError, OverflowError) as exc:
        raise TooLarge(f"the image unpacks to too much memory ({exc}); shrink it") from exc


def _info(image: Image.Image) -> ImageInfo:
    width, height = image.size[::-1] if _orientation(image) in SWAPPING else image.size
    return ImageInfo(format=_format(image), width=width, height=height)


def _orientation(image: Image.Image) -> int:
    """How the picture lies, 1 to 8; 1, upright, when its EXIF block says nothing sensible."""
    if image.format == "TIFF":
        return 1  # Pillow turns it by itself
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # whatever a damaged block makes Pillow's parser raise
        return 1
    return found if isinstance(found, int) else 1


def _format(image: Image.Image) -> str:
    """Pillow's name; a JPEG that carries further pictures, as phones write it, is a JPEG."""
    return "JPEG" if image.format == "MPO" else str(image.format)


def _check_header(image: Image.Image, limits: Limits) -> None:
    if _format(image) not in MEDIA_TYPES:
        raise UnsupportedType(
            f"images of type {image.format} are not read; "
            f"convert it to one of {', '.join(MEDIA_TYPES)}"
        )
    width, height = image.size
    if width * height > limits.pixels:
        raise TooLarge(
            f"the image is {width}×{height}, {width * height:,} pixels, more than the "
            f"{limits.pixels:,} allowed; shrink it or raise TOPLOSS_MAX_PIXELS"
        )

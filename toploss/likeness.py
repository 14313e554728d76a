"""What a picture looks like, small enough to compare with every other: is it the same one again?

Two steps, since either alone errs. The perceptual hash finds candidates in an index; alone it takes
every second digit for the same. The points decide: their *local contrast*, so that two sheets on
one lit table differ though the light is the same, after a least-squares shift and stretch, so that
a cropped copy does not. `docs/data.md` has the figures behind the thresholds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
import numpy.typing as npt
from PIL import Image

Floats = npt.NDArray[np.float32]

SIDE = 16  # points
BANDS = (22, 21, 21)  # bits of the hash's bands
RADIUS = 7  # Hamming distance of two hashes, at most
WITHIN = (1, 2, 2)  # one band of theirs differs in no more bits; else they would in 2 + 3 + 3
SAME = 0.97  # correlation of the aligned local contrasts, at least
# Aligning seldom adds more than this gap: below, it is not tried.
WORTH_ALIGNING = 0.7
COLOUR = 8.0  # mean difference of the colours, lightness taken away, in 0…255, at most
FLAT = 2.0  # standard deviation of the local contrast, in 0…255; a picture below has no likeness

LIGHTNESS = np.array([0.299, 0.587, 0.114], np.float32)
PLACES = np.linspace(-1, 1, SIDE, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """A picture's hash and its points."""

    bands: tuple[int, ...] | None  # the hash, as `BANDS`; None: it is flat, and alike to none
    points: bytes  # uint8, (16, 16, 3), RGB


def of(rgb: Image.Image) -> Likeness:
    """The likeness of an upright RGB picture. Size, encoding and small changes hardly change it.

    The hash is the DCT one of imagehash (`phash`): 64 bits, of which half are set.
    """
    import imagehash

    small = rgb.resize((2 * SIDE, 2 * SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    pixels = np.asarray(small, np.float32)
    fours = pixels[::2, ::2] + pixels[::2, 1::2] + pixels[1::2, ::2] + pixels[1::2, 1::2]
    points: Floats = (fours / np.float32(4)).round()
    bands = None
    if _contrast(points).std() >= FLAT:
        bits = np.packbits(imagehash.phash(small).hash.ravel())
        bands = split(int(bits.view(">u8")[0]))
    return Likeness(bands=bands, points=points.astype(np.uint8).tobytes())


def split(bits: int) -> tuple[int, ...]:
    """A hash of 64 bits as bands, the highest first."""
    first, second, third = BANDS
    low, middle = (1 << third) - 1, (1 << second) - 1
    assert first + second + third == 64
    return bits >> second + third, bits >> third & middle, bits & low


def probes(bands: Sequence[int]) -> list[list[int]]:
    """For each band what is near enough to it, itself included."""
    how = zip(bands, BANDS, WITHIN, strict=True)
    return [[band ^ flip for flip in _flips(bits, within)] for band, bits, within in how]


@cache
def _flips(bits: int, within: int) -> tuple[int, ...]:
    """Every number of so many bits of which so many are set, at most."""
    ones = [1 << bit for bit in range(bits)]
    return tuple(sum(some) for n in range(within + 1) for some in combinations(ones, n))


def distance(one: Sequence[int], other: Sequence[int]) -> int:
    """How many bits two hashes differ in, given as bands: 0 to 64."""
    (a, b, c), (d, e, f) = one, other
    return (a ^ d).bit_count() + (b ^ e).bit_count() + (c ^ f).bit_count()


def similarity(one: Likeness, other: Likeness) -> float:
    """How surely two that hash nearly alike are the same picture, −1 to 1; `SAME` or more says that
    they are, 0 that their colours rule it out."""
    first, second = _points(one), _points(other)
    if np.abs(_colours(first) - _colours(second)).mean() > COLOUR:
        return 0.0
    contrast, like = _contrast(first), _contrast(second)
    plain = _correlation(contrast, like)
    if not WORTH_ALIGNING <= plain < SAME:
        return plain
    return max(plain, _aligned(contrast, like), _aligned(like, contrast))


def similar_features(features: Floats, threshold: float) -> list[tuple[int, int, float]]:
    """Pairs of a network's features whose cosine is at least the threshold, most similar first.

    Args:
        features: float32, (n, d), one row per picture.
    """
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.maximum(lengths, np.finfo(np.float32).tiny)
    pairs = []
    for start in range(0, len(unit), 1000):  # 1000 × n similarities at a time, not n × n
        block = unit[start : start + 1000] @ unit[start:].T
        for row, column in zip(*np.nonzero(np.triu(block, 1) >= threshold), strict=True):
            similarity = float(block[row, column])
            pairs.append((start + int(row), start + int(column), similarity))
    return sorted(pairs, key=lambda pair: -pair[2])


def _points(likeness: Likeness) -> Floats:
    return np.frombuffer(likeness.points, np.uint8).reshape(SIDE, SIDE, 3).astype(np.float32)


def _contrast(points: Floats) -> Floats:
    """Lightness less its mean over the 5 × 5 points around: float32, (16, 16)."""
    grey = points @ LIGHTNESS
    padded = np.pad(grey, 2, mode="edge")
    # Row after row, then column after column: ten additions, not twenty-five.
    down = np.sum([padded[start : start + SIDE] for start in range(5)], 0)
    around = np.sum([down[:, start : start + SIDE] for start in range(5)], 0)
    contrast: Floats = grey - around / np.float32(25)
    return contrast


def _colours(points: Floats) -> Floats:
    colours: Floats = points - (points @ LIGHTNESS)[..., None]
    return colours


def _aligned(moved: Floats, fixed: Floats) -> float:
    """The correlation once `moved` is shifted and stretched a little to fit `fixed`.

    One step of least squares on the gradients (Lucas and Kanade, 1981): a crop of a few per cent
    shifts the points by less than one.
    """
    down, right = np.gradient(moved)
    terms = (moved, right, down, right * PLACES[None], down * PLACES[:, None])
    columns = np.stack(terms, -1).reshape(-1, len(terms))
    weights = np.linalg.lstsq(columns, fixed.ravel())[0]
    return _correlation(columns @ weights, fixed)


def _correlation(one: Floats, other: Floats) -> float:
    # Neither is 0 everywhere: a flat picture has no likeness.
    lengths = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one.ravel() @ other.ravel() / lengths)

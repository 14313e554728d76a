import numpy as np
import pytest
from PIL import Image

from tests.toploss import pictures
from toploss import likeness, preprocess
from toploss.likeness import RADIUS, SAME


def of(data: bytes) -> likeness.Likeness:
    return likeness.of(preprocess.read(data, preprocess.Limits())[1])


def same(one, other):
    near = likeness.distance(one.bands, other.bands) <= RADIUS
    return near and likeness.similarity(one, other) >= SAME


@pytest.mark.parametrize("kind", list(pictures.KINDS))
def test_a_copy_is_the_same_picture(kind):
    found = []
    for seed in range(20):
        scene = pictures.scene(seed)
        found.append(same(likeness.of(scene), of(pictures.KINDS[kind](scene))))

    # Of crops some are missed; docs/data.md has the shares.
    assert sum(found) >= (16 if kind == "cropped" else 20)


def test_other_pictures_are_not():
    several = [likeness.of(pictures.scene(seed)) for seed in range(40)]

    assert not any(same(a, b) for n, a in enumerate(several) for b in several[:n])


def test_one_form_in_two_colours_is_two_pictures():
    """Classes may be colours: the same drawing in red and in blue is not one picture."""
    drawing = pictures.scene(1).convert("L")
    black = Image.new("L", drawing.size)
    red, blue = (
        Image.merge("RGB", (drawing, black, black)),
        Image.merge("RGB", (black, black, drawing)),
    )

    assert not same(likeness.of(red), likeness.of(blue))


@pytest.mark.parametrize("colour", ["white", "black", "red"])
def test_a_flat_picture_is_alike_to_none(colour):
    assert likeness.of(Image.new("RGB", (64, 48), colour)).bands is None


def test_every_hash_within_the_radius_shares_a_probe():
    dice = np.random.default_rng(0)
    for _ in range(300):
        bits = dice.integers(0, 2, 64)
        other = bits.copy()
        other[dice.choice(64, RADIUS, replace=False)] ^= 1
        one, two = (likeness.split(int(np.packbits(b).view(">u8")[0])) for b in (bits, other))

        assert likeness.distance(one, two) == RADIUS
        assert any(b in near for b, near in zip(two, likeness.probes(one), strict=True))


def test_the_bands_are_the_hash():
    bits = 0xF0E1D2C3B4A59687
    first, second, third = likeness.split(bits)

    assert first << 42 | second << 21 | third == bits


def test_features_that_point_the_same_way_are_paired():
    dice = np.random.default_rng(0)
    features = dice.normal(size=(2500, 16)).astype(np.float32)
    features[2400] = 3 * features[7]
    features[1200] = features[1100] + 0.05 * dice.normal(size=16)

    found = likeness.similar_features(features, 0.98)

    assert [pair[:2] for pair in found] == [(7, 2400), (1100, 1200)]
    assert found[0][2] == pytest.approx(1.0)

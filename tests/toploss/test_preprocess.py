import random
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tests.conftest import picture
from toploss.errors import BadInput, NotAnImage, TooLarge, UnsupportedType
from toploss.preprocess import (
    MEDIA_TYPES,
    Limits,
    Preprocessing,
    decode,
    inspect,
    normalise,
    thumbnail,
    verify,
)

LIMITS = Limits()
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def saved(image, format, **options):
    out = BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def colours(data):
    """The distinct colours of the decoded picture."""
    return {tuple(pixel) for pixel in decode(data, 8, LIMITS).reshape(3, -1).T.tolist()}


def chunk(kind, content):
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png_header(width, height):
    """A whole PNG but for its pixels: what a bomb looks like before it is unpacked."""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def png_of(depth, colour, row):
    """A PNG of 8 × 8 pixels that Pillow does not write: each row as given, in PNG's own terms."""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, depth, colour, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress((b"\0" + row) * 8))
        + chunk(b"IEND", b"")
    )


def without_adobe(jpeg):
    """The JPEG without the marker that says how its colours are meant."""
    at = jpeg.index(b"\xff\xee")
    (length,) = struct.unpack(">H", jpeg[at + 2 : at + 4])
    return jpeg[:at] + jpeg[at + 2 + length :]


def cmyk(format, **options):
    return saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), format, **options)


def sixteen_bit(value):
    return Image.fromarray(np.full((8, 8), value, np.uint16))


def with_transparent_index():
    image = Image.new("P", (8, 8), 0)
    image.putpalette([*RED, *GREEN])
    return image


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (saved(Image.new("RGB", (8, 8), RED), "PNG"), RED),
        (saved(Image.new("RGB", (8, 8), RED), "BMP"), RED),
        (saved(Image.new("RGB", (8, 8), RED), "TIFF"), RED),
        (saved(Image.new("RGB", (8, 8), RED), "GIF"), RED),
        (saved(Image.new("RGB", (8, 8), RED), "WEBP", lossless=True), RED),
        (saved(Image.new("1", (8, 8), 1), "PNG"), WHITE),
        (saved(Image.new("L", (8, 8), 77), "PNG"), (77, 77, 77)),
        (saved(Image.new("L", (8, 8), 77), "PNG", transparency=77), WHITE),
        (saved(Image.new("RGB", (8, 8), RED), "PNG", transparency=RED), WHITE),
        (saved(Image.new("RGB", (8, 8), RED), "PNG", transparency=BLUE), RED),
        (saved(Image.new("LA", (8, 8), (77, 255)), "PNG"), (77, 77, 77)),
        (saved(Image.new("LA", (8, 8), (77, 0)), "PNG"), WHITE),
        (saved(Image.new("RGBA", (8, 8), (*RED, 255)), "PNG"), RED),
        (saved(Image.new("RGBA", (8, 8), (*RED, 0)), "PNG"), WHITE),
        (saved(Image.new("RGBA", (8, 8), (0, 0, 0, 128)), "PNG"), (127, 127, 127)),
        (saved(with_transparent_index(), "PNG"), RED),
        (saved(with_transparent_index(), "PNG", transparency=0), WHITE),
        (saved(with_transparent_index(), "PNG", transparency=1), RED),
        (saved(with_transparent_index(), "PNG", transparency=b"\x00\xff"), WHITE),
        (saved(with_transparent_index(), "GIF", transparency=0), WHITE),
        (saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"), RED),
        (saved(sixteen_bit(0xFFFF), "PNG"), WHITE),
        (saved(sixteen_bit(0x8080), "PNG"), (128, 128, 128)),
        (saved(sixteen_bit(0x8080), "PNG", transparency=0x8080), WHITE),
        (saved(sixteen_bit(0x8080), "PNG", transparency=0x8081), (128, 128, 128)),
        (png_of(16, 2, struct.pack(">3H", 0xFFFF, 0x8080, 0) * 8), (255, 128, 0)),
        (png_of(16, 4, struct.pack(">2H", 0x8080, 0xFFFF) * 8), (128, 128, 128)),
        (png_of(16, 4, struct.pack(">2H", 0x8080, 0) * 8), WHITE),
        (png_of(16, 6, struct.pack(">4H", 0, 0, 0, 0) * 8), WHITE),
        (png_of(2, 0, b"\xaa\xaa"), (170, 170, 170)),
        (saved(sixteen_bit(0x8080), "TIFF"), (128, 128, 128)),
        (saved(Image.fromarray(np.full((8, 8), 0x8080, ">u2")), "TIFF"), (128, 128, 128)),
        (saved(Image.fromarray(np.full((8, 8), -5, np.int32)), "TIFF"), (0, 0, 0)),
        (saved(Image.new("1", (8, 8), 1), "PNG", transparency=1), WHITE),
        (saved(Image.new("LA", (8, 8), (0, 0)), "WEBP", lossless=True), WHITE),
        (cmyk("JPEG", quality=95), RED),  # as Adobe writes it, inverted
        (without_adobe(cmyk("JPEG", quality=95)), RED),
        (saved(Image.new("F", (8, 8), 0.5), "TIFF"), (128, 128, 128)),
        (saved(Image.new("F", (8, 8), float("nan")), "TIFF"), (0, 0, 0)),
        (saved(Image.new("I", (8, 8), 257 * 9), "TIFF"), (9, 9, 9)),
    ],
)
def test_every_mode_becomes_rgb(data, expected):
    assert colours(data) == {expected}


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "YCbCr"])
def test_jpeg_modes(mode):
    data = saved(Image.new("RGB", (8, 8), (120, 120, 120)).convert(mode), "JPEG", quality=95)

    (colour,) = colours(data)

    assert max(abs(value - 120) for value in colour) <= 3


def test_layout_and_order_of_channels():
    image = Image.new("RGB", (2, 1))
    image.putdata([RED, BLUE])

    array = decode(saved(image.resize((8, 8), Image.Resampling.NEAREST), "PNG"), 8, LIMITS)

    assert (array.shape, array.dtype) == ((3, 8, 8), np.uint8)
    assert array.flags.c_contiguous
    assert array[:, 0, 0].tolist() == list(RED)
    assert array[:, 0, 7].tolist() == list(BLUE)


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (7, 13), (64, 64)])
def test_any_shape_becomes_the_square(size):
    data = picture(1, size)

    assert decode(data, 16, LIMITS).shape == (3, 16, 16)
    info = verify(data, LIMITS)
    assert (info.width, info.height) == size


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "top_left"),
    [
        (1, RED),
        (2, GREEN),
        (3, WHITE),
        (4, BLUE),
        (5, RED),
        (6, BLUE),
        (7, WHITE),
        (8, GREEN),
        (9, RED),
    ],
)
def test_the_camera_s_rotation_is_applied(format, orientation, top_left):
    image = Image.new("RGB", (2, 2))
    image.putdata([RED, GREEN, BLUE, WHITE])
    image = image.resize((64, 32), Image.Resampling.NEAREST)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(image, format, exif=exif)

    corner = decode(data, 16, LIMITS)[:, 2, 2]
    info = inspect(data, LIMITS)

    assert np.abs(corner.astype(int) - top_left).max() < 40
    assert (info.width, info.height) == ((32, 64) if orientation in (5, 6, 7, 8) else (64, 32))
    assert verify(data, LIMITS) == info


def test_a_damaged_exif_block_refuses_no_picture():
    """Its number of entries, its types and its lengths are nonsense; the pixels are whole."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    whole = saved(Image.new("RGB", (64, 32), WHITE), "JPEG", exif=exif)
    at = whole.index(b"Exif\0\0") + 6
    dice = random.Random(0)
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 4))):
            data[at + dice.randrange(8, 40)] = dice.randrange(256)
        assert colours(bytes(data)) == {WHITE}


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF", "PNG"])
def test_of_an_animation_the_first_frame_counts(format):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if format == "WEBP" else {}

    data = saved(frames[0], format, save_all=True, append_images=frames[1:], **options)

    assert colours(data) == {RED}


def test_a_camera_s_jpeg_of_several_pictures_is_a_jpeg():
    """Phones put a preview or a depth map behind the picture; Pillow calls that MPO."""
    first, second = (Image.new("RGB", (16, 8), colour) for colour in (WHITE, RED))

    data = saved(first, "MPO", save_all=True, append_images=[second])

    assert inspect(data, LIMITS).format == "JPEG"
    assert verify(data, LIMITS).format == "JPEG"
    assert colours(data) == {WHITE}


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (b"", NotAnImage, "0 bytes"),
        (b"hello, I am a text", NotAnImage, "no image; send one of JPEG"),
        (b"<html><body>404</body></html>", NotAnImage, "no image"),
        (b"\0" * 500, NotAnImage, "no image"),
        (b"\xff\xd8\xff", NotAnImage, "no image"),
        (b"\x89PNG\r\n\x1a\n", NotAnImage, "no image"),
        (picture(1, (64, 64), "JPEG")[:900], NotAnImage, "damaged"),
        (picture(1, (64, 64), "PNG")[:900], NotAnImage, "damaged"),
        (picture(1, (64, 64), "WEBP")[:900], NotAnImage, "(damaged|no image)"),
        (picture(1, (64, 64), "GIF")[:900], NotAnImage, "damaged"),
        (picture(1, (64, 64), "BMP")[:900], NotAnImage, "damaged"),
        (picture(1, (64, 64), "TIFF")[:900], NotAnImage, "(damaged|no image)"),
        (png_header(10_000, 10_000), TooLarge, "10000×10000, 100,000,000 pixels"),
        (png_header(2**31 - 1, 2**31 - 1), TooLarge, "TOPLOSS_MAX_PIXELS"),
        (png_header(0, 5), NotAnImage, "image"),
        (png_header(500, 500), NotAnImage, "damaged"),
        (saved(Image.new("RGB", (8, 8)), "PPM"), UnsupportedType, "PPM are not read; convert"),
        (saved(Image.new("RGB", (16, 16)), "ICO"), UnsupportedType, "ICO"),
        (saved(Image.new("RGB", (8, 8)), "TGA"), UnsupportedType, "TGA"),
        (saved(Image.new("RGB", (8, 8)), "EPS"), UnsupportedType, "EPS"),
        (saved(Image.new("RGB", (8, 8)), "PDF"), NotAnImage, "no image"),
    ],
)
def test_what_is_no_picture_is_told(data, error, says):
    with pytest.raises(error, match=says) as caught:
        verify(data, LIMITS)

    assert "; " in str(caught.value)  # what, then the remedy
    assert "\n" not in str(caught.value)


def test_limits_are_held_at_their_edge():
    data = picture(1, (20, 10))

    assert verify(data, Limits(bytes=len(data), pixels=200)).width == 20
    with pytest.raises(TooLarge, match="more than the 199 allowed"):
        inspect(data, Limits(pixels=199))
    with pytest.raises(TooLarge, match=r"bytes, .*TOPLOSS_MAX_BYTES"):
        decode(data, 8, Limits(bytes=len(data) - 1))
    with pytest.raises(TooLarge):
        thumbnail(data, 8, Limits(pixels=199))


def test_a_gif_whose_frame_is_larger_than_its_screen_is_no_bomb():
    gif = bytearray(saved(Image.new("P", (4, 4)), "GIF"))
    at = gif.index(b",\0\0\0\0\x04\0\x04\0")
    gif[at + 5 : at + 9] = struct.pack("<HH", 60_000, 60_000)

    with pytest.raises((NotAnImage, TooLarge)):
        verify(bytes(gif), LIMITS)


def test_an_image_that_goes_by_another_s_suffix_is_known_by_its_bytes():
    assert inspect(picture(1, format="PNG"), LIMITS).format == "PNG"
    assert {inspect(picture(1, format=name), LIMITS).format for name in MEDIA_TYPES} == set(
        MEDIA_TYPES
    )


@pytest.mark.parametrize("format", sorted(MEDIA_TYPES))
def test_damage_of_any_kind_is_an_error_of_ours(format):
    """Bytes flipped, cut out and put in, by seed: never anything but our own errors."""
    whole = picture(3, (24, 24), format)
    if format in ("JPEG", "PNG", "WEBP", "TIFF"):
        exif = Image.Exif()
        exif[0x0112], exif[0x010E] = 6, "a description"
        whole = saved(Image.open(BytesIO(whole)), format, exif=exif)
    dice = random.Random(5)
    for _ in range(1000):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 1, 3, 20))):
            at = dice.randrange(min(len(data), dice.choice((40, 200, len(data)))))
            action = dice.randrange(3)
            if action == 0:
                data[at] = dice.randrange(256)
            elif action == 1:
                del data[at : at + dice.randrange(1, 9)]
            else:
                data[at:at] = dice.randbytes(dice.randrange(1, 9))
        for act in (verify, inspect, lambda data, limits: thumbnail(data, 32, limits)):
            with suppress(NotAnImage, UnsupportedType, TooLarge):
                act(bytes(data), Limits(pixels=1_000_000))


def test_decoding_in_threads_leaves_the_warnings_alone():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.open(BytesIO(picture(1, (200, 200)))), "JPEG", exif=exif)
    before = list(warnings.filters)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: decode(data, 32, LIMITS), range(200)))

    assert list(warnings.filters) == before


def test_threads_decode_alike():
    pictures = [picture(seed, (40, 40), "JPEG") for seed in range(16)]
    alone = [decode(data, 16, LIMITS) for data in pictures]

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: decode(data, 16, LIMITS), pictures * 4))

    assert all((a == b).all() for a, b in zip(alone * 4, together, strict=True))


@pytest.mark.parametrize(
    ("size", "shown", "format"),
    [((400, 200), (100, 50), "JPEG"), ((30, 60), (30, 60), "PNG"), ((1, 1), (1, 1), "PNG")],
)
def test_a_thumbnail_fits_its_box(size, shown, format):
    for kind in ("JPEG", "PNG"):
        small = Image.open(BytesIO(thumbnail(picture(1, size, kind), 100, LIMITS)))

        assert (small.size, small.format) == (shown, format)


def test_a_thumbnail_stands_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.new("RGB", (400, 200)), "JPEG", exif=exif)

    assert Image.open(BytesIO(thumbnail(data, 100, LIMITS))).size == (50, 100)


def test_normalise():
    batch = np.array([0, 51, 255], np.uint8).reshape(1, 3, 1, 1)
    how = Preprocessing(size=1, mean=(0.0, 0.2, 0.5), std=(1.0, 2.0, 0.25))

    found = normalise(batch, how)

    assert found.dtype == np.float32
    np.testing.assert_allclose(found.ravel(), [0.0, 0.0, 2.0], atol=1e-7)


def test_preprocessing_travels_in_a_manifest():
    how = Preprocessing(size=32, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))

    assert Preprocessing.from_json(how.as_json()) == how
    with pytest.raises(BadInput, match="resize 'crop' is not known to this release"):
        Preprocessing.from_json({**how.as_json(), "resize": "crop"})

"""What people, programs and enemies send in place of an image: a corpus, the same each time."""

import io
import pickle
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

KINDS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
TYPES = {kind: f"image/{kind.lower()}" for kind in KINDS}
BOUNDARY = "x-boundary"


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One request."""

    name: str
    path: str = "/predict"
    method: str = "POST"
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def corpus() -> Iterator[Sent]:
    yield from _damaged()
    yield from _posing()
    yield from _bombs()
    yield from _other_bodies()
    yield from _forms()
    yield from _queries()


def good(kind: str, side: int = 60) -> bytes:
    values = np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(values).save(out, kind)
    return out.getvalue()


def raw(name: str, body: bytes, kind: str = "image/jpeg", **more: Any) -> Sent:
    return Sent(name=name, body=body, headers={"content-type": kind}, **more)


def form(name: str, *parts: bytes, path: str = "/predict", end: bytes | None = None) -> Sent:
    mark = b"--" + BOUNDARY.encode()
    body = b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts)
    return Sent(
        name=name,
        path=path,
        body=body + (mark + b"--\r\n" if end is None else end),
        headers={"content-type": f"multipart/form-data; boundary={BOUNDARY}"},
    )


def part(body: bytes, disposition: str = 'form-data; name="image"; filename="a.jpg"') -> bytes:
    return f"Content-Disposition: {disposition}\r\n\r\n".encode("utf-8", "surrogatepass") + body


def _damaged() -> Iterator[Sent]:
    random = np.random.default_rng(2)
    for kind in KINDS:
        whole = good(kind)
        for share in (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99):
            yield raw(f"{kind} cut at {share}", whole[: int(len(whole) * share)], TYPES[kind])
        for seed in range(16):
            spoilt = bytearray(whole)
            head = seed % 2 == 0  # where it hurts most
            for place in random.integers(4, 200 if head else len(whole), 6):
                spoilt[min(place, len(whole) - 1)] = int(random.integers(0, 256))
            yield raw(f"{kind} spoilt {seed}", bytes(spoilt), TYPES[kind])
        yield raw(f"{kind} header and zeros", whole[:24] + bytes(2000), TYPES[kind])
        yield raw(f"{kind} twice", whole + whole, TYPES[kind])
        yield raw(f"{kind} with a tail", whole + b"<?php ?>" * 50, TYPES[kind])


def _posing() -> Iterator[Sent]:
    for kind in KINDS:
        for other in KINDS:
            if kind != other:
                yield raw(f"{kind} that says it is {other}", good(kind), TYPES[other])
    for name, body in {
        "text": b"just text",
        "html": b"<html><script>alert(1)</script></html>",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
        "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj<<>>endobj",
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n",
        "elf": b"\x7fELF\x02\x01\x01" + bytes(200),
        "zip": b"PK\x03\x04" + bytes(200),
        "gzip": b"\x1f\x8b\x08" + bytes(200),
        "pickle": pickle.dumps({"a": [1, 2, 3]}),
        "pickle that calls": b"cos\nsystem\n(S'touch /tmp/owned'\ntR.",
        "url": b"http://169.254.169.254/latest/meta-data/",
        "file url": b"file:///etc/passwd",
        "data url": b"data:image/png;base64,iVBORw0KGgo=",
        "nothing": b"",
        "a nought": b"\0",
        "noughts": bytes(100_000),
        "unicode": "ä€𝄞".encode() * 100,
        "psd": b"8BPS\0\x01" + bytes(200),
        "icns": b"icns\0\0\x10\0" + bytes(200),
        "ppm bomb": b"P6 60000 60000 255\n",
        "dds": b"DDS " + bytes(200),
        "fits": b"SIMPLE  =                    T" + b" " * 2850,
    }.items():
        yield raw(name, body)
        yield form(f"{name} in a form", part(body))


def _bombs() -> Iterator[Sent]:
    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    def png(width: int, height: int, data: bytes = b"", *extra: bytes) -> bytes:
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        body = chunk(b"IDAT", zlib.compress(data, 9))
        return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + body + chunk(b"IEND", b"")

    for width, height in (
        (20_000, 20_000),
        (2**31 - 1, 1),
        (1, 2**31 - 1),
        (0, 0),
        (2**31 - 1,) * 2,
    ):
        yield raw(f"png of {width} by {height}", png(width, height), "image/png")
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000), 9))
    yield raw("png with a text of 50 MB", png(4, 4, bytes(52), text), "image/png")
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(50_000_000), 9))
    yield raw("png with a profile of 50 MB", png(4, 4, bytes(52), profile), "image/png")
    yield raw("png with more data than pixels", png(4, 4, bytes(5_000_000)), "image/png")
    gif = bytearray(good("GIF"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    yield raw("gif of 65535 squared", bytes(gif), "image/gif")
    bmp = bytearray(good("BMP"))
    for width, height in ((2**31 - 1, 1), (-1, -1), (60_000, -60_000)):
        bmp[18:26] = struct.pack("<ii", width, height)
        yield raw(f"bmp of {width} by {height}", bytes(bmp), "image/bmp")
    tiff = good("TIFF")
    for offset in (0, 4, 8, 2**31 - 1, 2**32 - 1):
        yield raw(
            f"tiff with a table at {offset}", tiff[:4] + struct.pack("<I", offset), "image/tiff"
        )
    looped = tiff[:-4] + struct.pack("<I", 8)
    yield raw("tiff whose tables go round", looped, "image/tiff")
    jpeg = good("JPEG")
    place = jpeg.index(b"\xff\xc0") + 5
    for height, width in ((65_535, 65_535), (0, 60), (60, 0)):
        spoilt = jpeg[:place] + struct.pack(">HH", height, width) + jpeg[place + 4 :]
        yield raw(f"jpeg of {width} by {height}", spoilt)
    exif = b"\xff\xe1\xff\xffExif\0\0MM\0*\0\0\0\x08" + b"\xff" * 65_519
    yield raw("jpeg with an exif block of rubbish", jpeg[:2] + exif + jpeg[2:])


def _other_bodies() -> Iterator[Sent]:
    for kind in (
        *("application/json", "text/plain", "application/vnd.bentoml+pickle", "application/xml"),
        *("application/x-www-form-urlencoded", "multipart/mixed; boundary=x", "image", "/", "é"),
        *("application/octet-stream; charset=bogus", "IMAGE/JPEG; a=b; c", "x" * 5000),
    ):
        for path in ("/predict", "/predict_batch", "/explain"):
            yield raw(f"{kind[:40]} to {path}", good("JPEG"), kind, path=path)
    for path in (
        "/v1/samples",
        "/v1/decisions",
        "/v1/classes",
        "/v1/retrainings",
        "/v1/feedback",
        "/login",
    ):
        for name, body in {
            "no json": b"{",
            "a list": b"[]",
            "null": b"null",
            "deep": b"[" * 5000,
            "nan": b'{"revision": NaN}',
            "large number": b'{"revision": 1e999}',
            "surrogates": b'{"name": "\\ud800", "sample": "\\ud800"}',
            "noughts": b'{"name": "\\u0000", "reason": "\\u0000"}',
        }.items():
            yield raw(f"{name} to {path}", body, "application/json", path=path)


def _forms() -> Iterator[Sent]:
    image = good("JPEG")
    yield form("no part")
    yield form("no end", part(image), end=b"")
    yield form("half an end", part(image), end=b"--x-bo")
    yield form("a part without a head", b"\r\n" + image)
    yield form("a part without a name", part(image, "form-data"))
    yield form("a head without a colon", b"Content-Disposition form-data\r\n\r\n" + image)
    yield form("an endless head", b"A: " + b"a" * 100_000 + b"\r\n\r\n" + image)
    yield form("many heads", b"A: b\r\n" * 5000 + b"\r\n" + image)
    yield form("two images", part(image), part(image))
    yield form("a flood of parts", *[part(b"", 'form-data; name="a"')] * 3000)
    yield form("a flood of files", *[part(b"x")] * 3000)
    yield form("a url", part(b"http://127.0.0.1:1/", 'form-data; name="image"'))
    yield form("a charset", part(image, "form-data; name*=utf-16''image; filename=a"))
    for name in ("../../etc/passwd", "a\0b.jpg", "C:\\windows\\a.jpg", "a" * 5000, "\r\nX: y", "é"):
        disposition = f'form-data; name="image"; filename="{name}"'
        yield form(f"file name {name[:20]!r}", part(image, disposition))
        samples = form(f"sample {name[:20]!r}", part(image, disposition), path="/v1/samples")
        yield samples
    for boundary in ("", '"', "é", "a" * 5000, "a b", "--"):
        kind = f"multipart/form-data; boundary={boundary}"
        yield raw(f"boundary {boundary[:20]!r}", form("", part(image)).body, kind)
    for number in (0, 1, 101, 1000):
        yield form(
            f"a batch of {number}",
            *[part(b"x", 'form-data; name="images"; filename="a"')] * number,
            path="/predict_batch",
        )


def _queries() -> Iterator[Sent]:
    for top in ("0", "-1", "1e9", "99999999999999999999", "%00", "a" * 5000, "1&top=x", "%ff"):
        yield raw(f"top={top[:20]}", good("JPEG"), path=f"/predict?top={top}")
    for label in ("nothing", "%00", "..%2f..", "a" * 300, "%ff"):
        yield raw(f"label={label[:20]}", good("JPEG"), path=f"/explain?label={label}")
    for path in (
        *("/v1/samples/..%2f..%2fetc%2fpasswd", "/v1/samples/%00/image", "/web/..%2f..%2fapp.py"),
        *("/web/../app.py", "/v1/top-losses?cursor=rubbish", "/v1/top-losses?limit=1e9"),
        *("/v1/captures?cursor=%ff", "/v1/captures/%00/image"),
        *("/v1/samples/a/thumbnail?size=99999999", "/v1/decisions?cursor=%ff", "/v1/models/%00"),
        *("/%ff%fe", "/" + "a" * 5000, "/v1/retrainings/%0d%0aX:%20y/log"),
    ):
        yield Sent(name=f"GET {path[:60]}", path=path, method="GET")

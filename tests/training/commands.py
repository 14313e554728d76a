"""The command line as tests ask it."""

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import Result

from tests.conftest import QUICK, picture

Toploss = Callable[..., Result]
SWEPT = [
    f"--{key.replace('_', '-')}={value}"
    for key, value in QUICK.items()
    if key not in ("lr", "epochs_all")
]
RECIPE = [f"--{key.replace('_', '-')}={value}" for key, value in QUICK.items()]


def bomb(side: int = 10_000) -> bytes:
    """A PNG of side × side black pixels, in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checked

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side // 8 + 1) * side), 9)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


# File name, bytes, and what its refusal says: what, value, remedy.
BAD_FILES: list[tuple[str, bytes, tuple[str, ...]]] = [
    (
        "corrupt.jpg",
        picture(2, (64, 64), "JPEG")[:400],
        ("damaged", "Truncated", "copy it again"),
    ),
    ("text.jpg", b"just text", ("no image", "b'just tex'", "send one of JPEG, PNG")),
    ("empty.png", b"", ("empty", "0 bytes", "send the bytes")),
    ("bomb.png", bomb(), ("100,000,000 pixels", "64,000,000 allowed", "TOPLOSS_MAX_PIXELS")),
    ("note.txt", b"a note", (".txt", "is not one of", ".jpg")),
]


def complaint(result: Result, code: int) -> str:
    """The one line on standard error; lines of progress, which begin with the time, aside."""
    assert result.exit_code == code, result.output
    lines = [line for line in result.stderr.splitlines() if line[2:3] != ":"]
    (line,) = lines
    assert line.startswith("toploss: ")
    assert "Traceback" not in result.output
    assert ";" in line or ":" in line.removeprefix("toploss: ")  # a remedy follows
    return line


def answer(result: Result, code: int = 0) -> Any:
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def folder(root: Path, **files: bytes | dict[str, bytes]) -> Path:
    for label, members in files.items():
        assert isinstance(members, dict)
        (root / label).mkdir(parents=True)
        for name, data in members.items():
            (root / label / name).write_bytes(data)
    return root

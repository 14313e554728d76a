"""Archives from anybody: what is good in them comes in, what is not is told, nothing gets out."""

import bz2
import contextlib
import gzip
import io
import stat
import struct
import tarfile
import time
import zipfile
import zlib
from pathlib import Path

import pytest

from tests.conftest import picture
from tests.toploss.packed import tarred, zipped
from toploss import archive, classes, intake, snapshots
from toploss.errors import BadInput, TooLarge, ToplossError, UnsupportedType
from toploss.home import Home
from toploss.intake import Summary

MOST, LARGEST = 10_000_000, 100_000


def found(data, most=MOST, largest=LARGEST):
    """What an archive yields and refuses: (label, split, name, bytes or the reason), refusals."""
    summary = Summary()
    rows = []
    for item in archive.items(io.BytesIO(data), most=most, largest=largest, summary=summary):
        split = item.among[0] if len(item.among) == 1 else None
        try:
            rows.append((item.label, split, item.name, item.read()))
        except BadInput as exc:
            rows.append((item.label, split, item.name, str(exc)))
    return rows, {entry["path"]: entry["reason"] for entry in summary.refused}


MEMBERS = {"cat/1.png": b"one", "dog/deep/2.jpg": b"two", "valid/cat/3.png": b"three"}
ROWS = [("cat", None, "1.png", b"one"), ("cat", "valid", "3.png", b"three")]


@pytest.mark.parametrize(
    "data",
    [
        zipped(MEMBERS),
        zipped(MEMBERS, zipfile.ZIP_STORED),
        tarred(MEMBERS),
        tarred(MEMBERS, "w:gz"),
        tarred(MEMBERS, "w:bz2"),
    ],
    ids=["zip", "stored", "tar", "gz", "bz2"],
)
def test_class_folders_of_either_kind(data):
    rows, refused = found(data)

    assert sorted(rows, key=lambda row: row[2]) == [
        ROWS[0],
        ("dog", None, "2.jpg", b"two"),
        ROWS[1],
    ]
    assert refused == {}


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_and_foreign_names_of_a_tar(form):
    name = f"größe/{'x' * 150}.png"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as made:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mtime = 3, 1.5  # as `TarFile.add` writes it, which makes a pax header
        made.addfile(entry, io.BytesIO(b"one"))

    assert found(out.getvalue()) == ([("größe", None, f"{'x' * 150}.png", b"one")], {})


def extended(kind, data, size=None):
    """A tar with one extended header, and an entry."""
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = kind, len(data) if size is None else size
    padded = data + bytes(-len(data) % 512)
    return entry.tobuf(tarfile.USTAR_FORMAT) + padded + tarred({"cat/1.png": b"one"})


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
@pytest.mark.parametrize(
    "data",
    [
        b"1" * 1_000_000,
        b"11 xxxxxxxx" * 90_000,
        b"99999999999 path=a\n",
        b"0 path=a\n",
        b"-5 path=a\n",
        b"rubbish",
        b"",
    ],
    ids=["digits", "no key", "long", "nought", "negative", "rubbish", "nothing"],
)
def test_an_extended_header_takes_no_time(kind, data):
    began = time.monotonic()
    with contextlib.suppress(BadInput):
        found(extended(kind, data))
    assert time.monotonic() - began < 2


def test_many_extended_headers_take_no_time():
    one = extended(b"x", b"1" * 60_000)[: 512 + 60_416]
    with pytest.raises(BadInput):
        found(one * 200 + tarred({"cat/1.png": b"one"}))


def test_holes_are_not_believed():
    entry = tarfile.TarInfo("cat/1.png")
    entry.type, entry.size = tarfile.GNUTYPE_SPARSE, 0
    head = bytearray(entry.tobuf(tarfile.GNU_FORMAT))
    head[386:410] = b"%011o\0%011o\0" % (1, 5000)  # one piece of data, at 1
    head[483:495] = b"%011o\0" % 900_000  # the size that it says it has
    head[148:156] = b"        "
    head[148:156] = b"%06o\0 " % sum(head)

    rows, refused = found(bytes(head) + tarred({"cat/2.png": b"two"}), most=20_000)

    assert rows == [("cat", None, "2.png", b"two")]
    assert "cat/1.png" in refused


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_more_than_is_asked_for_are_refused(method):
    ((*_, said),), _ = found(zipped({"cat/1.png": bytes(50_000)}, method))

    assert "deflate" in said


def test_a_zip_s_train_comes_first():
    rows, _ = found(zipped({"test/a/1.png": b"", "valid/a/2.png": b"", "train/b/3.png": b""}))

    assert [row[1] for row in rows] == ["train", "valid", "test"]


@pytest.mark.parametrize("make", [zipped, tarred])
def test_names_that_lead_out_are_refused_and_hidden_ones_passed_over(make):
    names = ["../cat/1.png", "/cat/1.png", "cat/../../1.png", "C:/cat/1.png", "cat\\..\\1.png"]
    others = ["1.png", "cat/notes.txt", "cat/.hidden.png", "__MACOSX/cat/1.png", ".git/cat/1.png"]

    rows, refused = found(make({**dict.fromkeys(names + others, b"x"), "cat/1.png": b"one"}))

    assert rows == [ROWS[0]]
    assert set(refused) == {*names, "1.png", "cat/notes.txt"}
    assert all("leads out" in refused[name] for name in names)


def test_links_and_devices_are_refused():
    kinds = {"soft": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE, "fifo": tarfile.FIFOTYPE}
    rows, refused = found(tarred({"cat/1.png": b"one"}, **kinds, device=tarfile.CHRTYPE))
    assert rows == [ROWS[0]]
    assert len(refused) == 4

    link = zipfile.ZipInfo("cat/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    rows, refused = found(zipped({link: b"/etc/passwd", "cat/1.png": b"one"}))
    assert rows == [ROWS[0]]
    assert "link" in refused["cat/link.png"]


def overlapping(times):
    """A zip whose entries all have the same bytes (Fifield's, without his quoting)."""
    body = zlib.compress(bytes(90_000), 9)[2:-4]
    crc = zlib.crc32(bytes(90_000))
    common = struct.pack("<HHHHHIII", 20, 0, 8, 0, 0, crc, len(body), 90_000)
    name = b"cat/1.png"
    local = b"PK\3\4" + common + struct.pack("<HH", len(name), 0) + name + body
    entry = b"PK\1\2" + struct.pack("<H", 20) + common
    entry += struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, 0) + name
    index = entry * times
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, times, times, len(index), len(local), 0)
    return local + index + end


@pytest.mark.parametrize(
    "bomb",
    [
        zipped({f"cat/{n}.png": bytes(90_000) for n in range(120)}),
        overlapping(200),
        tarred({f"cat/{n}.png": bytes(90_000) for n in range(120)}, "w:gz"),
        gzip.compress(tarred({"cat/1.png": bytes(20_000_000)})),
        bz2.compress(bytes(257) + b"ustar" + bytes(50_000_000)),
    ],
    ids=["zip", "overlapping", "gz", "gz of noughts", "bz2 of noughts"],
)
def test_a_bomb_is_refused_before_anything_is_taken(bomb):
    with pytest.raises((TooLarge, BadInput)):
        archive.items(io.BytesIO(bomb), most=MOST, largest=LARGEST, summary=Summary())


def test_more_than_may_come_out_is_told_with_the_setting():
    for make in (zipped, tarred):
        with pytest.raises(TooLarge, match="TOPLOSS_MAX_ARCHIVE"):
            found(make({f"cat/{n}.png": bytes(90_000) for n in range(20)}), most=1_000_000)


@pytest.mark.parametrize("make", [zipped, tarred])
def test_an_image_that_is_too_large_is_refused_alone(make):
    rows, refused = found(make({"cat/1.png": b"one", "cat/big.png": bytes(LARGEST + 1)}))

    assert rows[0] == ROWS[0]
    told = [row[3] for row in rows[1:]] + list(refused.values())
    assert len(told) == 1
    assert "TOPLOSS_MAX_BYTES" in told[0]


def test_a_zip_that_lies_of_a_size_gives_no_more_than_it_said():
    data = bytearray(zipped({"cat/1.png": bytes(50_000)}))
    at = data.index(b"PK\1\2") + 24
    data[at : at + 4] = struct.pack("<I", 10)

    ((*_, said),), _ = found(bytes(data))

    assert "cannot be unpacked" in said


def test_a_locked_entry_is_refused_alone():
    data = bytearray(zipped({"cat/1.png": b"one", "cat/2.png": b"two"}))
    for magic, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(magic) + offset] |= 1

    rows, _ = found(bytes(data))

    assert "is encrypted" in rows[0][3]
    assert rows[1][3] == b"two"


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, b"S", b"L", b"x"])
@pytest.mark.parametrize("size", [8 * 2**40, -1, -(10**9)])
def test_a_size_that_is_none_makes_neither_memory_nor_time(kind, size):
    entry = tarfile.TarInfo("cat/1.png")
    entry.size, entry.type = size, kind
    header = entry.tobuf(tarfile.GNU_FORMAT) + bytes(1024)

    with contextlib.suppress(BadInput):
        assert all(not data for *_, data in found(header)[0])


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("mode", ["zip", "tar", "gz"])
def test_what_is_cut_off_is_refused_as_a_whole(mode, keep):
    members = {f"cat/{n}.png": picture(n) for n in range(9)}
    data = zipped(members) if mode == "zip" else tarred(members, "w:gz" if mode == "gz" else "w")
    end = int(len(data.rstrip(b"\0")) * keep)

    with pytest.raises(BadInput):
        archive.items(io.BytesIO(data[:end]), most=MOST, largest=LARGEST, summary=Summary())


def test_rubbish_between_a_tar_s_entries_is_no_end():
    data = bytearray(tarred({"cat/1.png": b"one", "cat/2.png": b"two"}))
    data[1024:1100] = b"x" * 76

    with pytest.raises(BadInput, match="no entry starts"):
        found(bytes(data))


@pytest.mark.parametrize(
    "data", [b"", b"text", b"\xfd7zXZ\0" + bytes(99), picture(1), b"7z\xbc\xaf"]
)
def test_other_bytes_are_no_archive(data):
    with pytest.raises(UnsupportedType, match="zip"):
        found(data)


def test_spoilt_bytes_raise_nothing_else():
    import random

    dice = random.Random(1)
    members = {f"cat/{n}.png": picture(n) for n in range(3)}
    for data in (zipped(members), tarred(members), tarred(members, "w:gz")):
        for _ in range(150):
            spoilt = bytearray(data)
            for _ in range(dice.randrange(1, 8)):
                spoilt[dice.randrange(len(spoilt))] = dice.randrange(256)
            with contextlib.suppress(ToplossError):
                found(bytes(spoilt))


def test_it_is_taken_in_like_a_folder(home: Home, tmp_path: Path) -> None:
    data = zipped(
        {"cat/1.png": picture(1), "dog/2.png": picture(2), "dog/3.png": b"no", "cat/4.png": b""}
    )
    summary = Summary()
    rows = archive.items(io.BytesIO(data), most=MOST, largest=LARGEST, summary=summary)

    intake.take_in(home, rows, summary, actor="ann")

    assert (summary.added, summary.known) == (2, 0)
    assert [entry["path"] for entry in summary.refused] == ["cat/4.png", "dog/3.png"]
    assert list(snapshots.overview(home)["classes"]) == ["cat", "dog"]


def test_without_new_classes_those_of_unknown_ones_are_refused(home: Home) -> None:
    classes.add(home, "cat", actor="test")
    summary = Summary()
    data = tarred({"cat/1.png": picture(1), "dog/2.png": picture(2)})
    rows = archive.items(io.BytesIO(data), most=MOST, largest=LARGEST, summary=summary)

    intake.take_in(home, rows, summary, actor="ann", new_classes=False)

    assert summary.added == 1
    assert "not one of the 1 classes" in summary.refused[0]["reason"]
    kept = [path for path in (home.settings.home / "storage").rglob("*") if path.is_file()]
    assert len(kept) == 1, "nothing is stored of what is refused"
    with home.db.read() as connection:
        assert classes.load(connection).open == ("cat",)

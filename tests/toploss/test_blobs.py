from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from toploss.blobs import Blobs, image_path, sha256
from toploss.errors import BadSettings, Broken


@pytest.fixture
def blobs(tmp_path):
    return Blobs(str(tmp_path / "storage"))


def test_what_goes_in_comes_out(blobs):
    digest = blobs.put_image(b"bytes")

    assert digest == sha256(b"bytes")
    assert blobs.get_image(digest) == b"bytes"
    assert blobs.put_image(b"bytes") == digest


def test_a_file_is_replaced_whole(blobs, tmp_path):
    blobs.put("a/b", b"old")
    blobs.put("a/b", b"new")

    assert blobs.get("a/b") == b"new"
    assert [path.name for path in (tmp_path / "storage/a").iterdir()] == ["b"]


def test_damage_is_told(blobs, tmp_path):
    digest = blobs.put_image(b"bytes")
    (tmp_path / "storage" / image_path(digest)).write_bytes(b"rotten")

    with pytest.raises(Broken, match=f"{digest} in the storage is damaged; restore"):
        blobs.get_image(digest)


def test_damage_is_healed_when_the_image_comes_again(blobs, tmp_path):
    digest = blobs.put_image(b"bytes")
    (tmp_path / "storage" / image_path(digest)).write_bytes(b"rot")

    blobs.put_image(b"bytes")

    assert blobs.get_image(digest) == b"bytes"


def test_a_missing_file_is_told(blobs):
    with pytest.raises(Broken, match=r"no/such is missing in the storage .*; restore"):
        blobs.get("no/such")
    with pytest.raises(Broken):
        blobs.get_image("0" * 64)


def test_a_folder_is_no_file(blobs):
    blobs.put("a/b", b"")

    assert blobs.exists("a/b")
    assert not blobs.exists("a")
    assert not blobs.exists("")
    with pytest.raises(Broken):
        blobs.get("a")


def test_deleting_twice_is_no_error(blobs):
    blobs.put("a", b"")
    blobs.delete(["a", "b"])
    blobs.delete(["a"])

    assert not blobs.exists("a")


def test_a_storage_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(Broken, match=r"a/b cannot be written to the storage .*TOPLOSS_STORAGE_URL"):
        Blobs(str(tmp_path / "file")).put("a/b", b"")


@pytest.mark.parametrize("url", ["ftpx://nowhere", "s4://bucket"])
def test_an_unknown_kind_of_storage_is_told(url):
    with pytest.raises(BadSettings, match=f"TOPLOSS_STORAGE_URL='{url}' is not usable"):
        Blobs(url)


def test_a_reader_never_sees_half_a_file(blobs):
    contents = [bytes([n]) * 200_000 for n in range(2)]
    blobs.put("file", contents[0])

    with ThreadPoolExecutor(6) as pool:
        writes = [pool.submit(blobs.put, "file", contents[n % 2]) for n in range(60)]
        reads = list(pool.map(lambda _: blobs.get("file"), range(200)))
        for write in writes:
            write.result()

    assert set(reads) <= set(contents)
    assert [path.name for path in Path(blobs.root).iterdir()] == ["file"]


def test_many_threads_may_keep_the_same_image(blobs):
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(blobs.put_image, [b"same" * 1000] * 64))

    assert len(digests) == 1
    assert blobs.get_image(digests.pop()) == b"same" * 1000

"""What holds of a folder and of a bucket alike. What each has of its own: see test_stores."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from toploss import blobs as module
from toploss.blobs import Blobs, image_path, sha256
from toploss.errors import Broken


@pytest.fixture(params=["folder", "s3"])
def blobs(request, tmp_path):
    if request.param == "folder":
        return Blobs(str(tmp_path / "storage"))
    made = request.getfixturevalue("new_s3")()
    return Blobs(made["storage_url"], endpoint=made["s3_endpoint_url"])


def test_what_goes_in_comes_out(blobs):
    digest = blobs.put_image(b"bytes")

    assert digest == sha256(b"bytes")
    assert blobs.get_image(digest) == b"bytes"
    assert blobs.put_image(b"bytes") == digest


def test_a_file_is_replaced_whole(blobs):
    blobs.put("a/b", b"old, and longer")
    blobs.put("a/b", b"new")

    assert blobs.get("a/b") == b"new"
    assert blobs.size("a/b") == 3


def test_a_file_of_this_machine_is_copied(blobs, tmp_path):
    (tmp_path / "file").write_bytes(b"some bytes")

    blobs.put_file("a/b", tmp_path / "file")

    assert blobs.get("a/b") == b"some bytes"
    (tmp_path / "file").write_bytes(b"same bytes")
    blobs.put_file("a/b", tmp_path / "file", known=True)
    assert blobs.get("a/b") == b"some bytes"


def test_parts_of_a_file(blobs, monkeypatch):
    blobs.put("a", b"0123456789")
    blobs.put("empty", b"")
    monkeypatch.setattr(module, "PIECE", 4)

    assert blobs.tail("a", 3) == b"789"
    assert blobs.tail("a", 30) == b"0123456789"
    assert blobs.part("a", 2, 4) == b"23"
    assert blobs.part("a", 8, 99) == b"89"
    assert blobs.part("a", 20, 30) == b""
    assert list(blobs.pieces("a")) == [b"0123", b"4567", b"89"]
    assert (blobs.get("empty"), blobs.tail("empty", 3)) == (b"", b"")
    assert list(blobs.pieces("empty")) == []


def test_damage_is_told(blobs):
    digest = blobs.put_image(b"bytes")
    blobs.put(image_path(digest), b"rotten")

    with pytest.raises(Broken, match=f"{digest} in the storage is damaged; restore"):
        blobs.get_image(digest)


def test_damage_is_healed_when_the_image_comes_again(blobs):
    digest = blobs.put_image(b"bytes")
    blobs.put(image_path(digest), b"rot")

    blobs.put_image(b"bytes")

    assert blobs.get_image(digest) == b"bytes"


def test_a_missing_file_is_told(blobs):
    for read in (blobs.get, blobs.size, lambda path: blobs.tail(path, 5)):
        with pytest.raises(Broken, match=r"no/such is missing in the storage .*; restore"):
            read("no/such")
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
    blobs.delete_parts("nowhere", older_s=0)


def test_what_others_do_is_seen_at_once(blobs, new_s3):
    """No answer and no listing is remembered."""
    other = Blobs(blobs.root, endpoint=new_s3()["s3_endpoint_url"])

    assert not blobs.exists("a/b")
    other.put("a/b", b"1")
    assert blobs.get("a/b") == b"1"
    other.put("a/b", b"22")
    assert (blobs.get("a/b"), blobs.size("a/b")) == (b"22", 2)
    other.delete(["a/b"])
    assert not blobs.exists("a/b")


def test_a_reader_never_sees_half_a_file(blobs):
    contents = [bytes([n]) * 200_000 for n in range(2)]
    blobs.put("file", contents[0])

    with ThreadPoolExecutor(6) as pool:
        writes = [pool.submit(blobs.put, "file", contents[n % 2]) for n in range(30)]
        reads = list(pool.map(lambda _: blobs.get("file"), range(60)))
        for write in writes:
            write.result()

    assert set(reads) <= set(contents)


def test_many_threads_may_keep_the_same_image(blobs):
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(blobs.put_image, [b"same" * 1000] * 24))

    assert len(digests) == 1
    assert blobs.get_image(digests.pop()) == b"same" * 1000

import hashlib

import pytest

from toploss import members
from toploss.errors import Broken
from toploss.home import Home
from toploss.members import Row

PATH = "snapshots/some.csv"
LABELS = ["cat", "dog, hot", 'the "fox"', "Katze"]


def hashed(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def kept(home: Home, tmp_path, number: int) -> tuple[list[Row], str]:
    """So many rows and the fingerprint of their file, which is in the storage."""
    found = [
        Row(
            id=hashed(n),
            label=LABELS[n % 4],
            split="train",
            group=hashed(n if n % 9 else n + 1),
        )
        for n in range(number)
    ]
    rows = sorted(found, key=lambda row: row.id)
    file = tmp_path / "rows.csv"
    fingerprint = members.write(rows, file)
    home.blobs.put_file(PATH, file)
    return rows, fingerprint


def test_equal_rows_have_the_fingerprint_that_they_always_had(home, tmp_path):
    """That of 0.2.0: runs are compared by it."""
    _, fingerprint = kept(home, tmp_path, 50)

    assert fingerprint == "9808d9684e4c60c9fd24c34fc6216b02cf8459216d78493565c42d1597a3fabe"


@pytest.mark.parametrize("number", [1, 3, 6000])
def test_a_row_is_found_and_one_that_is_not_there_is_not(home, tmp_path, number):
    rows, fingerprint = kept(home, tmp_path, number)

    assert list(members.scan(home, PATH, fingerprint)) == rows
    for row in {rows[0], rows[-1], *rows[:: max(1, number // 50)]}:
        assert members.find(home, PATH, row.id) == row
    for absent in range(number, number + 50):
        assert members.find(home, PATH, hashed(absent)) is None
    for absent in ("0" * 64, "f" * 64, "", "nobody", rows[0].id[:63], f"{rows[0].id}0"):
        assert members.find(home, PATH, absent) is None


def test_who_is_in_train_or_valid_by_himself_or_by_his_group(home, tmp_path):
    splits = ["train", "valid", "test"]
    rows = sorted(
        (
            Row(id=hashed(n), label=LABELS[n % 4], split=splits[n % 3], group=hashed(n // 6 * 6))
            for n in range(60)
        ),
        key=lambda row: row.id,
    )
    file = tmp_path / "rows.csv"
    fingerprint = members.write(rows, file)
    home.blobs.put_file(PATH, file)

    def found(ids=(), groups=()):
        return list(members.not_of_test(home, PATH, fingerprint, ids, groups))

    given = [row for row in rows if row.id in {hashed(1), hashed(2)} or row.group == hashed(12)]
    assert found([hashed(1), hashed(2)], [hashed(12)]) == [r for r in given if r.split != "test"]
    assert found() == []
    with pytest.raises(Broken, match="damaged"):
        list(members.not_of_test(home, PATH, "0" * 64, [], []))


def test_little_is_read_of_a_large_file(home, tmp_path):
    rows, _ = kept(home, tmp_path, 40_000)
    parts = []
    read = home.blobs.part
    home.blobs.part = lambda *args: parts.append(args) or read(*args)

    for row in rows[::400]:
        assert members.find(home, PATH, row.id) == row

    assert home.blobs.size(PATH) > 20 * members.WINDOW
    assert len(parts) < 1.5 * 100


def test_ids_that_are_no_hashes_are_found_too(home, tmp_path):
    """All alike at their beginning: nothing can be reckoned."""
    rows = [Row(id=f"{n:064x}", label="a", split="test", group=f"{n:064x}") for n in range(9000)]
    file = tmp_path / "rows.csv"
    members.write(rows, file)
    home.blobs.put_file(PATH, file)

    for row in rows[::500]:
        assert members.find(home, PATH, row.id) == row


@pytest.mark.parametrize("limit", [1, 7, 5000])
def test_pages_are_the_whole(home, tmp_path, limit):
    rows, _ = kept(home, tmp_path, 3500)
    rows_found, after = [], None

    while page := members.listed(home, PATH, after=after, limit=limit):
        assert len(page) <= limit
        rows_found += page
        after = page[-1].id
        if limit < 100 and len(rows_found) > 100:  # and a page from the middle, and the last
            assert rows_found == rows[: len(rows_found)]
            assert members.listed(home, PATH, after=rows[2000].id, limit=3) == rows[2001:2004]
            assert members.listed(home, PATH, after=rows[-2].id, limit=3) == rows[-1:]
            return

    assert rows_found == rows


@pytest.mark.parametrize("asked", [20, 300])
def test_which_of_some_are_in_it(home, tmp_path, asked):
    kept(home, tmp_path, 500)
    ids = {hashed(n) for n in range(490, 490 + asked)}

    assert members.among(home, PATH, ids) == {hashed(n) for n in range(490, 500)}


def test_a_damaged_file_is_told(home, tmp_path):
    rows, fingerprint = kept(home, tmp_path, 50)
    content = home.blobs.get(PATH)

    for broken in (content[:-1], content.replace(b"cat", b"cow"), b"x" * 700_000, b"\xff\n" * 9):
        home.blobs.put(PATH, broken)
        with pytest.raises(Broken, match="damaged"):
            list(members.scan(home, PATH, fingerprint))
    home.blobs.put(PATH, b"x" * 700_000)
    with pytest.raises(Broken, match="damaged"):
        members.find(home, PATH, rows[0].id)

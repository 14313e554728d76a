"""Files of anybody's: what can be read of them is, what cannot is told, and nothing is too much."""

import io
import json
import tracemalloc

import pytest

from toploss import tables
from toploss.errors import BadInput


def rows(data):
    return list(tables.read(io.BytesIO(data)))


@pytest.mark.parametrize(
    "data",
    [
        b"Image,label\n1.png,cat\n",
        b"\xef\xbb\xbfimage;label\r\n1.png;cat\r\n",
        b' Image \tlabel\n"1.png"\tcat',
        b'[{"image": "1.png", "label": "cat"}]',
        b'\xef\xbb\xbf {"image": "1.png", "label": "cat"}',
    ],
)
def test_however_it_was_saved(data):
    ((_, row),) = rows(data)

    assert row == {"image": "1.png", "label": "cat"}


def test_a_bad_row_spoils_no_other():
    data = b'image,label\n1.png,c\xe4t\n2.png,a,b\n\n3.png\n"4.png,cat\n5.png,dog\n'

    found = rows(data)

    assert [number for number, _ in found] == [2, 3, 5, 6]
    assert "not in UTF-8" in found[0][1]
    assert "3 cells under 2 columns" in found[1][1]
    assert found[2][1] == {"image": "3.png", "label": ""}
    assert found[3][1]["image"].startswith("4.png,cat")  # a quote that is never closed


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b" \n\n ", "empty"),
        ("image,label\n".encode("utf-16"), "no CSV in UTF-8"),
        (b"image,label,label\n", "'label' twice"),
        (",".join(map(str, range(300))).encode(), "has 300 columns"),
        (b'[{"a": 1}, ', "cannot be read"),
        (b'[{"a": 1} {"a": 2}]', "comma"),
        (b'[{"a": 1}] x', "something follows"),
        (b"[" * 100_000, "beyond all bounds"),
        (b'{"a":' * 100_000, "beyond all bounds"),
        (b"[" + b"9" * 5000 + b"]", "beyond all bounds"),
        (b'[{"a": "\xff"}]', "not in UTF-8"),
        (b'["' + b"x" * 5_000_000, "cannot be read"),
    ],
)
def test_what_is_no_file_of_rows(data, says):
    with pytest.raises(BadInput, match=says):
        rows(data)


def test_long_lines_and_cells_are_passed_over_and_not_held():
    file = io.BytesIO(
        b"image,label\n" + b"x" * 30_000_000 + b"\n" + b"y" * 200_000 + b",a\n1.png,cat\n"
    )
    tracemalloc.start()
    found = list(tables.read(file))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert [number for number, _ in found] == [2, 3, 4]
    assert "longer than" in found[0][1]
    assert "field larger" in found[1][1]
    assert found[2][1] == {"image": "1.png", "label": "cat"}
    assert most < 3_000_000


def test_a_long_list_is_read_value_by_value():
    values = [{"a": "ü" * (n % 999), "n": n} for n in range(3000)]

    assert rows(json.dumps(values, ensure_ascii=False).encode()) == list(enumerate(values, 1))
    lines = "\n".join(map(json.dumps, values)).encode()
    assert rows(lines) == list(enumerate(values, 1))
    ((_, said), (_, row)) = rows(b'[7, {"a": 1}]')
    assert "no JSON object" in said
    assert row == {"a": 1}


@pytest.mark.parametrize("text", ["=1+1", "+a", "-a", "@a", "\ta", "'=a", "''-a", "'a", "a=b", ""])
def test_no_cell_is_a_formula_and_every_one_comes_back(text):
    assert tables.cell(text)[:1] not in ("=", "+", "-", "@", "\t", "\r") or not text
    assert tables.bare(tables.cell(text)) == text


def test_numbers_stay_numbers():
    assert tables.cell(-0.5) == -0.5

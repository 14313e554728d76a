import re
import time

from toploss.ids import new_id


def test_names_sort_by_time():
    names = []
    for _ in range(50):
        names.append(new_id())
        time.sleep(0.002)

    assert names == sorted(names)


def test_names_are_unique_and_fit_a_tag():
    names = {new_id() for _ in range(10_000)}

    assert len(names) == 10_000
    assert all(re.fullmatch(r"[0-9a-hjkmnp-tv-z]{26}", name) for name in names)


def test_the_time_can_be_read_back():
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    number = 0
    for letter in new_id():
        number = number * 32 + alphabet.index(letter)

    assert abs((number >> 80) / 1000 - time.time()) < 5

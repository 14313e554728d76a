from collections import Counter

import pytest

from tests.toploss import given
from toploss.splits import Split, assign, instead


def test_the_hash_is_the_same_on_every_machine():
    """Frozen: another answer would move samples of every data set there is."""
    found = [assign(f"group-{n}", seed=42, shares="70/15/15") for n in range(24)]

    assert " ".join(split[:2] for split in found) == (
        "te te tr va tr tr te tr tr tr tr tr tr tr tr tr va tr tr tr va tr te te"
    )


def test_shares_are_kept():
    found = Counter(assign(str(n), seed=1, shares="60/30/10") for n in range(20_000))

    assert abs(found[Split.TRAIN] / 20_000 - 0.6) < 0.02
    assert abs(found[Split.VALID] / 20_000 - 0.3) < 0.02
    assert abs(found[Split.TEST] / 20_000 - 0.1) < 0.02


def test_some_of_the_splits_share_in_their_proportion():
    among = (Split.VALID, Split.TEST)

    found = Counter(assign(str(n), seed=1, shares="60/30/10", among=among) for n in range(20_000))

    assert found.keys() == {*among}
    assert abs(found[Split.VALID] / 20_000 - 0.75) < 0.02
    assert {assign(str(n), seed=1, shares="100/0/0", among=among) for n in range(50)} == {*among}
    assert {assign(str(n), seed=1, shares="70/15/15", among=(Split.TEST,)) for n in range(50)} == {
        Split.TEST
    }


@pytest.mark.parametrize(
    ("given", "there", "shared"),
    [
        ("train valid test", "", ""),
        ("train valid", "", "valid test"),
        ("valid", "train", "valid test"),
        ("train test", "", "train valid"),
        ("train", "", "train valid test"),
        ("train", "valid", "train test"),
        ("train", "valid test", ""),
        ("train valid", "test", ""),
        ("valid test", "", ""),
        ("test", "train", ""),
        ("valid", "", ""),
    ],
)
def test_what_is_shared_where_splits_did_not_come(given: str, there: str, shared: str) -> None:
    assert instead(given.split(), there.split()) == tuple(shared.split())


def test_seeds_give_other_splits():
    one, other = (
        [assign(str(n), seed=seed, shares="50/25/25") for n in range(200)] for seed in (1, 2)
    )

    assert one != other


def test_a_share_of_nothing_gets_nothing():
    assert {assign(str(n), seed=3, shares="100/0/0") for n in range(500)} == {Split.TRAIN}
    assert {assign(str(n), seed=3, shares="33.4/0/66.6") for n in range(500)} == {
        Split.TRAIN,
        Split.TEST,
    }


def test_growing_data_move_nobody(open_home):
    """Whatever came before and after, in whatever order, a sample has its one split."""
    alone, crowd = open_home("alone"), open_home("crowd")
    few = {given.sample(alone, seed, "cat", None).id for seed in range(10)}

    first = {(a.id, a.split) for a in (given.sample(alone, s, "cat", None) for s in range(10))}
    many = [given.sample(crowd, seed, "cat", None) for seed in reversed(range(60))]
    again = [given.sample(crowd, seed, "cat", None) for seed in range(60)]

    assert {(a.id, a.split) for a in many if a.id in few} == first
    assert {(a.id, a.split) for a in again} == {(a.id, a.split) for a in many}


def test_the_first_import_fixes_shares_and_seed(open_home):
    first = [given.sample(open_home(), seed, "cat", None).split for seed in range(20)]

    later = open_home(split="10/10/80", split_seed=7)
    again = [given.sample(later, seed, "cat", None).split for seed in range(20)]
    new = Counter(given.sample(later, seed, "cat", None).split for seed in range(20, 120))

    assert again == first
    assert new["train"] > 50

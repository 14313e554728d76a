import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import training
from tests.conftest import QUICK, write_folder
from toploss import snapshots
from toploss.errors import BadData, Cancelled
from toploss.plan import Plan
from toploss.preprocess import Preprocessing
from training import features, folds, lesson
from training.data import Pictures
from training.folds import NEVER, Variant


def pool(sizes, seed=0):
    """Labels and groups: of each class so many groups of 1 to 3."""
    chance = np.random.default_rng(seed)
    labels, groups = [], []
    for label, number in enumerate(sizes):
        for turn in range(number):
            size = int(chance.integers(1, 4))
            labels += [label] * size
            groups += [f"{label}-{turn}"] * size
    order = chance.permutation(len(labels))
    return np.array(labels)[order], [groups[place] for place in order]


def test_groups_stay_whole_and_every_sample_is_held_out_once():
    labels, groups = pool([40, 30, 3])

    found = folds.assign(labels, groups, 5, seed=1)

    assert set(found) == {0, 1, 2, 3, 4}
    assert len(found) == len(labels)
    by_group = {
        group: {f for f, g in zip(found, groups, strict=True) if g == group} for group in groups
    }
    assert all(len(where) == 1 for where in by_group.values())


def test_every_class_is_spread_evenly():
    labels, groups = pool([60, 60, 15])

    found = folds.assign(labels, groups, 5, seed=1)

    for label in range(3):
        spread = Counter(found[labels == label].tolist())
        assert len(spread) == 5
        assert max(spread.values()) - min(spread.values()) <= 3  # the largest group
    assert max(Counter(found.tolist()).values()) - min(Counter(found.tolist()).values()) <= 6


def test_the_seed_alone_decides():
    labels, groups = pool([40, 40])

    once, again, other = (folds.assign(labels, groups, 4, seed=seed) for seed in (1, 1, 2))

    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)


def test_a_class_with_fewer_groups_than_folds_is_held_out_and_known_to_each_of_its_judges():
    labels, groups = pool([40, 2])

    found = folds.assign(labels, groups, 5, seed=1)

    assert len(set(found[labels == 1])) == 2
    assert NEVER not in found


def test_a_class_of_near_duplicates_alone_is_learned_from_and_never_held_out():
    labels = np.array([0] * 8 + [1] * 4 + [2] * 3 + [0])
    groups = [str(n) for n in range(12)] + ["same"] * 4

    found = folds.assign(labels, groups, 3, seed=1)

    assert set(found[-4:]) == {NEVER}  # the one of the first class that is of their group too
    assert set(found[:-4]) == {0, 1, 2}


def test_fewer_groups_than_folds_leave_no_fold_empty():
    labels, groups = np.array([0, 0, 1, 1]), ["a", "b", "c", "d"]

    assert sorted(folds.assign(labels, groups, 10, seed=1)) == [0, 1, 2, 3]


def test_where_nothing_can_be_held_out_the_remedy_is_named():
    with pytest.raises(BadData, match="import other images"):
        folds.assign(np.array([0, 0, 1, 1]), ["a", "a", "b", "b"], 5, seed=1)


def test_fifty_thousand_samples_are_dealt_in_seconds():
    labels = np.random.default_rng(0).integers(0, 100, 50_000)

    began = time.process_time()
    found = folds.assign(labels, [str(n) for n in range(50_000)], 5, seed=1)

    assert time.process_time() - began < 10
    counts = np.bincount(found)
    assert counts.max() - counts.min() <= 1


@pytest.fixture
def colours(home, tmp_path):
    """A snapshot of colours with an image filed under a wrong one; its id; and the pictures."""
    training.from_folder(
        write_folder(tmp_path / "images", {"train": 12, "valid": 3, "test": 2}), home=home
    )
    snapshot = snapshots.freeze(home)
    wrong = next(row.id for row in snapshot.rows if (row.label, row.split) == ("red", "train"))
    rows = [replace(row, label="blue") if row.id == wrong else row for row in snapshot.rows]
    return home, snapshot.labels, rows, wrong, Pictures(home, Preprocessing(size=QUICK["size"]))


def scored(colours, variant=None, **options):
    home, labels, rows, _, pictures = colours
    full = None if variant is None else variant is Variant.FULL
    plan = Plan.from_settings(home.settings).but(**QUICK, folds=3, full_folds=full)
    return folds.score(
        pictures,
        rows,
        labels,
        plan,
        build=lambda: lesson.build(home, plan, labels, threads=1),
        **options,
    )


@pytest.mark.parametrize("variant", list(Variant))
def test_a_planted_error_is_found_held_out(colours, variant):
    _, labels, rows, wrong, _ = colours
    shares = []

    found = scored(colours, variant=variant, heard=shares.append)

    assert sorted(found.ids) == sorted(row.id for row in rows if row.split != "test")
    assert found.probabilities.shape == (45, 3)
    assert found.probabilities.dtype == np.float32
    assert found.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert Counter(found.folds.tolist()) == {0: 15, 1: 15, 2: 15}
    assert len(found.temperatures) == 3
    blue, place = labels.index("blue"), found.ids.index(wrong)
    assert found.probabilities[place, blue] < 0.2
    of_pool = snapshots.places([row for row in rows if row.split != "test"], labels)
    assert found.neighbours.votes(of_pool, 3)[place, blue] < 0.2
    near = found.neighbours.places[place]
    assert not {found.pool[at] for at in near} & set(
        np.array(found.ids)[found.folds == found.folds[place]]
    )
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_an_error_that_a_model_memorises_shows_only_held_out(colours, monkeypatch):
    home, labels, rows, wrong, pictures = colours
    monkeypatch.setattr(folds, "L2", 1e-9)
    members = [row for row in rows if row.split != "test"]
    net = lesson.build(home, Plan.from_settings(home.settings).but(**QUICK), labels, threads=1)
    made = features.pooled(net, pictures, members, "cpu")
    truth = snapshots.places(members, labels)
    at = [row.id for row in members].index(wrong)

    in_sample = np.exp(folds._by_head(made, truth, made, 3))[at, truth[at]]
    found = scored(colours, variant=Variant.FROZEN)

    assert in_sample > 0.9
    assert found.probabilities[found.ids.index(wrong), truth[at]] < 0.2


def test_no_model_learns_from_what_it_judges(colours, monkeypatch):
    """Every fold's recipe and head get the others' samples, and no near-duplicate of its own."""
    _, _, rows, wrong, _ = colours
    twin = next(row.id for row in rows if row.split == "valid")
    rows[:] = [replace(row, group="one") if row.id in (wrong, twin) else row for row in rows]
    group = {row.id: row.group for row in rows}
    seen = []
    monkeypatch.setattr(
        folds.recipe, "train", lambda net, material, *_, **__: seen.append(material)
    )

    found = scored(colours, variant=Variant.FULL)

    for fold, material in enumerate(seen):
        held = {i for i, f in zip(found.ids, found.folds, strict=True) if f == fold}
        assert {row.id for row in material.valid} == held
        assert not {group[row.id] for row in material.train} & {group[i] for i in held}
        assert len(material.train) + len(held) == 45
    assert len(seen) == 3


def test_equal_settings_give_equal_probabilities(colours):
    once, again = (scored(colours, variant=Variant.FROZEN) for _ in range(2))

    assert once.ids == again.ids
    assert np.array_equal(once.probabilities, again.probabilities)


def test_from_scratch_the_whole_recipe_is_the_default(colours, monkeypatch):
    monkeypatch.setattr(folds.recipe, "train", lambda *_, **__: None)

    assert scored(colours).variant is Variant.FULL
    pretrained = Plan.from_settings(colours[0].settings)
    assert (pretrained.trains_folds, pretrained.fold_count) == (False, 5)
    asked = pretrained.but(full_folds=True, weights="none")
    assert (asked.trains_folds, asked.fold_count) == (True, 5)


@pytest.mark.parametrize("variant", list(Variant))
def test_it_ends_at_once_when_asked_to(colours, variant):
    heard = []

    def stop(done):
        heard.append(done)
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        scored(colours, variant=variant, heard=stop)
    assert len(heard) == 1


def test_what_cannot_be_held_out_is_named_in_the_log(colours, caplog):
    rows = colours[2]
    rows[:] = [replace(row, group="one") if row.label == "green" else row for row in rows]

    found = scored(colours, variant=Variant.FROZEN)

    unscored = {row.id for row in rows if row.split != "test"} - set(found.ids)
    assert {row.label for row in rows if row.id in unscored} == {"green"}
    assert "'green'" in caplog.text


def test_features_that_are_known_are_not_made_again(colours, monkeypatch):
    without = scored(colours, variant=Variant.FROZEN)
    home, labels, rows, _, pictures = colours
    plan = Plan.from_settings(home.settings).but(**QUICK)
    net = lesson.build(home, plan, labels, threads=1)
    made = features.pooled(net, pictures, [row for row in rows if row.split != "test"], "cpu")

    monkeypatch.setattr(folds, "features", None)
    given = scored(colours, variant=Variant.FROZEN, made=made)

    assert np.array_equal(without.probabilities, given.probabilities)

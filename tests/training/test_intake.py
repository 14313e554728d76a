"""Images in, from folders and tables; one bad file never stops the rest."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import select

from demo import digits
from tests.conftest import picture
from tests.toploss import pictures
from toploss import classes, findings, samples, snapshots
from toploss.errors import BadInput, NotFound
from toploss.home import Home
from toploss.schema import classes as classes_table
from toploss.schema import likenesses
from toploss.schema import samples as table
from training import from_csv, from_df, from_folder


def folder_of(root: Path, **members: bytes) -> Path:
    """`<class>__<file>` to bytes."""
    for number, (name, data) in enumerate(members.items()):
        label, _, kind = name.partition("__")
        file = root / label / f"{number}.{kind or 'png'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return root


def test_a_folder_of_classes(home: Home, tmp_path: Path) -> None:
    root = folder_of(tmp_path / "in", cat=picture(1), dog=picture(2))

    summary = from_folder(root, home=home)

    assert (summary.added, summary.known, summary.conflicts) == (2, 0, 0)
    assert list(snapshots.overview(home)["classes"]) == ["cat", "dog"]


def test_given_splits_win(home: Home, tmp_path: Path) -> None:
    for split, seed in (("train", 1), ("valid", 2), ("test", 3)):
        folder_of(tmp_path / "in" / split, cat=picture(seed))

    from_folder(tmp_path / "in", home=home)

    assert snapshots.overview(home)["splits"] == {"train": 1, "valid": 1, "test": 1}


def test_splits_go_by_their_other_names_and_what_stands_beside_is_told(
    home: Home, tmp_path: Path
) -> None:
    for split, seed in (("train", 1), ("val", 2), ("test", 3)):
        folder_of(tmp_path / "in" / split, cat=picture(seed))
    folder_of(tmp_path / "in", spare=picture(4))

    summary = from_folder(tmp_path / "in", home=home)

    assert snapshots.overview(home)["splits"] == {"train": 1, "valid": 1, "test": 1}
    note, alone = summary.notes
    assert alone == "there is one class, 'cat': a classifier needs two"
    assert note.startswith("left out spare: train, val, test hold the splits")


def test_a_class_may_be_called_train(home: Home, tmp_path: Path) -> None:
    root = folder_of(tmp_path / "in", bus=picture(1), train=picture(2))

    from_folder(root, home=home)

    assert list(snapshots.overview(home)["classes"]) == ["bus", "train"]


def test_names_that_are_no_utf_8_are_spelt_out(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "in" / os.fsdecode(b"caf\xe9")
    try:
        folder.mkdir(parents=True)
    except OSError:
        pytest.skip("this file system has no such names")
    (folder / os.fsdecode(b"\xff.png")).write_bytes(picture(1))
    (folder / os.fsdecode(b"\xfe.png")).write_bytes(b"no image")

    summary = from_folder(tmp_path / "in", home=home)

    assert summary.added == 1
    assert summary.refused[0]["path"].endswith("caf\\xe9/\\xfe.png")
    assert list(snapshots.overview(home)["classes"]) == ["caf\\xe9"]


def test_bad_files_are_refused_one_by_one(home: Home, tmp_path: Path) -> None:
    root = folder_of(
        tmp_path / "in",
        cat=picture(1),
        cat__jpg=picture(2, (64, 64), "JPEG")[:400],
        dog__jpg=b"just text",
        dog__png=b"",
        dog__txt=b"a note",
    )

    summary = from_folder(root, home=home)

    assert summary.added == 1
    reasons = {Path(entry["path"]).name: entry["reason"] for entry in summary.refused}
    assert "damaged" in reasons["1.jpg"]
    assert "no image" in reasons["2.jpg"]
    assert "empty" in reasons["3.png"]
    assert ".txt is not one of" in reasons["4.txt"]


def test_importing_again_adds_nothing(home: Home, tmp_path: Path) -> None:
    root = folder_of(tmp_path / "in", cat=picture(1), dog=picture(2))
    from_folder(root, home=home)

    again = from_folder(root, home=home)

    assert (again.added, again.known, again.conflicts, again.refused) == (0, 2, 0, [])


@pytest.mark.parametrize(("on_conflict", "label"), [("keep", "cat"), ("new-label", "dog")])
def test_the_same_bytes_in_two_classes_are_a_conflict(
    home: Home, tmp_path: Path, on_conflict: samples.OnConflict, label: str
) -> None:
    root = folder_of(tmp_path / "in", cat=picture(1), dog=picture(1))

    summary = from_folder(root, home=home, on_conflict=on_conflict)

    assert (summary.added, summary.known, summary.conflicts) == (1, 1, 1)
    with home.db.read() as connection:
        row = samples.find(connection, summary.conflicting[0]["id"])
    counts = snapshots.overview(home)["classes"]
    assert counts[label][row.split] == 1


@pytest.mark.parametrize("make", [lambda root: None, lambda root: root.mkdir()])
def test_nothing_to_import_is_told(
    home: Home, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "in")

    with pytest.raises((NotFound, BadInput), match=r"in'"):
        from_folder(tmp_path / "in", home=home)


def test_a_csv_names_images_labels_and_splits(home: Home, tmp_path: Path) -> None:
    for seed in range(4):
        (tmp_path / f"{seed}.png").write_bytes(picture(seed))
    table = tmp_path / "labels.csv"
    table.write_text(
        "file,class,part\n0.png,7,train\n1.png,7,val\n2.png,8,nowhere\n3.png,,test\nno.png,8,\n"
    )

    summary = from_csv(
        table, image_column="file", label_column="class", split_column="part", home=home
    )

    assert summary.added == 2
    found = snapshots.overview(home)
    assert found["splits"] == {"train": 1, "valid": 1, "test": 0}
    assert list(found["classes"]) == ["7"]
    reasons = "\n".join(entry["reason"] for entry in summary.refused)
    assert "'nowhere' in row 4 is none of train, valid, test" in reasons
    assert "row 5 lacks its image or its label" in reasons
    assert "no file" in reasons


@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_a_csv_may_have_semicolons_or_tabs(home: Home, tmp_path: Path, between: str) -> None:
    (tmp_path / "a, b;c.png").write_bytes(picture(1))
    table = tmp_path / "labels.csv"
    rows = (("image", "label"), ('"a, b;c.png"', "007"))
    table.write_text("".join(between.join(row) + "\n" for row in rows), encoding="utf-8-sig")

    assert from_csv(table, home=home).as_json()["added"] == 1
    assert list(snapshots.overview(home)["classes"]) == ["007"]


def _splits(home: Home) -> Counter[str]:
    with home.db.read() as connection:
        return Counter(connection.scalars(select(table.c.split)))


def test_without_a_test_folder_validation_is_shared(home: Home, tmp_path: Path) -> None:
    """As Imagenette comes: no training learns from its `val`, and so none from the holdout."""
    for seed in range(40):
        folder = tmp_path / "in" / ("train" if seed < 10 else "val") / f"kind {seed % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{seed}.png").write_bytes(picture(seed))

    (note,) = from_folder(tmp_path / "in", home=home).notes
    first = _splits(home)
    folder_of(tmp_path / "more" / "valid", **{"kind 0": picture(50), "kind 1": picture(51)})
    later = from_folder(tmp_path / "more", home=home)

    assert note.startswith("no images of test came: those of valid are shared among valid, test")
    assert first["train"] == 10
    assert min(first["valid"], first["test"]) >= 8
    assert (later.notes, _splits(home)) == ([], first + Counter(valid=2))


def test_a_table_without_validation_shares_train(home: Home, tmp_path: Path) -> None:
    rows = [["image", "label", "split"]]
    for seed in range(60):
        (tmp_path / f"{seed}.png").write_bytes(picture(seed))
        rows.append([f"{seed}.png", str(seed % 2), "test" if seed < 10 else "train"])
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(map(",".join, rows)))

    (note,) = from_csv(labels, split_column="split", home=home).notes

    assert note.startswith("no images of valid came: those of train are shared among train, valid")
    found = _splits(home)
    assert found["test"] == 10
    assert 2 <= found["valid"] <= 20


def test_a_training_set_that_nothing_stands_in_for_is_told(home: Home, tmp_path: Path) -> None:
    folder_of(tmp_path / "in" / "test", cat=picture(1), dog=picture(2))

    (note,) = from_folder(tmp_path / "in", home=home).notes

    assert note.startswith("no images of train and valid came: a training needs some in each")


def test_a_wrong_column_is_named_with_those_there_are(home: Home, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("file,class\n0.png,7,more\n")

    with pytest.raises(BadInput, match=r"no column 'image'.*file, class.*--image-column"):
        from_csv(table, home=home)


def test_a_data_frame(home: Home, tmp_path: Path) -> None:
    for seed in range(2):
        (tmp_path / f"{seed}.png").write_bytes(picture(seed))
    frame = pd.DataFrame({"image": ["0.png", "1.png", None], "label": [3, 4, 5]})

    summary = from_df(frame, root=tmp_path, home=home)

    assert summary.added == 2
    assert len(summary.refused) == 1
    assert set(snapshots.overview(home)["classes"]) == {"3", "4"}


def test_near_duplicates_across_given_splits_are_told(home: Home, tmp_path: Path) -> None:
    copies = pictures.copies(pictures.scene(1))
    folder_of(tmp_path / "in/train", cat=copies["png"], cat__jpg=copies["smaller"])
    folder_of(tmp_path / "in/test", cat=copies["jpeg"])
    folder_of(tmp_path / "more", cat__png=copies["darker"])

    first = from_folder(tmp_path / "in", home=home)
    second = from_folder(tmp_path / "more", home=home)

    assert (first.added, first.near_duplicates) == (3, 1)
    assert len(first.quarantined) == 2
    assert len({entry["because"] for entry in first.quarantined}) == 1
    assert second.near_duplicates == 1
    assert snapshots.overview(home)["splits"]["test"] == 1
    assert second.as_json()["notes"] == ["there is one class, 'cat': a classifier needs two"]


def test_an_import_looks_at_what_was_there_before_likenesses_were(
    home: Home, tmp_path: Path
) -> None:
    copies = pictures.copies(pictures.scene(1))
    from_folder(folder_of(tmp_path / "old", cat=copies["png"]), home=home)
    with home.db.write() as connection:
        connection.execute(likenesses.delete())

    summary = from_folder(folder_of(tmp_path / "new", cat=copies["jpeg"]), home=home)

    assert summary.near_duplicates == 1


def test_images_in_no_class_folder_are_told(home: Home, tmp_path: Path) -> None:
    folder_of(tmp_path / "in", cat=picture(1), dog=picture(2))
    (tmp_path / "in/loose.png").write_bytes(picture(3))
    (tmp_path / "in/README.txt").write_text("words")

    summary = from_folder(tmp_path / "in", home=home)

    assert summary.added == 2
    (note,) = summary.notes
    assert note == "left out 1 image in no class folder: loose.png; a folder's name is the label"


def test_sub_folders_that_became_one_class_are_told(home: Home, tmp_path: Path) -> None:
    for number, inner in enumerate(("cat", "dog", "cow")):
        folder_of(tmp_path / "in/photos", **{inner: picture(number)})
    folder_of(tmp_path / "in", owl=picture(7))
    folder_of(tmp_path / "in/fox", spring=picture(8))

    summary = from_folder(tmp_path / "in", home=home)

    (note,) = summary.notes
    assert note.startswith("class 'photos' took in the images of its sub-folders cat, cow, dog;")
    assert "'photos' itself, with `--on-conflict new-label`" in note

    mended = from_folder(tmp_path / "in/photos", home=home, on_conflict="new-label")

    assert (mended.known, mended.conflicts) == (3, 3)
    counts = {entry["name"]: entry["samples"] for entry in classes.listed(home)}
    assert counts == {"photos": 0, "cat": 1, "cow": 1, "dog": 1, "owl": 1, "fox": 1}


def test_groups_swallow_no_class_of_the_digits(home: Home, tmp_path: Path) -> None:
    """Small, alike pictures, which collide under a perceptual hash: every second one."""
    digits.make(tmp_path, split_seed=42, shares="70/15/15")
    planted = (tmp_path / digits.PLANTED).read_text().splitlines()[1:]
    true = {line.split(",")[0]: line.split(",")[3] for line in planted}

    summary = from_folder(tmp_path / digits.DATA, home=home)

    assert summary.added == 1597
    assert summary.near_duplicates <= 8  # half a per cent
    assert summary.quarantined == []
    found = labels_by_group(home, true)
    assert max(map(len, found)) == 2
    assert all(len(set(labels)) == 1 for labels in found)


def labels_by_group(home: Home, true: dict[str, str]) -> list[list[str]]:
    """The true labels of the members of each group."""
    groups: dict[str, list[str]] = {}
    with home.db.read() as connection:
        names = {row.id: row.name for row in connection.execute(select(classes_table))}
        for row in connection.execute(select(table)):
            groups.setdefault(row.group_id, []).append(true.get(row.id, names[row.class_id]))
    return list(groups.values())


TRASHNET = Path(__file__).parents[3] / "shared/data/trashnet-160"


@pytest.mark.skipif(not TRASHNET.is_dir(), reason="needs trashnet-160 in ../shared/data")
def test_photographs(home: Home) -> None:
    """The known pairs of one picture in two classes, and the successive shots of one thing."""
    summary = from_folder(TRASHNET, home=home)

    assert (summary.added, summary.conflicts) == (2524, 3)
    assert 20 <= summary.near_duplicates <= 30
    found = findings.check(home)
    assert Counter(one.kind for one in found) == {"label-conflict": 3, "near-duplicate": 1}
    words = " ".join(one.words for one in found)
    for one, other in (("metal91", "glass115"), ("plastic332", "glass389")):
        assert f"{other}.jpg and {one}.jpg are the same bytes, labelled 'glass' (kept)" in words
    assert "glass176.jpg and plastic152.jpg" in words
    assert "largest of 2" in words
